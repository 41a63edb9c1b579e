"""What each test of the simulation leaves behind: nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation.hub import close_all


@pytest.fixture(autouse=True)
def _no_world_outlives_its_test() -> Iterator[None]:
    yield
    close_all()
