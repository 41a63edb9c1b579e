"""Reads files into chunks: the work that snapshot's threads share.

A file is read through one descriptor whose stat is compared before and after; where size or times differ, what was
read is of no one moment, and the file is read again, `TRIES` times in all.
"""

# names are bytes here, as the file system has them; Path wants text
# ruff: noqa: PTH
from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .codec import ANY, Codec
from .hashing import Hasher, new_md5
from .index import Chunk
from .manifest import Entry

if TYPE_CHECKING:
    from .packer import Packer

TRIES = 3
MD5_SMALL_MAX = 16 * 1024 * 1024
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)


class FileRead:
    """One file being read: its chunks by their place in it, and how many of its units are still to come."""

    __slots__ = ("chunks", "descriptor", "entry", "lock", "md5", "pending", "status", "tries", "where", "why")

    def __init__(self, where: bytes, entry: Entry, status: os.stat_result) -> None:
        self.where, self.entry, self.status = where, entry, status
        self.descriptor = -1
        self.chunks: list[Chunk | None] = []
        self.pending = 0
        self.tries = 0
        self.md5: Any = None
        self.why = ""
        self.lock = threading.Lock()

    def reset(self) -> None:
        """Forget what was read, before it is read again."""
        self.close()
        self.chunks, self.pending, self.md5 = [], 0, None
        self.entry.chunks, self.entry.extents, self.entry.digest, self.entry.md5 = [], None, b"", ""

    def open(self) -> None:
        """Open it and take the stat that its entry will carry. Raises `OSError`."""
        self.close()
        self.descriptor = os.open(self.where, _FLAGS)
        self.status = os.fstat(self.descriptor)
        entry = self.entry
        entry.size, entry.mtime_ns = self.status.st_size, self.status.st_mtime_ns

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def changed(self) -> bool:
        """Whether it changed since `open`."""
        now, then = os.fstat(self.descriptor), self.status
        return (now.st_size, now.st_mtime_ns, now.st_ctime_ns) != (then.st_size, then.st_mtime_ns, then.st_ctime_ns)


@dataclass
class Unit:
    """Something for a worker: a piece of a large file, cut already or to be read, or a batch of small files."""

    file: FileRead | None = None
    place: int = 0
    pieces: Sequence[tuple[int, int, int]] = ()
    buffer: bytearray | None = None
    small: Sequence[FileRead] = ()


class Reader:
    """One worker's buffers, and what it does with a unit. `known` is shared: hash → chunk, of all that there is."""

    def __init__(self, hasher: Hasher, known: dict[bytes, Chunk], packer: Packer, counters: Counters) -> None:
        self._hasher, self._known, self._packer, self._counters = hasher, known, packer, counters
        self._codec = Codec()
        self._buffer = bytearray()

    def read_pieces(self, unit: Unit) -> bool:
        """Read and store pieces of a large file, which lie one after another. False: it ended early."""
        file = unit.file
        if file is None:
            return True
        total = sum(piece[1] for piece in unit.pieces)
        if unit.buffer is not None:
            data = memoryview(unit.buffer)[:total]
        else:
            data = self._space(total)
            if _fill(file.descriptor, data, unit.pieces[0][0]) < total:
                return False
        self._counters.add(total)
        cut: list[Chunk] = []
        fresh: list[Chunk] = []
        end = at = 0
        for _offset, length, _holds in unit.pieces:
            chunk, new = self._chunk(data[at : at + length])
            if new:
                if end != at:
                    data[end : end + length] = data[at : at + length]
                end += length
                fresh.append(chunk)
            cut.append(chunk)
            at += length
        if fresh:
            self._packer.add(self._codec, data[:end], unit.pieces[0][2], fresh)
        for place, chunk in enumerate(cut, start=unit.place):
            file.chunks[place] = chunk
        return True

    def read_small(self, files: Sequence[FileRead], with_md5: bool) -> list[FileRead]:
        """Read small files whole, one chunk each, new ones in one frame. What comes back is to be read again."""
        space = self._space(sum(file.status.st_size for file in files))
        again: list[FileRead] = []
        fresh: list[Chunk] = []
        end = 0
        for file in files:
            size = self._read_whole(file, space[end:])
            if size is None:
                again.append(file)
                continue
            data = space[end : end + size]
            if with_md5:
                file.entry.md5 = new_md5(data).hexdigest()
            file.chunks = []
            if size:
                chunk, new = self._chunk(data)
                file.chunks.append(chunk)
                if new:
                    fresh.append(chunk)
                    end += size
        if fresh:
            self._packer.add(self._codec, space[:end], ANY, fresh)
        return again

    def _read_whole(self, file: FileRead, space: memoryview) -> int | None:
        """The bytes read, or None where it is not what it was a moment ago; `why` says so if it cannot be read."""
        try:
            file.open()
        except OSError as error:
            file.why = error.strerror or type(error).__name__
            return None
        try:
            size = file.status.st_size
            if size > len(space) or _fill(file.descriptor, space[:size], 0) < size or file.changed():
                return None
        except OSError as error:
            file.why = error.strerror or type(error).__name__
            return None
        finally:
            file.close()
        self._counters.add(size)
        return size

    def _chunk(self, data: memoryview) -> tuple[Chunk, bool]:
        """The chunk of this content, and whether nobody had it before: `setdefault` decides between two threads."""
        digest = self._hasher.chunk(data)
        made = Chunk(digest, len(data))
        chunk = self._known.setdefault(digest, made)
        if chunk is made:
            self._counters.add_new(len(data))
        return chunk, chunk is made

    def _space(self, length: int) -> memoryview:
        if len(self._buffer) < length:
            self._buffer = bytearray(length)
        return memoryview(self._buffer)[:length]


class Counters:
    """Bytes read and new, and files done, for progress and the result."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.files = self.files_read = self.bytes_read = self.bytes_new = self.bytes_sent = 0

    def add(self, length: int) -> None:
        with self._lock:
            self.bytes_read += length

    def add_new(self, length: int) -> None:
        with self._lock:
            self.bytes_new += length


def _fill(descriptor: int, out: memoryview, offset: int) -> int:
    """Read until `out` is full or the file ends; the bytes read."""
    done = 0
    while done < len(out):
        got = os.preadv(descriptor, [out[done:]], offset + done)
        if not got:
            break
        done += got
    return done
