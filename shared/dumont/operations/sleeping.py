"""Going to sleep and waking by oneself: what is idle sleeps, what sleeps deepens, and timetables say when."""

from __future__ import annotations

import logging
from collections.abc import Callable

from msgspec.structs import replace

from dumont.domain import hibernation, timetable
from dumont.domain.errors import Conflict, Unknown
from dumont.domain.heartbeats import Heartbeat
from dumont.domain.idle import Activity
from dumont.domain.records import Machine, MachineState
from dumont.domain.states import is_as_judged
from dumont.domain.tiers import Choice, Tier
from dumont.operations import hibernate, idle, wake
from dumont.ports import Ports, Transaction

log = logging.getLogger(__name__)

AGAIN_SECONDS = 60.0
"""What could not be done now, because something else is under way, is tried again after this."""


def by_idleness(ports: Ports, machine: Machine, now: float) -> float | None:
    """Put an idle machine to sleep, and let one that is paused sleep deeper; answers with when the next look is due."""
    if machine.state is MachineState.HIBERNATED and machine.paused_instance_id is not None:
        return _deepen(ports, machine, now)
    if machine.state is not MachineState.RUNNING or machine.spec.idle_after_minutes is None:
        return None
    activity = _activity(ports.store.get(Heartbeat, machine.instance_id or ""))
    verdict = idle.verdict(machine, activity, now)
    if not verdict.idle:
        return max(verdict.idle_at, now + 1.0) if verdict.idle_at is not None else now + AGAIN_SECONDS
    choice = idle.tier_choice(ports, machine, activity, now)
    if choice is None or choice.tier is Tier.AWAKE:
        return _next(choice, now - (activity.proven_idle_seconds if activity is not None else 0.0), now)
    log.info("idle: going to sleep", extra={"machine": machine.id, "tier": choice.tier.value})

    def still_idle(tx: Transaction, fresh: Machine) -> bool:
        heard = _activity(tx.get(Heartbeat, fresh.instance_id or ""))
        return idle.verdict(fresh, heard, ports.clock.now()).idle

    _sleep(ports, machine, choice.tier, "idleness", still_idle)
    return now + AGAIN_SECONDS


def _activity(beat: Heartbeat | None) -> Activity | None:
    return beat.activity if beat is not None and beat.sequence >= 0 else None


def _deepen(ports: Ports, machine: Machine, now: float) -> float:
    choice = idle.tier_choice(ports, machine, None, now)
    if choice is not None and choice.tier is Tier.HIBERNATE:
        _sleep(ports, machine, Tier.HIBERNATE, "idleness")
        return now + AGAIN_SECONDS
    return _next(choice, machine.unused_since or machine.slept_at or now, now)


def _next(choice: Choice | None, idle_since: float, now: float) -> float:
    at = choice.next_at_seconds if choice is not None else None
    return max(now + AGAIN_SECONDS, idle_since + at) if at is not None else now + 3600.0


def by_timetable(ports: Ports, machine: Machine, now: float) -> float | None:
    """Wake or sleep as the timetable says; what was missed is made good by the latest of it alone. Answers with when
    it says something next."""
    if machine.state not in (MachineState.RUNNING, MachineState.HIBERNATED):
        return None
    coming = timetable.next_due(machine.spec, now)
    if coming is None:
        return None
    honoured_at = max(machine.timetable_at, machine.created_at)
    due = timetable.due(machine.spec, honoured_at, now)
    if due is not None and not _honour(ports, machine, due.action, now):
        return now + AGAIN_SECONDS
    if due is not None:
        ports.store.transact(lambda tx: _honoured(tx, machine.id, due.at))
    return coming.at


def _honour(ports: Ports, machine: Machine, action: str, now: float) -> bool:
    """Whether it was done, or need not be: a keep-alive is stronger than a timetable."""
    if action == "wake" and machine.state is MachineState.HIBERNATED:
        return _tried(machine, lambda: wake.request(ports, machine.id, requested_by="timetable"))
    if action == "sleep" and machine.state is MachineState.RUNNING and now >= machine.keep_until:
        return _sleep(
            ports, machine, Tier.HIBERNATE, "timetable", lambda _, fresh: ports.clock.now() >= fresh.keep_until
        )
    return True


def _honoured(tx: Transaction, name: str, at: float) -> None:
    machine = tx.get(Machine, name)
    if machine is not None and machine.timetable_at < at:
        tx.put(replace(machine, timetable_at=at))


def _sleep(
    ports: Ports,
    machine: Machine,
    tier: Tier,
    requested_by: str,
    still_wanted: Callable[[Transaction, Machine], bool] = lambda *_: True,
) -> bool:
    """False where it was not begun. This sweep may have been frozen since it judged: a machine that was paused may have
    been woken by now, and one that was idle be in use (invariant 6)."""
    depth = hibernation.PAUSE if tier is Tier.PAUSE else hibernation.HIBERNATE

    def guard(tx: Transaction, fresh: Machine) -> None:
        if not is_as_judged(machine, fresh) or not still_wanted(tx, fresh):
            raise Conflict(f"{machine.id} is not to sleep any more", code="judged_anew")

    return _tried(
        machine,
        lambda: hibernate.request(ports, machine.id, tier=depth, requested_by=requested_by, guard=guard),
    )


def _tried(machine: Machine, begin: Callable[[], object]) -> bool:
    try:
        begin()
    except (Conflict, Unknown) as error:
        log.info("not begun now", extra={"machine": machine.id, "error": str(error)})
        return False
    return True
