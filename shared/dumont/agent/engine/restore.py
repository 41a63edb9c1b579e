"""Restores a snapshot, or one path of it, beside what is there, verified; then both change places.

Until then nothing of the workspace is touched, and nothing that is damaged is ever written: a frame that does not
decrypt, a chunk whose hash differs, end the restore with the names of pack, offset and files. Killed at any moment, the
next run of the same restore keeps what is right (each chunk that lies there is hashed again) and goes on.
"""

# names are bytes here, as they will be in the file system; Path wants text
# ruff: noqa: PTH
from __future__ import annotations

import hashlib
import os
import stat
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .errors import BadJob, Damaged, EngineError, NoSpace, StoreMissing, UnsafePath
from .fetch import Fetcher, damaged_files
from .hashing import Hasher
from .index import Chunk, Frame, PackInfo, State
from .job import Job, ManifestRef, RestoreResult
from .manifest import FILE, HARDLINK, Entry, Manifest, decode_name, unseal
from .place import Tree, read_back
from .progress import Progress, peak_rss_bytes
from .reuse import take_over
from .stores import Store, open_store
from .swap import WRITING, Staging

if TYPE_CHECKING:
    from collections.abc import Callable

SPARE_BYTES = 64 * 1024 * 1024
"""Disk that must stay free."""


def load_manifest(store: Store, reference: ManifestRef | None, job: Job, snapshot_id: str) -> Manifest:
    """The manifest, if its bytes are those that the control plane knows of. Raises `Damaged`."""
    if reference is None:
        raise BadJob("manifest {key, sha256} is missing")
    sealed = store.get(reference.key)
    if hashlib.sha256(sealed).hexdigest() != reference.sha256:
        raise Damaged(f"snapshot {snapshot_id}: {reference.key} is not the manifest that was verified")
    return unseal(sealed, job.data_key, job.machine, snapshot_id)


def restore(job: Job, report: Callable[[dict[str, Any]], None] | None = None) -> RestoreResult:
    """Restore. Raises an `EngineError`; then the workspace is as it was."""
    started = time.monotonic()
    store = open_store(job.store, job.options.connections)
    manifest = load_manifest(store, job.manifest, job, job.snapshot_id)
    base = job.options.path.strip("/")
    entries = select(manifest, base)
    target = os.fsencode(job.workspace.rstrip("/") or "/")
    if base:
        target = _target_within(target, base)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
    identity = f"{job.snapshot_id}|{job.manifest.sha256 if job.manifest else ''}|{base}"
    staging = Staging(target)
    phase = staging.begin(identity)
    resumed = phase != WRITING or os.path.isdir(staging.tree)
    result = RestoreResult(
        snapshot_id=job.snapshot_id,
        complete=manifest.complete,
        files=sum(1 for entry in entries if entry.kind in (FILE, HARDLINK)),
        entries=len(entries),
        bytes_total=sum(entry.size for entry in entries),
        resumed=resumed,
    )
    if phase == WRITING:
        tree = Tree(staging.tree, manifest, entries, base, Hasher(manifest.hash, job.data_key, manifest.machine))
        _write(job, store, manifest, tree, entries, staging, result, report)
        if not base:
            _remember(job, manifest, tree)
        staging.ready(identity)
    staging.swap()
    staging.clean()
    result.seconds = time.monotonic() - started
    result.peak_rss_bytes = peak_rss_bytes()
    return result


def select(manifest: Manifest, base: str) -> list[Entry]:
    """The entries at and below a path; "" is all. A hard link to something outside becomes a file of its own."""
    if not base:
        return manifest.entries
    found = [entry for entry in manifest.entries if entry.path == base or entry.path.startswith(base + "/")]
    if not found:
        raise BadJob("the snapshot has no such path", [base])
    by_path = {entry.path: entry for entry in manifest.entries}
    inside = {entry.path for entry in found}
    chosen: list[Entry] = []
    copied: dict[str, str] = {}
    for entry in found:
        if entry.kind == HARDLINK and entry.link not in inside:
            first = copied.setdefault(entry.link, entry.path)
            source = by_path[entry.link]
            own = replace(source, path=entry.path) if first == entry.path else replace(entry, link=first)
            chosen.append(own)
        else:
            chosen.append(entry)
    return chosen


def _write(
    job: Job,
    store: Store,
    manifest: Manifest,
    tree: Tree,
    entries: list[Entry],
    staging: Staging,
    result: RestoreResult,
    report: Callable[[dict[str, Any]], None] | None,
) -> None:
    fetcher = Fetcher(store, manifest, job.data_key, job.options.connections, job.options.workers)
    result.verified_by = fetcher.verified_by
    try:
        with Progress("restore", fetcher.received, report):
            os.makedirs(os.path.dirname(tree.where(entries[0].path)), exist_ok=True)
            tree.make_folders()
            had = job.options.reuse and not job.options.path.strip("/") and take_over(tree, entries, staging.target)
            wanted = tree.need(result.resumed or had)
            check_space(staging.folder, sum(entry.size for entry in entries) - tree.bytes_kept, entries)
            ranks: dict[int, int] = {}
            for chunk, rank in wanted.items():
                frame = manifest.places[chunk][0]
                ranks[frame] = min(rank, ranks.get(frame, rank))
            fetcher.run(ranks, tree.write, wanted)
            tree.finish()
        wrong = read_back(tree, manifest, entries) if job.options.read_back else tree.wrong
        if wrong:
            raise Damaged(f"snapshot {manifest.snapshot_id}: {len(wrong)} files are not what they were", wrong)
    except (Damaged, StoreMissing) as error:
        tree.close()
        staging.clean()
        raise _named(error, manifest, fetcher) from None
    finally:
        tree.close()
    result.bytes_received = fetcher.received.bytes_received
    result.bytes_kept = tree.bytes_kept
    result.warnings = tree.warnings


def _named(error: EngineError, manifest: Manifest, fetcher: Fetcher) -> EngineError:
    """The error with snapshot, pack, offset and files."""
    if not fetcher.damage:
        return error
    worst = fetcher.damage[0]
    files = damaged_files(manifest, worst.chunks)
    where = f"snapshot {manifest.snapshot_id}: {worst.pack} at offset {worst.offset} (length {worst.length})"
    return type(error)(f"{where}: {error.message}", files)


def check_space(folder: bytes, needed: int, entries: list[Entry]) -> None:
    """Refuse what would not fit, holes not counted. Raises `NoSpace`."""
    holes = sum(entry.size - sum(length for _, length in entry.spans()) for entry in entries if entry.kind == FILE)
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if needed - holes + SPARE_BYTES > free:
        raise NoSpace(f"{needed - holes} bytes are to be restored and {free} are free")


def _target_within(workspace: bytes, base: str) -> bytes:
    """The place of a path within the workspace; its folders are made, and none of them may be a link."""
    parts = decode_name(base).split(b"/")
    where = workspace
    for part in parts[:-1]:
        where = os.path.join(where, part)
        try:
            mode = os.lstat(where).st_mode
        except FileNotFoundError:
            os.makedirs(where)
            continue
        if not stat.S_ISDIR(mode):
            raise UnsafePath("the path leads through something that is no folder", [base])
    return os.path.join(where, parts[-1])


def _remember(job: Job, manifest: Manifest, tree: Tree) -> None:
    """Give this host the index that the next snapshot needs, so that it reads and sends only what changes from now."""
    state = State(job, manifest.hash)
    packs = [PackInfo(key, size, md5, new=False) for key, size, md5 in manifest.packs]
    frames = []
    for pack, number, offset, stored, plain, how in manifest.frames:
        frame = Frame(number, offset, stored, plain, how)
        frame.pack = packs[pack]
        frames.append(frame)
    by_pack: dict[str, list[Chunk]] = {pack.key: [] for pack in packs}
    for number, (frame_number, offset, length) in enumerate(manifest.places):
        chunk = Chunk(manifest.hashes[number], length)
        chunk.frame, chunk.offset = frames[frame_number], offset
        by_pack[manifest.packs[manifest.frames[frame_number][0]][0]].append(chunk)
    state.write_journal((pack, by_pack[pack.key]) for pack in packs)
    files: dict[str, list[Any]] = {}
    for entry in manifest.entries:
        status = tree.stats.get(entry.path)
        if entry.kind == FILE and status is not None and entry.path not in manifest.torn:
            stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]
            hashes = b"".join(manifest.hashes[chunk] for chunk in entry.chunks).hex()
            files[entry.path] = [*stamp, hashes, entry.digest.hex(), entry.md5, entry.extents]
    state.save_files(files)
    state.close()
