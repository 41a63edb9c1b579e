"""Each fault of the market, for real: what befalls one host is survived; what befalls all ends with a clear message.

Every test ends with an empty market. What takes most of a minute of waiting is played meanwhile, on clouds of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.cloud import Cloud, local_cloud, wait_for
from tests.end_to_end.failover_support import Alone, Stage

QUICK = {"boot_timeout_seconds": 6.0, "ssh_timeout_seconds": 3.0}


@pytest.fixture(scope="module")
def cloud(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    del stage  # but it has begun
    with local_cloud(tmp_path_factory.mktemp("faults")) as running:
        yield running


@pytest.fixture(autouse=True)
def _an_empty_market_after_each(cloud: Cloud) -> Iterator[None]:
    yield
    cloud.mend()
    for machine in cloud.http.get("/machines").json()["machines"]:
        if machine["state"] not in ("failed", "destroying"):  # a test that failed half-way must not spoil the next
            cloud.down(machine["name"])
    wait_for(lambda: not cloud.live(), seconds=90, why="the market is empty")


ONE_HOST: list[tuple[str, dict[str, Any]]] = [
    ("boot_never_ends", {}),
    ("oci_error", {}),
    ("bad_image", {}),
    ("dies", {"after_seconds": 0.0}),
    ("offline", {"after_seconds": 0.0}),
    ("ssh_dead", {}),
    ("no_gpu", {}),
    ("wrong_gpu", {}),
    ("offer_gone", {"status": 400}),
    ("offer_gone", {"status": 404}),
    ("offer_gone", {"status": 410}),
    ("rate_limited", {"endpoint": "create"}),
    ("rate_limited", {"endpoint": "list", "retry_after_seconds": 1.0}),
    ("server_error", {"endpoint": "search", "status": 502}),
    ("server_error", {"endpoint": "destroy", "status": 500}),
    ("lost_answer", {"endpoint": "create"}),
    ("lost_answer", {"endpoint": "destroy"}),
    ("lost_answer", {"endpoint": "ssh"}),
    ("list_truncated", {}),
    ("list_error_200", {}),
    ("destroy_lags", {"seconds": 2.0}),
    ("slow", {"endpoint": "create", "seconds": 2.0}),
]


@pytest.mark.parametrize(
    ("kind", "details"), ONE_HOST, ids=[f"{k}-{'-'.join(map(str, d.values()))}" for k, d in ONE_HOST]
)
def test_what_befalls_two_is_survived(cloud: Cloud, kind: str, details: dict[str, Any]) -> None:
    survives(cloud, f"survivor-{ONE_HOST.index((kind, details))}", kind, details)


def survives(cloud: Cloud, name: str, kind: str, details: dict[str, Any]) -> None:
    """A machine that is asked for is got, and nothing beside it, though this befalls two."""
    cloud.fault(kind, count=2, **details)
    up = cloud.ended(cloud.up(name, race_width=2, **QUICK), seconds=120)
    assert up["state"] == "succeeded", up.get("problem")
    assert cloud.machine(name)["state"] == "running"
    wait_for(lambda: len(cloud.live()) == 1, seconds=30, why="one machine, and nothing beside it")
    assert cloud.ended(cloud.down(name))["state"] == "succeeded"
    assert cloud.live() == []


def _offers(cloud: Cloud) -> int:
    return int(cloud.http.get("/search", params={"gpu": "RTX 4090"}).json()["count"])


EVERY_HOST = [
    ("boot_never_ends", "no_machine_proved", "boot timeout"),
    ("oci_error", "no_machine_proved", "host broken"),
    ("ssh_dead", "no_machine_proved", "ssh dead"),
    ("no_gpu", "no_machine_proved", "proof failed"),
    ("wrong_gpu", "no_machine_proved", "proof failed"),
    ("offer_gone", "no_machine_proved", "offer gone"),
    ("out_of_credit", "out_of_credit", "credit"),
]


@pytest.mark.parametrize(("kind", "code", "words"), EVERY_HOST)
def test_what_befalls_all_ends_clearly_and_leaves_nothing_rented(
    cloud: Cloud, kind: str, code: str, words: str
) -> None:
    cloud.fault(kind, count=None, **({"seconds": 1.0} if kind == "offer_gone" else {}))
    quick = {"boot_timeout_seconds": 3.0, "ssh_timeout_seconds": 1.0}
    name = f"doomed-{kind.replace('_', '-')}"
    up = cloud.ended(cloud.up(name, race_width=3, **quick), seconds=120)
    assert up["state"] == "failed"
    assert up["problem"]["code"] == code
    assert words in up["problem"]["detail"]
    assert up["problem"]["safe"]
    assert up["problem"]["hint"]
    assert cloud.live() == []
    machine = cloud.machine(name)
    assert machine["state"] == "failed"
    assert machine["failure"]["code"] == code
    cloud.mend()
    wait_for(lambda: _offers(cloud) > 3, seconds=10, why="the offers are back")
    assert cloud.ended(cloud.up(name, race_width=1))["state"] == "succeeded", "the way out: the same name again"
    assert cloud.ended(cloud.down(name))["state"] == "succeeded"


def test_a_lost_bid_while_booting_is_survived(cloud: Cloud) -> None:
    cloud.fault("bid_lost", count=1, after_seconds=0.0)
    up = cloud.ended(cloud.up("bidder", race_width=2, interruptible=True, min_reliability=0.5, **QUICK), seconds=90)
    assert up["state"] == "succeeded", up.get("problem")
    assert cloud.ended(cloud.down("bidder"))["state"] == "succeeded"


def test_a_bid_that_is_too_low_leaves_no_stopped_instance_billing(cloud: Cloud) -> None:
    cloud.fault("bid_too_low", count=2)
    up = cloud.ended(cloud.up("lowballer", race_width=2, interruptible=True, min_reliability=0.5, **QUICK), seconds=90)
    assert up["state"] == "succeeded", up.get("problem")
    assert cloud.ended(cloud.down("lowballer"))["state"] == "succeeded"


# --- Those that take long ----------------------------------------------------------------------------------------


def creations_of_which_nobody_knows_are_survived(folder: Path) -> None:
    """Whether anything was rented is known after a minute."""
    with local_cloud(folder) as cloud:
        survives(cloud, "survivor", "server_error", {"endpoint": "create", "status": 500})


def a_market_that_is_down_is_said_and_nothing_is_rented(folder: Path) -> None:
    with local_cloud(folder) as cloud:
        is_down(cloud)


def is_down(cloud: Cloud) -> None:
    cloud.fault("server_error", count=None, status=503)
    answer = cloud.http.get("/search", params={"gpu": "RTX 4090"})
    assert answer.status_code == 503
    assert answer.json()["code"] == "market_down"
    assert answer.headers["Content-Type"] == "application/problem+json"
    up = cloud.ended(cloud.up("unlucky"), seconds=120)
    assert up["state"] == "failed"
    assert up["problem"]["code"] == "market_down"
    assert "rented" in up["problem"]["safe"]
    assert cloud.market.get("/bill").json()["instances"] == []


def the_reaper_destroys_what_nobody_answers_for_and_touches_nothing_else(folder: Path) -> None:
    """Invariant 2: an instance with our label that our books do not know, and one that bears another's label."""
    with local_cloud(folder) as cloud:
        reaps(cloud)


def reaps(cloud: Cloud) -> None:
    deployment = (cloud.folder / "data/deployment").read_text().strip()
    key = (cloud.folder / "data/market-key").read_text().strip()
    market = httpx.Client(
        base_url=f"http://127.0.0.1:{cloud.market_port}/api/v0", headers={"Authorization": f"Bearer {key}"}
    )
    offers = market.post("/bundles/", json={"rentable": {"eq": True}, "type": "on-demand"}).json()["offers"]
    body = {"client_id": "me", "image": "ubuntu:22.04", "disk": 10, "runtype": "ssh"}
    labels = [f"dumont.{deployment}.ghost.1.abc", "somebody-elses", f"dumont.{deployment}x.other.1.abc"]
    for offer, label in zip(offers, labels, strict=False):
        assert market.put(f"/asks/{offer['id']}/", json=body | {"label": label}).status_code == 200
    try:
        wait_for(lambda: labels[0] not in [i["label"] for i in cloud.live()], seconds=100, why="the orphan is gone")
        assert sorted(i["label"] for i in cloud.live()) == sorted(labels[1:])
    finally:
        for line in cloud.live():
            market.request("DELETE", f"/instances/{line['instance_id']}/", json={})


STORIES: list[Alone] = [
    creations_of_which_nobody_knows_are_survived,
    the_reaper_destroys_what_nobody_answers_for_and_touches_nothing_else,
    a_market_that_is_down_is_said_and_nothing_is_rented,
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_what_takes_long(stage: Stage, story: Alone) -> None:
    stage.outcome(story)
