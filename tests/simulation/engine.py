"""The object store and the engine on hosts, in virtual time: they are the world's, not the code under test."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dumont.domain.errors import BlobNotFound, BlobUnavailable
from dumont.domain.heartbeats import EngineSeen
from dumont.ports import BlobSeen, CommandResult, KeyRight, StoreKey
from tests.simulation.broken import Broken

if TYPE_CHECKING:
    from tests.simulation.world import World

_RUN = re.compile(r"/runs/(\S+)")
_MACHINES_OWN = re.compile(r"machines/[^/]+/(\d+/)?")
KEY_SECONDS_MOST = 6 * 3600 + 60


@dataclass
class Run:
    """One engine on one host."""

    lines: list[dict[str, Any]]
    ended: bool = False
    died: bool = False


class SimBlobs:
    """Objects in memory, behind calls that take time and may fail; keys that end and that reach their prefix only."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.objects: dict[str, tuple[bytes, float]] = {}
        self.keys: dict[str, StoreKey] = {}
        self.holders: dict[str, str] = {}
        """Key → the operation that it was minted for."""
        self.sent: dict[str, dict[str, bytes]] = {}
        """Snapshot → its objects, as its host sent them."""
        self.unrevoked: set[str] = set()
        """Keys and holders that were to be revoked while we were away."""
        self._minted = 0
        self._rng = random.Random(f"objects/{world.seed}")
        self._shown_from: dict[str, float] = {}
        """Objects that listings do not show before this."""

    def _call(self, name: str) -> None:
        self._world.hub.pause(f"blobs.{name}")
        if self._world.outages.away("blobs", self._world.hub.now):
            raise BlobUnavailable("the object store does not answer")

    def mint_key(self, prefix: str, right: KeyRight, valid_seconds: int, *, holder: str = "") -> StoreKey:
        self._call("mint_key")
        if not _MACHINES_OWN.fullmatch(prefix):
            raise Broken(f"invariant 9: a key for {prefix!r} reaches past its machine")
        if valid_seconds > KEY_SECONDS_MOST:
            raise Broken(f"invariant 9: a key for {valid_seconds} s outlives any lease")
        self._minted += 1
        key = StoreKey(
            kind="b2", endpoint="http://store", region="r", bucket="b", prefix=prefix, secret=right,
            key_id=f"key-{self._minted}", expires_at=self._world.hub.now + valid_seconds,
        )  # fmt: skip
        self.keys[key.key_id] = key
        self.holders[key.key_id] = holder
        self._world.hub.pause("blobs.minted")  # here its minter may die, and nobody knows of the key
        return key

    def revoke_key(self, key_id: str) -> None:
        self._revoking("revoke_key", key_id)
        self.keys.pop(key_id, None)

    def revoke_keys(self, holder: str) -> None:
        self._revoking("revoke_keys", holder)
        for key_id in [key_id for key_id in self.keys if self.holders[key_id] == holder]:
            del self.keys[key_id]

    def _revoking(self, call: str, what: str) -> None:
        try:
            self._call(call)
        except BlobUnavailable:  # who dies here is no excuse: whoever goes on is to revoke it
            self.unrevoked.add(what)
            raise
        self.unrevoked.discard(what)

    def list(self, prefix: str) -> list[BlobSeen]:
        self._call("list")
        return [
            BlobSeen(key=k, size=len(d), md5=_md5(d), sha1=None, uploaded_at=at, version_id="", is_latest=True)
            for k, (d, at) in sorted(self.objects.items())
            if k.startswith(prefix) and self._shown_from.get(k, 0.0) <= self._world.hub.now
        ]

    def get(self, key: str, *, max_bytes: int, version_id: str | None = None) -> bytes:
        del max_bytes, version_id
        self._call("get")
        if key not in self.objects:
            raise BlobNotFound(key)
        return self.objects[key][0]

    def put(self, key: str, data: bytes) -> BlobSeen:
        raise AssertionError(f"the control plane puts nothing, and not {len(data)} bytes as {key}")

    def delete(self, blobs: Iterable[BlobSeen]) -> None:
        self._call("delete")
        for blob in blobs:
            self.objects.pop(blob.key, None)

    def delete_all(self, prefix: str) -> None:
        raise AssertionError(f"nothing is deleted by prefix, and not {prefix}")

    def exists(self, key: str) -> bool:
        return key in self.objects

    def send(self, key_id: str, key: str, data: bytes) -> bool:
        """A host puts an object: only with a live key that may write, below its prefix."""
        held = self.keys.get(key_id)
        if held is None or held.secret != "write" or not key.startswith(held.prefix):
            return False
        weather, now = self._world.weather, self._world.hub.now
        if weather.object_lost and self._rng.random() < weather.object_lost:
            return True
        if weather.object_damaged and self._rng.random() < weather.object_damaged:
            data = data + b" "
        if weather.object_late and self._rng.random() < weather.object_late:
            self._shown_from[key] = now + self._rng.uniform(1.0, 60.0)
        self.objects[key] = (data, now)
        return True

    def is_whole(self, snapshot_id: str) -> bool:
        """Whether all of a snapshot is there as it was sent."""
        sent = self.sent.get(snapshot_id, {})
        return bool(sent) and all(self.objects.get(key, (b"",))[0] == data for key, data in sent.items())


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


class SimEngines:
    """The engines of all hosts."""

    def __init__(self, world: World, blobs: SimBlobs) -> None:
        self._world, self._blobs = world, blobs
        self._runs: dict[tuple[int, str], Run] = {}

    def answer(self, instance_id: int, script: str, stdin: bytes) -> CommandResult | None:
        """What a host says to the scripts of `engine_host`; None for what is none of them."""
        if "pwd -P" in script:
            return _said("/root/workspace\n/root\npresent\n")
        match = _RUN.search(script)
        if match is None:
            return None
        key = (instance_id, match.group(1))
        if stdin:
            if key not in self._runs:
                self._begin(instance_id, key, json.loads(stdin))
            return _said("")
        run = self._runs.get(key)
        if run is None:
            return _said("gone\n")
        word = "died" if run.died else "ended" if run.ended else "running"
        return _said(f"{word}\n{json.dumps(run.lines[-1])}\n")

    def _begin(self, instance_id: int, key: tuple[int, str], job: dict[str, Any]) -> None:
        run = self._runs[key] = Run(lines=[{"event": "progress", "files": 0}])
        rng = self._world.hub.rng
        dies = rng.random() < self._world.weather.dies / 2
        self._world.hub.after(rng.uniform(0.5, 120.0), lambda: self._end(instance_id, run, job, dies))

    def _end(self, instance_id: int, run: Run, job: dict[str, Any], dies: bool) -> None:
        world = self._world
        alive = next((i for i in world.market.live(world.hub.now) if i.id == instance_id), None)
        if dies or alive is None or not world.reachable(alive):
            run.died = True
            return
        work = {"restore": self._restore, "snapshot": self._copy, "status": self._status, "verify": self._verify}
        run.lines.append(work[job["action"]](instance_id, job))
        run.ended = True
        world.agents.news(instance_id)

    def newest(self, instance_id: int) -> EngineSeen | None:
        """The newest run on a host, as its agent sees it."""
        names = [name for host, name in self._runs if host == instance_id]
        return EngineSeen(run=names[-1], ended=self._runs[instance_id, names[-1]].ended) if names else None

    def _user_files(self, instance_id: int) -> dict[str, str]:
        files = self._world.files.get(instance_id, {})
        return {name: content.decode() for name, content in files.items() if name.startswith("user/")}

    def _read(self, job: dict[str, Any], reference: str) -> dict[str, str] | None:
        """The files of a snapshot, if the job's key may read it and it is there."""
        key = self._blobs.keys.get(job["store"]["key_id"])
        name = job[reference]["key"]
        if key is None or key.secret != "read" or not name.startswith(key.prefix) or name not in self._blobs.objects:
            return None
        files: dict[str, str] = json.loads(self._blobs.objects[name][0])
        return files

    def _status(self, instance_id: int, job: dict[str, Any]) -> dict[str, Any]:
        there = self._user_files(instance_id)
        best: dict[str, Any] = {"snapshot_id": "", "changed": 0, "added": len(there)}
        for reference, id_field in (("manifest", "snapshot_id"), ("other", "other_snapshot_id")):
            saved = self._read(job, reference) if reference in job else None
            if saved is None:
                continue
            changed = sum(1 for name in there if name in saved and saved[name] != there[name])
            added = sum(1 for name in there if name not in saved)
            if not best["snapshot_id"] or changed + added < best["changed"] + best["added"]:
                best = {"snapshot_id": job[id_field], "changed": changed, "added": added}
        return {"event": "result", **best, "paths": sorted(there)[:10], "unreadable": [], "unusable": []}

    def _verify(self, instance_id: int, job: dict[str, Any]) -> dict[str, Any]:
        del instance_id
        whole = self._read(job, "manifest") is not None
        damage = [] if whole else [{"pack": job["manifest"]["key"], "offset": 0, "message": "gone", "files": []}]
        return {"event": "result", "ok": whole, "damage": damage}

    def _copy(self, instance_id: int, job: dict[str, Any]) -> dict[str, Any]:
        files = self._user_files(instance_id)
        data = json.dumps(files, sort_keys=True).encode()
        names = [f"{job['prefix']}packs/{job['snapshot_id']}", f"{job['prefix']}manifests/{job['snapshot_id']}"]
        if not all(self._blobs.send(job["store"]["key_id"], name, data) for name in names):
            return {"event": "error", "code": "store_refused", "message": "the key is dead", "files": []}
        self._world.saved[job["snapshot_id"]] = files
        self._blobs.sent[job["snapshot_id"]] = dict.fromkeys(names, data)
        objects = [{"key": name, "size": len(data), "md5": _md5(data), "sha256": "s"} for name in names]
        return {
            "event": "result", "manifest": objects[1], "packs": objects[:1], "complete": True, "files": len(files),
            "bytes_total": len(data), "bytes_sent": len(data), "seconds": 1.0, "unreadable": [], "torn": [],
        }  # fmt: skip

    def _restore(self, instance_id: int, job: dict[str, Any]) -> dict[str, Any]:
        stored = self._blobs.objects.get(job["manifest"]["key"])
        if stored is None:
            return {"event": "error", "code": "object_missing", "message": "the manifest is gone", "files": []}
        files = json.loads(stored[0])
        self._world.replaced.append((job["machine"], self._user_files(instance_id)))
        self._world.files[instance_id] = {name: content.encode() for name, content in files.items()}
        return {"event": "result", "files": len(files), "bytes_total": len(stored[0])}


def _said(text: str) -> CommandResult:
    return CommandResult(exit_status=0, stdout=text.encode(), stderr=b"")
