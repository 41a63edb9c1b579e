"""Looks at snapshots without restoring them: reads everything back, compares two, lists one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .fetch import Fetcher, describe
from .job import DiffResult, Job, ListResult, VerifyResult
from .manifest import Entry, Manifest
from .progress import Progress, peak_rss_bytes
from .restore import load_manifest, select
from .stores import open_store

if TYPE_CHECKING:
    from collections.abc import Callable


def verify(job: Job, report: Callable[[dict[str, Any]], None] | None = None) -> VerifyResult:
    """Read every frame back, decrypt it, hash every chunk. Damage is gathered, not raised; a bad manifest is raised."""
    started = time.monotonic()
    store = open_store(job.store, job.options.connections)
    manifest = load_manifest(store, job.manifest, job, job.snapshot_id)
    fetcher = Fetcher(store, manifest, job.data_key, job.options.connections, job.options.workers)
    with Progress("verify", fetcher.received, report):
        ranks = {number: number for number in range(len(manifest.frames))}
        fetcher.run(ranks, lambda _chunk, _data: None, stop_at_damage=False)
    return VerifyResult(
        snapshot_id=job.snapshot_id,
        ok=not fetcher.damage,
        frames=len(manifest.frames),
        bytes_received=fetcher.received.bytes_received,
        verified_by=fetcher.verified_by,
        damage=[describe(manifest, damage) for damage in fetcher.damage],
        seconds=time.monotonic() - started,
        peak_rss_bytes=peak_rss_bytes(),
    )


def diff(job: Job, report: Callable[[dict[str, Any]], None] | None = None) -> DiffResult:
    """What changed from `manifest` to `other`."""
    del report  # it is over before anything could be said
    store = open_store(job.store, job.options.connections)
    before = _by_path(load_manifest(store, job.manifest, job, job.snapshot_id))
    after = _by_path(load_manifest(store, job.other, job, job.other_snapshot_id))
    result = DiffResult(
        added=sorted(after.keys() - before.keys()),
        removed=sorted(before.keys() - after.keys()),
    )
    for path in sorted(before.keys() & after.keys()):
        if _content(before[path]) != _content(after[path]):
            result.changed.append(path)
        elif _dress(before[path]) != _dress(after[path]):
            result.touched.append(path)
    return result


def list_files(job: Job, report: Callable[[dict[str, Any]], None] | None = None) -> ListResult:
    """The entries of a snapshot, or those at and below `options.path`."""
    del report
    store = open_store(job.store, job.options.connections)
    manifest = load_manifest(store, job.manifest, job, job.snapshot_id)
    rows = [
        {
            "path": entry.path,
            "type": entry.kind,
            "size": entry.size,
            "mode": entry.mode,
            "mtime_ns": entry.mtime_ns,
            "md5": entry.md5,
            "digest": entry.digest.hex(),
            "link": entry.link,
        }
        for entry in select(manifest, job.options.path.strip("/"))
    ]
    return ListResult(snapshot_id=job.snapshot_id, complete=manifest.complete, entries=rows)


def _by_path(manifest: Manifest) -> dict[str, Entry]:
    return {entry.path: entry for entry in manifest.entries}


def _content(entry: Entry) -> tuple[str, int, bytes, str]:
    return entry.kind, entry.size, entry.digest, entry.link


def _dress(entry: Entry) -> tuple[int, int, int, int, dict[str, bytes]]:
    mtime_ns = entry.mtime_ns
    return entry.mode, entry.uid, entry.gid, mtime_ns, entry.xattrs
