"""Versions of Dumont side by side: what the last one began this one finishes, and loses nothing of the next one's."""

from __future__ import annotations

from dumont.domain.records import Operation
from dumont.ports import Query
from tests.simulation.history import run
from tests.simulation.test_alert_histories import tell_people
from tests.simulation.versions import SideBySide
from tests.simulation.world import World

SEEDS = range(61_000_000, 61_000_008)


def told_by_three_versions(world: World) -> SideBySide:
    """A world that tells people what happens, and whose records three versions write."""
    tell_people(world, failing=0.1)
    return SideBySide(world)


def test_histories_hold_while_three_versions_write_the_records() -> None:
    steps: set[tuple[str, str]] = set()
    for seed in SEEDS:
        made: list[SideBySide] = []
        world = run(seed, jobs=True, watch=lambda world, made=made: made.append(told_by_three_versions(world)))  # type: ignore[misc]
        [versions] = made
        assert versions.lost == [], f"{seed}: what the next version wrote is gone: read a record before it is written"
        assert world.store.unread == set(), f"{seed}: read a record before it is written"
        assert min(versions.written.values()) > 20, f"{seed}: {versions.written}"
        assert not [op for op in world.store.quiet.find(Operation, Query(limit=10_000)) if op.open], seed
        steps |= versions.steps
    assert len(steps) >= 15, f"the last version left too few steps under way: {sorted(steps)}"
