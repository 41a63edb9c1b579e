"""Wake: start the instance that was kept, or race and restore; the failover's way back, from sleep."""

from __future__ import annotations

from msgspec.structs import replace

from dumont.domain import failover as domain
from dumont.domain import provisioning
from dumont.domain.errors import Conflict, Unknown
from dumont.domain.idle_history import IdleHistory, learn
from dumont.domain.names import check_machine_name
from dumont.domain.records import Instance, Machine, MachineState, Operation, OperationKind
from dumont.domain.snapshots import Snapshot
from dumont.domain.states import check_transition
from dumont.operations import budgets, failover
from dumont.operations.restoring import last_restorable
from dumont.operations.runner import Workflow, new_operation, publish
from dumont.ports import Ports, Transaction


def request(ports: Ports, name: str, *, requested_by: str, request_id: str = "") -> Operation | None:
    """Wake a machine. Wakes at once make one operation; None for a machine that is awake.

    Raises `Unknown`, or `Conflict` for a machine that neither sleeps nor wakes nor runs.
    """
    check_machine_name(name)
    budgets.admit(ports, name)
    operation_id = ports.ids.new("op")
    found = last_restorable(ports, name)

    def work(tx: Transaction) -> Operation | None:
        now = ports.clock.now()
        machine = tx.get(Machine, name)
        if machine is None or machine.state is MachineState.DESTROYED:
            raise Unknown(f"there is no machine named {name}", field="name", hint="`dumont ls` shows those there are")
        if machine.state in (MachineState.RUNNING, MachineState.FAILING_OVER):
            return None
        held = tx.get(Operation, machine.operation_id) if machine.operation_id is not None else None
        if held is not None and held.open and held.kind is OperationKind.WAKE:
            return held
        if held is not None and held.open:
            raise Conflict(
                f"{name} is in the middle of a {held.kind.value}",
                code="operation_under_way",
                hint=f"wait for it: dumont operation {held.id}",
            )
        if machine.state is not MachineState.HIBERNATED:
            raise Conflict(f"{name} is {machine.state.value}, not asleep", code="not_asleep", field="name")
        epoch = machine.epoch + 1
        op = new_operation(
            operation_id, OperationKind.WAKE, name, epoch, now, requested_by=requested_by, request_id=request_id
        )
        snapshot = tx.get(Snapshot, found.id) if found is not None else None
        op = replace(
            op,
            phase=provisioning.RACE,
            suspect_instance_id=machine.paused_instance_id,
            snapshot_id=snapshot.id if snapshot is not None and snapshot.restorable else None,
            unrestorable=snapshot is None,
        )
        paused = tx.get(Instance, machine.paused_instance_id or "")
        history = _learned(tx, machine, now)
        if paused is not None and paused.open:
            # A heartbeat that was late may have come after it was stopped: it is no sign of life.
            asleep = replace(paused, operation_id=op.id, next_check_at=now, problem=domain.PAUSED, returned_at=None)
            tx.put(asleep)
        if history is not None:
            tx.put(history)
        check_transition(machine.state, MachineState.WAKING)
        tx.put(
            replace(
                machine,
                state=MachineState.WAKING,
                epoch=epoch,
                operation_id=op.id,
                paused_instance_id=None,
                failure=None,
                # It bills again: what it spent before counts towards its cap, and only the sweep counts that.
                deadline=now if machine.spec.budget_usd is not None else machine.deadline,
                updated_at=now,
            )
        )
        tx.put(op)
        return op

    op = ports.store.transact(work)
    if op is not None:
        publish(ports, op)
    return op


def _learned(tx: Transaction, machine: Machine, now: float) -> IdleHistory | None:
    """A wake ends the longest stretches of idleness: those of a machine that slept. Without them its history would hold
    only the stretches that were too short to sleep, and no sleep would ever seem worth its wake."""
    if machine.unused_since is None:
        return None
    return learn(tx.get(IdleHistory, machine.id), machine.id, seconds=now - machine.unused_since, now=now)


WORKFLOW = Workflow(decide=domain.decide, perform=failover.perform)
