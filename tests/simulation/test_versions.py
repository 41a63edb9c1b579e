"""Versions of Dumont side by side: what the last one began, this one finishes, and it loses nothing of the next one's."""

from __future__ import annotations

import pytest

from dumont.domain.records import Operation
from dumont.ports import Query
from tests.simulation.history import run
from tests.simulation.versions import SideBySide
from tests.simulation.world import World


@pytest.mark.parametrize("seed", range(61_000_000, 61_000_006))
def test_histories_hold_while_three_versions_write_the_records(seed: int) -> None:
    made: list[SideBySide] = []
    world = run(seed, jobs=True, watch=lambda world: made.append(SideBySide(world)))
    [versions] = made
    assert versions.lost == [], "what the next version wrote is gone"
    assert min(versions.written.values()) > 20, versions.written
    assert ended(world) > 0


def ended(world: World) -> int:
    """How many operations have ended; none is left open (the history's own invariants look at the rest)."""
    operations = world.store.quiet.find(Operation, Query(limit=10_000))
    assert not [op for op in operations if op.open]
    return len(operations)
