"""Hibernate: the workload stops, a snapshot is taken and verified, then the instance is stopped or let go."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from msgspec.structs import replace

from dumont.domain import hibernation, tending
from dumont.domain import snapshots as snapshot_domain
from dumont.domain.actions import (
    Abandon,
    Action,
    AwaitStop,
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
from dumont.domain.states import check_transition
from dumont.domain.statuses import InstanceStatus
from dumont.operations import engine_runs, routes, tend
from dumont.operations.heartbeats import STOPPED, first_heartbeat
from dumont.operations.invocation import Invocation
from dumont.operations.runner import Workflow, new_operation, publish
from dumont.operations.verification import verify
from dumont.ports import Ports, Transaction

log = logging.getLogger(__name__)

AWAKE = "The machine runs on, awake."
ASLEEP = Problem(code="asleep", detail="its machine went to sleep")


def request(ports: Ports, name: str, *, tier: str, requested_by: str, request_id: str = "") -> Operation:
    """Put a running machine to sleep; asked for twice, it is one operation. A paused one that is to hibernate gives up
    its stopped instance.

    Raises `Unknown`, or `Conflict` where it does not run or is in the middle of something.
    """
    check_machine_name(name)
    operation_id = ports.ids.new("op")

    def work(tx: Transaction) -> Operation:
        now = ports.clock.now()
        machine = tx.get(Machine, name)
        if machine is None or machine.state is MachineState.DESTROYED:
            raise Unknown(f"there is no machine named {name}", field="name", hint="`dumont ls` shows those there are")
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
        if machine.state is MachineState.HIBERNATED and machine.paused_instance_id is not None and tier == "hibernate":
            return _deepen(tx, op, machine, now)
        if machine.state is not MachineState.RUNNING or machine.instance_id is None:
            raise Conflict(f"{name} is {machine.state.value}, not running", code="not_running", field="name")
        check_transition(machine.state, MachineState.HIBERNATING)
        tx.put(replace(machine, state=MachineState.HIBERNATING, operation_id=op.id, updated_at=now))
        tx.put(op)
        return op

    op = ports.store.transact(work)
    publish(ports, op)
    return op


def _deepen(tx: Transaction, op: Operation, machine: Machine, now: float) -> Operation:
    """A paused machine's disk is no longer worth what it costs: its snapshot was verified before it was paused."""
    paused = tx.get(Instance, machine.paused_instance_id or "")
    if paused is not None and paused.open:
        tx.put(replace(tending.dismiss(paused, now, ASLEEP), operation_id=op.id))
    tx.put(replace(machine, paused_instance_id=None, updated_at=now))
    deepening = replace(op, phase=RELEASE)
    tx.put(deepening)
    return deepening


def perform(
    invocation: Invocation, op: Operation, machine: Machine | None, instances: Sequence[Instance], action: Action
) -> None:
    """Carry out one action of a hibernation."""
    by_id = {i.id: i for i in instances}
    match action:
        case AwaitStop() if machine is not None:
            _await_stop(invocation, op, machine)
        case StartEngine() if machine is not None:
            engine_runs.start(invocation, op, machine)
        case PollEngine() if machine is not None:
            engine_runs.poll(invocation, op, machine)
        case VerifySnapshot():
            verify(invocation, op)
        case GiveUp():
            problem = replace(action.problem, safe=AWAKE)
            invocation.apply(lambda _tx, o, _machine: replace(o, problem=o.problem or problem))
        case Pause() if machine is not None:
            _pause(invocation, op, action)
        case FallAsleep():
            _fall_asleep(invocation, op)
        case Survey() if machine is not None:
            tend.survey(invocation, op.machine, machine.spec, instances, action)
        case Release():
            tend.release(invocation, by_id[action.instance_id], action)
        case Finish() | Abandon():
            _end(invocation, op, abandoned=isinstance(action, Abandon))
        case _:
            raise TypeError(f"a hibernation cannot {action}")


WORKFLOW = Workflow(decide=hibernation.decide, perform=perform)


def _await_stop(invocation: Invocation, op: Operation, machine: Machine) -> None:
    """Whether the agent has reported, since it was told, that the workload does not run."""
    now = invocation.now()
    beat = invocation.ports.store.get(Heartbeat, machine.instance_id or "")
    heard = beat is not None and beat.received_at > op.created_at + 0.2 and beat.workload.state in STOPPED
    at_rest = heard or not machine.spec.run or beat is None or beat.sequence < 0
    snapshot_id = invocation.ports.ids.new("snap")

    def change(tx: Transaction, o: Operation, _machine: Machine | None) -> Operation:
        if not at_rest and now < o.created_at + hibernation.STOP_SECONDS:
            return replace(o, not_before=now + 0.5)
        tx.put(
            Snapshot(
                id=snapshot_id,
                machine=o.machine,
                epoch=o.epoch,
                operation_id=o.id,
                state=SnapshotState.TAKING,
                created_at=now,
                reason="before sleep",
            )
        )
        detail = "" if at_rest else "it did not stop in its time; files may have changed while they were copied"
        step = Step(name="stop workload", started_at=o.created_at, ended_at=now, ok=at_rest, detail=detail)
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
        if snapshot is None or snapshot.state is not SnapshotState.COMPLETE:  # invariant 4, looked at once more
            problem = Problem(code="not_saved", detail="its snapshot is not there any more", safe=AWAKE)
            return replace(o, problem=o.problem or problem)
        instance = tx.get(Instance, machine.instance_id or "")
        if instance is not None and instance.open:
            if paused:
                kept = replace(tending.put_aside(instance, now, ASLEEP), last_status="stopped")
                tx.put(replace(kept, operation_id=o.id, restored_snapshot_id=KEPT_DISK))
            else:
                tx.put(replace(tending.dismiss(instance, now, ASLEEP), operation_id=o.id))
        check_transition(machine.state, MachineState.HIBERNATED)
        tx.put(
            replace(
                machine,
                state=MachineState.HIBERNATED,
                instance_id=None,
                paused_instance_id=instance.id if paused and instance is not None else None,
                ssh=None,
                host_key=None,
                operation_id=None,
                slept_at=now,
                updated_at=now,
            )
        )
        routes.close(tx, machine.id, now)
        if paused:
            return replace(o, state=OperationState.SUCCEEDED, store_key_id="")
        return replace(o, phase=RELEASE, store_key_id="")

    invocation.apply(change)


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
            if instance is not None:
                first_heartbeat(tx, machine, instance, now)
        if abandoned:
            return replace(o, state=OperationState.SUPERSEDED)
        return replace(o, state=OperationState.FAILED if o.problem is not None else OperationState.SUCCEEDED)

    invocation.apply(change)
