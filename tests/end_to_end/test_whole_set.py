"""The whole set from its built bundles on Google's emulators: the main job, a failover, a sleep and a wake."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from dumont.build.declarations import Entry, load
from tests.contract.emulators import need_emulators
from tests.end_to_end.bundle_support import ROOT, Environments, build_bundles
from tests.end_to_end.cloud import Cloud, wait_for
from tests.end_to_end.deployed import deployed, logged

pytestmark = pytest.mark.emulator

ENTRIES = [entry for declaration in load(ROOT / "functions") for entry in declaration.entries]
RACED = {"max_price_usd_per_hour": 0.4}
WATCHED = {"race_width": 1, "heartbeat_seconds": 3.0, "fence_after_seconds": 6.0}
"""A transaction that meets another's lock waits two seconds in Google's emulator. Heartbeats that come faster than that
hold the machine's record without end once the computer is slow, and who wants to write it never can."""
SLOW_SECONDS = 120.0
"""Some fifty processes share two processors here."""


@pytest.fixture(scope="module")
def whole(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    need_emulators()
    bundles = build_bundles(tmp_path_factory.mktemp("bundles"))
    with deployed(tmp_path_factory.mktemp("deployed"), bundles, Environments(pytestconfig)) as running:
        yield running


def done(cloud: Cloud, operation: dict[str, Any]) -> dict[str, Any]:
    """The operation, succeeded."""
    ended = cloud.ended(operation, seconds=SLOW_SECONDS)
    assert ended["state"] == "succeeded", ended.get("problem")
    return ended


def asked(cloud: Cloud, function: str, **wish: Any) -> dict[str, Any]:
    """What a wish has begun, succeeded."""
    answer = cloud.http.post(f"/{function}", json=wish)
    assert answer.status_code == 202, answer.text
    return done(cloud, answer.json()["operation"])


def test_search_rent_prove_use_release(whole: Cloud) -> None:
    found = whole.http.get("/search", params={"gpu": "RTX 4090", **RACED}).json()
    assert found["count"] >= 3
    up = done(whole, whole.up("main-job"))
    assert sorted(i["state"] for i in up["instances"]) == ["gone", "gone", "proven"], "one won, the losers are gone"
    machine = whole.machine("main-job")
    assert machine["state"] == "running"
    assert all(check["ok"] for check in machine["proof"]["checks"])
    used = whole.cli("run", "main-job", "--", "sh", "-c", "echo hello; exit 7")
    assert (used.stdout, used.returncode) == ("hello\n", 7), used.stderr
    done(whole, whole.down("main-job"))
    assert [line for line in whole.live() if ".main-job." in line["label"]] == []


def test_a_dead_host_is_followed_by_another_and_sleep_by_a_wake_with_its_files(whole: Cloud) -> None:
    done(whole, whole.up("trainer", **WATCHED))
    wrote = whole.cli("run", "trainer", "--", "sh", "-c", "mkdir -p workspace && echo weights > workspace/model.bin")
    assert wrote.returncode == 0, wrote.stderr
    asked(whole, "snapshot", name="trainer")

    died = str(whole.machine("trainer")["instance_id"])
    whole.fault("offline", label=died)
    try:
        moved = wait_for(lambda: is_on_another(whole, died), seconds=SLOW_SECONDS, why="it serves on another host")
    except AssertionError as error:
        error.add_note(story(whole))
        raise
    assert moved["epoch"] == 2
    assert read(whole) == "weights\n"

    asked(whole, "hibernate", name="trainer")
    assert whole.machine("trainer")["state"] == "hibernated"
    assert [line for line in whole.live() if ".trainer." in line["label"]] == [], "what sleeps has no GPU"
    asked(whole, "wake", name="trainer")
    assert whole.machine("trainer")["state"] == "running"
    assert read(whole) == "weights\n"
    done(whole, whole.down("trainer"))
    assert whole.live() == []


def story(cloud: Cloud) -> str:
    """What was done, for who reads of a failure."""
    operations = cloud.http.get("/operations", params={"machine": "trainer"}).json()["operations"]
    return json.dumps([whole_one(cloud, op["id"]) for op in operations], indent=1)


def whole_one(cloud: Cloud, operation_id: str) -> Any:
    return cloud.http.get(f"/operations/{operation_id}").json()["operation"]


def is_on_another(cloud: Cloud, died: str) -> dict[str, Any] | None:
    seen = cloud.machine("trainer")
    return seen if seen["state"] == "running" and seen["instance_id"] != died else None


def read(cloud: Cloud) -> str:
    shown = cloud.cli("run", "trainer", "--", "cat", "workspace/model.bin")
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.topic is not None], ids=lambda entry: entry.name)
def test_no_worker_takes_a_push_without_googles_token(whole: Cloud, entry: Entry) -> None:
    address = f"/{entry.name}/projects/p/topics/{entry.topic}"
    data = base64.b64encode(b'{"operation_id":"op-12345678"}').decode()
    push = {"message": {"data": data, "messageId": "1", "publishTime": "2026-11-22T00:00:00Z"}, "subscription": "s"}
    with_an_admins_key = whole.http.post(address, json=push)
    with_nothing = whole.http.post(address, json=push, headers={"Authorization": ""})
    assert (with_an_admins_key.status_code, with_nothing.status_code) == (401, 401)


def test_no_function_has_logged_a_defect(whole: Cloud) -> None:
    lines = logged(whole.folder)
    assert len(lines) > 20
    errors = [line for line in lines if line.get("severity") in ("ERROR", "CRITICAL")]
    errors = [line for line in errors if line.get("message") != "failover"]  # that one is what happened
    assert errors == [], json.dumps(errors[:5], indent=2)
