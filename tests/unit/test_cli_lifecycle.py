"""`up` and `down`: what is asked of the API, what is shown while it goes on, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dumont.domain.records import MachineSpec
from tests.unit.cli_world import NOW, World, instance, machine, operation, output, problem, step

REFUSAL = {"code": "workspace_not_empty", "detail": "the workspace holds 3 files", "hint": "fetch them"}


@pytest.fixture
def renting(api: World) -> World:
    """A world in which a machine can be rented: a race of two, the second wins."""
    racing = [instance("a"), instance("b", intended_at=NOW + 0.1)]
    ended = [
        instance("a", state="gone", gone_at=NOW + 11, problem={"code": "lost_race", "detail": "another was faster"}),
        instance("b", state="proven", intended_at=NOW + 0.1),
    ]
    steps = [step("search", 0, 0.2), step("boot", 0.5, 9, instance_id=ended[1]["id"])]
    api.says("POST /provision", {"machine": machine(state="provisioning"), "operation": operation()})
    api.says(
        "GET /operations/op-1",
        {"operation": operation(instances=racing, steps=steps[:1])},
        {"operation": operation(instances=ended, steps=steps, state="succeeded", ended_at=NOW + 12)},
    )
    api.says("GET /machines/trainer", {"machine": machine()})
    return api


def sent(api: World, request: str) -> Any:
    return api.last(request).json


def test_up_follows_the_race_and_says_how_to_use_the_machine(renting: World) -> None:
    result = renting.run("up", "trainer", "--gpu", "RTX 4090", "--max-price", "0.40")
    assert result.exit_code == 0
    progress = result.stderr
    assert "rental A: RTX 4090 in Sweden, SE at $0.3100/h" in progress
    assert "rental A: gone, as its provider confirms (another was faster)" in progress
    assert "boot on B took 8.50 s" in progress
    assert progress.count("search took") == 1
    assert "trainer runs: RTX 4090 at $0.3128/h, proven after 12.0 s" in result.stdout
    assert "dumont ssh trainer" in result.stdout


def test_up_sends_the_spec_and_a_key_of_its_own(renting: World) -> None:
    renting.run("up", "trainer", "--gpu", "RTX 4090", "--max-price", "0.4", "--race", "2")
    body = sent(renting, "POST /provision")
    key = body.pop("ssh_public_keys")
    assert body == {"name": "trainer", "gpu": "RTX 4090", "max_price_usd_per_hour": 0.4, "race_width": 2}
    private = renting.folder / "config" / "dumont" / "id_ed25519"
    assert key == [private.with_name("id_ed25519.pub").read_text().strip()]
    assert private.stat().st_mode & 0o777 == 0o600
    renting.run("up", "trainer")
    assert sent(renting, "POST /provision")["ssh_public_keys"] == key


def test_each_field_of_a_spec_has_its_option(renting: World, tmp_path: Path) -> None:
    public = tmp_path / "other.pub"
    public.write_text("ssh-ed25519 AAAAother me@home\n")
    options = (
        "--gpu L4 --count 2 --min-vram 24 --max-price 1 --min-reliability 0.9 --min-download 100 --min-cuda 12 "
        "--region SE --unverified --interruptible --disk 30 --image ubuntu --workspace work --race 2 "
        "--boot-timeout 100 --ssh-timeout 30 --hours 2 --budget 5 --snapshot-every 10 --verify-every 3 "
        "--keep-last 4 --keep-hourly 5 --keep-daily 6 --snapshot-md5 small "
        "--run serve.sh --restart on-failure --max-restarts 4 --health port:8000 --heartbeat 2 --fence-after 20 "
        "--no-failover "
        f"--stateless --max-failovers 3 --spare stopped --spare-refresh 30 --ssh-key {public} "
        "--model tiny --model other --port 9000 "
        "--sleep-after 15m --sleep-tier pause --idle-gpu 3 --idle-gpu-memory 8 --idle-cpu 5 --idle-network 1e4 "
        "--idle-disk 1e5 --idle-processes 2 --idle-ignore ssh_sessions --idle-workload-counts --wake-wait 2 "
        "--time-zone Europe/Berlin"
    )
    times = ("--wake-at", "weekdays 08:45", "--sleep-at", "daily 22:00")
    assert renting.run("up", "trainer", *options.split(), *times).exit_code == 0
    body = sent(renting, "POST /provision")
    assert set(body) - {"name"} == set(MachineSpec.__struct_fields__)
    msgspec.convert({field: value for field, value in body.items() if field != "name"}, MachineSpec)
    assert (body["failover"], body["stateless"], body["run"]) == ("off", True, "serve.sh")
    assert body["ssh_public_keys"][1] == "ssh-ed25519 AAAAother me@home"
    assert body["verified_only"] is False
    assert renting.run("up", "trainer", "--verify-every", "0").exit_code == 0
    assert sent(renting, "POST /provision")["verify_every_days"] is None


def test_a_private_key_is_never_sent(renting: World, tmp_path: Path) -> None:
    private = tmp_path / "id"
    private.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----\n")
    result = renting.run("up", "trainer", "--ssh-key", str(private))
    assert result.exit_code == 2
    assert "is not a public key" in result.stderr
    assert renting.asked == []


def test_a_budget_is_announced_for_what_it_does(renting: World) -> None:
    result = renting.run("up", "trainer", "--budget", "5")
    assert "budget $5.00: reaching it destroys trainer, workspace included" in result.stderr


def test_up_detached_returns_at_once(renting: World) -> None:
    result = renting.run("up", "trainer", "--detach")
    assert result.exit_code == 0
    assert "dumont operation op-1 --watch" in result.stdout
    assert [asked.method for asked in renting.asked] == ["POST"]


def test_up_in_json_is_silent_until_its_result(renting: World) -> None:
    result = renting.run("up", "trainer", "--json", "--budget", "5")
    assert result.stderr == ""
    assert output(result)["operation"]["state"] == "succeeded"
    assert output(result)["machine"]["name"] == "trainer"


def test_up_that_fails_says_what_happened_what_is_safe_and_what_next(renting: World) -> None:
    why = {"code": "no_offers", "detail": "no offer passed the filters", "safe": "Nothing bills.", "hint": "pay more"}
    renting.says("GET /operations/op-1", {"operation": operation(state="failed", problem=why)})
    result = renting.run("up", "trainer")
    assert result.exit_code == 1
    assert "error: provision of trainer failed: no offer passed the filters" in result.stderr
    assert "kept safe: Nothing bills." in result.stderr
    assert "next: pay more" in result.stderr
    failed = output(renting.run("up", "trainer", "--json"))
    assert failed["code"] == "no_offers"
    assert failed["hint"] == "pay more"
    assert failed["operation"]["id"] == "op-1"


def test_a_name_that_is_taken_is_a_conflict(api: World) -> None:
    api.says("POST /provision", problem(409, "conflict", "trainer exists already", hint="take another name"))
    result = api.run("up", "trainer")
    assert result.exit_code == 5
    assert "trainer exists already" in result.stderr
    assert output(api.run("up", "trainer", "--json"))["status"] == 409


def test_a_poll_that_fails_is_tried_again(renting: World) -> None:
    good = renting.answers["GET /operations/op-1"]
    renting.answers["GET /operations/op-1"] = [problem(503, "unavailable", "starting"), *good]
    result = renting.run("up", "trainer")
    assert result.exit_code == 0
    assert "trying again: starting" in result.stderr


def test_ctrl_c_says_that_the_operation_goes_on(renting: World) -> None:
    renting.says("GET /operations/op-1", {"operation": operation()})
    environment = {name: value for name, value in renting.environment().items() if value is not None}
    command = [sys.executable, "-m", "dumont.cli.main", "up", "trainer"]
    process = subprocess.Popen(
        command,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        # As on a terminal: a shell that runs the tests in its background has its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    ends = time.monotonic() + 10
    while not any(asked.path == "/operations/op-1" for asked in renting.asked):
        assert time.monotonic() < ends, "it never polled"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "operation op-1 goes on" in stderr
    assert "dumont operation op-1 --watch" in stderr
    assert "Traceback" not in stderr


# --- down -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ending(api: World) -> World:
    """A world in which a machine can be destroyed."""
    going = operation(kind="destroy", instances=[instance("b", state="releasing")])
    gone = operation(kind="destroy", state="succeeded", instances=[instance("b", state="gone", gone_at=NOW + 1)])
    api.says("POST /destroy", {"machine": machine(state="destroying"), "operation": going})
    api.says("GET /operations/op-1", {"operation": going}, {"operation": gone})
    api.says("GET /machines/trainer", {"machine": machine(state="destroyed")})
    return api


def test_down_is_over_when_the_provider_confirms(ending: World) -> None:
    result = ending.run("down", "trainer")
    assert result.exit_code == 0
    assert "the rental: gone, as its provider confirms" in result.stderr
    assert result.stdout == "trainer is gone, as its provider confirms; it cost $0.0123\n"
    assert sent(ending, "POST /destroy") == {"name": "trainer", "discard": False}


def test_down_with_discard_says_so_to_the_api(ending: World) -> None:
    assert ending.run("down", "trainer", "--discard").exit_code == 0
    assert sent(ending, "POST /destroy")["discard"] is True


def test_down_with_snapshot_asks_for_one_first_and_not_for_both(ending: World) -> None:
    assert ending.run("down", "trainer", "--snapshot").exit_code == 0
    assert sent(ending, "POST /destroy") == {"name": "trainer", "discard": False, "snapshot": True}
    ending.asked.clear()
    assert ending.run("down", "trainer", "--snapshot", "--discard").exit_code == 2
    assert ending.asked == []


def test_unsaved_files_are_named_and_the_ways_on(ending: World) -> None:
    why = {
        "code": "unsaved_files",
        "detail": "2 files are not as snapshot snap-1 has them: a, b",
        "safe": "s",
        "hint": "h",
    }
    ending.says("GET /operations/op-1", {"operation": operation(kind="destroy", state="failed", problem=why)})
    result = ending.run("down", "trainer")
    assert result.exit_code == 1
    assert "2 files are not as snapshot snap-1 has them: a, b" in result.stderr
    assert "dumont down trainer --snapshot" in result.stderr
    assert "--discard" in result.stderr


def test_down_detached_and_in_json(ending: World) -> None:
    assert "--watch" in ending.run("down", "trainer", "--detach").stdout
    assert output(ending.run("down", "trainer", "--json"))["operation"]["state"] == "succeeded"


def test_a_workspace_with_files_is_explained(ending: World) -> None:
    refused = operation(kind="destroy", state="failed", problem=REFUSAL)
    ending.says("GET /operations/op-1", {"operation": refused})
    result = ending.run("down", "trainer")
    assert result.exit_code == 1
    assert "the workspace holds 3 files" in result.stderr
    assert "kept safe: trainer still runs with all its files, and still bills." in result.stderr
    assert "dumont down trainer --discard" in result.stderr
    told = output(ending.run("down", "trainer", "--json"))
    assert told["code"] == "workspace_not_empty"
    assert "--discard" in told["hint"]


def test_on_a_terminal_down_asks_first(ending: World) -> None:
    pty = pytest.importorskip("pty")
    environment = {name: value for name, value in ending.environment().items() if value is not None}
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "dumont.cli.main", "down", "trainer"]
    process = subprocess.Popen(command, env=environment, stdin=follower, stderr=subprocess.PIPE)
    os.write(leader, b"n\n")
    _, stderr = process.communicate(timeout=10)
    os.close(leader)
    os.close(follower)
    assert process.returncode == 2
    assert b"destroy trainer?" in stderr
    assert b"nothing was done" in stderr
    assert ending.asked == []


def test_up_and_down_never_put_the_key_in_a_body_or_an_address(renting: World) -> None:
    renting.run("up", "trainer")
    for asked in renting.asked:
        assert "dmt_" not in asked.path
        assert b"dmt_" not in asked.body
    assert json.loads(renting.asked[0].body)["name"] == "trainer"
