"""The demo, for real: a local cloud of its own, a race, SSH, the report, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

MARK = "DUMONT_DEMO_TEST"


@dataclass(frozen=True)
class Ran:
    """A demo that has ended."""

    returncode: int
    stdout: str
    seconds: float
    report: dict[str, Any]
    page: str
    home: Path


def started(folder: Path, *options: str) -> subprocess.Popen[str]:
    """The demo, its processes marked in their environment, its temporary and its user's folders in `folder`."""
    for name in ("home", "tmp"):
        (folder / name).mkdir()
    mine = {MARK: str(folder), "HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "COLUMNS": "120"}
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "DUMONT_", "VAST_"))} | mine
    command = [sys.executable, "-m", "dumont.local.demo", "--build-dir", str(folder / "build"), *options]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def left_of(folder: Path) -> Iterator[psutil.Process]:
    """Every process that descends from the demo, whoever its parent is now."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(folder):
                yield process
        except psutil.Error:
            continue  # it ended while we looked, or is another user's


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("demo")
    began = time.monotonic()
    process = started(folder, "--time-scale", "0.05")
    stdout, _ = process.communicate(timeout=120)
    seconds = time.monotonic() - began
    assert (folder / "build" / "report.json").exists(), stdout
    report = json.loads((folder / "build" / "report.json").read_text())
    page = (folder / "build" / "report.html").read_text()
    assert list(left_of(folder)) == []
    assert list((folder / "tmp").iterdir()) == []
    return Ran(process.returncode, stdout, seconds, report, page, folder / "home")


def test_every_check_passes_and_the_exit_status_says_so(ran: Ran) -> None:
    failed = [check for check in ran.report["checks"] if not check["ok"]]
    assert failed == [], ran.stdout
    assert ran.returncode == 0
    assert len(ran.report["checks"]) >= 12


def test_it_says_how_long_it_took(ran: Ran) -> None:
    # That it is less than a minute is for a machine with nothing else to do: these tests share theirs.
    assert 5.0 < ran.report["total_seconds"] <= ran.seconds


def test_the_report_tells_each_step_with_time_and_cost(ran: Ran) -> None:
    names = [step["name"] for step in ran.report["steps"]]
    path = ["search", "rent", "boot", "ssh", "mkdir", "write", "read back", "nvidia-smi", "disk", "release"]
    assert [name for name in names if name in path] == path
    assert {"use", "snapshot", "restore", "destroy refused", "destroy", "confirm gone"} <= set(names)
    steps = ran.report["steps"]
    assert sum(step["seconds"] for step in steps) == pytest.approx(ran.report["total_seconds"], abs=0.01)
    assert sum(step["cost_usd"] for step in steps) == pytest.approx(ran.report["total_cost_usd"], abs=1e-6)
    assert ran.report["total_cost_usd"] > 0


def test_what_was_saved_is_restored_byte_for_byte(ran: Ran) -> None:
    passed = {check["name"]: check["ok"] for check in ran.report["checks"]}
    assert passed["a snapshot is verified before it counts"]
    assert passed["what is restored equals what was saved, byte for byte"]
    saved = {line["name"]: line["value"] for line in ran.report["saved"]}
    assert "24.0 MB sent" in saved["snapshot"]
    assert "24.0 MB" in saved["restore"]


def test_a_dead_host_is_replaced_without_a_command(ran: Ran) -> None:
    passed = {check["name"]: check["ok"] for check in ran.report["checks"]}
    assert passed["a dead host is noticed and its machine comes back on another, without a command"]
    assert passed["what it has there equals its last snapshot, byte for byte"]
    assert passed["its workload ran before, and runs there again"]
    steps = [step["name"] for step in ran.report["steps"] if step["name"].startswith("move: ")]
    path = ["move: detect", "move: confirm", "move: search", "move: rent", "move: boot", "move: proof", "move: restore"]
    assert [name for name in steps if name in path] == path
    told = {line["name"]: line["value"] for line in ran.report["moved"]}
    assert "heartbeats each 1 s" in told["in this demo"]


def test_it_falls_asleep_unasked_and_the_first_request_wakes_it(ran: Ran) -> None:
    passed = {check["name"]: check["ok"] for check in ran.report["checks"]}
    assert passed["a machine that nothing uses falls asleep by itself"]
    assert passed["asleep it is saved, and nothing is rented for it"]
    assert passed["the first request wakes it, waits, and is answered from its own files"]
    assert passed["what it wakes with equals what it fell asleep with, byte for byte"]
    asleep = next(step for step in ran.report["steps"] if step["name"] == "asleep")
    assert asleep["cost_usd"] == 0.0
    saved = {line["name"]: line["value"] for line in ran.report["savings"]}
    assert {"against AWS", "against GCP", "against never sleeping"} <= set(saved)
    assert all(" = " in value for value in saved.values()), "each with its formula"


def test_three_raced_each_time_and_one_won(ran: Ran) -> None:
    rentals = ran.report["rentals"]
    assert len(rentals) >= 3
    assert sum(rental["won"] for rental in rentals) == 3, "one, another after a death, a third after a sleep"
    assert all(rental["market_usd"] is not None for rental in rentals)


def test_the_terminal_says_what_is_simulated_and_shows_the_output_of_the_machine(ran: Ran) -> None:
    assert "SIMULATED MARKET" in ran.stdout
    assert "pi is about 3.14159" in ran.stdout
    assert "every check passed" in ran.stdout
    assert "Traceback" not in ran.stdout


def test_the_page_is_there_and_stands_alone(ran: Ran) -> None:
    assert "<svg" in ran.page
    assert "Simulated market" in ran.page
    assert "<script" not in ran.page
    assert len(ran.page) < 200_000


def test_nothing_of_the_users_is_touched(ran: Ran) -> None:
    assert [path for path in ran.home.rglob("*") if path.is_file()] == []


def test_a_demo_that_is_stopped_leaves_nothing_running(tmp_path: Path) -> None:
    process = started(tmp_path, "--time-scale", "1")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("→ rent"):
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert list(left_of(tmp_path)) == []
    assert list((tmp_path / "tmp").iterdir()) == []
