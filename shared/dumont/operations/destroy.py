"""Destroy: look at what would be lost (or save it first), fence, release every instance, and end when the provider says
that all are gone.

Also *reap*: the same release for instances that no operation answers for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from dumont import queries
from dumont.domain import destruction, tending, unsaved
from dumont.domain.actions import (
    Abandon,
    Action,
    BeginDestroy,
    Dismiss,
    Finish,
    GiveUp,
    InspectWorkspace,
    PollEngine,
    Release,
    StartEngine,
    Survey,
    VerifySnapshot,
)
from dumont.domain.errors import Conflict, InvalidInput, Unknown
from dumont.domain.names import check_machine_name
from dumont.domain.records import (
    Instance,
    Machine,
    MachineSpec,
    MachineState,
    Operation,
    OperationKind,
    OperationState,
    Problem,
)
from dumont.domain.states import check_transition
from dumont.operations import engine_runs, naming, routes, tend, unsaved_work
from dumont.operations.invocation import Invocation
from dumont.operations.job_facts import BY, nudge, open_job
from dumont.operations.runner import Guard, Workflow, new_operation, publish
from dumont.operations.verification import verify
from dumont.ports import Ports, Transaction

log = logging.getLogger(__name__)

_GIVES_WAY = (
    OperationKind.PROVISION,
    OperationKind.FAILOVER,
    OperationKind.WAKE,
    OperationKind.SNAPSHOT,
    OperationKind.RESTORE,
    OperationKind.VERIFY,
    OperationKind.DIFF,
    OperationKind.FINISH,
)


def request(
    ports: Ports,
    name: str,
    *,
    discard: bool,
    requested_by: str,
    request_id: str = "",
    snapshot_first: bool = False,
    epoch: int | None = None,
    guard: Guard | None = None,
) -> tuple[Machine, Operation]:
    """Accept the destruction of a machine; a second request meets the first one's operation. It takes over from a
    provision under way, whose instances it then releases.

    With `epoch`, it is the machine as it was at that epoch that is meant, and none that has come since.
    Raises `Unknown` for a machine that is not there, `Conflict` while another operation holds it, or if the `guard`
    says so.
    """
    check_machine_name(name)
    if discard and snapshot_first:
        raise InvalidInput("either the workspace may be lost or it is to be saved first", field="snapshot")
    operation_id = ports.ids.new("op")

    def work(tx: Transaction) -> tuple[Machine, Operation]:
        now = ports.clock.now()
        machine = tx.get(Machine, name)
        if machine is None or machine.state is MachineState.DESTROYED:
            raise Unknown(f"there is no machine named {name}", field="name", hint="`dumont ls` shows those there are")
        if epoch is not None and machine.epoch != epoch:
            raise Conflict(f"{name} has moved on: it is at epoch {machine.epoch}, not {epoch}", code="moved_on")
        if guard is not None:
            guard(tx, machine)
        held_by = tx.get(Operation, machine.operation_id) if machine.operation_id is not None else None
        if held_by is not None and held_by.open and held_by.kind is OperationKind.DESTROY:
            # "--discard" or "--snapshot" said now holds for the one under way.
            stronger = replace(
                held_by,
                discard=held_by.discard or discard,
                snapshot_first=held_by.snapshot_first or snapshot_first,
            )
            if stronger == held_by:
                return machine, held_by
            tx.put(stronger)
            return machine, stronger
        if machine.state is MachineState.FAILING_OVER and not discard:
            raise Conflict(
                f"{name} is failing over, and its old host may hold files that no snapshot has",
                code="failing_over",
                hint=f"wait until it runs again, or say --discard: dumont down {name} --discard",
            )
        job = open_job(tx, machine)
        if job is not None and machine.state is MachineState.RUNNING and not discard and requested_by != BY:
            # Its command writes at any moment: also between a look at the workspace, or a copy of it, and its end.
            raise Conflict(
                f"{name} runs a job",
                code="job_under_way",
                field="name",
                hint=f"dumont job cancel {job.id} stops it, saves what it wrote, and lets {name} go",
            )
        sleeps_soon = held_by is not None and held_by.kind is OperationKind.HIBERNATE
        gives_way = held_by is None or held_by.kind in _GIVES_WAY or (discard and sleeps_soon)
        if held_by is not None and machine.state is MachineState.DESTROYING:
            gives_way = False  # the end of its job lets it go already
        if held_by is not None and held_by.open and not gives_way:
            raise Conflict(
                f"{name} is in the middle of a {held_by.kind.value}",
                code="operation_under_way",
                hint=f"wait for it: dumont operation {held_by.id}",
            )
        op = new_operation(
            operation_id,
            OperationKind.DESTROY,
            name,
            machine.epoch,
            now,
            requested_by=requested_by,
            request_id=request_id,
        )
        op = replace(op, discard=discard, snapshot_first=snapshot_first)
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
            unsaved_work.inspect(invocation, op, action.instance_id)
        case StartEngine() if machine is not None:
            engine_runs.start(invocation, op, machine)
        case PollEngine() if machine is not None:
            engine_runs.poll(invocation, op, machine)
        case VerifySnapshot():
            verify(invocation, op)
        case GiveUp():
            problem = replace(action.problem, safe=unsaved.SAFE)
            invocation.apply(lambda _tx, o, _machine: replace(o, problem=o.problem or problem))
        case BeginDestroy():
            begin(invocation, op)
        case Survey():
            spec = machine.spec if machine is not None else MachineSpec()
            tend.survey(invocation, op.machine, spec, instances, action)
        case Dismiss():
            tend.dismiss(invocation, op, action)
        case Release():
            tend.release(invocation, by_id[action.instance_id], action)
        case Finish():
            _finish(invocation, op)
        case Abandon():
            _abandon(invocation, op)
        case _:
            raise TypeError(f"a {op.kind.value} cannot {action}")


WORKFLOW = Workflow(decide=destruction.decide, perform=perform)
REAP = Workflow(decide=destruction.decide_reap, perform=perform)


# --- Fence, take over, end ----------------------------------------------------------------------------------------


def begin(
    invocation: Invocation, op: Operation, *, unless: Callable[[Transaction, Operation], Problem | None] | None = None
) -> None:
    """Raise the epoch and take over whatever the machine has, unless there is a reason not to. Since this operation
    holds the machine, nobody adds to it: a provision that it took over from can write no new intent."""
    engine_runs.end_keys(invocation.ports, op)
    books = invocation.ports.store.find(Instance, queries.instances_of_machine(op.machine))

    def change(tx: Transaction, fresh_op: Operation, machine: Machine | None) -> Operation:
        if machine is None or machine.operation_id != fresh_op.id:
            return fresh_op
        refused = unless(tx, fresh_op) if unless is not None else None
        if refused is not None:
            return replace(fresh_op, problem=fresh_op.problem or refused)
        now = invocation.now()
        engine_runs.give_up_taking(tx, fresh_op)  # "--discard" was said while it was being taken
        for known in books:
            instance = tx.get(Instance, known.id)
            if instance is not None and instance.open:
                why = Problem(code="destroyed", detail="the machine was destroyed")
                tx.put(replace(tending.dismiss(instance, now, why), operation_id=fresh_op.id))
        check_transition(machine.state, MachineState.DESTROYING)
        tx.put(
            replace(
                machine,
                state=MachineState.DESTROYING,
                epoch=machine.epoch + 1,
                paused_instance_id=None,
                spare_instance_id=None,
                spare_operation_id=None,
                deadline=None,
                updated_at=now,
            )
        )
        routes.close(tx, machine.id, now)
        return replace(fresh_op, phase=destruction.RELEASE, epoch=machine.epoch + 1, problem=None, store_key_id="")

    if invocation.apply(change).phase == destruction.RELEASE:
        naming.forget(invocation.ports, op.machine)


def _abandon(invocation: Invocation, op: Operation) -> None:
    engine_runs.end_keys(invocation.ports, op)

    def change(tx: Transaction, o: Operation, _machine: Machine | None) -> Operation:
        engine_runs.give_up_taking(tx, o)
        return replace(o, state=OperationState.SUPERSEDED)

    invocation.apply(change)


def _finish(invocation: Invocation, op: Operation) -> None:
    engine_runs.end_keys(invocation.ports, op)

    def change(tx: Transaction, op: Operation, machine: Machine | None) -> Operation:
        engine_runs.give_up_taking(tx, op)
        if op.kind is OperationKind.DESTROY and machine is not None and machine.operation_id == op.id:
            tx.put(ended(op, machine, invocation.now()))
            nudge(tx, machine, invocation.now())
        return replace(op, state=OperationState.FAILED if op.problem is not None else OperationState.SUCCEEDED)

    invocation.apply(change)


def ended(op: Operation, machine: Machine, now: float) -> Machine:
    """The machine after the operation that was to end it: destroyed, or as it was."""
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
