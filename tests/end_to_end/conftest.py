"""What end-to-end tests share beside the local cloud: a stage for stories that are played at the same time, and one
market for each file that asks its questions of the market itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.failover_support import Stage
from tests.end_to_end.market_network_support import Plane
from tests.end_to_end.market_support import Rig, market

LONGEST_FIRST = (
    "test_failover.py",
    "test_faults.py",
    "test_bundles.py",
    "test_whole_set.py",
    "test_gateway_wakes.py",
    "test_spares.py",
    "test_sleep.py",
    "test_openapi.py",
    "test_main_job.py",
    "test_snapshots.py",
    "test_killed_workers.py",
    "test_jobs.py",
    "test_demo.py",
    "test_failover_comebacks.py",
    "test_engine_kill.py",
    "test_slack.py",
    "test_failover_control_plane.py",
    "test_failover_many.py",
    "test_failover_troubles.py",
    "test_secrets.py",
    "test_gateway.py",
)
"""Files that take more than half a minute."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several files are run at once, the one that begins last ends soon."""
    ranks = {name: rank for rank, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Plays every story that a test of this file asks for."""
    mine = [item for item in request.session.items if item.path == request.path]
    specs = [item.callspec for item in mine if hasattr(item, "callspec")]
    made = Stage(tmp_path_factory.mktemp("stage"), [spec.params["story"] for spec in specs if "story" in spec.params])
    yield made
    made.close()


@pytest.fixture(scope="module")
def running_market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A market of this file's own."""
    with market(tmp_path_factory.mktemp("market")) as running:
        yield running


@pytest.fixture
def rig(running_market: Rig) -> Iterator[Rig]:
    """The market, with no fault or limit waiting, and no instance before or after."""
    yield running_market
    running_market.http.delete("/_market/faults")
    running_market.http.post("/_market/limits", json={})
    running_market.http.post("/_market/credit", json={"credit_usd": 100.0})
    for row in running_market.http.get("/api/v1/instances/").json()["instances"]:
        running_market.http.delete(f"/api/v0/instances/{row['id']}/")


@pytest.fixture
def plane() -> Iterator[Plane]:
    """A control plane that only counts the heartbeats that it gets."""
    made = Plane()
    yield made
    made.close()
