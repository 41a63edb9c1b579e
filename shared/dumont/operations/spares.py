"""A machine's spare: rented beside it, kept restored to its last snapshot, and handed over when it fails over."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from msgspec.structs import replace

from dumont import queries
from dumont.domain import detection, heartbeats, provisioning, spares, tending
from dumont.domain.actions import Action, Finish, GiveUp, HandOver, Look, Settle, Start, Stop
from dumont.domain.errors import NotFound, ProviderError
from dumont.domain.heartbeats import Heartbeat
from dumont.domain.records import (
    Instance,
    InstanceState,
    Machine,
    Operation,
    OperationKind,
    OperationState,
    Problem,
    Step,
)
from dumont.domain.snapshots import Snapshot, by_preference
from dumont.domain.statuses import InstanceStatus
from dumont.operations import provision, spare_hosts
from dumont.operations.heartbeats import first_heartbeat
from dumont.operations.invocation import Invocation
from dumont.operations.restoring import end_keys, last_restorable
from dumont.operations.runner import Workflow, new_operation, publish
from dumont.ports import Ports, Transaction

log = logging.getLogger(__name__)


# --- How it begins ------------------------------------------------------------------------------------------------


def by_policy(ports: Ports, machine: Machine, now: float) -> float | None:
    """Begin what the machine's spare needs by now, if anything; answers with when the next look is due."""
    if machine.spec.spare == "none" and machine.spare_instance_id is None:
        return None
    held = ports.store.get(Operation, machine.spare_operation_id or "")
    if held is not None and held.open:
        return now + 60.0
    spare = ports.store.get(Instance, machine.spare_instance_id or "")
    known = ports.store.find(Snapshot, queries.snapshots_of_machine(machine.id))
    newest = next(iter(by_preference(known)), None)
    needed = spares.need(machine, spare, newest, known, now)
    why = needed.why
    if why is None and spare is not None and spare.state is InstanceState.STOPPED and now >= spare.next_check_at:
        if _is_still_stopped(ports, spare, now):
            return now + spares.LOOK_STOPPED_SECONDS
        why = "it is not stopped any more"
    if why is not None:
        begin(ports, machine.id, why, snapshot_id=newest.id if newest is not None else None)
        return now + 60.0
    return needed.look_at


def _is_still_stopped(ports: Ports, spare: Instance, now: float) -> bool:
    """Ask the provider, seldom; one that does not answer has not said that anything changed."""
    try:
        status = ports.providers[spare.provider].get(spare.provider_instance_id or "").status
    except NotFound:
        return False
    except ProviderError as error:
        log.info("the provider does not say", extra={"instance": spare.id, "error": str(error)})
        status = InstanceStatus.STOPPED

    def work(tx: Transaction) -> None:
        fresh = tx.get(Instance, spare.id)
        if fresh is not None and fresh.state is InstanceState.STOPPED:
            tx.put(replace(fresh, next_check_at=now + spares.LOOK_STOPPED_SECONDS))

    if status is InstanceStatus.STOPPED:
        ports.store.transact(work)
    return status is InstanceStatus.STOPPED


def begin(
    ports: Ports, name: str, why: str, *, snapshot_id: str | None, suspect_id: str | None = None
) -> Operation | None:
    """Begin to make or tend a machine's spare; None where that is under way, or the machine does not run."""
    operation_id = ports.ids.new("op")

    def work(tx: Transaction) -> Operation | None:
        now = ports.clock.now()
        machine = tx.get(Machine, name)
        held = tx.get(Operation, (machine.spare_operation_id or "") if machine is not None else "")
        if machine is None or (held is not None and held.open):
            return None
        op = new_operation(operation_id, OperationKind.SPARE, name, machine.epoch, now, requested_by="policy")
        op = replace(op, phase=provisioning.RACE, snapshot_id=snapshot_id, suspect_instance_id=suspect_id)
        taken = replace(machine, spare_operation_id=op.id)
        if not spares.holds(op, taken):
            return None
        spare = tx.get(Instance, machine.spare_instance_id or "")
        if spare is None or not spare.open or spare.state is InstanceState.RELEASING:
            taken = replace(taken, spare_instance_id=None)
        else:
            tx.put(replace(spare, operation_id=op.id, next_check_at=now, tries=0, restores=0, problem=None))
        tx.put(taken)
        tx.put(op)
        return op

    op = ports.store.transact(work)
    if op is not None:
        log.info("spare", extra={"machine": name, "operation": op.id, "why": why})
        publish(ports, op)
    return op


def suspect(
    ports: Ports, machine: Machine, beat: Heartbeat, *, listening_since: float = 0.0, notice: str = ""
) -> Operation | None:
    """Look into the silence of a machine's spare."""
    missed_after = heartbeats.missed_after_seconds(machine.spec.heartbeat_seconds)
    if not notice and (
        beat.deadline is None
        or not detection.overdue(
            beat.deadline, ports.clock.now(), listening_since=listening_since, missed_after_seconds=missed_after
        )
    ):
        return None
    spare = ports.store.get(Instance, beat.id)
    if spare is None or spare.state is InstanceState.STOPPED:
        ports.store.transact(lambda tx: _expect_nothing(tx, beat.id))
        return None
    newest = last_restorable(ports, machine.id)
    snapshot_id = newest.id if newest is not None else None
    op = begin(ports, machine.id, "it fell silent", snapshot_id=snapshot_id, suspect_id=spare.id)

    def work(tx: Transaction) -> None:
        fresh = tx.get(Heartbeat, beat.id)
        if fresh is not None and fresh.deadline == beat.deadline:
            tx.put(replace(fresh, deadline=ports.clock.now() + 60.0))

    ports.store.transact(work)
    return op


def _expect_nothing(tx: Transaction, instance_id: str) -> None:
    beat = tx.get(Heartbeat, instance_id)
    if beat is not None:
        tx.put(replace(beat, deadline=None))


# --- Its actions --------------------------------------------------------------------------------------------------


def perform(
    invocation: Invocation, op: Operation, machine: Machine | None, instances: Sequence[Instance], action: Action
) -> None:
    """Carry out one action; a race's are a provision's."""
    by_id = {i.id: i for i in instances}
    match action:
        case Look() if machine is not None:
            spare_hosts.look(invocation, op, machine, by_id[action.instance_id])
        case Start():
            spare_hosts.start(invocation, by_id[action.instance_id])
        case Stop():
            spare_hosts.stop(invocation, by_id[action.instance_id])
        case Settle():
            _settle(invocation, instances, action)
        case HandOver():
            hand_over(invocation, op, instances)
        case GiveUp():
            give_up(invocation, instances, action.problem)
        case Finish():
            end_keys(invocation.ports, op)
            finish(invocation)
        case _:
            provision.perform(invocation, op, machine, instances, action)


WORKFLOW = Workflow(decide=spares.decide, perform=perform)


def _settle(invocation: Invocation, instances: Sequence[Instance], action: Settle) -> None:
    """In one transaction: it is the machine's spare, and whatever else was rented for that goes."""

    def change(tx: Transaction, op: Operation, machine: Machine | None) -> Operation:
        now = invocation.now()
        spare = tx.get(Instance, action.instance_id)
        if machine is None or not spares.holds(op, machine) or spare is None or spare.operation_id != op.id:
            return op
        if not spares.is_alive(spare):
            return op
        dismiss_others(tx, op, instances, spare.id, now, provisioning.LOST_RACE)
        tx.put(replace(spare, standby=True, engine_run="", store_key_id="", restores=0, tries=0, next_check_at=now))
        if machine.spec.spare == "running" and invocation.ports.public_url:
            first_heartbeat(tx, machine, spare, now)
        tx.put(replace(machine, spare_instance_id=spare.id, spare_after=None, spare_failures=0))
        step = Step(name="stand by", started_at=now, ended_at=now, instance_id=spare.id,
                    detail=spare.restored_snapshot_id or "with an empty workspace")  # fmt: skip
        phase = spares.PARK if machine.spec.spare == "stopped" else provisioning.RELEASE
        return replace(op, phase=phase, candidates=(), steps=(*op.steps, step))

    invocation.apply(change)


def dismiss_others(
    tx: Transaction, op: Operation, instances: Sequence[Instance], kept_id: str | None, now: float, why: Problem
) -> None:
    """Let go what an operation rented beside a machine, but for one."""
    for known in instances:
        instance = tx.get(Instance, known.id)
        # What another operation has taken over meanwhile is that one's.
        if instance is not None and instance.open and instance.id != kept_id and instance.operation_id == op.id:
            tx.put(tending.dismiss(instance, now, why))


def hand_over(invocation: Invocation, op: Operation, instances: Sequence[Instance]) -> None:
    """The machine fails over: all that this operation has races for it from here on, and its own work ends.

    Under this operation's lease, so that no effect of it meets one of the failover's on the same host.
    """

    def change(tx: Transaction, o: Operation, machine: Machine | None) -> Operation:
        now = invocation.now()
        if machine is None or machine.spare_operation_id != o.id:
            return o
        heir = tx.get(Operation, machine.operation_id or "")
        if heir is not None and heir.open and heir.kind is OperationKind.FAILOVER:
            for known in instances:
                instance = tx.get(Instance, known.id)
                if instance is not None and instance.operation_id == o.id and spares.is_alive(instance):
                    tx.put(joining(instance, heir.id, now))
        tx.put(replace(machine, spare_operation_id=None, spare_instance_id=None))
        return replace(o, phase=provisioning.RELEASE, candidates=())

    invocation.apply(change)
    machine = invocation.ports.store.get(Machine, op.machine)
    heir = invocation.ports.store.get(Operation, machine.operation_id or "") if machine is not None else None
    if heir is not None and heir.open:
        publish(invocation.ports, heir)


def joining(instance: Instance, operation_id: str, now: float) -> Instance:
    """An instance that stood by, as a racer of a failover."""
    return replace(instance, operation_id=operation_id, standby=False, next_check_at=now, tries=0, restores=0)


def join(tx: Transaction, machine: Machine, operation_id: str, now: float) -> str | None:
    """The machine is fenced: its spare races for it. One that an operation is busy with is handed over by that one;
    its id is the answer, for it to be woken."""
    held = tx.get(Operation, machine.spare_operation_id or "")
    if held is not None and held.open:
        return held.id
    spare = tx.get(Instance, machine.spare_instance_id or "")
    if spare is not None and spares.is_alive(spare):
        tx.put(joining(spare, operation_id, now))
    return None


def give_up(invocation: Invocation, instances: Sequence[Instance], problem: Problem) -> None:
    """Let go what was rented; a spare that only could not be brought up to date is kept as it is."""
    calmly = problem.code in ("superseded", spares.NOT_WANTED.code)

    def change(tx: Transaction, op: Operation, machine: Machine | None) -> Operation:
        now = invocation.now()
        kept = machine.spare_instance_id if machine is not None and spares.holds(op, machine) else None
        if kept is not None and machine is not None and problem.code == spares.NOT_WANTED.code:
            tx.put(replace(machine, spare_instance_id=None))
            kept = None
        dismiss_others(tx, op, instances, kept, now, Problem(code="given_up", detail=problem.detail))
        said = op.problem if calmly else op.problem or problem
        phase = spares.PARK if kept is not None and machine is not None and machine.spec.spare == "stopped" else (
            provisioning.GIVE_UP
        )  # fmt: skip
        state_word = "superseded" if problem.code == "superseded" else op.path
        return replace(op, phase=phase, problem=said, candidates=(), path=state_word)

    invocation.apply(change)


def finish(invocation: Invocation) -> None:
    """All is let go, as its provider says: others may rent beside the machine now."""

    def change(tx: Transaction, op: Operation, machine: Machine | None) -> Operation:
        now = invocation.now()
        if machine is not None and machine.spare_operation_id == op.id:
            freed = replace(machine, spare_operation_id=None)
            if op.kind is OperationKind.SPARE and op.problem is not None:
                after = now + spares.again_after_seconds(machine.spare_failures)
                freed = replace(freed, spare_after=after, spare_failures=machine.spare_failures + 1)
            due = freed.spare_after if freed.spare_after is not None and freed.spare_after > now else now
            if machine.spec.spare != "none":
                freed = replace(freed, deadline=min(due, machine.deadline if machine.deadline is not None else due))
            tx.put(freed)
        if op.problem is not None:
            log.warning("no spare", extra={"machine": op.machine, "operation": op.id, "code": op.problem.code})
            return replace(op, state=OperationState.FAILED)
        return replace(op, state=OperationState.SUPERSEDED if op.path == "superseded" else OperationState.SUCCEEDED)

    invocation.apply(change)
