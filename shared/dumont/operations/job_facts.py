"""What the books say of a job: what it cost, what it left; and a word to it that its machine has changed."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from dumont import queries
from dumont.domain import costs
from dumont.domain.hibernation import BY_BUDGET
from dumont.domain.jobs import Ending, Job, JobState
from dumont.domain.ledger import Kind, LedgerEntry
from dumont.domain.records import Instance, Machine, MachineState
from dumont.domain.snapshots import Snapshot
from dumont.operations.runner import Guard
from dumont.ports import Ports, Transaction

BY = "job"
"""Who asked for what a job asks for."""
_NOT_YET = float("inf")


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What queries found, for a transaction, which has none: all of it is of what is past."""

    saved: Snapshot | None
    cost_usd: float


def facts(ports: Ports, job: Job) -> Facts:
    """What is known of a job beside its own record."""
    return Facts(saved=newest_good(ports, job), cost_usd=cost_of(ports, job))


def newest_good(ports: Ports, job: Job) -> Snapshot | None:
    """The newest whole snapshot that was taken of its machine since the job began."""
    taken = ports.store.find(Snapshot, queries.snapshots_of_machine(job.machine))
    until = job.ended_at if job.ended_at is not None else _NOT_YET
    mine = [s for s in taken if s.good and job.created_at <= s.created_at <= until]
    return max(mine, key=lambda s: s.created_at, default=None)


def cost_of(ports: Ports, job: Job) -> float:
    """What its machine's rentals have cost so far, as the ledger has or will have it: GPU, disk, network; in USD."""
    ever = ports.store.find(Instance, queries.instances_ever_of_machine(job.machine))
    until = job.ended_at if job.ended_at is not None else _NOT_YET
    mine = [i for i in ever if job.created_at <= i.intended_at <= until]
    ids = {i.id for i in mine}
    entries = ports.store.find(LedgerEntry, queries.ledger_of_machine(job.machine)) if mine else []
    network = [e for e in entries if e.kind in (Kind.BANDWIDTH_IN, Kind.BANDWIDTH_OUT) and e.instance_id in ids]
    return costs.total(mine, ports.clock.now()).total_usd + sum(e.amount_micro_usd for e in network) / 1e6


def nudge(tx: Transaction, machine: Machine, now: float) -> None:
    """Something has become of a machine: the job that it is for, if it is for one, is looked at by the next sweep."""
    job = tx.get(Job, machine.job_id) if machine.job_id is not None else None
    if job is not None and not job.ended:
        tx.put(replace(job, deadline=now))


def open_job(tx: Transaction, machine: Machine) -> Job | None:
    """The job that a machine is for, while that goes on."""
    job = tx.get(Job, machine.job_id) if machine.job_id is not None else None
    return job if job is not None and not job.ended else None


def stop(tx: Transaction, job: Job, ending: Ending, by: str, now: float) -> Job:
    """Bring a job to its end: from this commit on no host is given its command any more, and the next sweep goes on."""
    machine = tx.get(Machine, job.machine)
    if machine is not None and machine.job_id == job.id and machine.state is not MachineState.DESTROYED:
        tx.put(replace(machine, workload_held=True, updated_at=now))
    state = JobState.SAVING if machine is not None and machine.state is MachineState.RUNNING else job.state
    ending_job = replace(job, ending=ending, ending_since=now, ended_by=by, state=state, deadline=now)
    tx.put(ending_job)
    return ending_job


def end_for_budget(ports: Ports, machine: Machine, guard: Guard) -> bool:
    """End the job that a machine is for, if that goes on: its command is stopped first, so that what it writes is
    saved, and none of it is written after the copy. True if there is such a job. Raises `Conflict` if the `guard`
    says so."""

    def work(tx: Transaction) -> bool:
        fresh = tx.get(Machine, machine.id)
        if fresh is not None:
            guard(tx, fresh)
        job = open_job(tx, machine)
        if job is not None and job.ending is Ending.NONE:
            stop(tx, job, Ending.BUDGET, BY_BUDGET, ports.clock.now())
        return job is not None

    return ports.store.transact(work)
