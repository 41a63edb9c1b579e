"""For lives that are played once for each port call at which they might end: no longer than it takes."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from dumont.domain.records import Operation
from dumont.ports import Query
from tests.simulation.world import World

STEP_SECONDS = 5.0
STILL_SECONDS = 65.0
"""Longer than the reaper and the schedule of sweeps wait: in it, what should not stir would."""
WITHOUT_EFFECT = (
    "store.get", "store.find", "store.committed", "market.GET", "market.answer", "sleep", "blobs.list", "shell.connect",
    "shell.\ncd",
)  # fmt: skip
"""Port calls that only read, or hear an answer: who dies there might as well have died before the next effect. The
last is how an engine is asked how far it is."""
ALIKE_MOST = 12
"""Of more commits in a row only the first and the last count: they say no more than when to ask again."""


def rest(world: World, at_least: float, most: float, also: Callable[[], bool] = lambda: True) -> None:
    """Let `at_least` so many seconds pass; then more, until nothing is under way and it is `also` so; and then a while
    longer. After the `most` it ends however it is: what is asserted then says why."""
    start = world.hub.now
    world.hub.run(start + at_least)
    while world.hub.now < start + most:
        under_way = any(op.open for op in world.store.quiet.find(Operation, Query(limit=1000)))
        if not under_way and also():
            world.hub.run(min(world.hub.now + STILL_SECONDS, start + most))
            return
        world.hub.run(world.hub.now + STEP_SECONDS)


def calls_with_effect(world: World, after: int, *, heartbeats: bool = False) -> list[int]:
    """The numbers of the port calls after so many that may change something, of long rows of commits only some. Those
    of heartbeats only if they are asked for: one that dies is one that is lost, of which the histories are full."""
    found = [
        (number, call)
        for number, (caller, call) in enumerate(world.hub.counted, start=1)
        if number > after and (heartbeats or not caller.startswith("heartbeat")) and not call.startswith(WITHOUT_EFFECT)
    ]
    numbers: list[int] = []
    for _, row in itertools.groupby(found, key=lambda one: one[1]):
        alike = [number for number, _ in row]
        half = ALIKE_MOST // 2
        numbers += alike if len(alike) <= ALIKE_MOST else [*alike[:half], *alike[-half:]]
    return numbers
