"""A simulated machine is found idle by its agent's word, told of in words, and kept awake for as long as is said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.end_to_end.cloud import Cloud, local_cloud, wait_for

# What a simulated machine cannot tell (its SSH server is not OpenSSH's), and what it tells of the whole computer that
# the tests run on.
SHARED = ["ssh_sessions", "cpu", "network"]
WINDOW_SECONDS = 4.0


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with local_cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


def seen(cloud: Cloud, name: str) -> dict[str, Any]:
    answer = cloud.http.get(f"/idle/{name}")
    assert answer.status_code == 200, answer.text
    view: dict[str, Any] = answer.json()["idle"]
    return view


def test_it_is_idle_once_its_window_is_over_unless_it_is_kept(cloud: Cloud) -> None:
    asked = {"idle_after_minutes": WINDOW_SECONDS / 60, "heartbeat_seconds": 0.5, "idle_ignore": SHARED}
    assert cloud.ended(cloud.up("sleeper", race_width=1, **asked))["state"] == "succeeded"
    kept = cloud.cli("keep", "sleeper", "1h")
    assert kept.returncode == 0, kept.stdout + kept.stderr
    assert kept.stdout.startswith("sleeper is kept awake until ")

    proven = wait_for(
        lambda: (s := seen(cloud, "sleeper")).get("proven_idle_seconds", 0) >= WINDOW_SECONDS + 1 and s,
        seconds=60,
        why="nothing used it for its window",
    )
    assert proven["idle"] is False
    assert [word for word in proven["words"] if "kept awake" in word] == proven["words"]
    states = {signal["name"]: signal["state"] for signal in proven["signals"]}
    assert states["gpu_use"] == states["user_processes"] == "quiet"
    assert states["ssh_sessions"] == "ignored"

    told = cloud.cli("idle", "sleeper", "--why")
    assert told.returncode == 0, told.stdout + told.stderr
    assert "sleeper is not idle" in told.stdout
    assert "hibernate at" in told.stdout

    assert cloud.http.post("/idle/sleeper/keep", json={"seconds": 0}).status_code == 200
    wait_for(
        lambda: (s := seen(cloud, "sleeper"))["idle"] is True or s["state"] != "running", seconds=30, why="it is idle"
    )


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"sleep_at": ["daily 25:00"]}, "sleep_at"),
        ({"wake_at": ["0 0 31 2 *"]}, "wake_at"),
        ({"wake_at": ["daily 9:00"], "time_zone": "Mars/Olympus"}, "time_zone"),
    ],
)
def test_a_timetable_that_cannot_be_read_is_refused_before_anything_is_rented(
    cloud: Cloud, body: dict[str, Any], field: str
) -> None:
    answer = cloud.http.post("/provision", json={"name": "never", "ssh_public_keys": [cloud.public_key]} | body)
    assert answer.status_code == 400
    assert answer.json()["field"] == field


def test_nobody_is_asked_about_a_machine_that_is_not_there(cloud: Cloud) -> None:
    assert cloud.http.get("/idle/nobody").status_code == 404
    assert cloud.http.post("/idle/nobody/keep", json={"seconds": 60}).status_code == 404
    assert cloud.http.post("/idle/nobody/keep", json={"seconds": -1}).status_code == 400
    assert cloud.http.get("/idle").status_code == 404
