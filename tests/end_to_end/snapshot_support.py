"""What the tests of snapshots look at beside the API: a machine's disk and processes, and the store's own books."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.end_to_end.cloud import Cloud

Json = dict[str, Any]


class ObjectStore:
    """The local cloud's object store: its controls, and its files and keys as they lie on the disk."""

    def __init__(self, cloud: Cloud) -> None:
        found = re.search(r"^snapshots +(http://\S+)", (cloud.folder / "up.log").read_text(), re.MULTILINE)
        assert found, "the cloud says where its object store is"
        self.http = httpx.Client(base_url=f"{found.group(1)}/_store", timeout=30)
        self._folder = cloud.folder / "data/objects"

    def fault(self, kind: str, **details: Any) -> None:
        """Let something go wrong."""
        answer = self.http.post("/faults", json={"kind": kind, **details})
        assert answer.status_code == 200, answer.text

    def seen(self) -> int:
        """How many requests met the faults that wait."""
        return sum(fault["seen"] for fault in self.http.get("/faults").json()["faults"])

    def mend(self) -> None:
        """As good and as fast as ever."""
        for control in ("/faults", "/pace"):
            assert self.http.delete(control).status_code == 200

    def slow(self, megabytes_per_second: float) -> None:
        """A line of so much for all."""
        answer = self.http.post("/pace", json={"total_megabytes_per_second": megabytes_per_second})
        assert answer.status_code == 200, answer.text

    def objects(self, machine: str, kind: str = "packs") -> set[str]:
        """The names of a machine's packs, or of its manifests."""
        rows = self._rows("SELECT name FROM versions WHERE name LIKE ? AND action = 'upload'", f"machines/{machine}/%")
        return {name for (name,) in rows if f"/{kind}/" in name}

    def keys(self, machine: str) -> list[Json]:
        """The keys that are good for anything of a machine's, with their secrets."""
        found = [json.loads(body) for (body,) in self._rows("SELECT body FROM keys")]
        return [key for key in found if key["prefix"].startswith(f"machines/{machine}/")]

    def account_secret(self) -> str:
        """The secret of the account's own key."""
        found = [json.loads(body) for (body,) in self._rows("SELECT body FROM keys")]
        return next(str(key["secret"]) for key in found if key["master"])

    def flip_a_byte(self, name: str) -> None:
        """Damage an object where it lies."""
        rows = self._rows("SELECT file FROM parts JOIN versions ON id = version_id WHERE name = ?", name)
        file = self._folder / "data" / rows[0][0]
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)

    def _rows(self, statement: str, *values: str) -> list[Any]:
        address = f"file:{self._folder / 'store.db'}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=10)) as db:
            return db.execute(statement, values).fetchall()


@dataclass
class Host:
    """A running machine, from its host's side."""

    cloud: Cloud
    name: str

    def __post_init__(self) -> None:
        seen = self.cloud.http.get(f"/machines/{self.name}").json()
        current = seen["machine"]["instance_id"]
        number = next(i["provider_instance_id"] for i in seen["instances"] if i["id"] == current)
        self.instance_id = str(current)
        self.folder = self.cloud.folder / "data/market" / str(number)
        self.workspace = self.folder / "home/workspace"

    def processes(self) -> Iterator[psutil.Process]:
        """The local cloud's processes whose home is this machine's."""
        for process in psutil.Process(self.cloud.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.environ().get("HOME") == str(self.folder / "home"):
                    yield process

    def engine(self) -> psutil.Process | None:
        """The engine that runs on it, if one does."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if any("/engine/" in word for word in process.cmdline()) and "python" in process.exe():
                    return process
        return None

    def all_bytes(self) -> Iterator[tuple[Path, bytes]]:
        """Each file on its disk, but for the workspace's."""
        for path in self.folder.rglob("*"):
            if path.is_file() and not path.is_relative_to(self.workspace):
                with contextlib.suppress(FileNotFoundError):
                    yield path, path.read_bytes()


def command_lines(cloud: Cloud) -> str:
    """The command lines and environments of all processes of a cloud."""
    words = []
    for process in psutil.Process(cloud.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            words += process.cmdline() + list(process.environ().values())
    return "\n".join(words)


def fill(workspace: Path, *, elements: int, seed: int = 1) -> Path:
    """500 small files, weights of so many bf16 numbers, and what else a workspace may hold; the weights' path."""
    for number in range(500):
        folder = workspace / f"runs/{number % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"log-{number}.txt").write_text(f"epoch {number}\n" * (number + 1))
    odd = workspace / "a folder/näme – 模型 'quoted' \"twice\" $HOME\nnewline"
    odd.parent.mkdir(exist_ok=True)
    odd.write_text("odd")
    Path(os.fsdecode(os.fsencode(workspace) + b"/not \xff utf-8")).write_text("bytes")
    (workspace / "empty").touch()
    (workspace / "empty folder").mkdir(exist_ok=True)
    secret = workspace / "secret.pem"
    secret.write_text("mine alone")
    secret.chmod(0o600)
    (workspace / "run.sh").write_text("#!/bin/sh\n")
    (workspace / "run.sh").chmod(0o755)
    (workspace / "link").symlink_to("a folder")
    (workspace / "dangling").symlink_to("/nowhere/at all")
    model = workspace / "model.safetensors"
    model.write_bytes(bf16(elements, seed))
    (workspace / "best.safetensors").hardlink_to(model)
    return model


def bf16(elements: int, seed: int = 1) -> bytes:
    """A safetensors file of so many Gaussian bf16 numbers."""
    import numpy

    floats = numpy.random.default_rng(seed).standard_normal(elements, dtype=numpy.float32) * 0.02
    data = (floats.view(numpy.uint32) >> 16).astype(numpy.uint16).tobytes()
    header = json.dumps({"w": {"dtype": "BF16", "shape": [elements], "data_offsets": [0, len(data)]}}).encode()
    return struct.pack("<Q", len(header)) + header + data


# --- Through the API ----------------------------------------------------------------------------------------------


def begin_snapshot(cloud: Cloud, name: str) -> tuple[str, Json]:
    """The id of a snapshot that is being taken, and its operation."""
    answer = cloud.http.post("/snapshot", json={"name": name})
    assert answer.status_code == 202, answer.text
    return answer.json()["snapshot"]["id"], answer.json()["operation"]


def snapshot_of(cloud: Cloud, name: str) -> Json:
    """A snapshot, complete."""
    identifier, operation = begin_snapshot(cloud, name)
    operation = cloud.ended(operation)
    assert operation["state"] == "succeeded", operation.get("problem")
    taken = seen(cloud, identifier)
    assert taken["state"] == "complete", taken
    return taken


def seen(cloud: Cloud, identifier: str) -> Json:
    view: Json = cloud.http.get(f"/snapshot/{identifier}").json()["snapshot"]
    return view


def restored(cloud: Cloud, name: str, **wish: Any) -> Json:
    """The restore, once it has ended."""
    answer = cloud.http.post("/restore", json={"name": name, **wish})
    assert answer.status_code == 202, answer.text
    return cloud.ended(answer.json()["operation"])


def complete_ones(cloud: Cloud, name: str) -> list[str]:
    listed = cloud.http.get("/snapshot", params={"machine": name}).json()["snapshots"]
    return [entry["id"] for entry in listed if entry["state"] in ("complete", "incomplete")]


def noise(workspace: Path, name: str, megabytes: int) -> None:
    """A file that no compression makes smaller."""
    (workspace / name).write_bytes(os.urandom(megabytes * 1_000_000))
