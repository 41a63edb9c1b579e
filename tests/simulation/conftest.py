"""What each test of the simulation leaves behind: nothing. Nor does it log: hundreds of lives do, and whoever wants to
know of one has `explain`."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.simulation.hub import close_all


@pytest.fixture(autouse=True)
def _no_world_outlives_its_test() -> Iterator[None]:
    yield
    close_all()


@pytest.fixture(autouse=True)
def _nothing_is_logged() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
