"""Bundles as Google starts them: each in a clean environment of its own requirements, under functions-framework's own
command, with the settings that it is given and nothing else."""

from __future__ import annotations

import compileall
import contextlib
import fcntl
import hashlib
import os
import py_compile
import shutil
import signal
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from dumont.build.bundles import Bundle, build
from dumont.build.declarations import Entry
from tests.end_to_end.cloud import free_port

ROOT = Path(__file__).parents[2]
START_SECONDS = 30.0


def build_bundles(folder: Path) -> dict[str, Bundle]:
    """All of them, by their functions' names; what they have in common is compiled for all at once, where each would
    have done so at its start."""
    built = build(ROOT / "functions", ROOT / "requirements", folder)
    first, *others = (bundle.folder / "dumont" for bundle in built)
    # Unchecked: each bundle's copy of a source has a time of its own.
    compileall.compile_dir(first, quiet=1, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    for compiled in first.rglob("__pycache__"):
        for other in others:
            shutil.copytree(compiled, other / compiled.relative_to(first), copy_function=os.link)
    return {bundle.declaration.name: bundle for bundle in built}


class Environments:
    """Clean Python environments, one for each distinct lock, kept in pytest's cache from run to run."""

    def __init__(self, config: pytest.Config) -> None:
        assert config.cache is not None
        self.folder = config.cache.mkdir("bundles")

    def of(self, bundle: Bundle) -> Path:
        """The `bin` folder of an environment that holds the bundle's requirements and nothing else."""
        requirements = bundle.folder / "requirements.txt"
        key = hashlib.sha256(sys.version.encode() + requirements.read_bytes()).hexdigest()[:16]
        home = self.folder / key
        done = home / ".done"
        with (self.folder / f"{key}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another of pytest's workers may want the same one
            if not done.exists():
                venv.create(home, clear=True, symlinks=True)
                self._install(str(home / "bin" / "python"), requirements)
                done.touch()
        return home / "bin"

    def _install(self, python: str, requirements: Path) -> None:
        options = ["--quiet", "--require-hashes", "-r", str(requirements)]
        # uv takes a quarter of pip's time. Where an index is told to pip alone, pip does it.
        place = ["--python", python, "--cache-dir", str(self.folder / "uv")]
        uv = [sys.executable, "-m", "uv", "pip", "install", "--system-certs", *place]
        with contextlib.suppress(subprocess.TimeoutExpired):
            if subprocess.run([*uv, "--compile-bytecode", *options], check=False, timeout=120).returncode == 0:
                return
        pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install"]
        subprocess.run([*pip, *options], check=True, timeout=300)


@dataclass(frozen=True)
class Served:
    """A bundle's entry, up and answering; its log is for a failing test to show."""

    client: httpx.Client
    log: Path


@contextmanager
def serve(bundle: Bundle, entry: Entry, binaries: Path, store: Path) -> Iterator[Served]:
    """An entry on a store of its own, without a bus."""
    settings = {"DUMONT_STORE": f"sqlite:{store}", "DUMONT_BUS": f"http://127.0.0.1:{free_port()}"}
    with serve_with(bundle, entry, binaries, store.with_suffix(".log"), settings) as served:
        yield served


@contextmanager
def serve_with(
    bundle: Bundle, entry: Entry, binaries: Path, log: Path, settings: Mapping[str, str]
) -> Iterator[Served]:
    """The entry under functions-framework's own command, in an environment that holds nothing of ours but settings."""
    process, port = start(bundle, entry, binaries, log, settings)
    try:
        wait_until_up(process, port, log)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=START_SECONDS, trust_env=False) as client:
            yield Served(client, log)
    finally:
        stop(process)


def start(
    bundle: Bundle, entry: Entry, binaries: Path, log: Path, settings: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], int]:
    """The process, and the port on which it will answer."""
    port = free_port()
    environment = {
        "PATH": f"{binaries}:/usr/bin:/bin", "HOME": str(log.parent), "DUMONT_DEPLOYMENT": "test", **settings
    }  # fmt: skip
    command = [str(binaries / "functions-framework"), "--source", "main.py", "--target", entry.target]
    command += ["--signature-type", entry.signature, "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=bundle.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return process, port


def wait_until_up(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Until it accepts connections. Fails with its log if it ends before, or takes too long."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        break
    pytest.fail(f"not up:\n{log.read_text()}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End it and the workers that it forked."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(10)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
