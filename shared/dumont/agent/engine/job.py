"""What comes in on standard input and what goes out: the shapes of jobs and results.

A job is one JSON object. Its keys and the data key live in this process's memory only: they are never on a command
line, in an environment or on disk, and no `repr` shows them.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field, fields
from typing import Any

from .errors import BadJob

MIB = 1024 * 1024
ACTIONS = ("snapshot", "restore", "verify", "diff", "list", "status")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PREFIX = re.compile(r"([A-Za-z0-9][A-Za-z0-9._=-]*/)*")


@dataclass(frozen=True)
class StoreSpec:
    """Where objects live. `kind` folder needs `path`; s3 needs `endpoint`, `bucket`, `key_id` and `secret`.

    `client` is auto (obstore if it is installed, else the standard library's), obstore or pure.
    """

    kind: str
    path: str = ""
    endpoint: str = ""
    bucket: str = ""
    region: str = "us-east-1"
    key_id: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    client: str = "auto"


@dataclass(frozen=True)
class ManifestRef:
    """A manifest's object, and what the control plane knows its bytes to hash to (hex)."""

    key: str
    sha256: str


@dataclass(frozen=True)
class Options:
    """What may be chosen. The defaults keep memory below 512 MiB.

    - `workers`: threads that hash and compress; 0 is one a core, 8 at most.
    - `connections`: requests in flight at most; each holds one pack (snapshot) or one fetch, 8 MiB at most (restore).
    - `pack_bytes`: a pack's size at most.
    - `rehash`: read every file, whatever its times say.
    - `fresh`: forget what earlier snapshots sent; everything is sent again.
    - `forget_packs`: keys of packs that are gone from the store (collected garbage), not to be referred to again.
    - `exclude`: glob patterns against the path within the workspace; what matches is left out, with all below it.
    - `md5`: all, or small (files up to 16 MiB). MD5 is the slowest thing here by far, 0.4-0.6 GB/s and one core a
      file; every file has its BLAKE3-based digest in any case.
    - `path`: restore, list: this path within the workspace alone.
    - `reuse`: restore: files that the workspace has already are copied instead of fetched, as far as their hashes are
      right.
    - `read_back`: restore: at the end read every file again and hash it. Every chunk is hashed before it is written
      in any case.
    """

    workers: int = 0
    connections: int = 16
    pack_bytes: int = 16 * MIB
    rehash: bool = False
    fresh: bool = False
    forget_packs: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    md5: str = "all"
    path: str = ""
    read_back: bool = False
    reuse: bool = False


@dataclass(frozen=True)
class Job:
    """One thing to do. `prefix` ends with a slash; `state_dir` lies outside the workspace or is left out of it.

    `manifest` is needed by all but snapshot and status, `other` by diff (the later of the two); status compares with
    either, and takes a workspace for unsaved where there is none.
    """

    action: str
    machine: str
    snapshot_id: str
    store: StoreSpec
    data_key: bytes = field(repr=False)
    workspace: str = ""
    state_dir: str = ""
    prefix: str = ""
    manifest: ManifestRef | None = None
    other: ManifestRef | None = None
    other_snapshot_id: str = ""
    options: Options = field(default_factory=Options)


@dataclass(frozen=True)
class ObjectInfo:
    """An object as it was stored. `md5` (hex) is what a listing shows: the store's own word of what it received."""

    key: str
    size: int
    md5: str
    sha256: str = ""
    new: bool = True


@dataclass
class SnapshotResult:
    """What a snapshot did. `packs` are all packs that it refers to, for the control plane to look for in a listing.

    `complete` is false where files are named in `unreadable` or `torn` (changed while read, three times over).
    `skipped` names sockets and devices; `vanished` counts files that were deleted meanwhile. Bytes: `bytes_total` of
    all files as their sizes say, `bytes_read` from disk, `bytes_new` not known from earlier snapshots, `bytes_sent`
    to the store.
    """

    snapshot_id: str
    complete: bool
    manifest: ObjectInfo
    packs: list[ObjectInfo]
    hash: str
    files: int = 0
    entries: int = 0
    files_read: int = 0
    bytes_total: int = 0
    bytes_read: int = 0
    bytes_new: int = 0
    bytes_sent: int = 0
    unreadable: list[dict[str, str]] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    vanished: int = 0
    seconds: float = 0.0
    peak_rss_bytes: int = 0


@dataclass
class RestoreResult:
    """What a restore did. `verified_by` is hash, or tag where this host has no fast BLAKE3 (see docs in `hashing`).

    `warnings` names what could not be set on this host: an owner, an extended attribute.
    """

    snapshot_id: str
    complete: bool
    files: int = 0
    entries: int = 0
    bytes_total: int = 0
    bytes_received: int = 0
    bytes_kept: int = 0
    verified_by: str = "hash"
    resumed: bool = False
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peak_rss_bytes: int = 0


@dataclass
class VerifyResult:
    """What reading everything back showed. `damage` has one entry a bad place: pack, offset, message, files."""

    snapshot_id: str
    ok: bool
    frames: int = 0
    bytes_received: int = 0
    verified_by: str = "hash"
    damage: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    peak_rss_bytes: int = 0


@dataclass
class DiffResult:
    """Paths, sorted. `changed` differ in content or type, `touched` in mode, owner, times or attributes alone."""

    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    touched: list[str] = field(default_factory=list)


@dataclass
class ListResult:
    """The entries of a manifest: path, type, size, mode, mtime_ns, md5, digest, link."""

    snapshot_id: str
    complete: bool
    entries: list[dict[str, Any]] = field(default_factory=list)


def parse_job(raw: Any) -> Job:
    """The job that a decoded JSON object describes. Raises `BadJob`, which never quotes a value."""
    if not isinstance(raw, dict):
        raise BadJob("a job is one JSON object")
    values = dict(raw)
    try:
        values["data_key"] = base64.b64decode(values.get("data_key", ""), validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise BadJob("data_key is not base64") from None
    values["store"] = _read(StoreSpec, values.get("store"), "store")
    options = dict(values.get("options") or {})
    for name in ("forget_packs", "exclude"):
        if name in options:
            options[name] = tuple(options[name])
    values["options"] = _read(Options, options, "options")
    for name in ("manifest", "other"):
        if values.get(name) is not None:
            values[name] = _read(ManifestRef, values[name], name)
    job: Job = _read(Job, values, "job")
    check_job(job)
    return job


def check_job(job: Job) -> None:
    """Refuse a job that could not be carried out, or that reaches where it should not. Raises `BadJob`."""
    checks = (
        (job.action in ACTIONS, f"action is one of {', '.join(ACTIONS)}"),
        (len(job.data_key) == 32, "data_key is 32 bytes"),
        (_NAME.fullmatch(job.machine) is not None, "machine is a name of letters, digits, dots, dashes"),
        (_NAME.fullmatch(job.snapshot_id) is not None, "snapshot_id is a name of letters, digits, dots, dashes"),
        (_PREFIX.fullmatch(job.prefix) is not None, "prefix is a path that ends with a slash"),
        (job.store.kind in ("folder", "s3"), "store.kind is folder or s3"),
        (job.store.client in ("auto", "obstore", "pure"), "store.client is auto, obstore or pure"),
        (job.action in ("diff", "list", "verify") or job.workspace.startswith("/"), "workspace is an absolute path"),
        (
            job.action not in ("snapshot", "restore", "status") or job.state_dir.startswith("/"),
            "state_dir is an absolute path",
        ),
        (job.action in ("snapshot", "status") or job.manifest is not None, "manifest {key, sha256} is missing"),
        (job.action != "diff" or (job.other is not None and job.other_snapshot_id != ""), "other is missing"),
        (job.options.md5 in ("all", "small"), "options.md5 is all or small"),
        (1 <= job.options.connections <= 64, "options.connections is 1 to 64"),
        (4 * MIB <= job.options.pack_bytes <= 256 * MIB, "options.pack_bytes is 4 to 256 MiB"),
    )
    for fine, message in checks:
        if not fine:
            raise BadJob(message)


def _read(kind: Any, raw: Any, where: str) -> Any:
    if not isinstance(raw, dict):
        raise BadJob(f"{where} is missing or no object")
    known = {item.name for item in fields(kind)}
    unknown = sorted(set(raw) - known)
    if unknown:
        raise BadJob(f"{where} has no field {', '.join(unknown)}")
    try:
        return kind(**raw)
    except TypeError:
        raise BadJob(f"{where} lacks a field") from None
