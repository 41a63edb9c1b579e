"""How long a machine's stretches of idleness last: a histogram of a few numbers, in which the past fades. Pure."""

from __future__ import annotations

import bisect
import math
from typing import ClassVar

from dumont.domain.records import Record

_FINEST_SECONDS = 60.0
_PER_DOUBLING = 2
_BINS = 31

EDGES: tuple[float, ...] = tuple(_FINEST_SECONDS * 2 ** (i / _PER_DOUBLING) for i in range(_BINS + 1))
"""The bins' edges in seconds: from a minute to about 32 days, each √2 times the one before. Bin i is from EDGES[i] to
below EDGES[i+1], and the last has no end: an evening (14 h) and a weekend (62 h) are four bins apart."""
HALF_LIFE_SECONDS = 21 * 86_400.0
"""After three weeks a stretch weighs half: a changed habit rules after about as many."""
ENOUGH_WEIGHT = 4.0
"""So many stretches, faded ones counted by their weight, and the histogram is believed."""


class IdleHistory(Record, frozen=True, kw_only=True):
    """The stretches of one machine (`id` is its name): how much weight lies in each bin, as of `updated_at`."""

    collection: ClassVar[str] = "idle_histories"

    weights: tuple[float, ...] = ()
    updated_at: float = 0.0
    stretches: int = 0
    """How many were learned in all."""


def learn(history: IdleHistory | None, machine: str, *, seconds: float, now: float) -> IdleHistory:
    """With one more stretch, from the last use to the next, of so many seconds; too short ones change nothing."""
    history = history or IdleHistory(id=machine)
    if not seconds >= EDGES[0] or not math.isfinite(seconds):
        return history
    weights = list(faded(history, now))
    weights[bin_of(seconds)] += 1.0
    updated_at = max(now, history.updated_at)
    return IdleHistory(id=history.id, weights=tuple(weights), updated_at=updated_at, stretches=history.stretches + 1)


def faded(history: IdleHistory | None, now: float) -> tuple[float, ...]:
    """The weight of each bin by now."""
    if history is None or len(history.weights) != _BINS:
        return (0.0,) * _BINS
    share = 0.5 ** (max(0.0, now - history.updated_at) / HALF_LIFE_SECONDS)
    return tuple(weight * share for weight in history.weights)


def bin_of(seconds: float) -> int:
    """The bin that a stretch of so many seconds belongs to."""
    return min(max(bisect.bisect_right(EDGES, seconds) - 1, 0), _BINS - 1)


def usual_seconds(index: int) -> float:
    """What a stretch of this bin is taken to last: the middle of the bin, by ratio."""
    return EDGES[index] * 2 ** (0.5 / _PER_DOUBLING)
