"""How often something may be done in a time: a sliding window, counted with two numbers.

The window before counts for the share of it that the last so many seconds still cover. A plain count of each minute
would let twice as many pass around the minute's turn.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from dumont.domain.records import Record


class Quota(msgspec.Struct, frozen=True):
    """At most so many `units` in any so many `seconds`, about. `name` is what callers are told it is about."""

    name: str
    units: int
    seconds: float = 60.0


class Spent(Record, frozen=True, kw_only=True):
    """What one subject (`id`: a quota's name and who) has used up: in window number `window` since the epoch, and in
    the one before."""

    collection: ClassVar[str] = "quotas"

    window: int = 0
    count: int = 0
    previous: int = 0
    expires_at: float = 0.0
    """When it counts no longer (TTL)."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether it may be done; how often yet, and in how many seconds the window ends. `retry_after_seconds`: when one
    that was refused may be tried again, if nothing else is until then."""

    quota: Quota
    allowed: bool
    taken: int = 0
    """How many units were: more than one where some are taken ahead."""
    remaining: int = 0
    reset_seconds: float = 0.0
    retry_after_seconds: float = 0.0


def spend(before: Spent | None, subject: str, quota: Quota, now: float, *, part: int = 0) -> tuple[Spent, Verdict]:
    """One unit, if there is one left; with `part` that part of those that are left (a twentieth: 20), for whoever asks
    often to use in this window. What is refused uses up nothing: who goes on asking is let in no later."""
    window = int(now // quota.seconds)
    count = before.count if before is not None and before.window == window else 0
    previous = 0
    if before is not None and before.window == window:
        previous = before.previous
    elif before is not None and before.window == window - 1:
        previous = before.count
    passed = now / quota.seconds - window
    used = previous * (1.0 - passed) + count
    allowed = used + 1.0 <= quota.units
    left = int(quota.units - used)
    taken = max(1, left // part if part else 1) if allowed else 0
    spent = Spent(
        id=subject,
        window=window,
        count=count + taken,
        previous=previous,
        expires_at=(window + 2) * quota.seconds,
    )
    verdict = Verdict(
        quota=quota,
        allowed=allowed,
        taken=taken,
        remaining=max(0, left - 1) if allowed else 0,
        reset_seconds=(1.0 - passed) * quota.seconds,
        retry_after_seconds=0.0 if allowed else _wait(count, previous, passed, quota),
    )
    return spent, verdict


def _wait(count: int, previous: int, passed: float, quota: Quota) -> float:
    """Seconds until one more fits."""
    free = quota.units - 1
    if count <= free:
        return (_share(previous, free - count) - passed) * quota.seconds
    return (1.0 - passed + _share(count, free)) * quota.seconds


def _share(older: int, fits: int) -> float:
    """What share of a window must have passed until no more than `fits` of the one before count."""
    return 1.0 - fits / older if older > fits else 0.0
