"""The market's end of the nursery: starts it, sends it commands, and hands its events on."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

import psutil

READY_SECONDS = 20.0
CLOSE_SECONDS = 10.0


class NurseryClient:
    """A running nursery. A thread of its own calls `on_event`, for one event at a time; {"event": "closed"} is last."""

    def __init__(self, on_event: Callable[[Mapping[str, Any]], None]) -> None:
        self._on_event = on_event
        self._lock = threading.Lock()
        # None of our environment: the simulated machines are its descendants, and can read it in /proc.
        environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dumont.local.machine", "--nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            # Ctrl-C at a terminal is for the market, which then closes in order.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="market-nursery", daemon=True)
        self._ready = threading.Event()
        self._reader.start()

    def wait_until_ready(self) -> None:
        """Wait until it has everything imported, so that no boot waits for that. Raises `RuntimeError`."""
        if not self._ready.wait(READY_SECONDS) or self._process.poll() is not None:
            raise RuntimeError("the simulated machines' nursery did not start")

    def spawn(self, name: str, folder: str) -> None:
        """Start the machine of a folder; "spawned" follows with its port."""
        self._send({"do": "spawn", "name": name, "folder": folder})

    def say(self, name: str, word: str) -> None:
        """Tell a machine to boot, to open its SSH server, or to go deaf."""
        self._send({"do": "say", "name": name, "word": word})

    def kill(self, name: str) -> None:
        """SIGKILL a machine and all that it started; "gone" follows."""
        self._send({"do": "kill", "name": name})

    def close(self) -> None:
        """End the nursery with all its machines; on return no process of theirs is left."""
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        with self._lock, contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            root = psutil.Process(self._process.pid)
            for process in [*root.children(recursive=True), root]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self._process.wait()
        self._reader.join()

    def _send(self, command: Mapping[str, str]) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        # A nursery that died says so by its last event.
        with self._lock, contextlib.suppress(BrokenPipeError, ValueError):
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        for line in self._process.stdout:
            event = json.loads(line)
            if event["event"] == "ready":
                self._ready.set()
            else:
                self._on_event(event)
        self._ready.set()  # whoever waits for it need not
        self._on_event({"event": "closed"})
