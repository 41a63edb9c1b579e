"""What is in no good snapshot is not lost: damage is mended while the workspace is there, and a machine goes saved."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.end_to_end.cloud import Cloud, local_cloud, wait_for
from tests.end_to_end.snapshot_support import Host, ObjectStore, complete_ones, noise, restored, seen, snapshot_of
from tests.engine_rig import picture

SPECS: dict[str, dict[str, Any]] = {"saver": {}, "guarded": {"snapshot_every_minutes": 1000}}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with local_cloud(tmp_path_factory.mktemp("saved")) as running:
        yield running


@pytest.fixture(scope="module")
def store(cloud: Cloud) -> ObjectStore:
    return ObjectStore(cloud)


@pytest.fixture(scope="module")
def hosts(cloud: Cloud) -> dict[str, Host]:
    asked = {name: cloud.up(name, race_width=1, **spec) for name, spec in SPECS.items()}
    for name, operation in asked.items():
        assert cloud.ended(operation)["state"] == "succeeded", name
    return {name: Host(cloud, name) for name in SPECS}


def test_damage_found_by_reading_back_is_mended_at_once(
    cloud: Cloud, store: ObjectStore, hosts: dict[str, Host]
) -> None:
    host = hosts["guarded"]
    noise(host.workspace, "weights", 1)
    first = snapshot_of(cloud, "guarded")["id"]
    (pack,) = store.objects("guarded")
    store.flip_a_byte(pack)
    answer = cloud.http.post(f"/snapshot/{first}/verify", json={})
    failed = cloud.ended(answer.json()["operation"])
    assert failed["problem"]["code"] == "damaged"
    assert pack in failed["problem"]["detail"]
    assert seen(cloud, first)["problem"]["code"] == "damaged"
    wait_for(lambda: len(complete_ones(cloud, "guarded")) == 2, seconds=40, why="its policy takes another")
    second = next(one for one in complete_ones(cloud, "guarded") if one != first)
    assert seen(cloud, second)["reason"] == "damage"
    assert store.objects("guarded") > {pack}, "the damaged pack is not referred to: its content is sent again"
    whole = cloud.cli("snapshot", "verify", second)
    assert whole.returncode == 0, whole.stderr
    wanted = picture(host.workspace)
    assert restored(cloud, "guarded")["snapshot_id"] == second
    assert picture(host.workspace) == wanted


def test_down_saves_first_where_it_is_told_to_and_stays_if_a_file_cannot_be_saved(
    cloud: Cloud, hosts: dict[str, Host]
) -> None:
    host = hosts["saver"]
    (host.workspace / "mine").write_text("not saved yet")
    refused = cloud.ended(cloud.down("saver", discard=False))
    assert refused["problem"]["code"] == "workspace_not_empty"
    deep = host.workspace / "deep"
    deep.mkdir()
    at = os.open(deep, os.O_RDONLY)
    for _ in range(30):  # deeper than a path may be long: nobody can read it by its name
        os.mkdir("d" * 200, dir_fd=at)
        at, above = os.open("d" * 200, os.O_RDONLY, dir_fd=at), at
        os.close(above)
    os.close(at)
    kept = cloud.ended(cloud.down("saver", discard=False, snapshot=True))
    assert kept["problem"]["code"] == "snapshot_incomplete"
    assert "deep/ddd" in kept["problem"]["detail"]
    assert cloud.machine("saver")["state"] == "running"
    assert (host.workspace / "mine").exists()
    shutil.rmtree(deep)
    gone = cloud.ended(cloud.down("saver", discard=False, snapshot=True))
    assert gone["state"] == "succeeded", gone.get("problem")
    assert cloud.machine("saver")["state"] == "destroyed"
    taken = seen(cloud, gone["snapshot_id"])
    assert (taken["state"], taken["files"], taken["reason"]) == ("complete", 1, "before destroy")
