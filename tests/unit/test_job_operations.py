"""Jobs are accepted whole or not at all, and are moved on by what is in the store, however often that is looked at."""

from __future__ import annotations

import dataclasses

import pytest
from msgspec.structs import replace

from dumont import queries
from dumont.adapters.memory_store import MemoryStore
from dumont.agent.tokens import AgentIdentity
from dumont.domain.budgets import ALL, Budget, BudgetAction
from dumont.domain.errors import BlobRefused, Conflict, Unknown, UserError
from dumont.domain.heartbeats import Report, WorkloadSeen
from dumont.domain.jobs import Ending, Job, JobState
from dumont.domain.records import InstanceState, Machine, MachineSpec, MachineState, Operation, OperationKind
from dumont.domain.snapshots import Snapshot, SnapshotState
from dumont.operations import budgets, destroy, heartbeats, jobs
from dumont.operations.sweep import sweep
from dumont.ports import Blobs, Ports, Query
from tests.contract.stores import instance, put
from tests.simulation.engine import SimBlobs
from tests.unit.rest_support import FrozenBefore, ManualClock, make_ports

NOW = 1_800_000_000.0
SPEC = MachineSpec(gpu="RTX 4090")
SNAPSHOT = Snapshot(
    id="snap-1", machine="source", epoch=1, operation_id="op", state=SnapshotState.COMPLETE, created_at=NOW - 9
)


def _no_store() -> Blobs:
    raise BlobRefused("no object store is configured")


def ports_of(store: MemoryStore, *, url: str = "http://functions", blobs: bool = True) -> Ports:
    made = make_ports(store, ManualClock(NOW))
    some = SimBlobs.__new__(SimBlobs)
    return dataclasses.replace(made, public_url=url, make_blobs=(lambda: some) if blobs else _no_store)


def accepted(ports: Ports, **wish: object) -> Job:
    job, _ = jobs.request(ports, "train", SPEC, requested_by="u", name="ada", **wish)  # type: ignore[arg-type]
    return job


def runs(ports: Ports, job: Job) -> Machine:
    """Its machine has been proved, and runs."""
    known = ports.store.get(Machine, job.machine)
    assert known is not None
    running = replace(known, state=MachineState.RUNNING, operation_id=None, instance_id="i-1")
    ports.store.transact(lambda tx: tx.put(running))
    ports.store.transact(lambda tx: tx.put(instance("i-1", machine=job.machine, intended_at=NOW)))
    return running


def says(ports: Ports, workload: WorkloadSeen, sequence: int = 1) -> None:
    heartbeats.receive(
        ports, AgentIdentity(machine="ada", epoch=1, instance="i-1"), Report(sequence=sequence, workload=workload)
    )


def job_of(ports: Ports) -> Job:
    (job,) = ports.store.find(Job, Query())
    return job


def machine_of(ports: Ports) -> Machine:
    machine = ports.store.get(Machine, "ada")
    assert machine is not None
    return machine


def finishes(ports: Ports) -> list[Operation]:
    return [op for op in ports.store.find(Operation, Query()) if op.kind is OperationKind.FINISH]


def test_a_job_its_machine_and_the_wish_to_rent_it_are_written_together_with_its_inputs_kept() -> None:
    store = MemoryStore()
    put(store, SNAPSHOT)
    ports = ports_of(store)
    job = accepted(ports, inputs="source", retries=2)
    machine, (op,) = machine_of(ports), store.find(Operation, Query())
    assert (machine.job_id, machine.filled_from, machine.spec.run) == (job.id, "snap-1", "train")
    assert (op.kind, op.snapshot_id) == (OperationKind.PROVISION, "snap-1"), "it serves only once its inputs are there"
    kept = store.get(Snapshot, "snap-1")
    assert kept is not None
    assert kept.keep


@pytest.mark.parametrize(
    ("url", "blobs", "wish", "code"),
    [
        ("", True, {}, "no_agents"),
        ("http://functions", False, {}, "no_object_store"),
        ("http://functions", True, {"inputs": "nothing"}, "unknown"),
    ],
)
def test_what_could_not_end_well_is_refused_before_anything_is_rented(
    url: str, blobs: bool, wish: dict[str, str], code: str
) -> None:
    store = MemoryStore()
    with pytest.raises(UserError) as refused:
        accepted(ports_of(store, url=url, blobs=blobs), **wish)
    assert isinstance(refused.value, Unknown) or refused.value.code == code
    assert store.find(Machine, Query()) == []
    assert store.find(Job, Query()) == []


def test_without_an_object_store_a_job_runs_if_its_outputs_may_be_lost() -> None:
    assert accepted(ports_of(MemoryStore(), blobs=False), discard_outputs=True).discard_outputs


def test_a_heartbeat_that_says_how_it_ended_begins_the_saving_once() -> None:
    ports = ports_of(MemoryStore())
    runs(ports, accepted(ports))
    says(ports, WorkloadSeen(state="running"))
    assert finishes(ports) == []
    for sequence in (2, 3, 2):
        says(ports, WorkloadSeen(state="exited", exit_status=0), sequence)
    (op,) = finishes(ports)
    job, machine = job_of(ports), machine_of(ports)
    assert (job.state, job.ending, job.exit_status, job.operation_id) == (JobState.SAVING, Ending.EXITED, 0, op.id)
    assert (machine.operation_id, machine.workload_held, machine.state) == (op.id, True, MachineState.RUNNING)


def test_a_copy_under_way_gives_way_and_a_destroy_does_not() -> None:
    ports = ports_of(MemoryStore())
    machine = runs(ports, accepted(ports))
    with pytest.raises(Conflict, match="runs a job"):
        destroy.request(ports, "ada", discard=False, snapshot_first=True, requested_by="u")
    destroy.request(ports, "ada", discard=True, requested_by="u")
    says(ports, WorkloadSeen(state="exited", exit_status=0))
    assert finishes(ports) == []
    ports.store.transact(lambda tx: tx.put(machine))
    (held,) = [op for op in ports.store.find(Operation, Query()) if op.kind is OperationKind.DESTROY]
    copying = replace(held, kind=OperationKind.SNAPSHOT)
    ports.store.transact(lambda tx: tx.put(copying))
    ports.store.transact(lambda tx: tx.put(replace(machine, operation_id=copying.id)))
    says(ports, WorkloadSeen(state="exited", exit_status=0), 2)
    assert len(finishes(ports)) == 1


def test_when_its_time_is_up_the_sweep_stops_it_and_saves() -> None:
    ports = ports_of(MemoryStore())
    runs(ports, accepted(ports, timeout_hours=1.0))
    says(ports, WorkloadSeen(state="running"))
    ports.clock.sleep(3601.0)
    sweep(ports)
    assert machine_of(ports).workload_held
    sweep(ports)
    assert len(finishes(ports)) == 1
    assert (job_of(ports).ending, job_of(ports).exit_status) == (Ending.TIMED_OUT, None)


def test_a_job_that_is_cancelled_before_it_ran_takes_its_machine_down() -> None:
    ports = ports_of(MemoryStore())
    job = accepted(ports)
    jobs.cancel(ports, "ada", discard=False, requested_by="u")
    kinds = [op.kind for op in ports.store.find(Operation, queries.history_of_machine("ada"))]
    assert OperationKind.DESTROY in kinds
    gone = replace(machine_of(ports), state=MachineState.DESTROYED)
    ports.store.transact(lambda tx: tx.put(gone))
    jobs.step(ports, job.id)
    end = job_of(ports)
    assert (end.state, end.result_snapshot_id, end.deadline) == (JobState.CANCELLED, None, None)
    jobs.step(ports, job.id)
    assert jobs.cancel(ports, job.id, discard=True, requested_by="u") == end, "what has ended stays as it ended"


def test_a_name_that_is_anothers_by_now_is_not_this_jobs_machine() -> None:
    ports = ports_of(MemoryStore())
    job = accepted(ports)
    other = replace(machine_of(ports), job_id=None)
    ports.store.transact(lambda tx: tx.put(other))
    jobs.step(ports, job.id)
    end = job_of(ports)
    assert end.problem is not None
    assert (end.state, end.problem.code) == (JobState.FAILED, "machine_gone")
    with pytest.raises(Unknown):
        jobs.find(ports, "ada")


def test_asleep_by_a_budget_it_ends_with_what_was_saved_then() -> None:
    ports = ports_of(MemoryStore())
    job = accepted(ports)
    asleep = replace(runs(ports, job), state=MachineState.HIBERNATED, instance_id=None)
    put(ports.store, asleep, replace(SNAPSHOT, machine="ada", created_at=NOW + 5))
    jobs.step(ports, job.id)
    (op,) = finishes(ports)
    assert (op.phase, op.snapshot_id) == ("checked", "snap-1"), "it is saved already, and only let go"


@pytest.mark.parametrize("action", [BudgetAction.HIBERNATE, BudgetAction.DESTROY_AFTER_SNAPSHOT])
def test_a_budget_that_is_reached_stops_a_job_before_it_is_saved(action: BudgetAction) -> None:
    ports = ports_of(MemoryStore())
    runs(ports, accepted(ports))
    says(ports, WorkloadSeen(state="running"))
    put(ports.store, Budget(id=ALL, usd_total=1e-9, action=action, deadline=NOW))
    billing = instance("i-1", machine="ada", state=InstanceState.PROVEN, created_at=NOW, booted_at=NOW, intended_at=NOW)
    put(ports.store, replace(billing, up_at=NOW, proven_at=NOW, provider_instance_id="1"))
    ports.clock.sleep(3600.0)
    budgets.look_at(ports, ALL)
    assert (job_of(ports).ending, machine_of(ports).workload_held) == (Ending.BUDGET, True)
    assert machine_of(ports).state is MachineState.RUNNING, "nothing is taken from it before it is saved"
    jobs.step(ports, job_of(ports).id)
    assert len(finishes(ports)) == 1


def test_while_one_job_is_open_the_sweeps_go_on() -> None:
    from dumont.operations.rest import look

    store = MemoryStore()
    assert not look(ports_of(store)).any
    put(store, Job(id="job-1", machine="ada", command="x", created_at=NOW, time_up_at=NOW, deadline=NOW + 900))
    assert look(ports_of(store)).any
    with pytest.raises(Conflict):
        jobs.request(ports_of(store, url=""), "train", SPEC, requested_by="u")


def gives_its_name_to_another(ports: Ports) -> None:
    """The job's machine goes, and its user makes another of its name, which is for no job."""
    mine = replace(machine_of(ports), job_id=None, operation_id=None, state=MachineState.RUNNING, created_at=NOW + 60)
    ports.store.transact(lambda tx: tx.put(mine))


def test_who_is_frozen_while_a_job_is_cancelled_destroys_no_machine_of_the_same_name() -> None:
    ports = ports_of(MemoryStore())
    job = accepted(ports)
    runs(ports, job)
    frozen = FrozenBefore(ports.store, lambda: gives_its_name_to_another(ports), after=1)
    jobs.cancel(dataclasses.replace(ports, store=frozen), job.id, discard=True, requested_by="u")
    assert machine_of(ports).operation_id is None, "nobody asked for that one to go"


def test_a_step_that_is_frozen_before_it_lets_go_lets_no_other_machine_go() -> None:
    ports = ports_of(MemoryStore())
    job = accepted(ports)
    frozen = FrozenBefore(ports.store, lambda: gives_its_name_to_another(ports), after=2)
    jobs.cancel(dataclasses.replace(ports, store=frozen), job.id, discard=False, requested_by="u")
    assert machine_of(ports).operation_id is None
