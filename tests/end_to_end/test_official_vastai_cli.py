"""The official `vastai` CLI, unchanged, drives the simulated market."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end import forked_vastai
from tests.end_to_end.market_support import KEY, Rig, market, wait_for

VASTAI = Path(sys.executable).with_name("vastai")


class Cli:
    """Runs the CLI with a home of its own, pointed at a market by both of the ways that it has."""

    def __init__(self, rig: Rig, home: Path) -> None:
        assert rig.server is not None
        self.rig = rig
        self._url = rig.server.url
        self._home = home
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_CACHE_HOME": str(home / "cache"),
            "XDG_STATE_HOME": str(home / "state"),
            "TMPDIR": str(home),
            "VAST_URL": self._url,
            "VAST_API_KEY": KEY,
            "VASTAI_NO_UPDATE_CHECK": "1",
            "COLUMNS": "400",
            "LANG": "C.UTF-8",
        }

        self._forks = subprocess.Popen(
            [sys.executable, "-m", forked_vastai.__name__],
            env=self.environment | {"PYTHONPATH": str(Path(__file__).parents[2])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        self._forks.communicate(timeout=forked_vastai.COMMAND_SECONDS)

    def text(self, *words: str) -> str:
        """What a command prints."""
        return self.run(*words).stdout

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command, which must end well."""
        assert self._forks.stdin is not None
        assert self._forks.stdout is not None
        command, files = [*words, "--url", self._url], [self._home / "stdout", self._home / "stderr"]
        self._forks.stdin.write(json.dumps([command, *map(str, files)]) + "\n")
        self._forks.stdin.flush()
        status = int(self._forks.stdout.readline())
        stdout, stderr = (file.read_text(encoding="utf-8") for file in files)
        for file in files:
            file.unlink()
        assert "Traceback" not in stderr, stderr
        assert status == 0, (stdout, stderr)
        return subprocess.CompletedProcess(command, status, stdout, stderr)

    def raw(self, *words: str) -> Any:
        return json.loads(self.text(*words, "--raw"))

    def create(self, *words: str, **query: Any) -> int:
        ask = self.rig.offers(**query)[0]["id"]
        return int(
            self.raw("create", "instance", str(ask), "--image", "ubuntu:22.04", "--disk", "20", *words)["new_contract"]
        )


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with market(tmp_path_factory.mktemp("market")) as running:
        yield running


@pytest.fixture(scope="module")
def cli(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with contextlib.closing(Cli(rig, tmp_path_factory.mktemp("home"))) as made:
        yield made


@pytest.fixture(scope="module")
def instance(cli: Cli) -> int:
    """One that runs, with our key let in, for all tests that only look."""
    created = cli.create("--ssh", "--direct", "--label", "looked-at", "--env", "-e A=b -p 8080:8080")
    assert "attached" in cli.text("attach", "ssh", str(created), cli.rig.public_key)
    cli.rig.until(created, "running")
    return created


def test_offers_are_found_by_operators_order_and_limit(cli: Cli) -> None:
    query = "gpu_name in [RTX_4090,RTX_3090] num_gpus=1 reliability>0.9 gpu_ram>=20 geolocation notin [CN,VN]"
    offers = cli.raw("search", "offers", query, "--order", "dph_total", "--limit", "5")
    assert len(offers) == 5
    prices = [offer["dph_total"] for offer in offers]
    assert prices == sorted(prices)
    assert {offer["gpu_name"] for offer in offers} <= {"RTX 4090", "RTX 3090"}
    assert {offer["num_gpus"] for offer in offers} == {1}


def test_the_cheapest_4090_is_shown_as_the_market_has_it(cli: Cli) -> None:
    (offer,) = cli.raw("search", "offers", "gpu_name=RTX_4090", "--order", "dph_total", "--limit", "1")
    assert (offer["dph_base"], offer["geolocation"]) == (0.1689, "British Columbia, CA")


def test_offers_are_shown_as_a_table(cli: Cli) -> None:
    table = cli.text("search", "offers", "gpu_name=RTX_4090 num_gpus=1", "-o", "dph+")
    assert "RTX_4090" in table
    assert "British_Columbia" in table
    assert "0.1695" in table


@pytest.mark.parametrize("words", [["--type", "bid"], ["--type", "reserved"], ["--new"], ["-n"], ["--storage", "50"]])
def test_every_kind_of_search_finds_offers(cli: Cli, words: list[str]) -> None:
    assert len(cli.raw("search", "offers", *words, "gpu_name=RTX_4090")) >= 8


def test_a_bid_search_shows_lower_prices(cli: Cli) -> None:
    words = ("search", "offers", "gpu_name=RTX_4090 num_gpus=1", "--order", "id")
    on_demand, bid = cli.raw(*words), cli.raw(*words, "--type", "bid")
    assert [offer["id"] for offer in on_demand] == [offer["id"] for offer in bid]
    assert all(b["dph_total"] < o["dph_total"] for o, b in zip(on_demand, bid, strict=True))


def test_instances_are_listed_raw_as_ids_and_as_a_table(cli: Cli, instance: int) -> None:
    (row,) = [row for row in cli.raw("show", "instances") if row["id"] == instance]
    assert (row["actual_status"], row["label"], row["extra_env"]["A"]) == ("running", "looked-at", "b")
    assert str(instance) in cli.text("show", "instances", "-q").split()
    for words in ([], ["-v"]):
        table = cli.text("show", "instances", *words)
        assert "looked-at" in table
        assert "RTX 4090" in table
    assert "looked-at" in cli.text("show", "instances", "--status", "running", "--label", "looked-at")
    assert "looked-at" not in cli.text("show", "instances", "--label", "")


def test_more_instances_than_fit_a_page_are_all_listed(cli: Cli) -> None:
    asks = [offer["id"] for offer in cli.rig.offers(gpu_name={"neq": "RTX 4090"})[:30]]
    for ask in asks:
        body = {"image": "a", "disk": 8, "target_state": "stopped"}
        assert cli.rig.http.put(f"/api/v0/asks/{ask}/", json=body).status_code == 200
    created = [row["id"] for row in cli.raw("show", "instances") if row["intended_status"] == "stopped"]
    assert len(created) == 30
    cli.text("destroy", "instances", *map(str, created), "-y")
    assert all(cli.rig.row(each) is None for each in created)


def test_one_instance_is_shown_raw_and_as_a_table(cli: Cli, instance: int) -> None:
    row = cli.raw("show", "instance", str(instance))
    assert (row["id"], row["actual_status"]) == (instance, "running")
    assert row["ports"]["22/tcp"][0]["HostPort"] == str(row["ssh_port"])
    assert str(instance) in cli.text("show", "instance", str(instance))


def test_the_ssh_url_leads_to_a_machine_with_the_gpu(cli: Cli, instance: int) -> None:
    url = cli.text("ssh-url", str(instance)).strip()
    row = cli.raw("show", "instance", str(instance))
    assert url == f"ssh://root@127.0.0.1:{row['ssh_port']}"

    async def look() -> str:
        async with cli.rig.login(row) as connection:
            return str((await connection.run("nvidia-smi -L", check=True)).stdout)

    assert asyncio.run(look()).startswith("GPU 0: NVIDIA GeForce RTX 4090 (UUID: GPU-")


@pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no OpenSSH client")
def test_openssh_logs_in_too(cli: Cli, instance: int, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_bytes(cli.rig.private_key.export_private_key("openssh"))
    url = cli.text("ssh-url", str(instance)).strip()
    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes", "LogLevel=ERROR"]
    command = ["ssh", "-F", "none", "-i", str(key), *(word for o in options for word in ("-o", o)), url]
    done = subprocess.run([*command, "nvidia-smi; exit 3"], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 3, done.stderr
    assert "NVIDIA GeForce RTX 4090" in done.stdout
    # The OpenSSH client asks for a terminal in ways of its own.
    shown = subprocess.run([*command, "-tt", "tty"], capture_output=True, text=True, timeout=30, check=False)
    assert "/dev/pts/" in shown.stdout, shown.stderr


def test_an_instance_is_stopped_started_labelled_rebooted_and_destroyed(cli: Cli) -> None:
    created = cli.create("--ssh")
    name = str(created)
    cli.rig.until(created, "running")
    assert "label for" in cli.text("label", "instance", name, "renamed")
    assert cli.raw("show", "instance", name)["label"] == "renamed"
    assert "Rebooting" in cli.text("reboot", "instance", name)
    cli.rig.until(created, "running")
    assert "stopping instance" in cli.text("stop", "instance", name)
    wait_for(lambda: cli.rig.row(created)["actual_status"] != "running", "the stop")  # type: ignore[index]
    assert "starting instance" in cli.text("start", "instance", name)
    cli.rig.until(created, "running")
    assert "destroying instance" in cli.text("destroy", "instance", name, "-y")
    assert cli.rig.row(created) is None
    assert name not in cli.text("show", "instances", "-q").split()
    # The CLI ends with 0 on every HTTP error, and says what it was on its standard error.
    assert "does not exist" in cli.run("destroy", "instance", name, "-y").stderr


def test_an_interruptible_instance_is_created_and_its_bid_changed(cli: Cli) -> None:
    created = cli.create("--bid_price", "0.35", "--ssh")
    row = cli.raw("show", "instance", str(created))
    assert (row["is_bid"], row["dph_base"]) == (True, 0.35)
    assert "bid price changed" in cli.text("change", "bid", str(created), "--price", "0.4")
    assert cli.raw("show", "instance", str(created))["dph_base"] == 0.4
    cli.text("destroy", "instance", str(created), "-y")


def test_a_start_that_is_refused_says_why(cli: Cli) -> None:
    created = cli.create()
    cli.rig.until(created, "running")
    cli.text("stop", "instance", str(created))
    wait_for(lambda: cli.rig.row(created)["actual_status"] != "running", "the stop")  # type: ignore[index]
    cli.rig.fault("resume_refused", instance_id=created)
    assert "Required resources are currently unavailable" in cli.text("start", "instance", str(created))
    cli.text("destroy", "instance", str(created), "-y")


def test_logs_are_shown(cli: Cli) -> None:
    created = cli.create("--onstart-cmd", "for i in 1 2 3; do echo line $i; done")
    cli.rig.until(created, "running")
    wait_for(lambda: "line 3" in cli.text("logs", str(created)), "the log")
    assert "line 1" not in cli.text("logs", str(created), "--tail", "1")
    assert "line 2" not in cli.text("logs", str(created), "--filter", "line 3")
    cli.text("destroy", "instance", str(created), "-y")


def test_ssh_keys_are_created_shown_attached_detached_and_deleted(cli: Cli, instance: int) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ me@example"
    assert "ssh-key created" in cli.text("create", "ssh-key", key)
    (shown,) = [each for each in cli.raw("show", "ssh-keys") if each["key"] == key]
    assert "attached" in cli.text("attach", "ssh", str(instance), key)
    assert "removed" in cli.text("detach", "ssh", str(instance), str(shown["id"]))
    cli.text("delete", "ssh-key", str(shown["id"]))
    assert all(each["key"] != key for each in cli.raw("show", "ssh-keys"))


def test_the_program_itself_does_as_its_forks(cli: Cli) -> None:
    assert VASTAI.exists(), "the official CLI is part of the development environment"
    done = subprocess.run(
        [VASTAI, "show", "api-keys", "--raw"],
        env=cli.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, json.loads(done.stdout)) == (0, cli.raw("show", "api-keys")), done.stderr


def test_the_user_s_credit_is_shown(cli: Cli) -> None:
    user = cli.raw("show", "user")
    assert 99.0 < user["credit"] <= 100.0
    assert "someone@example.com" in cli.text("show", "user")


def test_api_keys_and_reports_and_volumes_are_shown(cli: Cli) -> None:
    assert cli.raw("show", "api-keys") == {"apikeys": []}
    assert cli.raw("show", "volumes") == []
    assert cli.raw("search", "volumes", "disk_space>50") == []
    assert "reports" in cli.text("reports", "10000")
