"""Runs operations: claim, then decide and act until there is nothing to do now, then let go until a deadline."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dumont import queries
from dumont.domain.actions import Action, Wait
from dumont.domain.errors import BusUnavailable, ScheduleError, StoreError
from dumont.domain.names import shard_of
from dumont.domain.records import Instance, Machine, Operation, OperationKind, OperationState
from dumont.operations.invocation import LEASE_SECONDS, Invocation, LeaseLostError
from dumont.operations.rest import wake, wake_if_possible
from dumont.ports import Ports, Transaction

log = logging.getLogger(__name__)

INVOCATION_SECONDS = 40.0
"""An invocation starts no action after this; the operation goes on in the next one."""
SHORT_WAIT_SECONDS = 2.0
"""Where somebody waits for a machine, a wait as short is made on the spot: let go, it would last to the next sweep."""
LOOK_SECONDS = 0.5
"""How often one that waits on the spot looks whether something has come meanwhile."""
DEFECT_RETRY_SECONDS = 20.0
FIRST_DEADLINE_SECONDS = 5.0
"""If the message that starts an operation is lost, the sweep starts it after this."""

TOPICS: Mapping[OperationKind, str] = {
    OperationKind.PROVISION: "dumont-provision",
    OperationKind.FAILOVER: "dumont-failover",
    OperationKind.HIBERNATE: "dumont-hibernate",
    OperationKind.WAKE: "dumont-wake",
    OperationKind.DESTROY: "dumont-destroy",
    OperationKind.SPARE: "dumont-failover",
    OperationKind.DRILL: "dumont-failover",
    OperationKind.REAP: "dumont-destroy",
    OperationKind.SNAPSHOT: "dumont-snapshot",
    OperationKind.RESTORE: "dumont-snapshot",
    OperationKind.VERIFY: "dumont-snapshot",
    OperationKind.DIFF: "dumont-snapshot",
    OperationKind.FINISH: "dumont-jobs",
}


_HURRY = (OperationKind.FAILOVER, OperationKind.WAKE)


Guard = Callable[[Transaction, Machine], None]
"""Raises `Conflict` where an operation is not to begin after all. Called in the transaction that begins it, with the
machine as it is then: whoever asks may have been frozen, for minutes, since it judged."""


@dataclass(frozen=True)
class Workflow:
    """A kind of operation: what to do next (pure), and how each action is done."""

    decide: Callable[[Operation, Machine | None, Sequence[Instance], float], Action]
    perform: Callable[[Invocation, Operation, Machine | None, Sequence[Instance], Action], None]


class Outcome(enum.StrEnum):
    """How an invocation ended."""

    NOT_OURS = "not_ours"  # unknown, ended, or in another invocation's hands: the message is spent
    WAITING = "waiting"
    ENDED = "ended"
    CONTINUES = "continues"  # out of time: a message was published to go on


def new_operation(
    operation_id: str,
    kind: OperationKind,
    machine: str,
    epoch: int,
    now: float,
    *,
    requested_by: str,
    request_id: str = "",
    phase: str = "start",
    due_in_seconds: float = FIRST_DEADLINE_SECONDS,
) -> Operation:
    """An operation as it begins. What is peculiar to a kind is put in with `replace`.

    The id is made before the transaction that writes it: a transaction that runs again must not make another.
    """
    return Operation(
        id=operation_id,
        kind=kind,
        machine=machine,
        epoch=epoch,
        phase=phase,
        created_at=now,
        updated_at=now,
        requested_by=requested_by,
        request_id=request_id,
        deadline=now + due_in_seconds,
        shard=shard_of(operation_id),
    )


def publish(ports: Ports, operation: Operation) -> None:
    """Send the hint that an operation can go on; called after the commit that made it, or that let it go on.

    A lost hint is made good by the sweep, so failure is only logged; and for that somebody must sweep: where the
    schedule of sweeps can rest, it is resumed first. One read where it does not rest.
    """
    if ports.make_schedule is not None:
        wake_if_possible(ports, ports.make_schedule())
    send(ports, operation)


def send(ports: Ports, operation: Operation) -> None:
    """As `publish`, for who knows that the sweeps do not rest: the sweep itself."""
    try:
        ports.bus.publish(TOPICS[operation.kind], {"operation_id": operation.id})
    except BusUnavailable as error:
        log.warning("not published; the sweep will find it", extra={"operation": operation.id, "error": str(error)})


def run_operation(
    ports: Ports,
    operation_id: str,
    workflows: Mapping[OperationKind, Workflow],
    *,
    seconds: float = INVOCATION_SECONDS,
    lease_seconds: float = LEASE_SECONDS,
) -> Outcome:
    """Take an operation as far as it goes now. Called for each message, however often and late it comes.

    What was wished while the sweeps rest needs them, and whoever wished it may not have been able to resume them: so
    each invocation does, first of all. Raises `ScheduleError` or `StoreError` at its end if it could not, and then
    again not: its message comes again.
    """
    swept = _resume(ports)
    outcome = _run(ports, operation_id, workflows, seconds, lease_seconds)
    if not swept and ports.make_schedule is not None:
        wake(ports, ports.make_schedule())
    return outcome


def _resume(ports: Ports) -> bool:
    """False where it is not known that somebody sweeps: a scheduler that does not answer must not keep work waiting."""
    if ports.make_schedule is None:
        return True
    try:
        wake(ports, ports.make_schedule())
    except (ScheduleError, StoreError) as error:
        log.warning("the sweeps' schedule is not resumed yet", extra={"error": str(error)})
        return False
    return True


def _run(
    ports: Ports, operation_id: str, workflows: Mapping[OperationKind, Workflow], seconds: float, lease_seconds: float
) -> Outcome:
    invocation = Invocation(
        ports=ports, operation_id=operation_id, owner=ports.ids.new("inv"), lease_seconds=lease_seconds
    )
    try:
        claimed = invocation.claim()
    except StoreError:
        # The claim may have been made and only its answer lost: kept, it would hold everybody off for a whole lease.
        _try_to_let_go(invocation)
        raise
    if claimed is None:
        return Outcome.NOT_OURS
    workflow = workflows.get(claimed.kind)
    if workflow is None:
        invocation.let_go(invocation.now() + DEFECT_RETRY_SECONDS)
        return Outcome.NOT_OURS
    stop_at = invocation.now() + seconds
    try:
        return _go_on(invocation, workflow, stop_at)
    except LeaseLostError:
        return Outcome.NOT_OURS
    except Exception:
        # A defect, or a store that does not answer: free the operation for a later try, and let the error be seen.
        _try_to_let_go(invocation)
        raise


def _go_on(invocation: Invocation, workflow: Workflow, stop_at: float) -> Outcome:
    while True:
        op = invocation.ports.store.get(Operation, invocation.operation_id)
        if op is None or not op.open:
            _say_if_failed(op)
            return Outcome.ENDED
        if op.lease_owner != invocation.owner:
            return Outcome.NOT_OURS
        machine = invocation.ports.store.get(Machine, op.machine)
        instances = invocation.ports.store.find(Instance, queries.instances_of_operation(op.id))
        instances.sort(key=lambda i: (i.intended_at, i.id))
        now = invocation.now()
        action = workflow.decide(op, machine, instances, now)
        if isinstance(action, Wait):
            left_seconds = action.until - now
            if op.kind in _HURRY and left_seconds <= SHORT_WAIT_SECONDS and action.until < stop_at:
                invocation.keep(op)
                invocation.ports.clock.sleep(min(left_seconds, LOOK_SECONDS))
                continue
            if not invocation.let_go(action.until, unless_nudged=now < stop_at):
                continue
            return Outcome.WAITING
        if now >= stop_at:
            invocation.let_go(now)
            publish(invocation.ports, op)
            return Outcome.CONTINUES
        invocation.keep(op)
        workflow.perform(invocation, op, machine, instances, action)


def _say_if_failed(op: Operation | None) -> None:
    """Alerts listen for these words. A problem's code is one of ours; its detail may hold what a host or a market
    wrote, and stays in the record."""
    if op is not None and op.state is OperationState.FAILED:
        code = op.problem.code if op.problem is not None else ""
        log.error(
            "operation failed",
            extra={"operation": op.id, "kind": op.kind.value, "machine": op.machine, "code": code},
        )


def _try_to_let_go(invocation: Invocation) -> None:
    try:
        invocation.let_go(invocation.now() + DEFECT_RETRY_SECONDS)
    except (StoreError, LeaseLostError) as error:
        log.warning(
            "the lease was not given back and runs out by itself",
            extra={"operation": invocation.operation_id, "error": str(error)},
        )
