"""Says what a workspace holds that a snapshot does not: what would be lost if it were replaced or destroyed now.

Nothing is changed. A file whose stat is as the last snapshot or restore left it is taken at the index's word; any other
is read and compared chunk by chunk, so that a `touch` is no change and a change is never missed. What was deleted since
is counted and is no loss. Modes and the user's own attributes count; owners and times do not, for a host may be unable
to set them as they were. Sockets and devices are in no snapshot and are left aside.
"""

# names are bytes here, as the file system has them; Path wants text
# ruff: noqa: PTH
from __future__ import annotations

import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import Damaged, StoreMissing, UnsafePath, Unsupported
from .hashing import PURE_BLAKE3_BYTES_MAX, Hasher, is_fast
from .index import State
from .job import Job, ManifestRef
from .manifest import DIRECTORY, FILE, HARDLINK, Entry, Manifest
from .restore import load_manifest
from .scan import Found, Walk
from .stores import Store, open_store

if TYPE_CHECKING:
    from collections.abc import Callable

PATHS_NAMED = 10
READERS = 4
_BLOCK_BYTES = 1 << 20
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)


@dataclass
class StatusResult:
    """What would be lost: `changed` and `added` files, the first of them in `paths`; `unreadable` ones are unknown.

    `snapshot_id` is the one that holds most of it; "" where none could be compared with, and then all that is there is
    `added`. `unusable` names snapshots whose manifest could not be read, and why.
    """

    snapshot_id: str = ""
    files: int = 0
    changed: int = 0
    added: int = 0
    removed: int = 0
    paths: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    seconds: float = 0.0


def status(job: Job, report: Callable[[dict[str, Any]], None] | None = None) -> StatusResult:
    """Compare the workspace, or `options.path` of it, with `manifest` and with `other`, whichever holds more of it."""
    del report
    started = time.monotonic()
    base = job.options.path.strip("/")
    there, unreadable = _walk(job, base)
    best = StatusResult(files=len(there), added=len(there), paths=sorted(there)[:PATHS_NAMED])
    unusable: list[str] = []
    if there:
        store = open_store(job.store, job.options.connections)
        pairs = [(job.manifest, job.snapshot_id), (job.other, job.other_snapshot_id)]
        for reference, snapshot_id in pairs:
            manifest = _manifest(store, reference, job, snapshot_id, unusable)
            if manifest is None:
                continue
            result = _Comparison(job, manifest).run(there, base)
            if not best.snapshot_id or result.changed + result.added < best.changed + best.added:
                best = result
            if not result.changed and not result.added:
                break
    best.unreadable = [*unreadable, *best.unreadable][:PATHS_NAMED]
    best.unusable = unusable
    best.seconds = time.monotonic() - started
    return best


def _walk(job: Job, base: str) -> tuple[dict[str, Found], list[str]]:
    """Path → what is there, folders aside; and what could not be looked at, which may hide anything."""
    walk = Walk(job.workspace, (), (job.state_dir,))
    try:
        there = {
            found.entry.path: found
            for found in walk
            if found.entry.kind != DIRECTORY and _is_within(found.entry.path, base)
        }
    except FileNotFoundError:
        return {}, []  # its user deleted it
    hidden = [str(item["path"]) for item in walk.unreadable]
    return there, [path for path in hidden if _is_within(path, base) or _is_within(base, path)]


def _is_within(path: str, base: str) -> bool:
    return not base or path == base or path.startswith(base + "/")


def _manifest(
    store: Store, reference: ManifestRef | None, job: Job, snapshot_id: str, unusable: list[str]
) -> Manifest | None:
    """The manifest; None, and noted, if it cannot be used: what it may have held is then not taken for saved."""
    if reference is None:
        return None
    try:
        return load_manifest(store, reference, job, snapshot_id)
    except (Damaged, StoreMissing, UnsafePath, Unsupported) as error:
        unusable.append(f"{snapshot_id}: {error.message}")
        return None


class _Comparison:
    """One workspace against one manifest."""

    def __init__(self, job: Job, manifest: Manifest) -> None:
        self._manifest = manifest
        self._hasher = Hasher(manifest.hash, job.data_key, manifest.machine)
        self._is_fast = is_fast(manifest.hash)
        state = State(job, manifest.hash)
        # By inode and not by path: whichever name of a hard link the index knew, the content is one.
        self._known = {(row[4], row[3]): row for row in state.load_files().values()}
        state.close()

    def run(self, there: dict[str, Found], base: str) -> StatusResult:
        entries = {entry.path: entry for entry in self._manifest.entries}
        kept = {path for path, entry in entries.items() if entry.kind != DIRECTORY and _is_within(path, base)}
        added = [path for path in there if path not in kept]
        changed: list[str] = []
        doubtful: list[tuple[Found, Entry]] = []
        for path in there.keys() & kept:
            found, entry = there[path], entries[path]
            if entry.kind == HARDLINK:
                entry = entries[entry.link]
            if not _is_dressed_alike(found.entry, entry):
                changed.append(path)
            elif entry.kind == FILE and not self._is_vouched_for(found, entry):
                doubtful.append((found, entry))
        unreadable: list[str] = []
        with ThreadPoolExecutor(READERS, "status") as readers:
            for place, alike in enumerate(readers.map(self._reads_alike, doubtful)):
                path = doubtful[place][0].entry.path
                if alike is None:
                    unreadable.append(path)
                elif not alike:
                    changed.append(path)
        return StatusResult(
            snapshot_id=self._manifest.snapshot_id,
            files=len(there),
            changed=len(changed),
            added=len(added),
            removed=len(kept - there.keys()),
            paths=sorted([*changed, *added])[:PATHS_NAMED],
            unreadable=sorted(unreadable),
        )

    def _is_vouched_for(self, found: Found, entry: Entry) -> bool:
        """Whether the index knows the file as it is now, and with this content."""
        status = found.status
        row = self._known.get((status.st_dev, status.st_ino))
        stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]
        return row is not None and row[:5] == stamp and row[6] == entry.digest.hex()

    def _reads_alike(self, pair: tuple[Found, Entry]) -> bool | None:
        """Whether its content is the entry's, by reading it; None if it cannot be read."""
        found, entry = pair
        if found.status.st_size != entry.size:
            return False
        if not self._is_fast and entry.size > PURE_BLAKE3_BYTES_MAX:
            return False  # it would take this host hours to tell, and to say "changed" loses nothing
        try:
            descriptor = os.open(found.where, _FLAGS)
        except OSError:
            return None
        try:
            before = os.fstat(descriptor)
            alike = self._has_chunks(descriptor, entry) and _is_empty_between(descriptor, entry)
            after = os.fstat(descriptor)
        except OSError:
            return None
        finally:
            os.close(descriptor)
        steady = (before.st_size, before.st_mtime_ns, before.st_ctime_ns) == (
            after.st_size,
            after.st_mtime_ns,
            after.st_ctime_ns,
        )
        return alike and steady and before.st_size == entry.size

    def _has_chunks(self, descriptor: int, entry: Entry) -> bool:
        for chunk, offset in self._manifest.placed(entry):
            length = self._manifest.places[chunk][2]
            data = os.pread(descriptor, length, offset)
            if len(data) < length or self._hasher.chunk(data) != self._manifest.hashes[chunk]:
                return False
        return True


def _is_dressed_alike(found: Entry, entry: Entry) -> bool:
    """Kind, link, mode, and each attribute of the user's that is there: what is there and differs would be lost."""
    if found.kind != entry.kind or found.link != entry.link:
        return False
    if found.kind == FILE and found.mode != entry.mode:
        return False
    own = {name: value for name, value in found.xattrs.items() if name.startswith("user.")}
    return all(entry.xattrs.get(name) == value for name, value in own.items())


def _is_empty_between(descriptor: int, entry: Entry) -> bool:
    """Whether the file holds nothing but zeros where the entry has holes."""
    at = 0
    for start, length in [*entry.spans(), (entry.size, 0)]:
        if start > at and not _is_zero(descriptor, at, start):
            return False
        at = start + length
    return True


def _is_zero(descriptor: int, at: int, end: int) -> bool:
    while at < end:
        try:
            at = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole up to the file's end
                return True
            raise
        stop = min(os.lseek(descriptor, at, os.SEEK_HOLE), end)
        while at < stop:
            data = os.pread(descriptor, min(_BLOCK_BYTES, stop - at), at)
            if not data or data.strip(b"\0"):
                return False
            at += len(data)
    return True
