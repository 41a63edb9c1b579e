"""Snapshot and restore: mint a key, start the engine on the host, watch it, verify by listing, then count it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from dumont import queries
from dumont.domain import snapshots as domain
from dumont.domain.actions import (
    Abandon,
    Action,
    CollectGarbage,
    Finish,
    GiveUp,
    InspectWorkspace,
    PollEngine,
    StartEngine,
    VerifySnapshot,
)
from dumont.domain.errors import Conflict, InvalidInput, Unknown
from dumont.domain.names import check_machine_name
from dumont.domain.records import (
    Instance,
    Machine,
    MachineState,
    Operation,
    OperationKind,
    OperationState,
)
from dumont.domain.snapshots import Snapshot, SnapshotState
from dumont.domain.states import not_running
from dumont.operations import engine_runs, look, unsaved_work
from dumont.operations.collection import collect
from dumont.operations.invocation import Invocation
from dumont.operations.runner import Workflow, new_operation, publish
from dumont.operations.verification import verify
from dumont.ports import Ports, Transaction

log = logging.getLogger(__name__)


def request_snapshot(
    ports: Ports, name: str, *, requested_by: str, reason: str = "user", request_id: str = "", rehash: bool = False
) -> Operation:
    """Accept a snapshot of a running machine: its record (being taken) and its operation, in one transaction.

    With `rehash` every file is read, not only those whose size or times have changed since the last one.
    Raises `Unknown`, or `Conflict` if the machine does not run or another operation holds it.
    """
    operation_id, snapshot_id = ports.ids.new("op"), ports.ids.new("snap")

    def work(tx: Transaction) -> Operation:
        machine = _free_running(tx, name)
        now = ports.clock.now()
        op = new_operation(operation_id, OperationKind.SNAPSHOT, name, machine.epoch, now, requested_by=requested_by)
        op = replace(op, snapshot_id=snapshot_id, request_id=request_id, rehash=rehash)
        snapshot = Snapshot(
            id=snapshot_id,
            machine=name,
            epoch=machine.epoch,
            operation_id=op.id,
            state=SnapshotState.TAKING,
            created_at=now,
            reason=reason,
        )
        tx.put(replace(machine, operation_id=op.id, updated_at=now))
        tx.put(op)
        tx.put(snapshot)
        return op

    op = ports.store.transact(work)
    publish(ports, op)
    return op


def request_restore(
    ports: Ports,
    name: str,
    *,
    snapshot_id: str | None,
    path: str,
    fall_back: bool,
    requested_by: str,
    discard: bool = False,
) -> Operation:
    """Accept a restore into a running machine: of the snapshot named, else of its newest good one.

    With `discard`, what the workspace (or that path of it) holds may be lost; else it fails if any of that is in no
    snapshot. Raises `Unknown` where there is no such snapshot, `InvalidInput`, `Conflict` as for a snapshot.
    """
    if "\0" in path or ".." in path.split("/"):
        raise InvalidInput("a path lies within the workspace: no '..'", field="path", hint="for example: runs/3")
    known = ports.store.find(Snapshot, queries.snapshots_of_machine(check_machine_name(name)))
    wanted = domain.by_preference(s for s in known if snapshot_id in (None, s.id))
    if not wanted:
        what = f"snapshot {snapshot_id} of {name}" if snapshot_id else f"verified snapshot of {name}"
        raise Unknown(f"there is no {what}", field="snapshot", hint=f"`dumont snapshots {name}` shows those there are")
    operation_id = ports.ids.new("op")

    def work(tx: Transaction) -> Operation:
        machine = _free_running(tx, name)
        now = ports.clock.now()
        op = new_operation(operation_id, OperationKind.RESTORE, name, machine.epoch, now, requested_by=requested_by)
        first = domain.STARTING if discard else domain.LOOKING
        op = replace(
            op, snapshot_id=wanted[0].id, path=path.strip("/"), fall_back=fall_back, discard=discard, phase=first
        )
        tx.put(replace(machine, operation_id=op.id, updated_at=now))
        tx.put(op)
        return op

    op = ports.store.transact(work)
    publish(ports, op)
    return op


def request_reading(ports: Ports, snapshot_id: str, *, other_id: str | None = None, requested_by: str) -> Operation:
    """Accept a deep verification of a snapshot, or with `other_id` a comparison of two, on their running machine.

    Raises `Unknown` or `Conflict`. The bytes are read by the machine: no function carries them.
    """
    first = _restorable(ports, snapshot_id)
    other = _restorable(ports, other_id) if other_id is not None else None
    if other is not None and other.machine != first.machine:
        raise Conflict("the two snapshots are of different machines", field="other", code="not_comparable")
    operation_id = ports.ids.new("op")

    def work(tx: Transaction) -> Operation:
        machine = _free_running(tx, first.machine)
        kind = OperationKind.VERIFY if other is None else OperationKind.DIFF
        now = ports.clock.now()
        op = new_operation(operation_id, kind, machine.id, machine.epoch, now, requested_by=requested_by)
        op = replace(op, snapshot_id=first.id, other_snapshot_id=other.id if other is not None else None)
        # Until it has an answer, the policy waits this long before it begins another.
        after = now + domain.VERIFY_AGAIN_SECONDS if other is None else machine.verify_after
        tx.put(replace(machine, operation_id=op.id, verify_after=after, updated_at=now))
        tx.put(op)
        return op

    op = ports.store.transact(work)
    publish(ports, op)
    return op


def keep(ports: Ports, snapshot_id: str, *, wanted: bool) -> Snapshot:
    """Keep a snapshot for ever, or leave it to retention again. Raises `Unknown`."""
    return _change(ports, snapshot_id, lambda _all, snapshot: replace(snapshot, keep=wanted))


def remove(ports: Ports, snapshot_id: str) -> Snapshot:
    """Give a snapshot up; what only it needs is collected later. Raises `Conflict` for a machine's only good one."""

    def change(everything: Sequence[Snapshot], snapshot: Snapshot) -> Snapshot:
        good = [s for s in everything if s.good and s.id != snapshot.id]
        if snapshot.state is SnapshotState.COMPLETE and not good:
            raise Conflict(
                f"{snapshot.id} is the only complete snapshot of {snapshot.machine}",
                code="only_good_one",
                hint=f"take another first: dumont snapshot {snapshot.machine}",
            )
        if snapshot.state is SnapshotState.TAKING:
            raise Conflict(f"{snapshot.id} is being taken", code="operation_under_way")
        return replace(snapshot, state=SnapshotState.DELETED)

    return _change(ports, snapshot_id, change)


def _change(ports: Ports, snapshot_id: str, change: Callable[[Sequence[Snapshot], Snapshot], Snapshot]) -> Snapshot:
    known = look.snapshot(ports, snapshot_id)
    ids = [s.id for s in ports.store.find(Snapshot, queries.snapshots_of_machine(known.machine))]

    def work(tx: Transaction) -> Snapshot:
        fresh = [s for s in (tx.get(Snapshot, i) for i in ids) if s is not None]
        changed = change(fresh, next(s for s in fresh if s.id == snapshot_id))
        tx.put(changed)
        return changed

    return ports.store.transact(work)


def _restorable(ports: Ports, snapshot_id: str) -> Snapshot:
    found = look.snapshot(ports, snapshot_id)
    if not found.restorable:
        raise Conflict(f"{snapshot_id} is {found.state.value}: there is nothing to read", code="not_restorable")
    return found


def _free_running(tx: Transaction, name: str) -> Machine:
    machine = tx.get(Machine, check_machine_name(name))
    if machine is None or machine.state is MachineState.DESTROYED:
        raise Unknown(f"there is no machine named {name}", field="name", hint="`dumont ls` shows those there are")
    if machine.state is not MachineState.RUNNING:
        raise not_running(name, machine.state)
    held = tx.get(Operation, machine.operation_id) if machine.operation_id is not None else None
    if held is not None and held.open:
        raise Conflict(
            f"{name} is in the middle of a {held.kind.value}",
            code="operation_under_way",
            hint=f"wait for it: dumont operation {held.id} --watch",
        )
    return machine


def perform(
    invocation: Invocation, op: Operation, machine: Machine | None, instances: Sequence[Instance], action: Action
) -> None:
    """Carry out one action of a snapshot or a restore."""
    del instances
    match action:
        case InspectWorkspace():
            unsaved_work.inspect(invocation, op, action.instance_id)
        case StartEngine() if machine is not None:
            engine_runs.start(invocation, op, machine)
        case PollEngine() if machine is not None:
            engine_runs.poll(invocation, op, machine)
        case VerifySnapshot():
            verify(invocation, op)
        case CollectGarbage() if machine is not None:
            collect(invocation, op, machine)
        case GiveUp():
            problem = action.problem
            invocation.apply(lambda _tx, o, _machine: replace(o, problem=o.problem or problem))
        case Finish() | Abandon():
            _end(invocation, op, abandoned=isinstance(action, Abandon))
        case _:
            raise TypeError(f"a {op.kind.value} cannot {action}")


WORKFLOW = Workflow(decide=lambda op, machine, _instances, now: domain.decide(op, machine, now), perform=perform)


def _end(invocation: Invocation, op: Operation, *, abandoned: bool) -> None:
    engine_runs.end_keys(invocation.ports, op)

    def change(tx: Transaction, o: Operation, machine: Machine | None) -> Operation:
        now = invocation.now()
        engine_runs.give_up_taking(tx, o)
        if machine is not None and machine.operation_id == o.id:
            due = now if machine.spec.spare != "none" and o.kind is OperationKind.SNAPSHOT else machine.deadline
            tx.put(replace(machine, operation_id=None, deadline=due, updated_at=now))
        if abandoned:
            return replace(o, state=OperationState.SUPERSEDED)
        return replace(o, state=OperationState.FAILED if o.problem is not None else OperationState.SUCCEEDED)

    invocation.apply(change)
