"""The meter: in which state an instance was when, from what was seen of it. What it costs follows from that alone.

States are seen at looks, and change between them. Each turn keeps both edges, so that a cost can be estimated (half
way) and bounded (a budget is held against the most that it can be). Turns are only ever appended: what the ledger has
entered stays true. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from dumont.domain.records import Instance, InstanceState
from dumont.domain.statuses import InstanceStatus
from dumont.domain.turns import Billed, Turn

_AS_BILLED = {
    InstanceStatus.STARTING: Billed.BOOTING,
    InstanceStatus.RUNNING: Billed.RUNNING,
    InstanceStatus.STOPPED: Billed.STOPPED,
    InstanceStatus.BROKEN: Billed.STOPPED,
    InstanceStatus.OFFLINE: Billed.OFFLINE,
}
_AT_REST = (Billed.BOOTING, Billed.STOPPED, Billed.PAUSED)
"""What bills the disk alone: a status that goes from one of them to another changes nothing of the bill."""


def billed_as(status: InstanceStatus) -> Billed | None:
    """What a provider's word means for the bill; None where it does not say."""
    return _AS_BILLED.get(status)


def turns(instance: Instance) -> tuple[Turn, ...]:
    """Its turns, the first of which begins with its creation; none of one that was never created.

    Until something else happens to it than its first boot they follow from the record's own times.
    """
    if instance.turns:
        return instance.turns
    created_at = instance.created_at
    if created_at is None and instance.outcome_unknown:
        created_at = instance.intended_at  # it may exist: counted, on the side of caution
    if created_at is None:
        return ()
    first = Turn(state=Billed.BOOTING, after=created_at, seen_at=created_at)
    if instance.booted_at is None:
        return (first,)
    booting_at = instance.seen_booting_at if instance.seen_booting_at is not None else created_at
    return (first, Turn(state=Billed.RUNNING, after=min(booting_at, instance.booted_at), seen_at=instance.booted_at))


def known_at(instance: Instance) -> float:
    """When its state was last known: up to then, what its turns say holds."""
    known = turns(instance)
    if not known:
        return instance.intended_at
    moments = [known[-1].seen_at, instance.metered_at or 0.0]
    if not instance.turns and instance.booted_at is None and instance.seen_booting_at is not None:
        moments.append(instance.seen_booting_at)
    return max(moments)


def saw(instance: Instance, state: Billed, now: float, *, heard_at: float | None = None) -> Instance:
    """It is in this state now. `heard_at`: when something else than a look (its agent) last spoke for the state before.

    What is older than what is known changes nothing; nor does anything of one that is gone, or was never created.
    """
    known = turns(instance)
    if not known or instance.state is InstanceState.GONE or now < known_at(instance):
        return instance
    current = known[-1].state
    if state is current or (current in _AT_REST and state in _AT_REST and state is not Billed.PAUSED):
        woken = current is Billed.PAUSED and state is Billed.BOOTING
        return replace(instance, metered_at=now) if not woken else _turned(instance, known, state, now, now)
    after = min(now, max(known_at(instance), heard_at or 0.0))
    return _turned(instance, known, state, after, now)


def _turned(instance: Instance, known: tuple[Turn, ...], state: Billed, after: float, now: float) -> Instance:
    return replace(instance, turns=(*known, Turn(state=state, after=after, seen_at=now)), metered_at=now)


def ended(instance: Instance, now: float, *, heard_at: float | None = None) -> Instance:
    """Its provider says now that there is no such instance: its bill ended since it was last known to be there."""
    there_at = max(known_at(instance), instance.releasing_at or 0.0, heard_at or 0.0)
    return replace(instance, ended_at=(min(there_at, now) + now) / 2)


def reopened(instance: Instance) -> Instance:
    """It was counted as gone, and is not: its last turn goes on where the ledger's entries end."""
    known = turns(instance)
    end = _end(instance)
    if not known or end is None:
        return replace(instance, ended_at=None)
    again = Turn(state=known[-1].state, after=max(end, known[-1].at), seen_at=max(end, known[-1].at))
    return replace(instance, turns=(*known, again), ended_at=None)


def _end(instance: Instance) -> float | None:
    return instance.ended_at if instance.ended_at is not None else instance.gone_at


def billed_until(instance: Instance, now: float) -> float:
    """Until when it bills: its end, or now if it has not ended (until it is gone, it may bill)."""
    end = _end(instance)
    return min(end, now) if end is not None else now


def spans(instance: Instance, until: float) -> Iterator[tuple[int, Billed, float, float]]:
    """Each turn's number, state, start and end, up to `until` or its end."""
    known = turns(instance)
    last = billed_until(instance, until)
    for number, turn in enumerate(known):
        end = known[number + 1].at if number + 1 < len(known) else last
        if min(end, last) > turn.at:
            yield number, turn.state, turn.at, min(end, last)


def gpu_seconds(instance: Instance, from_time: float, to_time: float) -> float:
    """For how long its GPU billed within a stretch of time, as well as we know."""
    return sum(
        max(0.0, min(end, to_time) - max(start, from_time))
        for _, state, start, end in spans(instance, to_time)
        if state is Billed.RUNNING
    )


def storage_seconds(instance: Instance, from_time: float, to_time: float) -> float:
    """For how long its disk billed within a stretch of time, as well as we know."""
    return sum(
        max(0.0, min(end, to_time) - max(start, from_time))
        for _, state, start, end in spans(instance, to_time)
        if state is not Billed.OFFLINE
    )


def gpu_seconds_at_most(instance: Instance, from_time: float, to_time: float) -> float:
    """For how long its GPU can have billed within a stretch of time: each run as early and as long as can be, and, of
    one that is not paused, all the time for which nobody has looked."""
    known = turns(instance)
    if len(known) == 1 and instance.booted_at is None and instance.phoned_home_at is not None:
        # Its agent ran, and so did it, though no provider was seen to say so: lists lag, and then it was gone.
        since = instance.seen_booting_at if instance.seen_booting_at is not None else known[0].after
        known = (*known, Turn(state=Billed.RUNNING, after=since, seen_at=max(since, instance.phoned_home_at)))
    end = min(instance.gone_at, to_time) if instance.gone_at is not None else to_time
    total, counted_until = 0.0, from_time
    for number, turn in enumerate(known):
        is_last = number + 1 == len(known)
        if turn.state is Billed.RUNNING:
            start, stop = turn.after, end if is_last else known[number + 1].seen_at
        elif is_last and not is_paused(instance):
            start, stop = known_at(instance), end
        else:
            continue
        start, stop = max(start, counted_until), min(stop, end)
        if stop > start:
            total += stop - start
            counted_until = stop
    return total


def is_paused(instance: Instance) -> bool:
    """Whether it is stopped by us, so that it runs again only if we start it; and nobody has begun to."""
    known = turns(instance)
    at_rest = instance.state in (InstanceState.STOPPED, InstanceState.LOST)
    return bool(known) and known[-1].state is Billed.PAUSED and at_rest
