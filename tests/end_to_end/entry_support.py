"""One entry of a function as a process of its own, under functions-framework's own command, with a test's settings."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.end_to_end.bundle_support import Served, stop, wait_until_up
from tests.end_to_end.cloud import free_port

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def serving(folder: Path, name: str, target: str, signature: str, **settings: str) -> Iterator[Served]:
    """One entry under functions-framework's own command."""
    port = free_port()
    log = folder / f"{target}-{port}.log"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("DUMONT_", "GOOGLE_", "VAST_"))},
        "PYTHONPATH": str(ROOT / "shared"),
        "DUMONT_STORE": f"sqlite:{folder / 'store.db'}",
        **settings,
    }
    command = [str(Path(sys.executable).parent / "functions-framework"), "--source", "main.py", "--target", target]
    command += ["--signature-type", signature, "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT / "functions" / name,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until_up(process, port, log)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
            yield Served(client, log)
    finally:
        stop(process)
