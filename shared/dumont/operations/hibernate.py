"""Hibernate: the workload stops, a snapshot is taken and verified, then the instance is stopped or let go."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from msgspec.structs import replace

from dumont import queries
from dumont.domain import costs, hibernation, tending
from dumont.domain import snapshots as snapshot_domain
from dumont.domain.actions import (
    Abandon,
    Action,
    AwaitStop,
    Dismiss,
    FallAsleep,
    Finish,
    GiveUp,
    Pause,
    PollEngine,
    Release,
    StartEngine,
    Survey,
    VerifySnapshot,
)
from dumont.domain.destruction import RELEASE
from dumont.domain.errors import Conflict, NotFound, ProviderError, Unknown
from dumont.domain.heartbeats import Heartbeat
from dumont.domain.names import check_machine_name
from dumont.domain.records import (
    KEPT_DISK,
    Instance,
    Machine,
    MachineState,
    Operation,
    OperationKind,
    OperationState,
    Problem,
    Step,
)
from dumont.domain.snapshots import Snapshot, SnapshotState
from dumont.domain.states import check_transition, not_running
from dumont.domain.statuses import InstanceStatus
from dumont.operations import engine_runs, ledger, routes, tend
from dumont.operations.heartbeats import first_heartbeat, has_stopped
from dumont.operations.invocation import Invocation
from dumont.operations.job_facts import nudge
from dumont.operations.runner import Guard, Workflow, new_operation, publish
from dumont.operations.verification import verify
from dumont.ports import Ports, Transaction

log = logging.getLogger(__name__)

AWAKE = "The machine runs on, awake."
BEFORE_SLEEP = "before sleep"
"""The reason of the snapshots that hibernations take."""
LOOK_SECONDS = 5.0
ASLEEP = Problem(code="asleep", detail="its machine went to sleep")


def request(
    ports: Ports,
    name: str,
    *,
    tier: str,
    requested_by: str,
    request_id: str = "",
    guard: Guard | None = None,
) -> Operation:
    """Put a running machine to sleep; asked for twice, it is one operation. A paused one that is to hibernate gives up
    its stopped instance.

    Raises `Unknown`, or `Conflict` where it does not run, is in the middle of something, its host is silent, or the
    `guard` says so.
    """
    check_machine_name(name)
    operation_id = ports.ids.new("op")
    saved_id = _asleep_with(ports, name) if tier == hibernation.HIBERNATE else None

    def work(tx: Transaction) -> Operation:
        now = ports.clock.now()
        machine = tx.get(Machine, name)
        if machine is None or machine.state is MachineState.DESTROYED:
            raise Unknown(f"there is no machine named {name}", field="name", hint="`dumont ls` shows those there are")
        if guard is not None:
            guard(tx, machine)
        held = tx.get(Operation, machine.operation_id) if machine.operation_id is not None else None
        if held is not None and held.open:
            if held.kind is OperationKind.HIBERNATE:
                return held
            raise Conflict(
                f"{name} is in the middle of a {held.kind.value}",
                code="operation_under_way",
                hint=f"wait for it: dumont operation {held.id}",
            )
        op = new_operation(
            operation_id,
            OperationKind.HIBERNATE,
            name,
            machine.epoch,
            now,
            requested_by=requested_by,
            request_id=request_id,
        )
        op = replace(op, tier=tier)
        if (
            machine.state is MachineState.HIBERNATED
            and machine.paused_instance_id is not None
            and tier == hibernation.HIBERNATE
        ):
            return _deepen(tx, op, machine, saved_id, now)
        if machine.state is not MachineState.RUNNING or machine.instance_id is None:
            raise not_running(name, machine.state)
        beat = tx.get(Heartbeat, machine.instance_id)
        if beat is not None and beat.sequence >= 0 and hibernation.unheard(machine.spec, beat.received_at, now):
            raise Conflict(
                f"{name} has not been heard for {now - beat.received_at:.0f} s: it cannot be saved now",
                code="host_silent",
                hint=f"see what becomes of it: dumont events {name}",
            )
        check_transition(machine.state, MachineState.HIBERNATING)
        # Its workload stops, and its heartbeats prove no idleness from here on: what they had proven is kept.
        proven = beat.activity.proven_idle_seconds if beat is not None and beat.activity is not None else 0.0
        unused_since = None if requested_by == hibernation.BY_BUDGET else now - proven
        tx.put(
            replace(
                machine, state=MachineState.HIBERNATING, operation_id=op.id, unused_since=unused_since, updated_at=now
            )
        )
        tx.put(op)
        return op

    op = ports.store.transact(work)
    publish(ports, op)
    return op


def _deepen(tx: Transaction, op: Operation, machine: Machine, saved_id: str | None, now: float) -> Operation:
    """A paused machine's disk is no longer worth what it costs, if the snapshot of when it fell asleep is still good
    (invariant 4)."""
    saved = tx.get(Snapshot, saved_id or "")
    if saved is None or not saved.good:
        raise Conflict(
            f"the snapshot that {machine.id} fell asleep with is damaged or gone: only its stopped host has its files",
            code="not_saved",
            hint=f"wake it, and let it sleep anew: dumont wake {machine.id}",
        )
    paused = tx.get(Instance, machine.paused_instance_id or "")
    if paused is not None and paused.open:
        tx.put(replace(tending.dismiss(paused, now, ASLEEP), operation_id=op.id))
    tx.put(replace(machine, paused_instance_id=None, updated_at=now))
    deepening = replace(op, phase=RELEASE, snapshot_id=saved.id)
    tx.put(deepening)
    return deepening


def _asleep_with(ports: Ports, name: str) -> str | None:
    """The snapshot of when a machine last fell asleep: what its stopped host has on its disk."""
    known = ports.store.find(Snapshot, queries.snapshots_of_machine(name))
    taken = [s for s in known if s.reason == BEFORE_SLEEP and s.completed_at is not None]
    return max(taken, key=lambda s: s.created_at).id if taken else None


def perform(
    invocation: Invocation, op: Operation, machine: Machine | None, instances: Sequence[Instance], action: Action
) -> None:
    """Carry out one action of a hibernation."""
    by_id = {i.id: i for i in instances}
    match action:
        case AwaitStop() if machine is not None:
            _await_stop(invocation, op, machine)
        case StartEngine() | PollEngine() if machine is not None and _is_silent(invocation, op, machine):
            _give_up(invocation, hibernation.SILENT)
        case StartEngine() if machine is not None:
            engine_runs.start(invocation, op, machine)
        case PollEngine() if machine is not None:
            engine_runs.poll(invocation, op, machine)
        case VerifySnapshot():
            verify(invocation, op)
        case GiveUp():
            _give_up(invocation, action.problem)
        case Pause() if machine is not None:
            _pause(invocation, op, action)
        case FallAsleep():
            _fall_asleep(invocation, op)
        case Survey() if machine is not None:
            tend.survey(invocation, op.machine, machine.spec, instances, action)
        case Dismiss():
            tend.dismiss(invocation, op, action)
        case Release():
            tend.release(invocation, by_id[action.instance_id], action)
        case Finish() | Abandon():
            _end(invocation, op, abandoned=isinstance(action, Abandon))
        case _:
            raise TypeError(f"a hibernation cannot {action}")


WORKFLOW = Workflow(decide=hibernation.decide, perform=perform)


def _give_up(invocation: Invocation, problem: Problem) -> None:
    def change(_tx: Transaction, o: Operation, _machine: Machine | None) -> Operation:
        said = replace(problem, safe=AWAKE, hint=problem.hint.replace("NAME", o.machine))
        return replace(o, problem=o.problem or said)

    invocation.apply(change)


def _is_silent(invocation: Invocation, op: Operation, machine: Machine) -> bool:
    """Asked of the heartbeats only once the shell has failed."""
    if op.tries < hibernation.SILENT_TRIES:
        return False
    beat = invocation.ports.store.get(Heartbeat, machine.instance_id or "")
    heard_at = beat.received_at if beat is not None and beat.sequence >= 0 else invocation.now()
    return hibernation.is_silent(op, machine.spec, heard_at, invocation.now())


def _await_stop(invocation: Invocation, op: Operation, machine: Machine) -> None:
    """Whether the agent has reported, since it was told, that the workload does not run. Its report wakes us."""
    now = invocation.now()
    beat = invocation.ports.store.get(Heartbeat, machine.instance_id or "")
    at_rest = not machine.spec.run or beat is None or beat.sequence < 0 or has_stopped(beat)
    snapshot_id = invocation.ports.ids.new("snap")
    until = op.created_at + hibernation.stop_seconds(machine.spec)

    def change(tx: Transaction, o: Operation, _machine: Machine | None) -> Operation:
        if not at_rest and now < until:
            return replace(o, not_before=min(now + LOOK_SECONDS, until))
        step = Step(name="stop workload", started_at=o.created_at, ended_at=now, ok=at_rest)
        if not at_rest:
            problem = replace(hibernation.NOT_STOPPED, safe=AWAKE)
            problem = replace(problem, hint=problem.hint.replace("NAME", o.machine))
            return replace(o, problem=o.problem or problem, steps=(*o.steps, step))
        tx.put(
            Snapshot(
                id=snapshot_id,
                machine=o.machine,
                epoch=o.epoch,
                operation_id=o.id,
                state=SnapshotState.TAKING,
                created_at=now,
                reason=BEFORE_SLEEP,
            )
        )
        return replace(o, snapshot_id=snapshot_id, phase=snapshot_domain.COPY, not_before=0.0, steps=(*o.steps, step))

    invocation.apply(change)


def _pause(invocation: Invocation, op: Operation, action: Pause) -> None:
    """Ask the provider to stop it, once; then see whether it has."""
    ports = invocation.ports
    instance = ports.store.get(Instance, action.instance_id)
    status: InstanceStatus | None = None
    if instance is not None and instance.provider_instance_id is not None:
        provider = ports.providers[instance.provider]
        try:
            if op.phase != hibernation.PAUSING:
                provider.stop(instance.provider_instance_id)
            status = provider.get(instance.provider_instance_id).status
        except NotFound:
            _fall_asleep(invocation, op)
            return
        except ProviderError as error:
            log.info("not paused yet", extra={"operation": op.id, "error": str(error)})
    if status is InstanceStatus.STOPPED:
        _fall_asleep(invocation, op, paused=True)
        return
    now = invocation.now()
    invocation.apply(
        lambda _tx, o, _machine: replace(
            o,
            phase=hibernation.PAUSING if status is not None else o.phase,
            tried_since=o.tried_since or now,
            not_before=now + 1.0,
        )
    )


def _fall_asleep(invocation: Invocation, op: Operation, *, paused: bool = False) -> None:
    """In one transaction: the machine sleeps, its name leads nowhere, and its instance is kept stopped or let go."""
    engine_runs.end_keys(invocation.ports, op)

    def change(tx: Transaction, o: Operation, machine: Machine | None) -> Operation:
        now = invocation.now()
        if machine is None or machine.operation_id != o.id or machine.state is not MachineState.HIBERNATING:
            return o
        snapshot = tx.get(Snapshot, o.snapshot_id or "")
        if snapshot is None or not snapshot.good:  # invariant 4, looked at once more
            problem = Problem(code="not_saved", detail="its snapshot is not there any more", safe=AWAKE)
            return replace(o, problem=o.problem or problem)
        instance = tx.get(Instance, machine.instance_id or "")
        if instance is not None and instance.open:
            if paused:
                beat = tx.get(Heartbeat, instance.id)
                heard_at = beat.received_at if beat is not None else None
                kept, _ = costs.stopped(tending.put_aside(instance, now, ASLEEP), now, heard_at=heard_at, by_us=True)
                kept = replace(kept, last_status="stopped", operation_id=o.id, restored_snapshot_id=KEPT_DISK)
                ledger.put(tx, instance, kept, now)
            else:
                tx.put(replace(tending.dismiss(instance, now, ASLEEP), operation_id=o.id))
        spare = tx.get(Instance, machine.spare_instance_id or "")
        tending_it = tx.get(Operation, machine.spare_operation_id or "")
        if spare is not None and spare.open and (tending_it is None or not tending_it.open):
            tx.put(replace(tending.dismiss(spare, now, ASLEEP), operation_id=o.id))
        check_transition(machine.state, MachineState.HIBERNATED)
        tx.put(
            replace(
                machine,
                state=MachineState.HIBERNATED,
                instance_id=None,
                spare_instance_id=None,
                paused_instance_id=instance.id if paused and instance is not None else None,
                ssh=None,
                host_key=None,
                operation_id=None,
                slept_at=now,
                deadline=now,  # the sweep looks once, and from then on when its policies for a sleeper say
                updated_at=now,
            )
        )
        routes.close(tx, machine.id, now)
        nudge(tx, machine, now)
        if o.tier != hibernation.HIBERNATE:
            detail = "its disk is kept" if paused else "it did not stop in its time, and is let go instead"
            step = Step(name="pause", started_at=_checked_at(o), ended_at=now, ok=paused,
                        instance_id=machine.instance_id, detail=detail)  # fmt: skip
            o = replace(o, steps=(*o.steps, step))
        return replace(o, phase=RELEASE, store_key_id="")

    invocation.apply(change)


def _checked_at(op: Operation) -> float:
    return op.steps[-1].ended_at if op.steps else op.created_at


def _end(invocation: Invocation, op: Operation, *, abandoned: bool) -> None:
    """Asleep, or awake again with the reason why: then the workload is started again, and watched as before."""
    engine_runs.end_keys(invocation.ports, op)

    def change(tx: Transaction, o: Operation, machine: Machine | None) -> Operation:
        now = invocation.now()
        engine_runs.give_up_taking(tx, o)
        mine = machine is not None and machine.operation_id == o.id and o.phase != RELEASE
        if machine is not None and mine and machine.state is MachineState.HIBERNATING:
            check_transition(machine.state, MachineState.RUNNING)
            tx.put(replace(machine, state=MachineState.RUNNING, operation_id=None, updated_at=now))
            instance = tx.get(Instance, machine.instance_id or "")
            beat = tx.get(Heartbeat, machine.instance_id or "")
            if beat is not None and o.problem is not None and o.problem.code == hibernation.SILENT.code:
                tx.put(replace(beat, deadline=now, suspect_operation_id=""))  # silent long enough already
            elif instance is not None:
                first_heartbeat(tx, machine, instance, now)
        if abandoned:
            return replace(o, state=OperationState.SUPERSEDED)
        return replace(o, state=OperationState.FAILED if o.problem is not None else OperationState.SUCCEEDED)

    invocation.apply(change)
