"""Failover: a suspect is looked at, fenced when it is dead, and its machine brought back on another host."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from msgspec.structs import replace

from dumont.domain import detection, failover, heartbeats, provisioning, tending
from dumont.domain import moving as moving_rules
from dumont.domain.actions import (
    Abandon,
    Action,
    Confirm,
    Dismiss,
    Fence,
    Finish,
    GiveUp,
    Look,
    RestartAgent,
    Start,
    Stop,
    TakeBack,
    Try,
)
from dumont.domain.errors import Conflict, Unknown
from dumont.domain.heartbeats import Heartbeat
from dumont.domain.hibernation import unheard
from dumont.domain.host_events import events_between
from dumont.domain.names import check_machine_name
from dumont.domain.records import (
    Instance,
    InstanceState,
    Machine,
    MachineState,
    Operation,
    OperationKind,
    OperationState,
    Problem,
    Step,
)
from dumont.domain.snapshots import Snapshot
from dumont.domain.states import check_transition, not_running
from dumont.operations import comebacks, confirming, engine_runs, moving, provision, routes, spare_hosts, spares, tend
from dumont.operations.invocation import Invocation
from dumont.operations.reputations import note
from dumont.operations.restoring import last_restorable
from dumont.operations.runner import Workflow, new_operation, publish
from dumont.ports import Ports, Transaction

log = logging.getLogger(__name__)

SUSPECT_AGAIN_SECONDS = 60.0
"""A silence that an operation looked into and left, since only the agent is dead, is looked into anew after this."""
LEFT_AGAIN_SECONDS = 600.0
"""One that is dead and was left so is looked at anew after this: it may have come back."""
FENCE_MARGIN_SECONDS = 3.0
_GIVES_WAY_TO_A_MOVE = (OperationKind.SNAPSHOT, OperationKind.VERIFY, OperationKind.DIFF)
"""A restore does not: a workspace that is half restored must not be saved, nor moved."""
_GIVES_WAY_TO_A_WORD = (*_GIVES_WAY_TO_A_MOVE, OperationKind.RESTORE)
_KEEPS_THE_MACHINE = (OperationKind.DESTROY, OperationKind.PROVISION, OperationKind.FAILOVER)


# --- How it begins ------------------------------------------------------------------------------------------------


def suspect(ports: Ports, instance_id: str, *, listening_since: float = 0.0, notice: str = "") -> Operation | None:
    """Begin to look into the silence of an instance, if it is the one that serves; None where there is no need.

    `notice`: its provider told us by itself that it is lost; then its silence is not waited for.
    """
    operation_id = ports.ids.new("op")

    def work(tx: Transaction) -> Operation | None:
        now = ports.clock.now()
        beat = tx.get(Heartbeat, instance_id)
        if beat is None:
            return None
        machine = tx.get(Machine, beat.machine)
        if machine is None or machine.instance_id != instance_id or machine.state is not MachineState.RUNNING:
            if machine is None or machine.spare_instance_id != instance_id:
                tx.put(replace(beat, deadline=None))
            return None
        missed_after = heartbeats.missed_after_seconds(machine.spec.heartbeat_seconds)
        if not notice and (
            beat.deadline is None
            or not detection.overdue(
                beat.deadline, now, listening_since=listening_since, missed_after_seconds=missed_after
            )
        ):
            return None
        known = tx.get(Operation, beat.suspect_operation_id) if beat.suspect_operation_id else None
        if known is not None and known.open:
            tx.put(replace(beat, deadline=now + SUSPECT_AGAIN_SECONDS))
            return None
        op = new_operation(
            operation_id, OperationKind.FAILOVER, machine.id, machine.epoch, now, requested_by=notice or "heartbeat"
        )
        silent_since = beat.received_at
        step = Step(name="detect", started_at=silent_since, ended_at=now, ok=False, instance_id=instance_id,
                    detail=notice or f"silent for {now - silent_since:.1f} s")  # fmt: skip
        op = replace(op, suspect_instance_id=instance_id, suspected_at=now, steps=(step,), path=notice)
        tx.put(op)
        tx.put(replace(beat, deadline=now + SUSPECT_AGAIN_SECONDS, suspect_operation_id=op.id))
        return op

    quiet = ports.store.get(Heartbeat, instance_id)
    of_spare = ports.store.get(Machine, quiet.machine) if quiet is not None else None
    if quiet is not None and of_spare is not None and of_spare.spare_instance_id == instance_id:
        return spares.suspect(ports, of_spare, quiet, listening_since=listening_since, notice=notice)
    op = ports.store.transact(work)
    if op is not None:
        log.warning("a machine fell silent", extra={"machine": op.machine, "operation": op.id, "notice": notice})
        publish(ports, op)
    return op


def request(ports: Ports, name: str, *, discard: bool, requested_by: str, request_id: str = "") -> Operation:
    """Move a running machine by hand: without `discard`, what its workspace holds is saved first (`domain.moving`),
    unless its host is silent. One that waits for its old host, since nothing else has its files, goes on without it if
    `discard` is said.

    Raises `Unknown`, or `Conflict` where there is nothing to move, or something else is under way.
    """
    check_machine_name(name)
    operation_id = ports.ids.new("op")

    def work(tx: Transaction) -> Operation:
        now = ports.clock.now()
        machine = tx.get(Machine, name)
        if machine is None or machine.state is MachineState.DESTROYED:
            raise Unknown(f"there is no machine named {name}", field="name", hint="`dumont ls` shows those there are")
        held = tx.get(Operation, machine.operation_id) if machine.operation_id is not None else None
        if held is not None and held.open and held.kind is OperationKind.FAILOVER:
            stronger = replace(held, discard=held.discard or discard)
            tx.put(stronger)
            return stronger
        if machine.state is not MachineState.RUNNING or machine.instance_id is None:
            raise not_running(name, machine.state)
        keeps = _GIVES_WAY_TO_A_WORD if discard else _GIVES_WAY_TO_A_MOVE
        if held is not None and held.open and held.kind not in keeps:
            raise Conflict(
                f"{name} is in the middle of a {held.kind.value}",
                code="operation_under_way",
                hint=f"wait for it: dumont operation {held.id}",
            )
        op = new_operation(
            operation_id, OperationKind.FAILOVER, name, machine.epoch, now,
            requested_by=requested_by, request_id=request_id,
        )  # fmt: skip
        silent = _is_silent(tx, machine, now)
        op = replace(
            op,
            suspect_instance_id=machine.instance_id,
            suspected_at=now,
            forced=True,
            discard=discard,
            snapshot_first=not discard and not silent,
        )
        if not moving_rules.may_lose(op):
            tx.put(replace(machine, operation_id=op.id, updated_at=now))  # a snapshot under way gives way to ours
        tx.put(op)
        return op

    op = ports.store.transact(work)
    publish(ports, op)
    return op


def _is_silent(tx: Transaction, machine: Machine, now: float) -> bool:
    """Whether its host has not been heard for long, or is being looked into and does not answer."""
    beat = tx.get(Heartbeat, machine.instance_id or "")
    if beat is None or beat.sequence < 0:
        return False
    looks = tx.get(Operation, beat.suspect_operation_id)
    seen = looks.evidence[-1] if looks is not None and looks.open and looks.evidence else None
    return unheard(machine.spec, beat.received_at, now) or (seen is not None and seen.shell != "answers")


# --- Its actions --------------------------------------------------------------------------------------------------


def perform(
    invocation: Invocation, op: Operation, machine: Machine | None, instances: Sequence[Instance], action: Action
) -> None:
    """Carry out one action of a failover; a race's are a provision's."""
    if op.forced and not failover.is_fenced(op) and not isinstance(action, Fence):
        moving.perform(invocation, op, machine, action)
        return
    by_id = {i.id: i for i in instances}
    match action:
        case Confirm() if machine is not None:
            confirming.look(invocation, op, machine)
        case RestartAgent() if machine is not None:
            confirming.restart_agent(invocation, op, machine)
        case Fence() if machine is not None:
            _fence(invocation, op, machine, action.why)
        case Try():
            _try(invocation, action.strategy, instances)
        case Look():
            comebacks.look(invocation, by_id[action.instance_id])
        case Start() if by_id[action.instance_id].state is InstanceState.STOPPED:
            spare_hosts.start(invocation, by_id[action.instance_id])
        case Start():
            comebacks.start(invocation, by_id[action.instance_id])
        case Dismiss():
            tend.dismiss(invocation, op, action)
        case Stop():
            comebacks.stop(invocation, by_id[action.instance_id])
        case TakeBack():
            comebacks.take_back(invocation, instances, action)
        case GiveUp() if op.phase == failover.CONFIRM:
            _leave(invocation, action.problem)
        case Finish() | Abandon() if op.phase == failover.CONFIRM:
            _end_unfenced(invocation, op, machine)
        case _:
            provision.perform(invocation, op, machine, instances, action)


WORKFLOW = Workflow(decide=failover.decide, perform=perform)


def _leave(invocation: Invocation, problem: Problem) -> None:
    """It is dead and is not moved: said loudly, nothing changed."""
    log.error("failover not begun", extra={"operation": invocation.operation_id, "code": problem.code})

    def change(tx: Transaction, o: Operation, _machine: Machine | None) -> Operation:
        beat = tx.get(Heartbeat, o.suspect_instance_id or "")
        if beat is not None and beat.suspect_operation_id == o.id:
            tx.put(replace(beat, deadline=invocation.now() + LEFT_AGAIN_SECONDS))
        return replace(o, problem=o.problem or problem)

    invocation.apply(change)


def _end_unfenced(invocation: Invocation, op: Operation, machine: Machine | None) -> None:
    mine = failover.is_suspect(op, machine)
    finding = detection.judge(op.evidence, op.suspected_at)
    state = OperationState.SUCCEEDED if mine else OperationState.SUPERSEDED

    def change(_tx: Transaction, o: Operation, _machine: Machine | None) -> Operation:
        now = invocation.now()
        step = Step(name="confirm", started_at=o.suspected_at, ended_at=now, ok=o.problem is None, detail=finding.why)
        return replace(o, state=OperationState.FAILED if o.problem is not None else state, steps=(*o.steps, step))

    invocation.apply(change)


def _fence(invocation: Invocation, before: Operation, machine: Machine, why: str) -> None:
    """Raise the epoch. From this commit on the old host is refused: its heartbeats, its workload, its storage prefix.

    A snapshot or a restore on the dead host gives way: it finds the machine another's, ends, and its key with it.
    """
    ports = invocation.ports
    held_id = machine.operation_id
    engine_runs.end_keys(ports, before)
    found = last_restorable(ports, machine.id)

    def change(tx: Transaction, o: Operation, fresh: Machine | None) -> Operation:
        now = invocation.now()
        if fresh is None or not failover.is_suspect(o, fresh):
            return o
        held = tx.get(Operation, fresh.operation_id) if fresh.operation_id is not None else None
        if held is not None and held.id != o.id and held.open and held.kind in _KEEPS_THE_MACHINE:
            return replace(o, not_before=now + 2.0)
        engine_runs.give_up_taking(tx, o)  # --discard was said while it was being saved
        lost = tx.get(Instance, o.suspect_instance_id or "")
        beat = tx.get(Heartbeat, o.suspect_instance_id or "")
        snapshot = tx.get(Snapshot, found.id) if found is not None else None
        last = o.evidence[-1] if o.evidence else None
        if lost is not None:
            problem = Problem(code="moved" if o.forced else "lost", detail=why[:300])
            aside = replace(tending.put_aside(lost, now, problem), operation_id=o.id, restored_snapshot_id=None)
            tx.put(replace(aside, last_status=last.provider if last is not None else ""))
            if last is None or last.provider != "stopped":  # an outbid is no death
                note(tx, lost.offer, events_between(lost, aside, now), now)
        spares.join(tx, fresh, o.id, now)
        check_transition(fresh.state, MachineState.FAILING_OVER)
        tx.put(
            replace(
                fresh,
                state=MachineState.FAILING_OVER,
                epoch=fresh.epoch + 1,
                operation_id=o.id,
                instance_id=None,
                spare_instance_id=None,
                ssh=None,
                host_key=None,
                updated_at=now,
            )
        )
        routes.close(tx, machine.id, now)
        step = Step(
            name="confirm", started_at=o.suspected_at, ended_at=now, instance_id=o.suspect_instance_id, detail=why
        )
        return replace(
            o,
            phase=provisioning.RACE,
            epoch=fresh.epoch + 1,
            snapshot_id=snapshot.id if snapshot is not None and snapshot.restorable else None,
            # What it began with is gone: an empty workspace is not that.
            unrestorable=snapshot is None and fresh.filled_from is not None,
            serve_not_before=_serve_not_before(fresh, lost, beat, last.provider if last is not None else ""),
            tries=0,
            rounds=0,
            engine_run="",
            store_key_id="",
            problem=None,
            not_before=0.0,
            steps=(*o.steps, step),
        )

    fenced = invocation.apply(change)
    if failover.is_fenced(fenced):
        log.error("failover", extra={"machine": machine.id, "epoch": fenced.epoch, "why": why})
        # What worked on the machine or beside it gives way, or hands over what it has.
        for other_id in (held_id, machine.spare_operation_id):
            other = ports.store.get(Operation, other_id) if other_id is not None else None
            if other is not None and other.open and other.id != fenced.id:
                publish(ports, other)


def _serve_not_before(machine: Machine, lost: Instance | None, beat: Heartbeat | None, provider: str) -> float:
    """Until when the old host may go on serving unheard: its lease runs from the moment its last heartbeat was sent,
    hence ends before this much after we received it, whatever its clock says (invariant 1)."""
    if provider in ("stopped", "broken") or not machine.spec.run or lost is None:
        return 0.0
    if beat is None or beat.sequence < 0:
        return 0.0
    if machine.spec.fence_after_seconds == 0:
        return failover.NEVER
    # "gone" is no proof that it stopped: a provider strikes out an instance whose host it cannot reach.
    return beat.received_at + machine.spec.fence_after_seconds + FENCE_MARGIN_SECONDS


def _try(invocation: Invocation, strategy: str, instances: Sequence[Instance]) -> None:
    """Go on with a strategy, from a fresh start; where nothing may be built anew, what was rented goes."""

    def change(tx: Transaction, o: Operation, machine: Machine | None) -> Operation:
        now = invocation.now()
        if machine is None or machine.operation_id != o.id:
            return o
        if strategy == failover.RESUME:
            lost = tx.get(Instance, o.suspect_instance_id or "")
            if lost is not None and lost.state is InstanceState.LOST:
                tx.put(replace(lost, problem=None))  # why the last try failed is no reason against this one
        if strategy == failover.HOLD:
            log.error("failover waits for its old host", extra={"machine": o.machine})
            for known in instances:
                instance = tx.get(Instance, known.id)
                if instance is not None and instance.open and instance.id != o.suspect_instance_id:
                    tx.put(
                        tending.dismiss(instance, now, Problem(code="given_up", detail="there is nothing to restore"))
                    )
        tried = (*o.tried, strategy)[-20:]
        return replace(o, tried=tried, tried_since=now, rounds=0, tries=0, not_before=0.0, candidates=())

    invocation.apply(change)
