"""What end-to-end tests share beside the local cloud: a stage for stories that are played at the same time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.failover_support import Stage


@pytest.fixture(scope="session")
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Plays every story that a test of this session asks for."""
    specs = [item.callspec for item in request.session.items if hasattr(item, "callspec")]
    made = Stage(tmp_path_factory.mktemp("stage"), [spec.params["story"] for spec in specs if "story" in spec.params])
    yield made
    made.close()
