"""Spares, rehearsals, a market's notices and the engine's end, for real: hosts die, processes run, files come back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.end_to_end.cloud import Cloud, local_cloud, wait_for
from tests.end_to_end.failover_support import Json, Trainer
from tests.engine_rig import picture

WARM_SECONDS_MOST = 15.0
"""Design: a warm failover, from the host's death until it serves; here boots are short and this machine is slow."""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with local_cloud(tmp_path_factory.mktemp("spares")) as running:
        yield running
        assert running.live() == []


def kind_of(trainer: Trainer, kind: str) -> list[Json]:
    return [op for op in trainer.operations() if op["kind"] == kind]


def spare_of(trainer: Trainer, state: str, snapshot_id: str) -> Json:
    """The machine's spare, once it is in this state with this snapshot."""

    def look() -> Any:
        spare = trainer.view().get("spare") or {}
        return spare if (spare.get("state"), spare.get("snapshot_id")) == (state, snapshot_id) else None

    return dict(wait_for(look, seconds=60, why=f"{trainer.name} has a spare that is {state}"))


def last_snapshot(cloud: Cloud, name: str) -> str:
    return str(cloud.http.get("/snapshot", params={"machine": name}).json()["snapshots"][0]["id"])


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_a_spare_takes_over_with_all_files_and_a_new_one_is_made(cloud: Cloud, state: str) -> None:
    trainer = Trainer(cloud, f"warm-{state}", {"spare": state, "race_width": 1})
    wanted = trainer.save()
    spare = spare_of(trainer, state, last_snapshot(cloud, trainer.name))
    dead = trainer.befall("hung")
    moved = trainer.moved(2)
    assert moved["tried"] == ["warm"], trainer.story()
    seen = trainer.view()
    assert seen["instance_id"] == spare["instance_id"]
    assert picture(trainer.host.workspace) == wanted
    trainer.serves(since=seen["running_since"])
    trainer.one_at_a_time()
    if state == "running":
        last_heard = next(step["started_at"] for step in moved["steps"] if step["name"] == "detect")
        assert seen["running_since"] - last_heard < WARM_SECONDS_MOST, trainer.story()
    renewed = spare_of(trainer, state, last_snapshot(cloud, trainer.name))
    assert renewed["instance_id"] not in (dead, seen["instance_id"])
    ended = cloud.ended(cloud.down(trainer.name))
    assert ended["state"] == "succeeded"
    assert not [line for line in cloud.live() if f".{trainer.name}." in line["label"]], "its spare went with it"


def test_a_newer_snapshot_comes_onto_the_spare(cloud: Cloud) -> None:
    trainer = Trainer(cloud, "fresh", {"spare": "running", "race_width": 1})
    trainer.save()
    first = spare_of(trainer, "running", last_snapshot(cloud, trainer.name))
    wanted = trainer.save("more weights")
    second = spare_of(trainer, "running", last_snapshot(cloud, trainer.name))
    assert second["instance_id"] == first["instance_id"], "it is brought up to date, not replaced"
    trainer.befall("hung")
    trainer.moved(2)
    assert picture(trainer.host.workspace) == wanted
    cloud.ended(cloud.down(trainer.name))


def test_a_rehearsal_leaves_the_machine_alone_and_says_what_a_failover_takes(cloud: Cloud) -> None:
    trainer = Trainer(cloud, "drill")
    trainer.save()
    before = trainer.view()
    shown = cloud.cli("failover", trainer.name, "--drill", timeout=120)
    assert shown.returncode == 0, shown.stderr
    assert "every byte was read back" in shown.stdout
    [drill] = kind_of(trainer, "drill")
    assert drill["rehearsal"]["byte_for_byte"] is True
    assert drill["rehearsal"]["serves_seconds"] > drill["rehearsal"]["ready_seconds"] > 0
    assert {step["name"] for step in drill["steps"]} >= {"search", "rent", "boot", "restore", "rehearsed", "release"}
    after = trainer.view()
    assert (after["instance_id"], after["epoch"]) == (before["instance_id"], before["epoch"])
    assert {beat.instance_id for beat in trainer.beats()} == {before["instance_id"]}, "nothing else ever served"
    live = [line["label"] for line in cloud.live() if f".{trainer.name}." in line["label"]]
    assert live == [before["instance_id"]], "what was rented for it is gone"
    cloud.ended(cloud.down(trainer.name))


def test_a_lost_bid_is_known_from_the_market_within_two_seconds(cloud: Cloud) -> None:
    secret = (cloud.folder / "data" / "webhook-secret").read_text().strip()
    told = cloud.market.post("/webhook", json={"url": f"{cloud.url}/provider-webhook", "secret": secret})
    assert told.status_code == 200, told.text
    trainer = Trainer(cloud, "bid", {"interruptible": True, "heartbeat_seconds": 30.0})
    wanted = trainer.save()
    trainer.befall("bid_lost")
    state = cloud.market.get("/state").json()
    lost_at = max(p["at"] for i in state["instances"] if f".{trainer.name}." in i["label"] for p in i["phases"])
    moved = trainer.moved(2)
    confirm = next(step for step in moved["steps"] if step["name"] == "confirm")
    assert confirm["ended_at"] - lost_at < 2.0, trainer.story()
    assert "outbid" in confirm["detail"]
    assert picture(trainer.host.workspace) == wanted
    cloud.market.delete("/webhook")
    cloud.ended(cloud.down(trainer.name))


def test_nobody_else_can_tell_us_of_a_loss(cloud: Cloud) -> None:
    body = {"event_id": "e-1", "notif_type": "outbid", "subject": "Instance 20000001 was outbid"}
    assert cloud.http.post("/provider-webhook", json=body).status_code == 401
    assert cloud.http.get("/provider-webhook").status_code == 405
