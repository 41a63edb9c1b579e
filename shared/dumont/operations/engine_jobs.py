"""What an engine on a host is given: a key of the object store for its part of the work, and the job itself."""

from __future__ import annotations

import base64
from typing import Any

from dumont import queries
from dumont.domain import snapshots as domain
from dumont.domain.records import Instance, Machine, Operation, OperationKind
from dumont.domain.snapshots import Collected, Snapshot
from dumont.ports import Ports, StoreKey

KEY_SPARE_SECONDS = 60


def mint(ports: Ports, op: Operation, machine: Machine) -> StoreKey:
    """A key for this machine alone, and no longer than the operation may take (invariant 9). Raises `BlobError`."""
    left_seconds = int(op.created_at + domain.ENGINE_SECONDS_MAX - ports.clock.now()) + KEY_SPARE_SECONDS
    blobs = ports.make_blobs()
    if domain.engine_action(op) == "snapshot":
        return blobs.mint_key(domain.epoch_prefix(machine.id, op.epoch), "write", left_seconds, holder=op.id)
    return blobs.mint_key(domain.machine_prefix(machine.id), "read", left_seconds, holder=op.id)


def subject(ports: Ports, op: Operation, machine: Machine) -> Snapshot | None:
    """The snapshot that the engine takes, reads or compares with; None where there is none."""
    if domain.engine_action(op) == "status":
        return next(iter(stand_ins(ports, machine)), None)
    return ports.store.get(Snapshot, op.snapshot_id or "")


def stand_ins(ports: Ports, machine: Machine) -> list[Snapshot]:
    """The snapshots that may stand for the workspace as it is now, two at most: the newest good one, and the one that
    was restored into it last, so that who looks into an old one may go on to the next."""
    known = ports.store.find(Snapshot, queries.snapshots_of_machine(machine.id))
    instance = ports.store.get(Instance, machine.instance_id or "")
    newest = domain.newest_good(known)
    restored_id = instance.restored_snapshot_id if instance is not None else None
    restored = [s for s in known if s.id == restored_id and s.good and s != newest]
    return ([newest] if newest is not None else []) + restored


def restorable(ports: Ports, name: str) -> list[Snapshot]:
    """The snapshots that a machine may come back from, the best first: its own, then the one that its workspace began
    with. A job's machine has none from an earlier life of its name: its command never saw those files."""
    machine = ports.store.get(Machine, name)
    known = ports.store.find(Snapshot, queries.snapshots_of_machine(name))
    if machine is not None and machine.job_id is not None:
        known = [s for s in known if s.created_at >= machine.created_at]
    best = domain.by_preference(known)
    first = ports.store.get(Snapshot, machine.filled_from) if machine is not None and machine.filled_from else None
    return [*best, first] if first is not None and first.restorable and first not in best else best


def job_of(
    ports: Ports, op: Operation, machine: Machine, snapshot: Snapshot | None, key: StoreKey, workspace: str, home: str
) -> dict[str, Any]:
    """The job as the engine reads it. It holds keys: for its standard input alone."""
    action = domain.engine_action(op)
    # What is restored was sealed for the machine that it was taken of.
    owner = snapshot.machine if snapshot is not None and action == "restore" else op.machine
    job: dict[str, Any] = {
        "action": action,
        "machine": owner,
        "snapshot_id": snapshot.id if snapshot is not None else "none",
        "store": _store(key),
        "data_key": base64.b64encode(ports.data_key(owner)).decode(),
        "workspace": workspace,
        "state_dir": f"{home}/.dumont/state",
        "prefix": domain.epoch_prefix(op.machine, op.epoch),
        "options": {"path": op.path} if op.path else {},
    }
    if action == "snapshot":
        job["options"] |= {"md5": machine.spec.snapshot_md5, "rehash": op.rehash}
        collected = ports.store.get(Collected, op.machine)
        if collected is not None and collected.keys:
            job["options"]["forget_packs"] = list(collected.keys)
        return job
    other = None
    if action == "status":
        other = next((s for s in stand_ins(ports, machine) if s != snapshot), None)
    elif op.kind is OperationKind.DIFF:
        other = ports.store.get(Snapshot, op.other_snapshot_id or "")
    if snapshot is not None:
        job["manifest"] = _reference(snapshot)
    if other is not None:
        job |= {"other": _reference(other), "other_snapshot_id": other.id}
    return job


def _store(key: StoreKey) -> dict[str, str]:
    if key.kind == "folder":
        return {"kind": "folder", "path": key.endpoint}
    return {
        "kind": "s3",
        "endpoint": key.endpoint,
        "bucket": key.bucket,
        "region": key.region,
        "key_id": key.key_id,
        "secret": key.secret,
    }


def _reference(snapshot: Snapshot) -> dict[str, str] | None:
    if snapshot.manifest is None:
        return None
    return {"key": snapshot.manifest.key, "sha256": snapshot.manifest_sha256}


def plain(said: object) -> str:
    """A host's word as text that can be kept: names that are no UTF-8 come with surrogates, which no store takes."""
    return str(said).encode("utf-8", "replace").decode("utf-8")
