"""The main job through HTTP, CLI and SSH, against the local cloud's own processes, in both modes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.emulators import need_emulators
from tests.end_to_end.cloud import Cloud, local_cloud, wait_for

MODES = ["sqlite", pytest.param("emulators", marks=pytest.mark.emulator)]


@pytest.fixture(scope="module", params=MODES)
def cloud(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    options = []
    if request.param == "emulators":
        need_emulators()
        options = ["--emulators"]
    with local_cloud(tmp_path_factory.mktemp(request.param), *options) as running:
        yield running


def test_search_rent_prove_use_release(cloud: Cloud) -> None:
    found = cloud.http.get("/search", params={"gpu": "RTX 4090", "max_price_usd_per_hour": 0.4}).json()
    assert found["count"] >= 3
    costs = [entry["finish_usd"] for entry in found["offers"]]
    assert costs == sorted(costs)

    before_usd = cloud.bill_usd()
    up = cloud.ended(cloud.up("trainer"))
    assert up["state"] == "succeeded", up.get("problem")
    assert len(up["instances"]) == 3, "three were raced"
    states = sorted(i["state"] for i in up["instances"])
    assert states == ["gone", "gone", "proven"], "one won, the losers are gone"
    assert len(cloud.live()) == 1

    machine = cloud.machine("trainer")
    assert machine["state"] == "running"
    assert [c["name"] for c in machine["proof"]["checks"]] == [
        "ssh", "mkdir", "write", "read back", "nvidia-smi", "disk",
    ]  # fmt: skip
    assert all(check["ok"] for check in machine["proof"]["checks"])
    assert machine["proof"]["gpus"][0]["model"] == "NVIDIA GeForce RTX 4090"

    names = {step["name"] for step in up["steps"]}
    assert {"search", "rent", "boot", "ssh", "nvidia-smi", "release"} <= names

    used = cloud.cli("run", "trainer", "--", "sh", "-c", "echo hello; nvidia-smi -L; exit 7")
    assert used.stdout.startswith("hello\nGPU 0: NVIDIA GeForce RTX 4090")
    assert used.returncode == 7, "the command's own status comes back"

    down = cloud.ended(cloud.down("trainer"))
    assert down["state"] == "succeeded"
    assert cloud.live() == [], "the market itself says that nothing is left"
    assert cloud.machine("trainer")["state"] == "destroyed"
    paid_usd = cloud.machine("trainer")["cost_usd"]
    assert paid_usd == pytest.approx(cloud.bill_usd() - before_usd, abs=0.0005)


def test_the_doctor_finds_it_well(cloud: Cloud) -> None:
    looked = cloud.cli("doctor")
    assert looked.returncode == 0, looked.stdout + looked.stderr
    assert "operator or more" in looked.stdout
    assert "missing" not in looked.stdout


def test_the_cli_does_the_same_in_json(cloud: Cloud) -> None:
    up = cloud.cli("up", "cli-made", "--gpu", "rtx_4090", "--max-price", "0.40", "--json")
    assert up.returncode == 0, up.stdout + up.stderr
    listed = json.loads(cloud.cli("ls", "--json").stdout)
    assert [m["name"] for m in listed["machines"]] == ["cli-made"]
    ssh = cloud.cli("ssh", "cli-made", "--", "echo", "over", "ssh")
    assert ssh.stdout.strip() == "over ssh", ssh.stderr
    assert cloud.cli("logs", "cli-made").returncode == 0
    down = cloud.cli("down", "cli-made", "--json")
    assert down.returncode == 0, down.stdout + down.stderr
    assert cloud.live() == []
    kinds = [op["kind"] for op in json.loads(cloud.cli("operations", "cli-made", "--json").stdout)["operations"]]
    assert kinds == ["destroy", "provision"]


def test_a_workspace_with_files_is_not_destroyed_unseen(cloud: Cloud) -> None:
    """Invariant 4."""
    assert cloud.ended(cloud.up("precious"))["state"] == "succeeded"
    wrote = cloud.cli("run", "precious", "--", "sh", "-c", "mkdir -p workspace/deep && echo weights > workspace/deep/w")
    assert wrote.returncode == 0, wrote.stderr
    refused = cloud.ended(cloud.down("precious", discard=False))
    assert refused["state"] == "failed"
    assert refused["problem"]["code"] == "workspace_not_empty"
    assert "w" in refused["problem"]["detail"]
    assert cloud.machine("precious")["state"] == "running"
    kept = cloud.cli("run", "precious", "--", "cat", "workspace/deep/w")
    assert kept.stdout == "weights\n"
    cli = cloud.cli("down", "precious")
    assert cli.returncode == 1
    assert "--discard" in cli.stdout + cli.stderr
    assert cloud.ended(cloud.down("precious", discard=True))["state"] == "succeeded"
    assert cloud.live() == []


def test_a_destroy_takes_over_from_a_provision_under_way(cloud: Cloud) -> None:
    cloud.fault("boot_never_ends", count=None)
    try:
        up = cloud.up("hasty")
        wait_for(lambda: len(cloud.live()) == 3, seconds=20, why="three boot")
        down = cloud.ended(cloud.down("hasty", discard=False))
    finally:
        cloud.mend()
    assert down["state"] == "succeeded"
    assert cloud.ended(up)["state"] == "superseded"
    assert cloud.live() == []


def test_a_budget_ends_a_machine_when_it_is_reached(cloud: Cloud) -> None:
    """Invariant 8."""
    before_usd = cloud.bill_usd()
    budget_usd = 0.0006
    assert cloud.ended(cloud.up("thrifty", budget_usd=budget_usd, race_width=1))["state"] == "succeeded"
    wait_for(lambda: cloud.machine("thrifty")["state"] == "destroyed", seconds=60, why="the budget is enforced")
    assert cloud.live() == []
    spent_usd = cloud.bill_usd() - before_usd
    assert spent_usd < budget_usd + 60 * 0.3 / 3600, "it passed by at most one sweep's worth"
    by = cloud.http.get("/operations", params={"machine": "thrifty"}).json()["operations"][0]["requested_by"]
    assert by == "budget"


def test_a_name_can_be_used_again_and_its_epoch_goes_on(cloud: Cloud) -> None:
    for _ in range(2):
        assert cloud.ended(cloud.up("phoenix", race_width=1))["state"] == "succeeded"
        epoch = cloud.machine("phoenix")["epoch"]
        assert cloud.ended(cloud.down("phoenix"))["state"] == "succeeded"
    assert epoch == 3, "up, down, up: each moved the fence"
    assert cloud.live() == []


def test_no_secret_is_in_the_log(cloud: Cloud) -> None:
    """Invariant 9."""
    log = (cloud.folder / "data/log.jsonl").read_text()
    secrets = [cloud.key, (cloud.folder / "data/market-key").read_text().strip()]
    private = (Path(cloud.folder) / "data/id_ed25519").read_text().splitlines()[1]
    assert log
    assert all(secret not in log for secret in [*secrets, private])
    for line in log.splitlines():
        assert "severity" in json.loads(line)
