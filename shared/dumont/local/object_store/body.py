"""Contents on their way in: read from the connection in large pieces, counted, hashed, and written to a file."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import Protocol

from dumont.local.object_store.faults import Stream
from dumont.local.object_store.refusals import Broken, Refused, bad_request

PIECE_BYTES = 1 << 19
_DRAIN_BYTES = 1 << 16

_buffers = threading.local()


class Hasher(Protocol):
    """What hashlib makes."""

    def update(self, data: memoryview, /) -> None:
        """Take in more."""

    def hexdigest(self) -> str:
        """What came out."""


class Source(Protocol):
    """Where content comes from."""

    def readinto(self, view: memoryview) -> int:
        """Fill the view from its begin and say how far; 0 at the end. Refuses content that is not as it was signed."""


class Body:
    """A request's body as it comes over the wire. Nothing is asked of the client before the first read."""

    def __init__(self, reader: BufferedReader, length: int, begin: Callable[[], None], stream: Stream) -> None:
        self._reader = reader
        self._begin = begin
        self._stream = stream
        self.length = length
        self.left = length
        self.begun = False
        self.break_after: int | None = None
        """A fault: the connection breaks after so many bytes."""

    def readinto(self, view: memoryview) -> int:
        """Fill the view as far as the body goes. Raises `ConnectionError` if the client hangs up before its end."""
        self._start()
        filled, wanted = 0, min(len(view), self.left)
        while filled < wanted:
            step = min(wanted - filled, self._stream.slice_bytes)
            if self.break_after is not None:
                step = min(step, self.break_after - (self.length - self.left))
                if step <= 0:
                    raise Broken
            count = self._reader.readinto(view[filled : filled + step])
            if not count:
                raise ConnectionError("the client hung up within its body")
            self._stream.spend(count)
            filled += count
            self.left -= count
        return filled

    def read(self, count: int) -> bytes:
        """Exactly so many bytes, few enough for memory."""
        data = bytearray(count)
        if count > self.left or self.readinto(memoryview(data)) < count:
            raise bad_request("the body ends too early")
        return bytes(data)

    def line(self, bytes_max: int = 4096) -> bytes:
        """One line, with its end."""
        self._start()
        line = self._reader.readline(min(bytes_max, self.left))
        self.left -= len(line)
        if not line.endswith(b"\n"):
            raise bad_request("a line of the body has no end")
        return line

    def read_all(self, bytes_max: int) -> bytes:
        """All of it. Refuses more than `bytes_max`."""
        if self.left > bytes_max:
            raise Refused(400, "bad_request", "the body is too long", s3_code="MaxMessageLengthExceeded")
        return self.read(self.left)

    def drain(self) -> None:
        """Read what is left and forget it, so that the next request can be found behind it."""
        view = memoryview(bytearray(_DRAIN_BYTES))
        while self.readinto(view):
            pass

    def _start(self) -> None:
        if not self.begun:
            self.begun = True
            self._begin()


class Checked:
    """A body whose SHA-256 was signed."""

    def __init__(self, body: Body, sha256: str) -> None:
        self._body = body
        self._wanted = sha256
        self._hash = hashlib.sha256()

    def readinto(self, view: memoryview) -> int:
        """As `Source`; at the end, refuses content of another hash."""
        count = self._body.readinto(view)
        self._hash.update(view[:count])
        if not self._body.left and self._hash.hexdigest() != self._wanted:
            message = "The provided 'x-amz-content-sha256' header does not match what was computed."
            raise Refused(400, "bad_request", message, s3_code="XAmzContentSHA256Mismatch")
        return count


def receive(source: Source, path: Path, hashers: list[Hasher]) -> int:
    """Write all of a source to a new file, through the hashers. Returns its size. On failure, no file is left."""
    buffer = _buffer()
    size = 0
    try:
        with path.open("xb", buffering=0) as file:
            while count := source.readinto(buffer):
                piece = buffer[:count]
                for hasher in hashers:
                    hasher.update(piece)
                size += file.write(piece)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return size


def _buffer() -> memoryview:
    """A buffer of this thread's own: memory that is touched for the first time is slow."""
    kept: memoryview | None = getattr(_buffers, "view", None)
    if kept is None:
        kept = _buffers.view = memoryview(bytearray(PIECE_BYTES))
    return kept
