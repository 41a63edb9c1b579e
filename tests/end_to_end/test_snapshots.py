"""Snapshots against the local cloud's own processes: what is restored is what was saved, whatever goes wrong."""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.end_to_end.cloud import Cloud, local_cloud, wait_for
from tests.end_to_end.snapshot_support import Host, ObjectStore, command_lines, fill
from tests.engine_rig import picture

Json = dict[str, Any]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with local_cloud(tmp_path_factory.mktemp("snapshots")) as running:
        yield running


@pytest.fixture(scope="module")
def store(cloud: Cloud) -> ObjectStore:
    return ObjectStore(cloud)


@pytest.fixture(autouse=True)
def _whole_again_after_each(cloud: Cloud, store: ObjectStore) -> Iterator[None]:
    yield
    store.mend()
    for machine in cloud.http.get("/machines").json()["machines"]:
        if machine["state"] not in ("failed", "destroying"):
            cloud.ended(cloud.down(machine["name"]))


def rented(cloud: Cloud, name: str) -> Host:
    up = cloud.ended(cloud.up(name, race_width=1))
    assert up["state"] == "succeeded", up.get("problem")
    return Host(cloud, name)


def begin_snapshot(cloud: Cloud, name: str) -> tuple[str, Json]:
    """The id of a snapshot that is being taken, and its operation."""
    answer = cloud.http.post("/snapshot", json={"name": name})
    assert answer.status_code == 202, answer.text
    return answer.json()["snapshot"]["id"], answer.json()["operation"]


def snapshot_of(cloud: Cloud, name: str) -> Json:
    """A snapshot, complete."""
    identifier, operation = begin_snapshot(cloud, name)
    operation = cloud.ended(operation)
    assert operation["state"] == "succeeded", operation.get("problem")
    taken = seen(cloud, identifier)
    assert taken["state"] == "complete", taken
    return taken


def seen(cloud: Cloud, identifier: str) -> Json:
    view: Json = cloud.http.get(f"/snapshot/{identifier}").json()["snapshot"]
    return view


def restored(cloud: Cloud, name: str, **wish: Any) -> Json:
    """The restore, once it has ended."""
    answer = cloud.http.post("/restore", json={"name": name, **wish})
    assert answer.status_code == 202, answer.text
    return cloud.ended(answer.json()["operation"])


def complete_ones(cloud: Cloud, name: str) -> list[str]:
    listed = cloud.http.get("/snapshot", params={"machine": name}).json()["snapshots"]
    return [entry["id"] for entry in listed if entry["state"] in ("complete", "incomplete")]


def noise(workspace: Path, name: str, megabytes: int) -> None:
    """A file that no compression makes smaller."""
    (workspace / name).write_bytes(os.urandom(megabytes * 1_000_000))


def test_a_workspace_goes_on_on_another_host_byte_for_byte(cloud: Cloud) -> None:
    first_host = rented(cloud, "writer")
    model = fill(first_host.workspace, elements=32 << 20)
    told = cloud.cli("snapshot", "writer", "--json")
    assert told.returncode == 0, told.stdout + told.stderr
    first = json.loads(told.stdout)["snapshot"]
    assert first["state"] == "complete"
    assert first["files"] >= 506
    assert first["bytes_total"] >= 64 << 20

    with model.open("r+b") as weights:
        weights.seek(20 << 20)
        weights.write(os.urandom(model.stat().st_size // 100))
    (first_host.workspace / "runs/3/log-3.txt").write_text("changed")
    (first_host.workspace / "runs/4/log-4.txt").unlink()
    wanted = picture(first_host.workspace)
    second = snapshot_of(cloud, "writer")
    assert second["bytes_sent"] < first["bytes_sent"] / 10, "only what is new is sent"

    assert cloud.ended(cloud.down("writer", discard=True))["state"] == "succeeded"
    wait_for(lambda: not first_host.folder.exists(), seconds=10, why="the first host's disk is gone")
    other_host = rented(cloud, "writer")
    assert other_host.instance_id != first_host.instance_id
    restore = cloud.cli("restore", "writer", "--json")
    assert restore.returncode == 0, restore.stdout + restore.stderr
    assert json.loads(restore.stdout)["operation"]["snapshot_id"] == second["id"]
    assert picture(other_host.workspace) == wanted

    (other_host.workspace / "secret.pem").write_text("spoilt")
    (other_host.workspace / "link").unlink()
    one = restored(cloud, "writer", path="secret.pem")
    assert one["state"] == "succeeded", one.get("problem")
    back = picture(other_host.workspace)
    assert back["secret.pem"] == wanted["secret.pem"]
    assert "link" not in back, "a restore of one path leaves all others alone"


def test_a_damaged_pack_is_named_and_changes_nothing(cloud: Cloud, store: ObjectStore) -> None:
    host = rented(cloud, "damaged")
    noise(host.workspace, "old", 1)
    older = snapshot_of(cloud, "damaged")
    at_older = picture(host.workspace)
    packs_before = store.objects("damaged")
    noise(host.workspace, "new", 1)
    snapshot_of(cloud, "damaged")
    (broken,) = store.objects("damaged") - packs_before
    store.flip_a_byte(broken)
    shutil.rmtree(host.workspace / "gone", ignore_errors=True)
    (host.workspace / "mine").write_text("not saved yet")
    before = picture(host.workspace)

    failed = restored(cloud, "damaged")
    assert failed["state"] == "failed"
    assert failed["problem"]["code"] == "damaged"
    assert broken in failed["problem"]["detail"]
    assert "new" in failed["problem"]["detail"], "the files that it touches are named"
    assert picture(host.workspace) == before, "nothing of it was written"

    gone_on = restored(cloud, "damaged", fall_back=True)
    assert gone_on["state"] == "succeeded", gone_on.get("problem")
    assert gone_on["snapshot_id"] == older["id"]
    assert [step["ok"] for step in gone_on["steps"] if step["name"] == "restore"] == [False, True], "it says so"
    assert picture(host.workspace) == at_older


def test_a_snapshot_with_a_pack_that_the_store_has_lost_never_counts(cloud: Cloud, store: ObjectStore) -> None:
    host = rented(cloud, "loser")
    noise(host.workspace, "weights", 1)
    store.fault("lost", name_prefix="machines/loser/1/packs/", count=None)
    identifier, operation = begin_snapshot(cloud, "loser")
    while cloud.http.get(f"/operations/{operation['id']}").json()["operation"]["state"] == "running":
        assert complete_ones(cloud, "loser") == []
    failed = cloud.ended(operation)
    assert failed["state"] == "failed"
    assert failed["problem"]["code"] == "not_verified"
    assert "machines/loser/1/packs/" in failed["problem"]["detail"]
    assert seen(cloud, identifier)["state"] == "failed"
    refused = cloud.http.post("/restore", json={"name": "loser", "snapshot": identifier})
    assert refused.status_code == 404, "what was not verified is never restored"


def test_a_store_that_is_away_for_a_while_delays_a_snapshot_and_no_more(cloud: Cloud, store: ObjectStore) -> None:
    host = rented(cloud, "patient")
    noise(host.workspace, "weights", 2)
    wanted = picture(host.workspace)
    store.fault("unavailable", count=None)
    identifier, operation = begin_snapshot(cloud, "patient")
    wait_for(lambda: store.seen() >= 2, seconds=20, why="the store was asked for a key")
    store.mend()
    store.fault("unavailable", operation="upload", count=3)
    store.fault("error_after", operation="upload", count=1)
    store.fault("unavailable", operation="list", count=1)
    ended = cloud.ended(operation)
    assert ended["state"] == "succeeded", ended.get("problem")
    assert seen(cloud, identifier)["state"] == "complete"
    (host.workspace / "weights").unlink()
    assert restored(cloud, "patient")["state"] == "succeeded"
    assert picture(host.workspace) == wanted


def test_a_killed_engine_goes_on_and_no_secret_is_left_anywhere(cloud: Cloud, store: ObjectStore) -> None:
    """Invariants 6 and 9."""
    host = rented(cloud, "victim")
    for number in range(6):
        noise(host.workspace, f"shard-{number}", 4)
    wanted = picture(host.workspace)
    store.slow(megabytes_per_second=8)
    identifier, operation = begin_snapshot(cloud, "victim")
    wait_for(lambda: store.objects("victim"), seconds=20, why="the first pack has arrived")
    engine = wait_for(host.engine, seconds=5, why="the engine runs")
    keys = store.keys("victim")
    assert keys
    assert all(key["prefix"] == "machines/victim/1/" and "readFiles" not in key["capabilities"] for key in keys)
    secrets = [key["secret"] for key in keys] + [store.account_secret(), *data_keys(cloud, "victim")]
    shown = command_lines(cloud)
    on_disk = list(host.all_bytes())
    engine.kill()
    assert complete_ones(cloud, "victim") == [], "nothing half done counts"
    wait_for(lambda: cloud_steps(cloud, operation).count("start engine") == 2, seconds=20, why="it is started again")
    assert complete_ones(cloud, "victim") == []
    store.mend()
    on_disk += list(host.all_bytes())
    ended = cloud.ended(operation)
    assert ended["state"] == "succeeded", ended.get("problem")
    assert complete_ones(cloud, "victim") == [identifier]
    shutil.rmtree(host.workspace)
    assert restored(cloud, "victim")["state"] == "succeeded"
    assert picture(host.workspace) == wanted

    assert store.keys("victim") == [], "the keys end with their operations"
    log = (cloud.folder / "data/log.jsonl").read_text()
    on_disk += list(host.all_bytes())
    for secret in secrets:
        assert secret not in log
        assert secret not in shown
        assert [path for path, content in on_disk if secret.encode() in content] == []


def data_keys(cloud: Cloud, machine: str) -> list[str]:
    """The key that a machine's snapshots are encrypted with, and the one it is made from, as they might be written."""
    master = (cloud.folder / "data/data-master-key").read_text().strip()
    key = hmac.new(master.encode(), b"dumont data key\0" + machine.encode(), "sha256").digest()
    return [master, key.hex(), base64.b64encode(key).decode()]


def cloud_steps(cloud: Cloud, operation: Json) -> list[str]:
    view = cloud.http.get(f"/operations/{operation['id']}").json()["operation"]
    return [step["name"] for step in view["steps"]]


def test_a_destroy_ends_a_snapshot_under_way(cloud: Cloud, store: ObjectStore) -> None:
    host = rented(cloud, "hasty")
    noise(host.workspace, "weights", 30)
    store.slow(megabytes_per_second=4)
    identifier, operation = begin_snapshot(cloud, "hasty")
    engine = wait_for(host.engine, seconds=20, why="the engine runs")
    down = cloud.ended(cloud.down("hasty", discard=True))
    assert down["state"] == "succeeded"
    store.mend()
    assert cloud.ended(operation)["state"] in ("superseded", "failed")
    assert cloud.live() == []
    assert seen(cloud, identifier)["state"] == "failed"
    assert complete_ones(cloud, "hasty") == []
    with contextlib.suppress(psutil.NoSuchProcess):
        engine.wait(timeout=10)
    wait_for(lambda: store.keys("hasty") == [], seconds=10, why="its key is revoked")
