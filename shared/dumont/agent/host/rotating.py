"""A log that cannot fill the disk: one file up to a size, and the one before it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import BinaryIO


class RotatingLog:
    """Appends to `path`; at `limit_bytes` it becomes `path`.1, in place of the one before."""

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self._path = path
        self._limit = limit_bytes
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()
        self.dropped_bytes = 0

    def write(self, data: bytes) -> None:
        """Append. A disk that is full costs log, never the workload: it would block on output that nobody takes."""
        with self._lock:
            try:
                self._room_for(len(data)).write(data)
            except OSError:
                self.dropped_bytes += len(data)
                self._close()

    def say(self, text: str) -> None:
        """Append a line with the time."""
        self.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}\n".encode("utf-8", "replace"))

    def _room_for(self, size: int) -> BinaryIO:
        file = self._file or self._open()
        if file.tell() > 0 and file.tell() + size > self._limit:
            self._close()
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            file = self._open()
        return file

    def _open(self) -> BinaryIO:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._file = os.fdopen(fd, "ab", buffering=0)
        self._file.seek(0, os.SEEK_END)
        return self._file

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def pump(source: int, log: RotatingLog) -> None:
    """Take a pipe's output into the log until nobody holds its other end."""
    try:
        while data := os.read(source, 65536):
            log.write(data)
    finally:
        os.close(source)
