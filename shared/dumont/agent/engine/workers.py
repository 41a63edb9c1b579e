"""The threads that read: a queue of units, a reader each, and what to do with files that changed meanwhile."""

from __future__ import annotations

import os
import queue
import threading
from typing import TYPE_CHECKING

from . import chunking
from .chunking import CUT_MAX, SMALL_FILE_MAX, Cutter, even_pieces, tensor_pieces
from .codec import ANY
from .hashing import Hasher, new_md5
from .index import Chunk
from .job import Job
from .reading import MD5_SMALL_MAX, TRIES, Counters, FileRead, Reader, Unit
from .scan import data_extents

if TYPE_CHECKING:
    from .packer import Packer

BATCH_BYTES = 1024 * 1024
BATCH_FILES = 256
BUFFERS = 6
OPEN_FILES_MAX = 64


class Crew:
    """Reads files with several threads. `read` takes them as the walk finds them, `finish` waits for all."""

    def __init__(self, job: Job, hasher: Hasher, known: dict[bytes, Chunk], packer: Packer, counters: Counters) -> None:
        cores = os.cpu_count() or 1
        workers = job.options.workers or max(2, min(cores, 8))
        self._md5_all = job.options.md5 == "all"
        self._counters, self._packer = counters, packer
        self._units: queue.Queue[Unit | None] = queue.Queue()
        self._md5s: queue.Queue[FileRead | None] = queue.Queue()
        self._batch: list[FileRead] = []
        self._batch_bytes = 0
        self._again: list[FileRead] = []
        self._lock = threading.Lock()
        self._open = threading.BoundedSemaphore(OPEN_FILES_MAX)
        self._failure: BaseException | None = None
        self._stopped = False
        self._cutter = Cutter() if chunking.cuts_by_content() else None
        self._buffers: queue.Queue[bytearray] = queue.Queue()
        self._buffers_left = BUFFERS
        self.unreadable: list[dict[str, str]] = []
        self.torn: list[str] = []
        self.vanished: list[str] = []
        self._threads = [
            threading.Thread(target=self._work, args=(Reader(hasher, known, packer, counters),), daemon=True)
            for _ in range(workers)
        ]
        self._md5_threads = [threading.Thread(target=self._hash_files, daemon=True) for _ in range(workers)]
        for thread in [*self._threads, *self._md5_threads]:
            thread.start()

    def read(self, file: FileRead) -> None:
        """Have a file read. Small ones wait for company."""
        self._raise()
        if file.status.st_size > SMALL_FILE_MAX or file.status.st_blocks * 512 < file.status.st_size // 2:
            self._read_large(file)
            return
        if self._batch_bytes + file.status.st_size > BATCH_BYTES or len(self._batch) >= BATCH_FILES:
            self._send_batch()
        self._batch.append(file)
        self._batch_bytes += file.status.st_size

    def finish(self) -> None:
        """Wait until every file is read, those that changed too, or named."""
        for _ in range(TRIES + 1):
            self._send_batch()
            self._units.join()
            self._md5s.join()
            self._raise()
            with self._lock:
                again, self._again = self._again, []
            if not again:
                break
            for file in again:
                self._read_again(file)
        self.stop()

    def stop(self) -> None:
        """End the threads."""
        if not self._stopped:
            self._stopped = True
            for _ in self._threads:
                self._units.put(None)
            for _ in self._md5_threads:
                self._md5s.put(None)

    def _read_again(self, file: FileRead) -> None:
        file.tries += 1
        if file.why:
            gone = not os.path.lexists(file.where)
            if gone:
                self.vanished.append(file.entry.path)
            else:
                self.unreadable.append({"path": file.entry.path, "why": file.why})
            file.close()
        elif file.tries >= TRIES:
            # The last reading stays, under its name in `torn`: for a log that never rests it is what there is.
            self.torn.append(file.entry.path)
            if any(chunk is None for chunk in file.chunks):
                self.unreadable.append({"path": file.entry.path, "why": "changes faster than it can be read"})
        else:
            file.reset()
            self._read_large(file)

    def _send_batch(self) -> None:
        if self._batch:
            self._units.put(Unit(small=self._batch))
            self._batch, self._batch_bytes = [], 0

    def _read_large(self, file: FileRead) -> None:
        # `_done` gives the place back.
        self._open.acquire()
        try:
            file.open()
            extents = data_extents(file.descriptor, file.status)
        except OSError as error:
            self._open.release()
            file.close()
            file.why = error.strerror or type(error).__name__
            with self._lock:
                self._again.append(file)
            return
        entry = file.entry
        entry.extents = extents
        with file.lock:
            file.pending = 1  # this thread's own, so that the file is not done before all of it is queued
        if self._md5_all or entry.size <= MD5_SMALL_MAX:
            with file.lock:
                file.pending += 1
            self._md5s.put(file)
        pieces = tensor_pieces(file.descriptor, entry.size) if extents is None else None
        if pieces is not None:
            self._queue_pieces(file, pieces)
        else:
            for start, length in entry.spans():
                if self._cutter is None or length <= SMALL_FILE_MAX:
                    self._queue_pieces(file, list(even_pieces(start, start + length)))
                else:
                    self._cut(file, start, start + length, self._cutter)
        self._done(file)

    def _queue_pieces(self, file: FileRead, pieces: list[tuple[int, int, int]]) -> None:
        """Neighbours that hold the same kind go together, up to a frame of 1 MiB."""
        group: list[tuple[int, int, int]] = []
        total = 0
        for piece in pieces:
            if group and (total + piece[1] > BATCH_BYTES or piece[2] != group[0][2]):
                self._queue(file, group, None)
                group, total = [], 0
            group.append(piece)
            total += piece[1]
        if group:
            self._queue(file, group, None)

    def _cut(self, file: FileRead, start: int, end: int, cutter: Cutter) -> None:
        """Read ahead of the workers and cut where the content says; what is beyond a cut is carried over."""
        held = 0
        buffer = self._buffer()
        at = start
        while at < end:
            view = memoryview(buffer)
            want = min(CUT_MAX, end - at)
            while held < want:
                got = os.preadv(file.descriptor, [view[held:want]], at + held)
                if not got:
                    break
                held += got
            if held < want:
                self._buffers.put(buffer)
                return  # shorter than it was: `changed` will say so
            cut = cutter.cut(view[:held])
            following = self._buffer() if at + cut < end else bytearray()
            following[: held - cut] = view[cut:held] if at + cut < end else b""
            self._queue(file, [(at, cut, ANY)], buffer)
            buffer, held = following, held - cut
            at += cut

    def _buffer(self) -> bytearray:
        if self._buffers_left:
            self._buffers_left -= 1
            return bytearray(CUT_MAX)
        while True:
            self._raise()
            try:
                return self._buffers.get(timeout=1.0)
            except queue.Empty:
                continue

    def _queue(self, file: FileRead, pieces: list[tuple[int, int, int]], buffer: bytearray | None) -> None:
        unit = Unit(file=file, place=len(file.chunks), pieces=pieces, buffer=buffer)
        with file.lock:
            file.pending += 1
            file.chunks += [None] * len(pieces)
        self._units.put(unit)

    def _work(self, reader: Reader) -> None:
        while True:
            unit = self._units.get()
            try:
                if unit is None:
                    return
                if self._failure is None:
                    self._read_unit(reader, unit)
            except BaseException as error:  # noqa: BLE001 - raised to the caller by `_raise`
                self._failure = self._failure or error
                self._packer.fail(error)
            finally:
                if unit is not None and unit.buffer is not None:
                    self._buffers.put(unit.buffer)
                if unit is not None and unit.file is not None:
                    self._done(unit.file)
                self._units.task_done()

    def _read_unit(self, reader: Reader, unit: Unit) -> None:
        if unit.file is not None:
            try:
                reader.read_pieces(unit)
            except OSError as error:
                unit.file.why = error.strerror or type(error).__name__
            return
        again = reader.read_small(unit.small, with_md5=True)
        with self._lock:
            self._again += again
            self._counters.files_read += len(unit.small) - len(again)

    def _done(self, file: FileRead) -> None:
        """One of a file's units is finished; with the last, see whether it held still."""
        with file.lock:
            file.pending -= 1
            if file.pending:
                return
        if file.why or file.changed() or any(chunk is None for chunk in file.chunks):
            with self._lock:
                self._again.append(file)
        else:
            with self._lock:
                self._counters.files_read += 1
        file.close()
        self._open.release()

    def _hash_files(self) -> None:
        while True:
            file = self._md5s.get()
            try:
                if file is None:
                    return
                self._hash_file(file)
            finally:
                self._md5s.task_done()

    def _hash_file(self, file: FileRead) -> None:
        """MD5 is one long chain, so a file is one thread's: it runs beside the other work, on pages that are in memory
        anyway. The interpreter's lock is held by neither call.
        """
        made = new_md5()
        buffer = bytearray(BATCH_BYTES)
        at = 0
        try:
            while at < file.entry.size and self._failure is None:
                got = os.preadv(file.descriptor, [buffer], at)
                if not got:
                    break
                made.update(memoryview(buffer)[:got])
                at += got
            file.entry.md5 = made.hexdigest()
        except OSError as error:
            file.why = error.strerror or type(error).__name__
        self._done(file)

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure
