"""Who is measured in `bench_snapshots`: the engine, restic, and a plain copy as the limit of what the disk gives."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

KEY = base64.b64encode(bytes(range(32))).decode()
BUCKET = "bench"


@dataclasses.dataclass(frozen=True)
class Run:
    """One timed process: wall and CPU seconds (its own, not the store's), peak memory, what it printed."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    output: str


def timed(command: list[str], *, stdin: str = "", environment: dict[str, str] | None = None) -> Run:
    """Run a command to its end. Raises `RuntimeError` where it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(stdin)
    process.stdin.close()
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    if process.returncode:
        raise RuntimeError(f"{command[0]} failed: {output[-2000:]}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, output)


class Contestant:
    """Takes and restores snapshots of one folder. `fresh` starts with an empty store."""

    name = ""

    def fresh(self, round_number: int) -> None:
        raise NotImplementedError

    def snapshot(self, workspace: Path) -> Run:
        raise NotImplementedError

    def restore(self, to: Path) -> Run:
        raise NotImplementedError

    def stored_bytes(self) -> int:
        raise NotImplementedError


class Engine(Contestant):
    """Ours, as the agent starts it: a process that reads its job from standard input."""

    def __init__(self, root: Path, endpoint: str, name: str = "dumont", options: dict[str, Any] | None = None) -> None:
        self.name, self._folder = name, name.replace(" ", "-")
        self._root, self._endpoint, self._options = root, endpoint, options or {}
        self._count = self._round = 0
        self._taken: dict[str, Any] = {}

    def fresh(self, round_number: int) -> None:
        self._round = round_number
        shutil.rmtree(self._root / f"state-{self._folder}", ignore_errors=True)
        shutil.rmtree(self._root / "store" / BUCKET / self._folder, ignore_errors=True)

    def snapshot(self, workspace: Path) -> Run:
        self._count += 1
        run = self._run("snapshot", f"s{self._count}", workspace)
        self._taken = json.loads(run.output.splitlines()[-1])
        if not self._taken["complete"]:
            raise RuntimeError("the snapshot is not complete")
        return run

    def restore(self, to: Path) -> Run:
        manifest = {name: self._taken["manifest"][name] for name in ("key", "sha256")}
        return self._run("restore", self._taken["snapshot_id"], to, manifest=manifest)

    def stored_bytes(self) -> int:
        return folder_bytes(self._root / "store" / BUCKET / self._folder)

    def _run(self, action: str, snapshot_id: str, workspace: Path, **values: Any) -> Run:
        job = {
            "action": action,
            "machine": "bench",
            "snapshot_id": snapshot_id,
            "store": {
                "kind": "s3",
                "endpoint": self._endpoint,
                "bucket": BUCKET,
                "key_id": "bench",
                "secret": "bench-secret",
            },
            "prefix": f"{self._folder}/{self._round}/",
            "data_key": KEY,
            "workspace": str(workspace),
            "state_dir": str(self._root / f"{'state' if action == 'snapshot' else 'new-state'}-{self._folder}"),
            "options": self._options,
            **values,
        }
        return timed([sys.executable, "-m", "dumont.agent.engine"], stdin=json.dumps(job))


class Restic(Contestant):
    """restic with its defaults, to the same server."""

    def __init__(self, root: Path, endpoint: str, binary: str) -> None:
        self._root, self._endpoint, self._binary = root, endpoint, binary
        self._round = 0
        version = subprocess.run([binary, "version"], capture_output=True, text=True, check=True).stdout
        self.name = " ".join(version.split()[:2])
        self._folder = self.name.replace(" ", "-")

    def fresh(self, round_number: int) -> None:
        self._round = round_number
        shutil.rmtree(self._root / "store" / BUCKET / self._folder, ignore_errors=True)
        shutil.rmtree(self._root / f"cache-{self._folder}", ignore_errors=True)
        self._run("init")

    def snapshot(self, workspace: Path) -> Run:
        return self._run("backup", "--quiet", str(workspace))

    def restore(self, to: Path) -> Run:
        return self._run("restore", "latest", "--quiet", "--target", str(to))

    def stored_bytes(self) -> int:
        return folder_bytes(self._root / "store" / BUCKET / self._folder)

    def _run(self, *arguments: str) -> Run:
        environment = {
            "RESTIC_REPOSITORY": f"s3:{self._endpoint}/{BUCKET}/{self._folder}/{self._round}",
            "RESTIC_PASSWORD": "bench",
            "RESTIC_CACHE_DIR": str(self._root / f"cache-{self._folder}"),
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        # localbucket knows the first version of listing alone.
        return timed([self._binary, "-o", "s3.list-objects-v1=true", *arguments], environment=environment)


class PlainCopy(Contestant):
    """The bytes alone, through the same store by the same client: what is left to win.

    All files one after another in objects of 32 MiB, eight at a time; no hash, no compression, no encryption, no mode,
    no time. In a process of its own, as the others are.
    """

    name = "plain copy"

    def __init__(self, root: Path, endpoint: str) -> None:
        self._root, self._endpoint = root, endpoint

    def fresh(self, round_number: int) -> None:
        del round_number
        shutil.rmtree(self._root / "store" / BUCKET / "plain", ignore_errors=True)

    def snapshot(self, workspace: Path) -> Run:
        return self._run("put", workspace)

    def restore(self, to: Path) -> Run:
        return self._run("get", to)

    def stored_bytes(self) -> int:
        return folder_bytes(self._root / "store" / BUCKET / "plain")

    def _run(self, way: str, folder: Path) -> Run:
        module = "tests.benchmarks.plain_copy"
        listing = str(self._root / "plain-listing.json")
        return timed([sys.executable, "-m", module, way, self._endpoint, BUCKET, str(folder), listing])


def folder_bytes(folder: Path) -> int:
    """The sizes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
