"""kill -9 at any moment of a backup or a restore: the next run goes on, and nothing half done is taken for done."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dumont.agent.engine import Job
from tests.engine_rig import Rig, as_json, picture, reference, weights
from tests.engine_servers import StrictS3, strict_s3

CONNECTIONS = 2
PACK_BYTES = 4 << 20


@pytest.fixture
def server() -> Iterator[StrictS3]:
    with strict_s3() as running:
        yield running


@pytest.fixture
def rig(tmp_path: Path, server: StrictS3) -> Rig:
    """A workspace of some 44 MB: weights, noise, and small files."""
    rig = Rig(tmp_path, store=server.spec("auto"))
    (rig.workspace / "m.safetensors").write_bytes(weights(8_000_000))
    (rig.workspace / "noise").write_bytes(random.Random(1).randbytes(24 << 20))
    for index in range(500):
        (rig.workspace / f"f{index}").write_bytes(b"%d" % index * 700)
    return rig


def run_until(job: Job, moment: Callable[[], bool]) -> bool:
    """Run the engine as the agent does and kill it at that moment; whether it was still alive then."""
    command = [sys.executable, "-m", "dumont.agent.engine"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stdin is not None
        process.stdin.write(as_json(job))
        process.stdin.close()
        deadline = time.monotonic() + 30
        while process.poll() is None and not moment() and time.monotonic() < deadline:
            time.sleep(0.001)
        alive = process.poll() is None
        if alive:
            process.send_signal(signal.SIGKILL)
    return alive


def run_whole(job: Job) -> dict[str, object]:
    command = [sys.executable, "-m", "dumont.agent.engine"]
    done = subprocess.run(command, input=as_json(job), capture_output=True, text=True, timeout=60, check=False)
    line: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, line
    return line


OPTIONS = {"connections": CONNECTIONS, "pack_bytes": PACK_BYTES}


@pytest.mark.parametrize("packs", [1, 4, 7])
def test_a_killed_backup_sends_no_more_again_than_was_in_flight(packs: int, rig: Rig, server: StrictS3) -> None:
    job = rig.job("snapshot", "s1", options=OPTIONS)
    killed = threading.Event()

    def held(_method: str, _key: str) -> int:
        """So many are taken and no more, lest it is done before it is killed."""
        return -1 if len(server.puts) >= packs and killed.wait(30) else 0

    server.fault = held
    assert run_until(job, lambda: len(server.puts) >= packs)
    server.fault = lambda _method, _key: 0
    killed.set()
    assert not any("manifests" in key for key in server.objects)
    before = sum(size for _, size in server.puts)
    run_whole(job)
    sent = sum(size for _, size in server.puts)
    once = sum(size for _, size in without_journal(rig, server))
    # What was in flight, and what had arrived but was not confirmed yet: at most a pack for each connection, and one.
    assert sent - once <= (CONNECTIONS + 1) * PACK_BYTES
    assert before < sent


def without_journal(rig: Rig, server: StrictS3) -> list[tuple[str, int]]:
    """What one whole run sends."""
    start = len(server.puts)
    run_whole(rig.job("snapshot", "s9", options={**OPTIONS, "fresh": True}, state_dir=str(rig.root / "other state")))
    own, server.puts[start:] = server.puts[start:], []
    return own


@pytest.mark.parametrize("seed", range(3))
def test_a_backup_killed_again_and_again_is_whole_in_the_end(seed: int, rig: Rig, tmp_path: Path) -> None:
    chance = random.Random(seed)
    job = rig.job("snapshot", "s1", options=OPTIONS)
    for _ in range(3):
        end = time.monotonic() + chance.uniform(0.15, 0.9)
        run_until(job, lambda end=end: time.monotonic() >= end)  # type: ignore[misc]
    taken = rig.snapshot("s1")
    assert rig.verify(taken).ok
    rig.restore(taken, tmp_path / "back")
    assert picture(tmp_path / "back") == picture(rig.workspace)


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_restore_leaves_the_old_or_the_new_and_goes_on(seed: int, rig: Rig) -> None:
    taken = rig.snapshot("s1")
    new = picture(rig.workspace)
    for path in rig.workspace.glob("f*"):
        path.unlink()
    (rig.workspace / "mine").write_bytes(b"mine")
    old = picture(rig.workspace)
    job = rig.job("restore", "s1", options=OPTIONS, manifest=reference(taken))
    chance = random.Random(seed)
    for _ in range(3):
        end = time.monotonic() + chance.uniform(0.2, 1.0)
        run_until(job, lambda end=end: time.monotonic() >= end)  # type: ignore[misc]
        assert picture(rig.workspace) in (old, new)
    run_whole(job)
    assert picture(rig.workspace) == new
    assert not (rig.root / ".workspace.dumont-restore").exists()


def test_a_restore_killed_half_way_keeps_what_is_right(rig: Rig, server: StrictS3) -> None:
    taken = rig.snapshot("s1")
    count = 0
    lock_after = 4

    def slow(method: str, _key: str) -> int:
        nonlocal count
        count += method == "GET"
        return 503 if count > lock_after else 0

    server.fault = slow
    job = rig.job("restore", "s1", options=OPTIONS, manifest=reference(taken), workspace=str(rig.root / "back"))
    assert run_until(job, lambda: count > lock_after + 2)
    assert not (rig.root / "back").exists()
    server.fault = lambda _method, _key: 0
    again = run_whole(job)
    assert again["resumed"]
    assert isinstance(again["bytes_kept"], int)
    assert again["bytes_kept"] > 0
    assert picture(rig.root / "back") == picture(rig.workspace)
