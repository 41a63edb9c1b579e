"""The host of a spare: looked at when it is silent, started when it is needed, stopped when it is not."""

from __future__ import annotations

import logging

from msgspec.structs import replace

from dumont.domain import costs, meter, spares, tending
from dumont.domain.errors import NotFound, ProviderError, ShellError, StartRefused
from dumont.domain.heartbeats import Heartbeat
from dumont.domain.records import Instance, InstanceState, Machine, Operation, Problem, Step
from dumont.domain.statuses import InstanceStatus
from dumont.domain.turns import Billed
from dumont.operations import agents
from dumont.operations.invocation import Invocation
from dumont.ports import Ports, Transaction

log = logging.getLogger(__name__)

SHELL_SECONDS = 3.0
_DOWN = (InstanceStatus.STOPPED, InstanceStatus.BROKEN, InstanceStatus.OFFLINE)
START_TRIES_MOST = 6


def look(invocation: Invocation, op: Operation, machine: Machine, spare: Instance) -> None:
    """A silent spare: its provider and its SSH say whether it lives. Nothing is lost with it, so that it is not
    confirmed as a machine is; but a provider that says "running" is believed until SSH failed a few times."""
    began = invocation.now()
    why, known = _why_dead(invocation.ports, spare)
    if not why and known:
        try:
            agents.push(invocation.ports, machine, spare)
        except ShellError as error:
            why, known = f"SSH does not answer: {error}"[:200], False
    over = known or op.tries + 1 >= spares.LOOKS_MOST
    now = invocation.now()
    step = Step(name="look", started_at=began, ended_at=now, ok=not why, instance_id=spare.id, detail=why)
    dead = Problem(code="lost", detail=why or "it is silent")

    def change(tx: Transaction, o: Operation, fresh: Machine | None) -> Operation:
        if not over:
            return replace(o, tries=o.tries + 1, not_before=now + spares.LOOK_AGAIN_SECONDS)
        instance = tx.get(Instance, spare.id)
        if why and instance is not None and instance.operation_id == o.id and spares.is_alive(instance):
            tx.put(tending.dismiss(instance, now, dead))
            if fresh is not None and fresh.spare_instance_id == spare.id:
                tx.put(replace(fresh, spare_instance_id=None))
        return replace(o, suspect_instance_id=None, tries=0, not_before=0.0, steps=(*o.steps, step))

    invocation.apply(change)


def _why_dead(ports: Ports, spare: Instance) -> tuple[str, bool]:
    """Why it is dead ("": it is not), and whether that is known or only looks so."""
    try:
        status = ports.providers[spare.provider].get(spare.provider_instance_id or "").status
    except NotFound:
        return "its provider says that it is gone", True
    except ProviderError as error:
        # Its outage is not a death: the spare is kept, and looked at again when its next heartbeat is missed.
        log.info("the provider does not say", extra={"instance": spare.id, "error": str(error)})
        return "", False
    if status in _DOWN:
        return f"its provider says that it is {status.value}", True
    try:
        if spare.ssh is None:
            return "it has no address", True
        connection = ports.make_shell().connect(spare.ssh, host_key=spare.host_key, timeout_seconds=SHELL_SECONDS)
        connection.close()
    except ShellError as error:
        return f"SSH does not answer: {error}"[:200], False
    return "", True


def start(invocation: Invocation, spare: Instance) -> None:
    """Start a stopped spare. A refused start is cancelled, lest it bill later, and the spare is given up."""
    provider = invocation.ports.providers[spare.provider]
    began = invocation.now()
    problem: Problem | None = None
    try:
        provider.start(spare.provider_instance_id or "")
    except (StartRefused, NotFound) as error:
        problem = Problem(code="start_refused", detail=str(error)[:300])
    except ProviderError as error:
        over = spare.tries >= START_TRIES_MOST
        problem = Problem(code="start_failed", detail=str(error)[:300]) if over else None
        if problem is None:
            invocation.record({spare.id: lambda i: _later(i, invocation.now())})
            return
    now = invocation.now()
    detail = problem.detail if problem is not None else f"it has {spare.restored_snapshot_id or 'an empty workspace'}"
    step = Step(name="start", started_at=began, ended_at=now, ok=problem is None, instance_id=spare.id, detail=detail)

    def fact(instance: Instance) -> Instance:
        if instance.state is not InstanceState.STOPPED:
            return instance
        if problem is not None:
            # Destroyed, it cannot bill: a start that was queued goes with it.
            return tending.dismiss(instance, now, problem)
        return replace(
            meter.saw(instance, Billed.BOOTING, began),
            state=InstanceState.CREATED,
            stopped_at=None,
            woken_at=began,
            booted_at=None,
            seen_booting_at=None,
            phoned_home_at=None,
            next_check_at=now,
            tries=0,
        )

    invocation.record({spare.id: fact}, lambda o: replace(o, steps=(*o.steps, step)))


def _later(instance: Instance, now: float) -> Instance:
    if instance.state is not InstanceState.STOPPED:
        return instance
    wait = tending.backoff_seconds(instance.tries, first=1.0, most=10.0)
    return replace(instance, next_check_at=now + wait, tries=instance.tries + 1)


def stop(invocation: Invocation, spare: Instance) -> None:
    """Stop a spare, and see whether its provider says so. It counts as stopped, hence to be started before any use,
    from before the call on: an invocation that dies in between must not leave one that is thought to run."""
    provider = invocation.ports.providers[spare.provider]
    if spare.state is not InstanceState.STOPPED:
        invocation.apply(lambda tx, o, _machine: _mark(tx, o, spare.id))
    now = invocation.now()
    try:
        provider.stop(spare.provider_instance_id or "")
        status = provider.get(spare.provider_instance_id or "").status
    except NotFound:
        gone = Problem(code="vanished", detail="the provider says that it is gone, and nobody asked for that")
        invocation.record({spare.id: lambda i: replace(tending.gone(i, now), problem=i.problem or gone)})
        return
    except ProviderError as error:
        log.info("a spare is not stopped yet", extra={"instance": spare.id, "error": str(error)})
        invocation.record({spare.id: lambda i: _later(i, now)})
        return
    if status is not InstanceStatus.STOPPED:
        invocation.record({spare.id: lambda i: _later(i, now)})
        return

    def change(tx: Transaction, o: Operation, _machine: Machine | None) -> Operation:
        instance = tx.get(Instance, spare.id)
        if instance is None or instance.state is not InstanceState.STOPPED or instance.stopped_at is not None:
            return o
        parked, entries = costs.stopped(instance, now)
        tx.put(replace(parked, next_check_at=now + spares.LOOK_STOPPED_SECONDS, tries=0))
        for entry in entries:
            tx.create(entry)
        step = Step(name="stop", started_at=now, ended_at=invocation.now(), instance_id=spare.id)
        return replace(o, steps=(*o.steps, step))

    invocation.apply(change)


def _mark(tx: Transaction, op: Operation, instance_id: str) -> Operation:
    instance, beat = tx.get(Instance, instance_id), tx.get(Heartbeat, instance_id)
    if instance is not None and instance.operation_id == op.id and instance.state is InstanceState.PROVEN:
        tx.put(replace(instance, state=InstanceState.STOPPED, stopped_at=None, tries=0))
        if beat is not None:
            tx.put(replace(beat, deadline=None))
    return op
