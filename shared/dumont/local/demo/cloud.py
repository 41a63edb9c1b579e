"""A local cloud as a process of its own, for the demo: on free ports, with folders of its own, and gone afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from dumont.cli.credentials import read_key
from dumont.cli.errors import CliError

READY_SECONDS_MAX = 40.0
STOP_SECONDS_MAX = 15.0
_POLL_SECONDS = 0.05
_NOT_INHERITED = ("DUMONT_", "VAST_", "GOOGLE_CLOUD_PROJECT", "FIRESTORE_", "PUBSUB_", "XDG_")


class LocalCloud:
    """`dumont local up` under the folder given. The user's own settings, keys and accounts do not reach it."""

    def __init__(self, folder: Path, *, time_scale: float) -> None:
        self.folder = folder
        port, market_port = free_ports(2)
        self.url = f"http://localhost:{port}"
        self.market_url = f"http://127.0.0.1:{market_port}"
        self.config_folder = folder / "config" / "dumont"
        self._log = folder / "cloud.log"
        self._command = [sys.executable, "-m", "dumont.cli.main", "local", "up"]
        self._command += ["--port", str(port), "--market-port", str(market_port), "--data", str(folder / "data")]
        self._command += ["--time-scale", f"{time_scale:g}"]
        self._process: subprocess.Popen[bytes] | None = None
        self._seen: dict[int, psutil.Process] = {}

    def __enter__(self) -> LocalCloud:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it says that it is ready; raises `CliError` with its last words if it does not."""
        try:
            self._start()
        except BaseException:
            self.stop()  # a signal may end the wait, and nobody else knows of the process yet
            raise

    def _start(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(_NOT_INHERITED)}
        environment |= {"XDG_CONFIG_HOME": str(self.folder / "config"), "PYTHONUNBUFFERED": "1"}
        with self._log.open("wb") as log:
            # A session of its own: Ctrl-C in the demo's terminal must not end the cloud before its machines are gone.
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
            )
        until = time.monotonic() + READY_SECONDS_MAX
        while not self._said_ready():
            if self._process.poll() is not None or time.monotonic() > until:
                words = "\n    ".join(self.last_words())
                raise CliError(f"the local cloud did not start:\n    {words}", code="no_local_cloud")
            time.sleep(_POLL_SECONDS)

    def key(self) -> str | None:
        """The API key that it made for its user."""
        return read_key(self.url, folder=self.config_folder)

    def last_words(self, lines: int = 15) -> list[str]:
        """The end of what it wrote."""
        if not self._log.exists():
            return []
        return self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]

    def stop(self) -> list[str]:
        """End it and wait for it; names what was left of it, and ends that, too."""
        process = self._process
        if process is None:
            return []
        self._process = None
        self._look_for_children(process.pid)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=STOP_SECONDS_MAX)
            left = []
        except subprocess.TimeoutExpired:
            left = ["the local cloud itself"]
            process.kill()
            process.wait()
        # What it reaped in its last moment may still be on its way out.
        _, alive = psutil.wait_procs(list(self._seen.values()), timeout=2.0)
        for straggler in alive:
            left.append(f"process {straggler.pid} ({_name(straggler)})")
            with contextlib.suppress(psutil.NoSuchProcess):
                straggler.kill()
        return left

    def _said_ready(self) -> bool:
        return any(line.casefold().startswith("ready") for line in self.last_words(50))

    def _look_for_children(self, pid: int) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(pid).children(recursive=True):
                self._seen[child.pid] = child


def market(url: str, path: str) -> Any:
    """What the simulated market itself says at one of its own endpoints, outside of Vast's API."""
    import httpx

    response = httpx.get(f"{url}/_market/{path}", timeout=10.0, trust_env=False)
    response.raise_for_status()
    return response.json()


def kill(url: str, label: str) -> None:
    """Let the simulated market end every process of a rental, and go on saying that it runs."""
    import httpx

    fault = {"kind": "hung", "label": label}
    httpx.post(f"{url}/_market/faults", json=fault, timeout=10.0, trust_env=False).raise_for_status()


def free_ports(count: int) -> list[int]:
    """Ports of this computer that nobody uses now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return "unknown"
