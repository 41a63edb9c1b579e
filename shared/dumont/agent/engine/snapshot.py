"""Takes a snapshot: walk, read what changed, pack, send, and at last the manifest.

The workspace is only read. Nothing refers to a pack before the store has confirmed it, and the manifest goes last:
killed at any moment, a snapshot either is there with all its packs or is not there at all, and the journal spares the
next run what this one had sent.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import TYPE_CHECKING, Any

from . import manifest as manifests
from .assembly import assemble
from .errors import BadJob, EngineError
from .hashing import Hasher, native_hash, new_md5
from .index import Chunk, PackInfo, State
from .job import Job, ObjectInfo, SnapshotResult
from .manifest import FILE, HARDLINK, Entry, Manifest
from .packer import Packer
from .progress import Progress, peak_rss_bytes
from .reading import Counters, FileRead
from .scan import Found, Walk
from .stores import open_store
from .workers import Crew

if TYPE_CHECKING:
    from collections.abc import Callable

RACY_NS = 100_000_000
"""A file whose change time is this close to the moment of its reading could change again within the clock's tick and
look the same: it is read again next time."""


def snapshot(job: Job, report: Callable[[dict[str, Any]], None] | None = None) -> SnapshotResult:
    """Take a snapshot. Raises an `EngineError`; then nothing that counts as a snapshot is in the store."""
    return _Snapshot(job).run(report)


class _Snapshot:
    def __init__(self, job: Job) -> None:
        if not os.path.isdir(job.workspace):
            raise BadJob("the workspace is not there")
        self._job, self._options = job, job.options
        self._hasher = Hasher(native_hash(), job.data_key, job.machine)
        self._state = State(job, self._hasher.name)
        self._known = self._state.load_chunks(job.options.forget_packs, job.options.fresh)
        self._before = {} if job.options.rehash else self._state.load_files()
        self._counters = Counters()
        self._store = open_store(job.store, job.options.connections)
        self._packer = Packer(
            self._store,
            job.prefix,
            job.data_key,
            job.options.pack_bytes,
            job.options.connections,
            self._sent,
        )
        self._entries: list[Entry] = []
        self._chunks: dict[str, list[Chunk]] = {}
        self._stats: dict[str, os.stat_result] = {}
        self._reads: list[FileRead] = []
        self._linked: dict[tuple[int, int], str] = {}
        self._users: dict[int, str] = {}
        self._groups: dict[int, str] = {}

    def run(self, report: Callable[[dict[str, Any]], None] | None) -> SnapshotResult:
        started, started_ns = time.monotonic(), time.time_ns()
        crew = Crew(self._job, self._hasher, self._known, self._packer, self._counters)
        try:
            with Progress("snapshot", self._counters, report):
                walk = Walk(self._job.workspace, self._options.exclude, (self._job.state_dir,))
                for found in walk:
                    self._take(found, crew)
                crew.finish()
                self._packer.finish()
        except BaseException as error:
            # The threads must not go on sending for a snapshot that will not be.
            self._packer.fail(error)
            crew.stop()
            raise
        finally:
            self._state.close()
        gone = {item["path"] for item in crew.unreadable} | set(crew.vanished)
        unreadable = walk.unreadable + crew.unreadable + self._collect(gone)
        torn = sorted(set(crew.torn) - gone)
        manifest = Manifest(
            snapshot_id=self._job.snapshot_id,
            machine=self._job.machine,
            created_ns=started_ns,
            hash=self._hasher.name,
            complete=not unreadable and not torn,
            users=self._users,
            groups=self._groups,
            unreadable=unreadable,
            torn=torn,
            skipped=walk.skipped,
        )
        packs = assemble(manifest, self._entries, self._chunks)
        stored = self._send_manifest(manifest)
        self._remember(started_ns, set(torn))
        return SnapshotResult(
            snapshot_id=manifest.snapshot_id,
            complete=manifest.complete,
            manifest=stored,
            packs=[pack.info() for pack in packs],
            hash=manifest.hash,
            files=sum(1 for entry in self._entries if entry.kind in (FILE, HARDLINK)),
            entries=len(self._entries),
            files_read=len(self._reads),
            bytes_total=sum(entry.size for entry in self._entries),
            bytes_read=self._counters.bytes_read,
            bytes_new=self._counters.bytes_new,
            bytes_sent=self._counters.bytes_sent,
            unreadable=unreadable,
            torn=torn,
            skipped=walk.skipped,
            vanished=len(crew.vanished),
            seconds=time.monotonic() - started,
            peak_rss_bytes=peak_rss_bytes(),
        )

    def _take(self, found: Found, crew: Crew) -> None:
        entry, status = found.entry, found.status
        self._name_owner(status)
        self._entries.append(entry)
        if entry.kind != FILE:
            return
        self._counters.files += 1
        if status.st_nlink > 1:
            first = self._linked.setdefault((status.st_dev, status.st_ino), entry.path)
            if first != entry.path:
                entry.kind, entry.link, entry.size = HARDLINK, first, 0
                return
        if not self._unchanged(entry, status):
            file = FileRead(found.where, entry, status)
            self._reads.append(file)
            crew.read(file)

    def _unchanged(self, entry: Entry, status: os.stat_result) -> bool:
        """Take over what the last snapshot knew of the file, if it is the same by its stat and all of it is stored."""
        row = self._before.get(entry.path)
        if row is None or row[:5] != _stamp(status) or (self._options.md5 == "all" and not row[7]):
            return False
        hashes = bytes.fromhex(row[5])
        chunks = [self._known.get(hashes[at : at + 32]) for at in range(0, len(hashes), 32)]
        if any(chunk is None or chunk.frame is None or chunk.frame.pack is None for chunk in chunks):
            return False
        self._chunks[entry.path] = [chunk for chunk in chunks if chunk is not None]
        entry.digest, entry.md5 = bytes.fromhex(row[6]), row[7]
        entry.extents = None if row[8] is None else [(start, length) for start, length in row[8]]
        self._stats[entry.path] = status
        return True

    def _collect(self, gone: set[str]) -> list[dict[str, str]]:
        """Give each file that was read its chunks and digest; leave out what could not be read. The answer names
        hard links whose content went with another name of theirs.
        """
        for file in self._reads:
            entry = file.entry
            if entry.path in gone:
                continue
            chunks = [chunk for chunk in file.chunks if chunk is not None]
            self._chunks[entry.path] = chunks
            self._stats[entry.path] = file.status
            places, at, spans = [], 0, iter(entry.spans())
            end = 0
            for chunk in chunks:
                if at == end:
                    start, length = next(spans)
                    at, end = start, start + length
                places.append((at, chunk.length, chunk.digest))
                at += chunk.length
            entry.digest = self._hasher.file(entry.size, places)
        lost = {entry.path for entry in self._entries if entry.kind == HARDLINK and entry.link in gone}
        if gone:
            self._entries = [entry for entry in self._entries if entry.path not in gone and entry.path not in lost]
        return [{"path": path, "why": "its content could not be read by another name"} for path in sorted(lost)]

    def _send_manifest(self, manifest: Manifest) -> ObjectInfo:
        sealed = manifests.seal(manifest, self._job.data_key)
        key = f"{self._job.prefix}manifests/{manifest.snapshot_id}"
        md5 = self._store.put(key, memoryview(sealed))
        self._counters.bytes_sent += len(sealed)
        if md5 != new_md5(sealed).hexdigest():
            raise EngineError("the store received another manifest than was sent")
        return ObjectInfo(key=key, size=len(sealed), md5=md5, sha256=hashlib.sha256(sealed).hexdigest())

    def _remember(self, started_ns: int, torn: set[str]) -> None:
        files: dict[str, list[Any]] = {}
        for entry in self._entries:
            status = self._stats.get(entry.path)
            if status is None or entry.path in torn or status.st_ctime_ns > started_ns - RACY_NS:
                continue
            hashes = b"".join(chunk.digest for chunk in self._chunks[entry.path]).hex()
            files[entry.path] = [*_stamp(status), hashes, entry.digest.hex(), entry.md5, entry.extents]
        self._state.save_files(files)

    def _sent(self, pack: PackInfo, chunks: list[Chunk]) -> None:
        self._state.add_pack(pack, chunks)
        self._counters.bytes_sent += pack.size

    def _name_owner(self, status: os.stat_result) -> None:
        import grp
        import pwd

        if status.st_uid not in self._users:
            try:
                self._users[status.st_uid] = pwd.getpwuid(status.st_uid).pw_name
            except KeyError:
                self._users[status.st_uid] = ""
        if status.st_gid not in self._groups:
            try:
                self._groups[status.st_gid] = grp.getgrgid(status.st_gid).gr_name
            except KeyError:
                self._groups[status.st_gid] = ""


def _stamp(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]
