"""Engine runs: started on the host with a key of their own, watched, started again if they die, and read at the end."""

from __future__ import annotations

import base64
import logging
from typing import Any

import msgspec
from msgspec.structs import replace

from dumont import queries
from dumont.domain import snapshots as domain
from dumont.domain.errors import BlobError, BlobRefused, ShellError
from dumont.domain.records import Machine, Operation, OperationKind, Problem, Step
from dumont.domain.snapshots import Collected, Pack, Snapshot, SnapshotState
from dumont.domain.tending import backoff_seconds
from dumont.operations import engine_host
from dumont.operations.invocation import Invocation
from dumont.ports import Ports, StoreKey, Transaction

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
MISSING_NAMED = 50
PATHS_SHOWN = 500
UNTOUCHED = "The machine runs on; its workspace is as it was."


def start(invocation: Invocation, op: Operation, machine: Machine) -> None:
    ports, began = invocation.ports, invocation.now()
    snapshot = ports.store.get(Snapshot, op.snapshot_id or "")
    if snapshot is None or machine.ssh is None:
        fail(invocation, "lost", "its record is not there any more")
        return
    # The snapshot is part of the name: a restore that falls back begins its rounds anew, and must not meet its old run.
    run = f"{op.id}-{snapshot.id}-{op.rounds + 1}"
    if op.store_key_id:
        revoke(ports, op.store_key_id)  # the run before has ended, and only the last key is revoked at the end
    try:
        key = _mint(ports, op, machine)
    except BlobRefused as error:
        fail(invocation, "store_refused", f"the object store makes no key for it: {error}")
        return
    except BlobError as error:
        later(invocation, f"the object store did not answer: {error}")
        return
    engine = ports.engine()
    try:
        session = ports.make_shell().connect(machine.ssh, host_key=machine.host_key, timeout_seconds=8.0)
        try:
            workspace, home = engine_host.prepare(session, machine.spec.workspace, engine)
            job = _job(ports, op, snapshot, key, workspace, home)
            engine_host.start(session, run, engine, job)
        finally:
            session.close()
    except ShellError as error:
        revoke(ports, key.key_id)
        later(invocation, f"the host cannot be reached: {error}")
        return
    step = Step(name="start engine", started_at=began, ended_at=invocation.now(), instance_id=machine.instance_id)
    invocation.apply(
        lambda _tx, o, _machine: replace(
            o,
            phase=domain.RUNNING,
            engine_run=run,
            store_key_id=key.key_id,
            rounds=o.rounds + 1,
            tries=0,
            not_before=invocation.now() + POLL_SECONDS / 2,
            steps=(*o.steps, step),
        )
    )


def _mint(ports: Ports, op: Operation, machine: Machine) -> StoreKey:
    """A key for this machine alone, and no longer than the operation may take (invariant 9)."""
    left_seconds = int(op.created_at + domain.ENGINE_SECONDS_MAX - ports.clock.now()) + 60
    if op.kind is OperationKind.SNAPSHOT:
        return ports.make_blobs().mint_key(domain.epoch_prefix(machine.id, op.epoch), "write", left_seconds)
    return ports.make_blobs().mint_key(domain.machine_prefix(machine.id), "read", left_seconds)


def _job(ports: Ports, op: Operation, snapshot: Snapshot, key: StoreKey, workspace: str, home: str) -> dict[str, Any]:
    store: dict[str, Any] = {"kind": "folder", "path": key.endpoint}
    if key.kind != "folder":
        store = {
            "kind": "s3",
            "endpoint": key.endpoint,
            "bucket": key.bucket,
            "region": key.region,
            "key_id": key.key_id,
            "secret": key.secret,
        }
    job: dict[str, Any] = {
        "action": op.kind.value,
        "machine": op.machine,
        "snapshot_id": snapshot.id,
        "store": store,
        "data_key": base64.b64encode(ports.data_key(op.machine)).decode(),
        "workspace": workspace,
        "state_dir": f"{home}/.dumont/state",
        "prefix": domain.epoch_prefix(op.machine, op.epoch),
        "options": {"path": op.path} if op.path else {},
    }
    if op.kind is OperationKind.SNAPSHOT:
        collected = ports.store.get(Collected, op.machine)
        if collected is not None and collected.keys:
            job["options"]["forget_packs"] = list(collected.keys)
    if op.kind is not OperationKind.SNAPSHOT:
        job["manifest"] = _reference(snapshot)
    if op.kind is OperationKind.DIFF:
        other = ports.store.get(Snapshot, op.other_snapshot_id or "")
        if other is not None:
            job |= {"other": _reference(other), "other_snapshot_id": other.id}
    return job


def _reference(snapshot: Snapshot) -> dict[str, str] | None:
    if snapshot.manifest is None:
        return None
    return {"key": snapshot.manifest.key, "sha256": snapshot.manifest_sha256}


def poll(invocation: Invocation, op: Operation, machine: Machine) -> None:
    if machine.ssh is None:
        fail(invocation, "lost", "the machine has no address")
        return
    try:
        session = invocation.ports.make_shell().connect(machine.ssh, host_key=machine.host_key, timeout_seconds=8.0)
        try:
            state = engine_host.poll(session, op.engine_run)
        finally:
            session.close()
    except ShellError as error:
        later(invocation, f"the host cannot be reached: {error}")
        return
    event = state.last.get("event")
    if event == "result" and state.ended:
        _engine_done(invocation, op, state.last)
    elif event == "error" and state.ended:
        _engine_failed(invocation, op, state.last)
    elif state.ended or state.died:
        _engine_died(invocation, op)
    else:
        progress = {k: float(v) for k, v in state.last.items() if isinstance(v, int | float)}
        invocation.apply(
            lambda _tx, o, _machine: replace(
                o, progress=progress or o.progress, tries=0, not_before=invocation.now() + POLL_SECONDS
            )
        )


def _engine_done(invocation: Invocation, op: Operation, result: dict[str, Any]) -> None:
    began = op.steps[-1].ended_at if op.steps else op.created_at
    now = invocation.now()
    detail = f"{result.get('files', 0)} files, {_mb(result.get('bytes_total'))} in all"
    if op.kind is OperationKind.RESTORE:
        step = Step(name="restore", started_at=began, ended_at=now, detail=detail)
        invocation.apply(lambda _tx, o, _machine: replace(o, phase=domain.DONE, not_before=0.0, steps=(*o.steps, step)))
        return
    if op.kind is OperationKind.VERIFY:
        _read_back(invocation, result, began)
        return
    if op.kind is OperationKind.DIFF:
        names = ("added", "removed", "changed", "touched")
        found = {name: [str(path) for path in result.get(name, [])][:PATHS_SHOWN] for name in names}
        invocation.apply(lambda _tx, o, _machine: replace(o, phase=domain.DONE, not_before=0.0, result=found))
        return
    detail += f", {_mb(result.get('bytes_sent'))} sent"
    step = Step(name="copy", started_at=began, ended_at=now, detail=detail)
    try:
        taken = _read_result(result)
    except (KeyError, TypeError, ValueError, msgspec.ValidationError):
        fail(invocation, "engine_failed", "the engine's result cannot be read")
        return

    def change(tx: Transaction, o: Operation, _machine: Machine | None) -> Operation:
        snapshot = tx.get(Snapshot, o.snapshot_id or "")
        if snapshot is not None and snapshot.state is SnapshotState.TAKING:
            tx.put(replace(snapshot, **taken))
        return replace(o, phase=domain.VERIFYING, tries=0, not_before=0.0, steps=(*o.steps, step))

    invocation.apply(change)


def _read_back(invocation: Invocation, result: dict[str, Any], began: float) -> None:
    """A deep verification's end: all content was read back from the store and hashed, or the damage is named."""
    ok = result.get("ok") is True
    damage = [str(place)[:200] for place in result.get("damage", [])][:10]
    step = Step(name="read back", started_at=began, ended_at=invocation.now(), ok=ok, detail="; ".join(damage)[:300])
    problem = None
    if not ok:
        problem = Problem(
            code="damaged",
            detail=f"its content is damaged: {'; '.join(damage)}"[:400],
            safe=UNTOUCHED,
            hint="take a new snapshot; an older one may still be whole",
        )

    def change(tx: Transaction, o: Operation, _machine: Machine | None) -> Operation:
        snapshot = tx.get(Snapshot, o.snapshot_id or "")
        if snapshot is not None and snapshot.restorable:
            done = {"deep_verified_at": invocation.now()} if ok else {"problem": problem}
            tx.put(replace(snapshot, **done))
        return replace(o, phase=domain.DONE, problem=o.problem or problem, not_before=0.0, steps=(*o.steps, step))

    invocation.apply(change)


def _read_result(result: dict[str, Any]) -> dict[str, Any]:
    """The fields of a snapshot's record that the engine's result gives. The host's word: verified before it counts."""
    manifest = result["manifest"]
    missing = [str(entry.get("path", "?")) for entry in result["unreadable"]] + [str(path) for path in result["torn"]]
    return {
        "manifest": Pack(str(manifest["key"]), int(manifest["size"]), str(manifest["md5"])),
        "manifest_sha256": str(manifest["sha256"]),
        "packs": tuple(Pack(str(p["key"]), int(p["size"]), str(p["md5"])) for p in result["packs"]),
        "files": int(result["files"]),
        "bytes_total": int(result["bytes_total"]),
        "bytes_sent": int(result["bytes_sent"]),
        "seconds": float(result["seconds"]),
        "missing": tuple(missing[:MISSING_NAMED]) or (() if result["complete"] else ("(not named)",)),
    }


def _mb(count: object) -> str:
    return f"{float(count) / 1e6:.1f} MB" if isinstance(count, int | float) else "? MB"


def _engine_failed(invocation: Invocation, op: Operation, error: dict[str, Any]) -> None:
    code, said = str(error.get("code", "failed"))[:40], str(error.get("message", ""))[:300]
    if code in ("store_unavailable", "store_refused") and op.rounds < domain.MAX_ATTEMPTS:
        _again(invocation, said)
        return
    if op.kind is OperationKind.RESTORE and op.fall_back and code in ("damaged", "object_missing"):
        before = _one_before(invocation.ports, op)
        if before is not None:
            log.error("snapshot damaged, going on with the one before", extra={"snapshot": op.snapshot_id})
            step = Step(name="restore", started_at=invocation.now(), ended_at=invocation.now(), ok=False, detail=said)
            invocation.apply(
                lambda _tx, o, _machine: replace(
                    o, snapshot_id=before, phase=domain.STARTING, rounds=0, not_before=0.0, steps=(*o.steps, step)
                )
            )
            return
    files = [str(path) for path in error.get("files", [])][:10]
    named = f" ({', '.join(files)})" if files else ""
    fail(invocation, code, f"{said}{named}")


def _one_before(ports: Ports, op: Operation) -> str | None:
    known = ports.store.find(Snapshot, queries.snapshots_of_machine(op.machine))
    this = next((s for s in known if s.id == op.snapshot_id), None)
    older = [s for s in known if s.restorable and this is not None and s.created_at < this.created_at]
    return max(older, key=lambda s: s.created_at).id if older else None


def _engine_died(invocation: Invocation, op: Operation) -> None:
    if op.rounds >= domain.MAX_ATTEMPTS:
        fail(invocation, "engine_died", f"the engine died on the host, {op.rounds} times")
    else:
        _again(invocation, "the engine died; it goes on from what it had sent")


def _again(invocation: Invocation, why: str) -> None:
    log.warning("engine is started again", extra={"operation": invocation.operation_id, "why": why})
    invocation.apply(
        lambda _tx, o, _machine: replace(
            o, phase=domain.STARTING, not_before=invocation.now() + backoff_seconds(o.rounds, first=1.0, most=20.0)
        )
    )


def later(invocation: Invocation, why: str) -> None:
    """Nothing could be learned: try again, for a while."""

    def change(_tx: Transaction, op: Operation, _machine: Machine | None) -> Operation:
        now = invocation.now()
        waited = now - (op.steps[-1].ended_at if op.steps else op.created_at)
        if waited > domain.UNREACHABLE_SECONDS_MAX and op.tries > 5:
            return replace(op, problem=Problem(code="unreachable", detail=why[:300], safe=UNTOUCHED))
        return replace(op, tries=op.tries + 1, not_before=now + backoff_seconds(op.tries, first=1.0, most=20.0))

    invocation.apply(change)


def fail(invocation: Invocation, code: str, detail: str) -> None:
    hint = "see `dumont operations`; what was sent already is not sent again"
    problem = Problem(code=code, detail=detail[:400], safe=UNTOUCHED, hint=hint)
    invocation.apply(lambda _tx, o, _machine: replace(o, problem=o.problem or problem))


def revoke(ports: Ports, key_id: str) -> None:
    try:
        ports.make_blobs().revoke_key(key_id)
    except BlobError as error:
        log.warning("a key was not revoked and ends by itself", extra={"error": str(error)})
