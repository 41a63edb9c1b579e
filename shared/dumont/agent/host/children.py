"""Short commands of the agent's own: bounded in time even where the kernel will not let them die."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import NamedTuple

OUTPUT_BYTES_MOST = 65536
KILL_SECONDS = 1.0


class Outcome(NamedTuple):
    """A command's exit status (as a shell says it) and the beginning of its standard output."""

    status: int
    output: bytes


class Children:
    """Runs commands, and knows which of the agent's children are such: they are no part of the workload."""

    def __init__(self) -> None:
        self._pids: set[int] = set()
        self._lock = threading.Lock()

    def pids(self) -> set[int]:
        """Those that run now."""
        with self._lock:
            return set(self._pids)

    def run(self, words: list[str], seconds: float, *, folder: Path | None = None) -> Outcome | None:
        """Run to its end; None if it could not be started, or did not end in time and was killed.

        A command that hangs in a broken driver cannot be killed: it is left to itself rather than waited for.
        """
        try:
            with self._lock:
                process = subprocess.Popen(
                    words,
                    cwd=str(folder) if folder is not None else None,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
                self._pids.add(process.pid)
        except OSError:
            return None
        try:
            return Outcome(*_communicate(process, seconds))
        except subprocess.TimeoutExpired:
            return None
        finally:
            with self._lock:
                self._pids.discard(process.pid)


def _communicate(process: subprocess.Popen[bytes], seconds: float) -> tuple[int, bytes]:
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=KILL_SECONDS)
        raise
    return shell_status(process.returncode), output[:OUTPUT_BYTES_MOST]


def shell_status(returncode: int) -> int:
    """An exit status as a shell says it: 128 and the number of the signal that ended it."""
    return returncode if returncode >= 0 else 128 - returncode
