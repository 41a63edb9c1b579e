"""The snapshot engine: what runs on a rented machine and carries its workspace to an object store and back.

It imports nothing of the rest of `dumont`, so that it can be sent as one `engine.pyz`; it runs on Python 3.8 and later,
with the standard library alone where it must (slower, same format). See `job` for what goes in and out, `manifest` and
`packer` for the format, `hashing`, `codec` and `crypto` for what stands in for what.
"""

from __future__ import annotations

from .errors import EngineError
from .inspect_snapshot import diff, list_files, verify
from .job import (
    DiffResult,
    Job,
    ListResult,
    ManifestRef,
    ObjectInfo,
    Options,
    RestoreResult,
    SnapshotResult,
    StoreSpec,
    VerifyResult,
    check_job,
    parse_job,
)
from .restore import restore
from .snapshot import snapshot

__all__ = [
    "DiffResult",
    "EngineError",
    "Job",
    "ListResult",
    "ManifestRef",
    "ObjectInfo",
    "Options",
    "RestoreResult",
    "SnapshotResult",
    "StoreSpec",
    "VerifyResult",
    "check_job",
    "diff",
    "list_files",
    "parse_job",
    "restore",
    "snapshot",
    "verify",
]
