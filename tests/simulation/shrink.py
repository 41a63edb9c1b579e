"""The shortest history that still breaks what a seed broke: parts are left out, then it is cut short."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.simulation import history
from tests.simulation.mask import Mask
from tests.simulation.world import World

SHARES = (0.1, 0.25, 0.5, 0.75)
"""Of the busy time, tried from the shortest on."""


@dataclass(frozen=True)
class Shrunk:
    """What is left of a history: the parts that it takes, those that were left out, and what it breaks."""

    message: str
    kept: tuple[str, ...]
    mask: Mask
    runs: int
    seconds: float
    whole: bool
    """Whether everything was tried: time was not up before."""


def broken_by(
    seed: int, mask: Mask, *, jobs: bool, era: int, watch: Callable[[World], None] | None = None
) -> str | None:
    """What a history breaks; None if nothing."""
    try:
        history.run(seed, jobs=jobs, era=era, mask=mask, watch=watch)
    except Exception as error:  # noqa: BLE001 - whatever is raised in it is what it breaks
        return f"{error}" if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
    return None


def kind_of(message: str) -> str:
    """What two breaks have in common that are one: the invariant, or the first words where none is named."""
    head = message.partition(":")[0]
    return head if head.startswith("invariant") or head == "liveness" else " ".join(message.split()[:3])


def shrink(seed: int, *, jobs: bool = False, era: int = history.ERA, seconds_most: float = 60.0) -> Shrunk | None:
    """Leave out what the break does not need, for so long at most; None where the seed breaks nothing."""
    clock = time.monotonic
    began, runs = clock(), 0
    whole = Mask()
    message = broken_by(seed, whole, jobs=jobs, era=era)
    if message is None:
        return None
    wanted, dropped, busy_seconds = kind_of(message), frozenset[str](), whole.busy_seconds
    parts = list(whole.asked)

    def still(more: Iterable[str], busy: float) -> bool:
        nonlocal message, runs, parts
        tried = Mask(dropped | set(more), busy)
        runs += 1
        said = broken_by(seed, tried, jobs=jobs, era=era)
        if said is None or kind_of(said) != wanted:
            return False
        message, parts = said, [part for part in tried.asked if part not in tried.dropped]
        return True

    def is_late() -> bool:
        return clock() - began > seconds_most

    # Whole sorts of weather first: most of them have nothing to do with it, and each run costs a life.
    for group in [[], *_groups(parts)]:
        if is_late():
            break
        if group and still(group, busy_seconds):
            dropped |= set(group)
    changed = True
    while changed and not is_late():
        changed = False
        for part in list(parts):
            if is_late():
                break
            if part not in dropped and still([part], busy_seconds):
                dropped, changed = dropped | {part}, True
    for share in SHARES:
        if is_late():
            break
        if still([], share * history.BUSY_SECONDS):
            busy_seconds = share * history.BUSY_SECONDS
            break
    # The last word is that of the history as it is now.
    left = Mask(dropped, busy_seconds)
    message = broken_by(seed, left, jobs=jobs, era=era) or message
    kept = tuple(part for part in left.asked if part not in dropped)
    return Shrunk(message, kept, Mask(dropped, busy_seconds), runs + 2, clock() - began, not is_late())


def _groups(parts: list[str]) -> list[list[str]]:
    ordered = sorted(parts, key=_sort_of)
    return [list(group) for _, group in itertools.groupby(ordered, key=_sort_of)]


def _sort_of(part: str) -> str:
    return part.split()[0]
