"""What the engine's tests share: jobs, workspaces, and a picture of a folder that two folders can be compared by."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import io
import json
import os
import socket
import stat
import struct
from pathlib import Path
from typing import Any

from dumont.agent.engine import (
    Job,
    ManifestRef,
    Options,
    RestoreResult,
    SnapshotResult,
    StoreSpec,
    VerifyResult,
    restore,
    snapshot,
    verify,
)
from dumont.agent.engine.command import main

KEY = bytes(range(32))


class Rig:
    """One machine's workspace, state folder and folder store below a temporary folder."""

    def __init__(self, root: Path, *, key: bytes = KEY, machine: str = "m1", store: StoreSpec | None = None) -> None:
        self.root, self.key, self.machine = root, key, machine
        self.workspace = root / "workspace"
        self.workspace.mkdir(parents=True, exist_ok=True)
        self.objects = root / "objects"
        self.store = store or StoreSpec("folder", path=str(self.objects))

    def job(self, action: str, snapshot_id: str, **values: Any) -> Job:
        options = values.pop("options", {})
        fixed: dict[str, Any] = {
            "action": action,
            "machine": self.machine,
            "snapshot_id": snapshot_id,
            "store": self.store,
            "data_key": self.key,
            "workspace": str(self.workspace),
            "state_dir": str(self.root / "state"),
            "prefix": f"{self.machine}/1/",
            "options": Options(**{"connections": 4, "pack_bytes": 4 << 20, **options}),
        }
        return Job(**{**fixed, **values})

    def snapshot(self, snapshot_id: str, **values: Any) -> SnapshotResult:
        return snapshot(self.job("snapshot", snapshot_id, **values))

    def restore(self, taken: SnapshotResult, to: Path, **values: Any) -> RestoreResult:
        fixed = {"manifest": reference(taken), "workspace": str(to), "state_dir": str(self.root / "state of new host")}
        return restore(self.job("restore", taken.snapshot_id, **{**fixed, **values}))

    def verify(self, taken: SnapshotResult, **values: Any) -> VerifyResult:
        return verify(self.job("verify", taken.snapshot_id, manifest=reference(taken), **values))

    def packs(self) -> list[Path]:
        """The packs that lie in the folder store."""
        return sorted(self.objects.rglob("packs/*"))


def reference(taken: SnapshotResult) -> ManifestRef:
    return ManifestRef(taken.manifest.key, taken.manifest.sha256)


def as_json(job: Job) -> str:
    """A job as the control plane sends it."""
    raw = dataclasses.asdict(job)
    raw["data_key"] = base64.b64encode(job.data_key).decode()
    return json.dumps(raw)


def run_command(job: Job | str) -> tuple[int, list[dict[str, Any]]]:
    """The engine's command in this process: exit status and lines."""
    out = io.StringIO()
    status = main(io.StringIO(job if isinstance(job, str) else as_json(job)), out)
    return status, [json.loads(line) for line in out.getvalue().splitlines()]


def picture(root: Path) -> dict[str, tuple[Any, ...]]:
    """Path → all that a restore must bring back: type, mode, owner, times, attributes, content, link, link group."""
    seen: dict[str, tuple[Any, ...]] = {}
    groups: dict[int, str] = {}
    top = os.fsencode(root)
    for folder, folders, files in os.walk(top):
        for name in [*sorted(folders), *sorted(files)]:
            where = os.path.join(folder, name)  # noqa: PTH118 - bytes
            path = os.path.relpath(where, top).decode("utf-8", "surrogateescape")
            status = os.lstat(where)
            content: Any = None
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(where)  # noqa: PTH115 - bytes
            elif stat.S_ISREG(status.st_mode):
                content = status.st_size, _digest(where, status)
            group = groups.setdefault(status.st_ino, path) if status.st_nlink > 1 else ""
            names = os.listxattr(where, follow_symlinks=False)
            attributes = {n: os.getxattr(where, n, follow_symlinks=False) for n in names}
            seen[path] = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, content, group, attributes)
    return seen


def _digest(where: bytes, status: os.stat_result) -> str:
    """Content without the cost of gigabytes of holes: data by SEEK_DATA, with its offsets."""
    made = hashlib.sha256()
    with open(where, "rb", buffering=0) as source:  # noqa: PTH123 - bytes
        at = 0
        while at < status.st_size:
            try:
                at = os.lseek(source.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            block = os.pread(source.fileno(), 1 << 20, at)
            if block.strip(b"\0"):
                for start in range(0, len(block), 4096):
                    if part := block[start : start + 4096].rstrip(b"\0"):
                        made.update(struct.pack(">Q", at + start) + part)
            at += len(block)
    return made.hexdigest()


def weights(elements: int, seed: int = 1) -> bytes:
    """A safetensors file of Gaussian bf16 numbers, in two tensors."""
    import numpy

    floats = numpy.random.default_rng(seed).standard_normal(elements, dtype=numpy.float32) * 0.02
    data = (floats.view(numpy.uint32) >> 16).astype(numpy.uint16).tobytes()
    middle = len(data) // 4 * 2
    header = {
        "first": {"dtype": "BF16", "shape": [middle // 2], "data_offsets": [0, middle]},
        "second": {"dtype": "BF16", "shape": [(len(data) - middle) // 2], "data_offsets": [middle, len(data)]},
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def files_below(root: Path) -> list[Path]:
    """Everything but folders below a folder, hidden names too."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(path for path in root.rglob("*") if not path.is_dir())
    return []


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
