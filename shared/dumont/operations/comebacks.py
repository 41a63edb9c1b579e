"""The old host: asked after, started again where it only stopped, stopped again, or taken back."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from msgspec.structs import replace

from dumont.domain import costs, failover, meter, provisioning, tending
from dumont.domain.actions import TakeBack
from dumont.domain.errors import NotFound, ProviderError, StartRefused
from dumont.domain.heartbeats import Heartbeat
from dumont.domain.records import (
    KEPT_DISK,
    Instance,
    InstanceState,
    Machine,
    MachineState,
    Operation,
    Problem,
    Step,
)
from dumont.domain.states import check_transition
from dumont.domain.statuses import InstanceStatus
from dumont.domain.turns import Billed
from dumont.operations import ledger, naming, routes, tend
from dumont.operations.heartbeats import first_heartbeat
from dumont.operations.invocation import Fact, Invocation
from dumont.operations.job_facts import nudge
from dumont.ports import Transaction

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0


def look(invocation: Invocation, lost: Instance) -> None:
    """Ask the provider how a lost instance is. Once it says that it does not run, nothing of it serves."""
    provider = invocation.ports.providers[lost.provider]
    now = invocation.now()
    try:
        status = provider.get(lost.provider_instance_id or "").status
    except NotFound:
        invocation.record({lost.id: lambda i: replace(tending.gone(i, now), last_status="gone")})
        return
    except ProviderError as error:
        invocation.record({lost.id: tend.postponed(error, now)})
        return
    if status in (InstanceStatus.STOPPED, InstanceStatus.BROKEN):
        _halted(invocation, lost, status)
    else:
        invocation.record({lost.id: _seen(status, now)})


def _seen(status: InstanceStatus, now: float) -> Fact:
    def fact(instance: Instance) -> Instance:
        if instance.state is not InstanceState.LOST:
            return instance
        billed = meter.billed_as(status)
        seen = meter.saw(instance, billed, now) if billed is not None else instance
        down = status in (InstanceStatus.STOPPED, InstanceStatus.BROKEN)
        returned_at = None if down else instance.returned_at  # its next heartbeat, if there is one, says so again
        return replace(
            seen, last_status=status.value, returned_at=returned_at, next_check_at=now + LOOK_SECONDS, tries=0
        )

    return fact


def _halted(invocation: Invocation, lost: Instance, status: InstanceStatus) -> None:
    """It does not run: nothing of it serves, and its disk alone bills from about now on."""

    def change(tx: Transaction, op: Operation, _machine: Machine | None) -> Operation:
        now = invocation.now()
        instance = tx.get(Instance, lost.id)
        if instance is not None and instance.state is InstanceState.LOST:
            before = instance
            if instance.booted_at is not None:
                # It stopped between its last heartbeat and this look; nobody says when, so half-way is counted.
                beat = tx.get(Heartbeat, lost.id)
                instance, _ = costs.stopped(instance, now, heard_at=beat.received_at if beat is not None else None)
            ledger.put(tx, before, _seen(status, now)(instance), now)
        return replace(op, serve_not_before=0.0)

    invocation.apply(change)


def start(invocation: Invocation, lost: Instance) -> None:
    """Start a stopped instance: its disk has what no snapshot has. A refused start is cancelled, lest it bill later."""
    provider = invocation.ports.providers[lost.provider]
    began = invocation.now()
    # Written first: who goes on after a death here knows that it may run.
    invocation.record({lost.id: lambda i: replace(i, problem=failover.STARTING) if _is_lost(i) else i})
    problem: Problem | None = None
    cancelled = True
    try:
        provider.start(lost.provider_instance_id or "")
    except StartRefused as error:
        problem = Problem(code="start_refused", detail=str(error)[:300])
        cancelled = _cancel(invocation, lost)
    except ProviderError as error:
        problem = Problem(code=failover.START_FAILED, detail=str(error)[:300])
    now = invocation.now()
    step = Step(name="start", started_at=began, ended_at=now, ok=problem is None, instance_id=lost.id,
                detail=problem.detail if problem is not None else "its disk is kept")  # fmt: skip

    def fact(instance: Instance) -> Instance:
        if not _is_lost(instance):
            return instance
        if problem is not None and cancelled:
            return replace(instance, problem=problem, next_check_at=now + LOOK_SECONDS)
        return replace(
            meter.saw(instance, Billed.BOOTING, began),
            state=InstanceState.CREATED,
            problem=problem,
            restored_snapshot_id=KEPT_DISK,
            woken_at=began,
            phoned_home_at=None,
            next_check_at=now,
            tries=0,
        )

    invocation.record({lost.id: fact}, lambda o: replace(o, steps=(*o.steps, step)))


def _is_lost(instance: Instance) -> bool:
    return instance.state is InstanceState.LOST


def stop(invocation: Invocation, instance: Instance) -> None:
    """Its time is up: stop it, and put it aside again. While it cannot be stopped it may run, and is no less open."""
    cancelled = _cancel(invocation, instance)
    now = invocation.now()

    def fact(known: Instance) -> Instance:
        if known.state in (InstanceState.RELEASING, InstanceState.GONE):
            return known
        if not cancelled:
            unstopped = failover.STARTING if known.state is InstanceState.LOST else failover.TOO_SLOW
            return replace(known, problem=known.problem or unstopped, next_check_at=now + LOOK_SECONDS)
        return replace(
            tending.put_aside(known, now, failover.TOO_SLOW), last_status="stopped", next_check_at=now + LOOK_SECONDS
        )

    invocation.record({instance.id: fact})


def _cancel(invocation: Invocation, instance: Instance) -> bool:
    try:
        invocation.ports.providers[instance.provider].stop(instance.provider_instance_id or "")
    except NotFound:
        return True  # a look finds it gone
    except ProviderError as error:
        # Still open in our books and looked after by this operation: it cannot bill unseen.
        log.warning("a start was not cancelled", extra={"instance": instance.id, "error": str(error)})
        return False
    return True


def take_back(invocation: Invocation, instances: Sequence[Instance], action: TakeBack) -> None:
    """The old host is back before a replacement served: it serves again, with all its files, in the new epoch."""

    def change(tx: Transaction, op: Operation, machine: Machine | None) -> Operation:
        now = invocation.now()
        lost = tx.get(Instance, action.instance_id)
        if machine is None or machine.operation_id != op.id or machine.epoch != op.epoch:
            return op
        if lost is None or lost.state is not InstanceState.LOST or lost.returned_at is None:
            return op
        for known in instances:
            instance = tx.get(Instance, known.id)
            if instance is not None and instance.open and instance.id != lost.id:
                tx.put(tending.dismiss(instance, now, provisioning.LOST_RACE))
        back = replace(lost, state=InstanceState.PROVEN, problem=None, taken_back=lost.taken_back + 1)
        tx.put(back)
        first_heartbeat(tx, machine, back, now)
        check_transition(machine.state, MachineState.RUNNING)
        running = replace(
            machine,
            state=MachineState.RUNNING,
            instance_id=back.id,
            ssh=back.ssh,
            host_key=back.host_key,
            running_since=now,
            operation_id=None,
            deadline=now,  # the sweep looks once, and from then on when its policies say
            updated_at=now,
        )
        tx.put(running)
        routes.point(tx, running, now)
        nudge(tx, running, now)
        step = Step(name="take back", started_at=lost.returned_at or now, ended_at=now, instance_id=back.id,
                    detail="its host came back before another served")  # fmt: skip
        op = replace(op, problem=op.problem or action.problem)
        return replace(op, phase=provisioning.RELEASE, candidates=(), steps=(*op.steps, step))

    naming.follow(invocation.ports, invocation.apply(change).machine)
