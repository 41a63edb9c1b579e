"""A rehearsal of a failover: on another host, up to the moment from which it would serve; the machine runs on."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from dumont.domain import drills, provisioning, spares
from dumont.domain.actions import Action, Conclude, Finish, GiveUp, HandOver
from dumont.domain.errors import Conflict, Unknown
from dumont.domain.names import check_machine_name
from dumont.domain.records import (
    Instance,
    Machine,
    MachineState,
    Operation,
    OperationKind,
    Problem,
    Step,
)
from dumont.domain.states import not_running
from dumont.operations import provision
from dumont.operations import spares as spare_operations
from dumont.operations.invocation import Invocation
from dumont.operations.restoring import end_keys, last_restorable
from dumont.operations.runner import Workflow, new_operation, publish
from dumont.ports import Ports, Transaction

log = logging.getLogger(__name__)

REHEARSED = Problem(code="rehearsed", detail="the rehearsal is over")


def request(ports: Ports, name: str, *, requested_by: str, request_id: str = "") -> Operation:
    """Rehearse a cold failover of a running machine. Nothing of it is touched, and nothing ever serves in its place:
    the workload is not started. Raises `Unknown`, or `Conflict` where there is nothing to rehearse."""
    check_machine_name(name)
    operation_id = ports.ids.new("op")
    snapshot = last_restorable(ports, name)

    def work(tx: Transaction) -> Operation:
        now = ports.clock.now()
        machine = tx.get(Machine, name)
        if machine is None or machine.state is MachineState.DESTROYED:
            raise Unknown(f"there is no machine named {name}", field="name", hint="`dumont ls` shows those there are")
        held = tx.get(Operation, machine.spare_operation_id or "")
        if held is not None and held.open and held.kind is OperationKind.DRILL:
            return held
        if machine.state is not MachineState.RUNNING or machine.instance_id is None:
            raise not_running(name, machine.state)
        if held is not None and held.open:
            raise Conflict(
                f"the spare of {name} is being tended",
                code="operation_under_way",
                hint=f"wait for it: dumont operation {held.id} --watch",
            )
        if snapshot is None and not machine.spec.stateless:
            raise Conflict(
                f"{name} has no snapshot: if its host died now, it would wait for it",
                code="nothing_to_restore",
                field="name",
                hint=f"take one first: dumont snapshot {name}",
            )
        op = new_operation(
            operation_id, OperationKind.DRILL, name, machine.epoch, now,
            requested_by=requested_by, request_id=request_id, phase=provisioning.RACE,
        )  # fmt: skip
        op = replace(op, snapshot_id=snapshot.id if snapshot is not None else None)
        tx.put(replace(machine, spare_operation_id=op.id))
        tx.put(op)
        return op

    op = ports.store.transact(work)
    publish(ports, op)
    return op


def perform(
    invocation: Invocation, op: Operation, machine: Machine | None, instances: Sequence[Instance], action: Action
) -> None:
    """Carry out one action; a race's are a provision's."""
    match action:
        case Conclude() if machine is not None:
            _conclude(invocation, machine, instances, action)
        case HandOver():
            spare_operations.hand_over(invocation, op, instances)
        case GiveUp():
            spare_operations.give_up(invocation, instances, action.problem)
        case Finish():
            end_keys(invocation.ports, op)
            spare_operations.finish(invocation)
        case _:
            provision.perform(invocation, op, machine, instances, action)


WORKFLOW = Workflow(decide=spares.decide_drill, perform=perform)


def _conclude(invocation: Invocation, machine: Machine, instances: Sequence[Instance], action: Conclude) -> None:
    """Here a failover's winner would serve. Write down what it took, and let everything go."""

    def change(tx: Transaction, op: Operation, fresh: Machine | None) -> Operation:
        now = invocation.now()
        winner = tx.get(Instance, action.instance_id)
        if winner is None or not spares.holds(op, fresh) or not provisioning.is_ready(op, winner):
            return op
        books = [i for i in (tx.get(Instance, known.id) for known in instances) if i is not None]
        found = drills.rehearsal(op, machine.spec, winner, books, now)
        spare_operations.dismiss_others(tx, op, instances, None, now, REHEARSED)
        step = Step(name="rehearsed", started_at=op.created_at, ended_at=now, instance_id=winner.id,
                    detail="here it would serve; its workload was not started")  # fmt: skip
        numbers = {k: float(v) for k, v in msgspec.structs.asdict(found).items()}
        return replace(op, phase=provisioning.RELEASE, candidates=(), progress=numbers, steps=(*op.steps, step))

    invocation.apply(change)
    log.info("rehearsed", extra={"machine": machine.id, "operation": invocation.operation_id})
