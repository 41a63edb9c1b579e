"""What unit tests may ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli_world import World, world


@pytest.fixture
def api(tmp_path: Path) -> Iterator[World]:
    """A scripted API behind real HTTP."""
    with world(tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def planned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What Terraform would make of `infra/`: address → arguments."""
    from tests.unit.infra_support import Evaluated  # most tests do without its parser

    return Evaluated(tmp_path_factory.mktemp("terraform")).planned(alert_emails=["team@dumont.example"])
