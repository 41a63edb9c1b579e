"""Reaching a machine by its name, with real OpenSSH, before and after it moves; and seeing what becomes of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.cloud import Cloud, local_cloud, wait_for

pytestmark = pytest.mark.skipif(shutil.which("ssh") is None, reason="OpenSSH's client is not here")
Json = dict[str, Any]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with local_cloud(tmp_path_factory.mktemp("reaching")) as running:
        yield running


@pytest.fixture(scope="module")
def config(cloud: Cloud) -> Iterator[Path]:
    """A machine that runs a workload, and an installed OpenSSH configuration that knows it."""
    asked = cloud.up(
        "trainer",
        race_width=1,
        run="echo up > up; exec sleep 600",
        health="command:test -f up",
        heartbeat_seconds=0.5,
        fence_after_seconds=1.0,
    )
    assert cloud.ended(asked)["state"] == "succeeded"
    home = cloud.folder / "home"
    done = subprocess.run(
        [sys.executable, "-m", "dumont.cli.main", "ssh-config", "--install"],
        env=cloud.environment | {"HOME": str(home)}, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    yield home / ".ssh/config"
    cloud.ended(cloud.down("trainer"))
    assert cloud.live() == []


def ssh(cloud: Cloud, config: Path, *command: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["ssh", "-F", str(config), "trainer", *command],
        env=cloud.environment, input=stdin, capture_output=True, timeout=90,
    )  # fmt: skip


def route(cloud: Cloud) -> Json:
    found: Json = cloud.http.get("/routes/trainer").json()["route"]
    return found


def test_openssh_reaches_a_machine_by_its_name_and_carries_all_bytes(cloud: Cloud, config: Path) -> None:
    sent = os.urandom(2_000_000)
    done = ssh(cloud, config, "cat", stdin=sent)
    assert (done.returncode, done.stdout == sent) == (0, True), done.stderr
    assert ssh(cloud, config, "exit 7").returncode == 7


def test_a_host_with_another_key_than_the_routes_is_refused(cloud: Cloud, config: Path, tmp_path: Path) -> None:
    stranger = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHI76qeDDrXhyOvIRKpPIWQjI/L4HJM93JscvwIcLOKe"
    known = tmp_path / "known_hosts"
    known.write_text(f"trainer {stranger}\n")
    done = subprocess.run(
        ["ssh", "-F", str(config), "-o", f"UserKnownHostsFile={known}", "trainer", "true"],
        env=cloud.environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 255
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stderr


def test_the_api_tells_each_route_and_the_workloads_health(cloud: Cloud, config: Path) -> None:
    one = route(cloud)
    assert cloud.http.get("/routes").json()["routes"] == [one]
    machine = wait_for(lambda: _if_healthy(cloud), seconds=20, why="its workload is healthy")
    assert machine["route"] == one
    assert {key: one[key] for key in ("ssh", "host_key", "epoch")} == {
        key: machine[key] for key in ("ssh", "host_key", "epoch")
    }
    beat = machine["heartbeat"]
    assert beat["age_seconds"] < 5
    assert beat["readings"]["memory_total_mib"] > 0
    assert "healthy" in cloud.cli("ls").stdout
    assert "healthy" in cloud.cli("show", "trainer").stdout
    assert cloud.http.get("/routes/ghost").status_code == 404
    assert cloud.http.get("/routes/trainer/more").status_code == 404


def _if_healthy(cloud: Cloud) -> Json | None:
    machine = cloud.machine("trainer")
    return machine if (machine.get("heartbeat") or {}).get("workload", {}).get("state") == "healthy" else None


def test_a_connection_made_while_the_machine_moves_reaches_its_new_host(cloud: Cloud, config: Path) -> None:
    before, old_home = route(cloud), ssh(cloud, config, "pwd").stdout
    with subprocess.Popen(
        [sys.executable, "-m", "dumont.cli.main", "events", "trainer", "-f", "--json"],
        env=cloud.environment, stdout=subprocess.PIPE, text=True,
    ) as following:  # fmt: skip
        assert following.stdout is not None
        assert json.loads(following.stdout.readline())["step"] == "begin"
        asked = cloud.cli("failover", "trainer", "--discard", "--no-wait", "--json")
        assert asked.returncode == 0, asked.stdout
        operation = json.loads(asked.stdout)["operation"]
        wait_for(lambda: route(cloud)["state"] == "failing_over", seconds=10, why="it moves")
        assert [r["machine"] for r in cloud.http.get("/routes").json()["routes"]] == ["trainer"]

        done = ssh(cloud, config, "pwd")
        assert done.returncode == 0, done.stderr
        assert b"trainer is failing over: waiting for it" in done.stderr
        assert done.stdout != old_home
        after = route(cloud)
        assert after["epoch"] == before["epoch"] + 1
        assert after["host_key"] != before["host_key"]
        pinned = (cloud.folder / "config/dumont/known_hosts").read_text()
        assert pinned == f"trainer {after['host_key']}\n", "the old host's key is worth nothing any more"

        told: list[Json] = []
        while (operation["id"], "end") not in [(event["operation"], event["event"]) for event in told]:
            told.append(json.loads(following.stdout.readline()))
        following.terminate()
    moved = [event["step"] for event in told if event["operation"] == operation["id"]]
    assert {"confirm", "search", "rent", "boot", "ssh", "release"} <= set(moved)
    assert len({(event["operation"], event["event"]) for event in told}) == len(told), "each is told once"
    assert cloud.cli("run", "trainer", "--", "pwd").stdout == done.stdout.decode()
