"""Destroy: look at what would be lost, fence, release every instance, and end when the provider says all are gone.

Also *reap*: the same release for instances that no operation answers for.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence

from msgspec.structs import replace

from dumont import queries
from dumont.domain import destruction, tending
from dumont.domain.actions import Abandon, Action, BeginDestroy, Finish, InspectWorkspace, Release, Survey
from dumont.domain.errors import Conflict, ShellError, Unknown
from dumont.domain.names import check_machine_name, shard_of
from dumont.domain.records import (
    Instance,
    Machine,
    MachineSpec,
    MachineState,
    Operation,
    OperationKind,
    OperationState,
    Problem,
    Step,
)
from dumont.domain.states import check_transition
from dumont.operations import tend
from dumont.operations.invocation import Invocation
from dumont.operations.provision import FIRST_DEADLINE_SECONDS
from dumont.operations.runner import Workflow, publish
from dumont.ports import Ports, Transaction

log = logging.getLogger(__name__)

INSPECT_TRIES = 3
SAFE = "The machine runs on, untouched."
_GIVES_WAY = (
    OperationKind.PROVISION,
    OperationKind.SNAPSHOT,
    OperationKind.RESTORE,
    OperationKind.VERIFY,
    OperationKind.DIFF,
)


def request(
    ports: Ports, name: str, *, discard: bool, requested_by: str, request_id: str = ""
) -> tuple[Machine, Operation]:
    """Accept the destruction of a machine; a second request meets the first one's operation. It takes over from a
    provision under way, whose instances it then releases.

    Raises `Unknown` for a machine that is not there, `Conflict` while another operation holds it.
    """
    check_machine_name(name)
    operation_id = ports.ids.new("op")

    def work(tx: Transaction) -> tuple[Machine, Operation]:
        now = ports.clock.now()
        machine = tx.get(Machine, name)
        if machine is None or machine.state is MachineState.DESTROYED:
            raise Unknown(f"there is no machine named {name}", field="name", hint="`dumont ls` shows those there are")
        held_by = tx.get(Operation, machine.operation_id) if machine.operation_id is not None else None
        if held_by is not None and held_by.open and held_by.kind is OperationKind.DESTROY:
            if held_by.discard or not discard:
                return machine, held_by
            stronger = replace(held_by, discard=True)  # "--discard" said now holds for the one under way
            tx.put(stronger)
            return machine, stronger
        if held_by is not None and held_by.open and held_by.kind not in _GIVES_WAY:
            raise Conflict(
                f"{name} is in the middle of a {held_by.kind.value}",
                code="operation_under_way",
                hint=f"wait for it: dumont operation {held_by.id}",
            )
        op = Operation(
            id=operation_id,
            kind=OperationKind.DESTROY,
            machine=name,
            epoch=machine.epoch,
            created_at=now,
            updated_at=now,
            requested_by=requested_by,
            request_id=request_id,
            discard=discard,
            deadline=now + FIRST_DEADLINE_SECONDS,
            shard=shard_of(operation_id),
        )
        taken = replace(machine, operation_id=op.id, updated_at=now)
        tx.put(taken)
        tx.put(op)
        return taken, op

    machine, op = ports.store.transact(work)
    publish(ports, op)
    return machine, op


def perform(
    invocation: Invocation, op: Operation, machine: Machine | None, instances: Sequence[Instance], action: Action
) -> None:
    """Carry out one action of a destroy or a reap."""
    by_id = {i.id: i for i in instances}
    match action:
        case InspectWorkspace():
            _inspect_workspace(invocation, action)
        case BeginDestroy():
            _begin(invocation, op)
        case Survey():
            spec = machine.spec if machine is not None else MachineSpec()
            tend.survey(invocation, op.machine, spec, instances, action)
        case Release():
            tend.release(invocation, by_id[action.instance_id], action)
        case Finish():
            _finish(invocation)
        case Abandon():
            invocation.apply(lambda _tx, o, _machine: replace(o, state=OperationState.SUPERSEDED))
        case _:
            raise TypeError(f"a {op.kind.value} cannot {action}")


WORKFLOW = Workflow(decide=destruction.decide, perform=perform)
REAP = Workflow(decide=destruction.decide_reap, perform=perform)


# --- What would be lost -------------------------------------------------------------------------------------------


def _inspect_workspace(invocation: Invocation, action: InspectWorkspace) -> None:
    """Invariant 4: what a user has is not destroyed unseen. Invariant 6: unreadable is not empty."""
    ports = invocation.ports
    began = invocation.now()
    instance = ports.store.get(Instance, action.instance_id)
    machine = ports.store.get(Machine, instance.machine) if instance is not None else None
    problem: Problem | None
    try:
        files = _files_in_workspace(ports, machine)
    except ShellError as error:
        problem = Problem(
            code="workspace_unreadable",
            detail=f"its workspace cannot be read, so that nobody knows what would be lost: {error}"[:300],
            safe=SAFE,
            hint="say --discard to destroy it all the same",
        )
    else:
        problem = _not_empty(files) if files else None
    step = Step(
        name="check workspace",
        started_at=began,
        ended_at=invocation.now(),
        ok=problem is None,
        detail=problem.detail if problem is not None else "it is empty",
    )

    def change(_tx: Transaction, op: Operation, _machine: Machine | None) -> Operation:
        now = invocation.now()
        if op.discard:  # said meanwhile
            return replace(op, phase="checked", steps=(*op.steps, step))
        if problem is not None and problem.code == "workspace_unreadable" and op.tries + 1 < INSPECT_TRIES:
            return replace(op, tries=op.tries + 1, not_before=now + 1.0)
        return replace(op, phase="checked", problem=problem, steps=(*op.steps, step))

    invocation.apply(change)


def _files_in_workspace(ports: Ports, machine: Machine | None) -> list[str]:
    """Up to ten paths below the workspace; empty only if it was read and holds nothing. Raises `ShellError`."""
    if machine is None or machine.ssh is None:
        raise ShellError("it has no address")
    folder = shlex.quote(machine.spec.workspace)
    session = ports.make_shell().connect(machine.ssh, host_key=machine.host_key, timeout_seconds=8.0)
    try:
        # Files, links and devices count; empty folders hold nothing. A missing workspace was deleted by its user.
        # The status is find's own: with a pipe into head, an unreadable folder would look like an empty one.
        result = session.run(
            f"if [ -e {folder} ]; then find {folder}/ ! -type d -print -quit; else true; fi", timeout_seconds=20.0
        )
    finally:
        session.close()
    if result.exit_status != 0:
        raise ShellError(result.stderr.decode("utf-8", "replace").strip()[:200] or "find failed")
    return [line for line in result.stdout.decode("utf-8", "replace").splitlines() if line][:10]


def _not_empty(files: Sequence[str]) -> Problem:
    return Problem(
        code="workspace_not_empty",
        detail=f"its workspace holds files ({files[0][:120]}, …) which no snapshot need hold as they are now",
        safe=SAFE,
        hint="take a snapshot first, or say --discard to destroy them with it",
    )


# --- Fence, take over, end ----------------------------------------------------------------------------------------


def _begin(invocation: Invocation, op: Operation) -> None:
    """Raise the epoch and take over whatever the machine has. Since this operation holds the machine, nobody adds to
    it: a provision that it took over from can write no new intent."""
    books = invocation.ports.store.find(Instance, queries.instances_of_machine(op.machine))

    def change(tx: Transaction, fresh_op: Operation, machine: Machine | None) -> Operation:
        if machine is None or machine.operation_id != fresh_op.id:
            return fresh_op
        now = invocation.now()
        for known in books:
            instance = tx.get(Instance, known.id)
            if instance is not None and instance.open:
                why = Problem(code="destroyed", detail="the machine was destroyed")
                tx.put(replace(tending.reject(instance, now, why), operation_id=fresh_op.id))
        check_transition(machine.state, MachineState.DESTROYING)
        tx.put(replace(machine, state=MachineState.DESTROYING, epoch=machine.epoch + 1, deadline=None, updated_at=now))
        return replace(fresh_op, phase=destruction.RELEASE, epoch=machine.epoch + 1, problem=None)

    invocation.apply(change)


def _finish(invocation: Invocation) -> None:
    def change(tx: Transaction, op: Operation, machine: Machine | None) -> Operation:
        if op.kind is OperationKind.DESTROY and machine is not None and machine.operation_id == op.id:
            tx.put(_ended(op, machine, invocation.now()))
        return replace(op, state=OperationState.FAILED if op.problem is not None else OperationState.SUCCEEDED)

    invocation.apply(change)


def _ended(op: Operation, machine: Machine, now: float) -> Machine:
    if op.problem is not None:  # refused before anything was done: the machine is as it was
        return replace(machine, operation_id=None, updated_at=now)
    check_transition(machine.state, MachineState.DESTROYED)
    return replace(
        machine,
        state=MachineState.DESTROYED,
        operation_id=None,
        instance_id=None,
        ssh=None,
        host_key=None,
        deadline=None,
        updated_at=now,
        ended_at=now,
    )
