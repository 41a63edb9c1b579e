"""What unit tests may ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cli_world import World, world


@pytest.fixture
def api(tmp_path: Path) -> Iterator[World]:
    """A scripted API behind real HTTP."""
    with world(tmp_path) as made:
        yield made
