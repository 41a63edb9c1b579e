"""Provision: search, race, prove, win, and release the losers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from dumont.domain import failover, gpus, provisioning, tending
from dumont.domain.actions import (
    Abandon,
    Action,
    AttachKeys,
    Dismiss,
    Finish,
    GiveUp,
    Prove,
    Release,
    Rent,
    Restore,
    Search,
    Survey,
    Win,
)
from dumont.domain.errors import (
    Conflict,
    InvalidInput,
)
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
)
from dumont.domain.states import NAME_IS_FREE, check_transition
from dumont.operations import budgets, naming, routes, tend
from dumont.operations.heartbeats import first_heartbeat
from dumont.operations.invocation import Invocation
from dumont.operations.job_facts import nudge
from dumont.operations.proving import prove_instance
from dumont.operations.renting import rent, search
from dumont.operations.restoring import end_keys, restore
from dumont.operations.runner import Workflow, new_operation, publish
from dumont.ports import Ports, Transaction

log = logging.getLogger(__name__)

SLEEPS_ON = "It sleeps on; its verified snapshot is kept, and nothing else bills."
SLEEPS_ON_PAUSED = "It sleeps on; its verified snapshot is kept, and so is its stopped host, whose disk bills."


def check_spec(spec: MachineSpec) -> MachineSpec:
    """The spec with its GPU's name as markets spell it. Raises `InvalidInput` naming the field."""
    if spec.gpu is None and spec.min_vram_gib is None:
        raise InvalidInput("say which GPU, or how much memory it must have", field="gpu", hint="for example: RTX 4090")
    if spec.gpu is not None and not gpus.is_known(spec.gpu):
        near = gpus.suggestions(spec.gpu)
        hint = f"did you mean {' or '.join(near)}?" if near else "`dumont search` lists what the market offers"
        raise InvalidInput(f"no GPU is known by the name {spec.gpu[:60]!r}", field="gpu", hint=hint)
    if spec.workspace.startswith("-") or ".." in spec.workspace.split("/"):
        raise InvalidInput("a workspace is a plain path, without '..'", field="workspace")
    return replace(spec, gpu=gpus.canonical(spec.gpu) if spec.gpu is not None else None)


def request(
    ports: Ports,
    name: str,
    spec: MachineSpec,
    *,
    requested_by: str,
    request_id: str = "",
    furnish: Callable[[Transaction, Machine, Operation], tuple[Machine, Operation]] | None = None,
) -> tuple[Machine, Operation]:
    """Accept a new machine: its record and its operation, in one transaction; then the message that starts it.
    `furnish` may change both before they are written, and write what belongs to them.

    Raises `Conflict` if the name is taken, `InvalidInput` for a spec that cannot be.
    """
    check_machine_name(name)
    spec = check_spec(spec)
    budgets.admit(ports, name)
    operation_id = ports.ids.new("op")

    def work(tx: Transaction) -> tuple[Machine, Operation]:
        now = ports.clock.now()
        before = tx.get(Machine, name)
        if before is not None and before.state not in NAME_IS_FREE:
            raise Conflict(
                f"there is a machine named {name} already, and it is {before.state.value}",
                field="name",
                code="name_taken",
                hint=f"take another name, or release it: dumont down {name}",
            )
        if before is not None:
            check_transition(before.state, MachineState.REQUESTED)
            tx.delete(Machine, name)  # a new life: what a later version of us knows of the last one is not its
        machine = Machine(
            id=name,
            spec=spec,
            state=MachineState.REQUESTED,
            # A name that is used again goes on counting: no host of an earlier life is ever of this epoch.
            epoch=before.epoch + 1 if before is not None else 1,
            created_at=now,
            updated_at=now,
            created_by=requested_by,
            operation_id=operation_id,
            shard=shard_of(name),
        )
        op = new_operation(
            operation_id,
            OperationKind.PROVISION,
            name,
            machine.epoch,
            now,
            requested_by=requested_by,
            request_id=request_id,
        )
        if furnish is not None:
            machine, op = furnish(tx, machine, op)
        tx.put(machine)
        tx.put(op)
        return machine, op

    machine, op = ports.store.transact(work)
    publish(ports, op)
    return machine, op


def perform(
    invocation: Invocation, op: Operation, machine: Machine | None, instances: Sequence[Instance], action: Action
) -> None:
    """Carry out one action of a provision."""
    by_id = {i.id: i for i in instances}
    if machine is None:
        _end(invocation, OperationState.SUPERSEDED)
        return
    match action:
        case Search():
            search(invocation, op, machine, instances, action)
        case Rent():
            rent(invocation, op, machine, action)
        case AttachKeys():
            tend.attach_keys(invocation, machine.spec, by_id[action.instance_id], action)
        case Survey():
            tend.survey(invocation, machine.id, machine.spec, instances, action)
        case Prove():
            prove_instance(invocation, machine, by_id[action.instance_id])
        case Win():
            _win(invocation, instances, action)
            naming.follow(invocation.ports, machine.id)
        case Restore():
            restore(invocation, op, machine, by_id[action.instance_id])
        case Dismiss():
            tend.dismiss(invocation, op, action)
        case Release():
            tend.release(invocation, by_id[action.instance_id], action)
        case GiveUp():
            _give_up(invocation, instances, action.problem)
        case Finish():
            end_keys(invocation.ports, op)
            _finish(invocation)
        case Abandon():
            end_keys(invocation.ports, op)
            _end(invocation, OperationState.SUPERSEDED)
        case _:
            raise TypeError(f"a provision cannot {action}")


WORKFLOW = Workflow(decide=provisioning.decide, perform=perform)


# --- Ends ---------------------------------------------------------------------------------------------------------


def _win(invocation: Invocation, instances: Sequence[Instance], action: Win) -> None:
    """In one transaction: the machine runs, on this instance, and all others are to go."""

    def change(tx: Transaction, op: Operation, machine: Machine | None) -> Operation:
        winner = tx.get(Instance, action.instance_id)
        if machine is None or machine.operation_id != op.id or machine.epoch != op.epoch:
            return op  # taken over: the next decision abandons
        if winner is None or not provisioning.is_ready(op, winner):
            return op
        now = invocation.now()
        fresh = [tx.get(Instance, i.id) for i in instances]
        books = [i for i in fresh if i is not None]
        for instance in books:
            if instance.id != winner.id and instance.open:
                tx.put(tending.dismiss(instance, now, provisioning.LOST_RACE))
        check_transition(machine.state, MachineState.RUNNING)
        tx.put(replace(winner, engine_run="", store_key_id=""))
        first_heartbeat(tx, machine, winner, now)
        running = replace(
            machine,
            state=MachineState.RUNNING,
            instance_id=winner.id,
            ssh=winner.ssh,
            host_key=winner.host_key,
            running_since=now,
            updated_at=now,
            operation_id=None,
            failure=None,
            deadline=_first_deadline(machine.spec, now),
        )
        tx.put(running)
        routes.point(tx, running, now)
        nudge(tx, running, now)
        return replace(op, phase=provisioning.RELEASE, candidates=())

    invocation.apply(change)


def _first_deadline(spec: MachineSpec, now: float) -> float | None:
    """When the sweep must first look at a machine that has just begun to run."""
    # What it spent before this operation, in earlier epochs or asleep, only the sweep counts: it looks at once.
    moments = [now if spec.budget_usd is not None else None]
    if spec.snapshot_every_minutes is not None:
        moments.append(now + spec.snapshot_every_minutes * 60.0)
    if spec.spare != "none" or spec.idle_after_minutes is not None or spec.wake_at or spec.sleep_at:
        moments.append(now)
    return min((moment for moment in moments if moment is not None), default=None)


def _give_up(invocation: Invocation, instances: Sequence[Instance], problem: Problem) -> None:
    def change(tx: Transaction, op: Operation, _machine: Machine | None) -> Operation:
        now = invocation.now()
        for known in instances:
            instance = tx.get(Instance, known.id)
            if instance is None or not instance.open or failover.stays_paused(op, instance):
                continue
            tx.put(tending.dismiss(instance, now, Problem(code="given_up", detail="the provision was given up")))
        return replace(op, phase=provisioning.GIVE_UP, problem=op.problem or problem, candidates=())

    invocation.apply(change)


def _not_woken(tx: Transaction, op: Operation, machine: Machine, now: float) -> Machine:
    """A machine that could not be woken sleeps on as it did, with the disk that was kept for it."""
    paused = tx.get(Instance, op.suspect_instance_id or "")
    kept = paused is not None and paused.open and failover.stays_paused(op, paused)
    check_transition(machine.state, MachineState.HIBERNATED)
    return replace(
        machine,
        state=MachineState.HIBERNATED,
        failure=replace(op.problem, safe=SLEEPS_ON_PAUSED if kept else SLEEPS_ON) if op.problem is not None else None,
        operation_id=None,
        paused_instance_id=op.suspect_instance_id if kept else None,
        updated_at=now,
    )


def _finish(invocation: Invocation) -> None:
    def change(tx: Transaction, op: Operation, machine: Machine | None) -> Operation:
        if op.problem is None:
            return replace(op, state=OperationState.SUCCEEDED)
        now = invocation.now()
        mine = machine is not None and machine.operation_id == op.id and machine.epoch == op.epoch
        if machine is not None and mine and op.kind is OperationKind.WAKE:
            tx.put(_not_woken(tx, op, machine, now))
        elif machine is not None and mine:
            check_transition(machine.state, MachineState.FAILED)
            tx.put(
                replace(
                    machine,
                    state=MachineState.FAILED,
                    failure=op.problem,
                    operation_id=None,
                    deadline=None,
                    updated_at=now,
                    ended_at=now,
                )
            )
            nudge(tx, machine, now)
        return replace(op, state=OperationState.FAILED)

    invocation.apply(change)


def _end(invocation: Invocation, state: OperationState) -> None:
    invocation.apply(lambda _tx, op, _machine: replace(op, state=state))
