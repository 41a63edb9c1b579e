"""Snapshot and restore: mint a key, start the engine on the host, watch it, verify by listing, then count it."""

from __future__ import annotations

import base64
import logging
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from dumont import queries
from dumont.domain import snapshots as domain
from dumont.domain.actions import Abandon, Action, Finish, GiveUp, PollEngine, StartEngine, VerifySnapshot
from dumont.domain.errors import BlobError, BlobRefused, BlobUnavailable, Conflict, ShellError, Unknown
from dumont.domain.names import check_machine_name, shard_of
from dumont.domain.records import (
    Instance,
    Machine,
    MachineState,
    Operation,
    OperationKind,
    OperationState,
    Problem,
    Step,
)
from dumont.domain.snapshots import Pack, Snapshot, SnapshotState
from dumont.domain.tending import backoff_seconds
from dumont.operations import engine_host
from dumont.operations.invocation import Invocation
from dumont.operations.provision import FIRST_DEADLINE_SECONDS
from dumont.operations.runner import Workflow, publish
from dumont.ports import BlobSeen, Ports, StoreKey, Transaction

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
MISSING_NAMED = 50
LISTINGS_MAX = 3
UNTOUCHED = "The machine runs on; its workspace is as it was."


def request_snapshot(ports: Ports, name: str, *, reason: str, requested_by: str) -> tuple[Snapshot, Operation]:
    """Accept a snapshot of a running machine: its record (being taken) and its operation, in one transaction.

    Raises `Unknown`, or `Conflict` if the machine does not run or another operation holds it.
    """
    operation_id, snapshot_id = ports.ids.new("op"), ports.ids.new("snap")

    def work(tx: Transaction) -> tuple[Snapshot, Operation]:
        machine = _free_running(tx, name)
        now = ports.clock.now()
        op = _operation(operation_id, OperationKind.SNAPSHOT, machine, now, requested_by)
        op = replace(op, snapshot_id=snapshot_id)
        snapshot = Snapshot(
            id=snapshot_id,
            machine=name,
            epoch=machine.epoch,
            operation_id=op.id,
            state=SnapshotState.TAKING,
            created_at=now,
            reason=reason,
        )
        tx.put(replace(machine, operation_id=op.id, updated_at=now))
        tx.put(op)
        tx.put(snapshot)
        return snapshot, op

    snapshot, op = ports.store.transact(work)
    publish(ports, op)
    return snapshot, op


def request_restore(
    ports: Ports, name: str, *, snapshot_id: str | None, path: str, fall_back: bool, requested_by: str
) -> Operation:
    """Accept a restore into a running machine: of the snapshot named, else of its newest complete one.

    Raises `Unknown` where there is no such snapshot, `Conflict` as for a snapshot.
    """
    known = ports.store.find(Snapshot, queries.snapshots_of_machine(check_machine_name(name)))
    wanted = [s for s in known if s.restorable and snapshot_id in (None, s.id)]
    wanted.sort(key=lambda s: (s.state is SnapshotState.COMPLETE, s.created_at), reverse=True)
    if not wanted:
        what = f"snapshot {snapshot_id} of {name}" if snapshot_id else f"verified snapshot of {name}"
        raise Unknown(f"there is no {what}", field="snapshot", hint=f"`dumont snapshots {name}` shows those there are")
    operation_id = ports.ids.new("op")

    def work(tx: Transaction) -> Operation:
        machine = _free_running(tx, name)
        now = ports.clock.now()
        op = _operation(operation_id, OperationKind.RESTORE, machine, now, requested_by)
        op = replace(op, snapshot_id=wanted[0].id, path=path, fall_back=fall_back)
        tx.put(replace(machine, operation_id=op.id, updated_at=now))
        tx.put(op)
        return op

    op = ports.store.transact(work)
    publish(ports, op)
    return op


def _free_running(tx: Transaction, name: str) -> Machine:
    machine = tx.get(Machine, check_machine_name(name))
    if machine is None or machine.state is MachineState.DESTROYED:
        raise Unknown(f"there is no machine named {name}", field="name", hint="`dumont ls` shows those there are")
    if machine.state is not MachineState.RUNNING:
        raise Conflict(f"{name} is {machine.state.value}, not running", code="not_running", field="name")
    held = tx.get(Operation, machine.operation_id) if machine.operation_id is not None else None
    if held is not None and held.open:
        raise Conflict(
            f"{name} is in the middle of a {held.kind.value}",
            code="operation_under_way",
            hint=f"wait for it: dumont operation {held.id} --watch",
        )
    return machine


def _operation(operation_id: str, kind: OperationKind, machine: Machine, now: float, requested_by: str) -> Operation:
    return Operation(
        id=operation_id,
        kind=kind,
        machine=machine.id,
        epoch=machine.epoch,
        created_at=now,
        updated_at=now,
        requested_by=requested_by,
        deadline=now + FIRST_DEADLINE_SECONDS,
        shard=shard_of(operation_id),
    )


def perform(
    invocation: Invocation, op: Operation, machine: Machine | None, instances: Sequence[Instance], action: Action
) -> None:
    """Carry out one action of a snapshot or a restore."""
    del instances
    match action:
        case StartEngine() if machine is not None:
            _start(invocation, op, machine)
        case PollEngine() if machine is not None:
            _poll(invocation, op, machine)
        case VerifySnapshot():
            _verify(invocation, op)
        case GiveUp():
            problem = action.problem
            invocation.apply(lambda _tx, o, _machine: replace(o, problem=o.problem or problem))
        case Finish() | Abandon():
            _end(invocation, op, abandoned=isinstance(action, Abandon))
        case _:
            raise TypeError(f"a {op.kind.value} cannot {action}")


WORKFLOW = Workflow(decide=lambda op, machine, _instances, now: domain.decide(op, machine, now), perform=perform)


# --- Start and watch ----------------------------------------------------------------------------------------------


def _start(invocation: Invocation, op: Operation, machine: Machine) -> None:
    ports, began = invocation.ports, invocation.now()
    snapshot = ports.store.get(Snapshot, op.snapshot_id or "")
    if snapshot is None or machine.ssh is None:
        _fail(invocation, "lost", "its record is not there any more")
        return
    run = f"{op.id}-{op.rounds + 1}"
    try:
        key = _mint(ports, op, machine)
    except BlobRefused as error:
        _fail(invocation, "store_refused", f"the object store makes no key for it: {error}")
        return
    except BlobError as error:
        _later(invocation, f"the object store did not answer: {error}")
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
        _revoke(ports, key.key_id)
        _later(invocation, f"the host cannot be reached: {error}")
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
    if op.kind is OperationKind.RESTORE and snapshot.manifest is not None:
        job["manifest"] = {"key": snapshot.manifest.key, "sha256": snapshot.manifest_sha256}
    return job


def _poll(invocation: Invocation, op: Operation, machine: Machine) -> None:
    if machine.ssh is None:
        _fail(invocation, "lost", "the machine has no address")
        return
    try:
        session = invocation.ports.make_shell().connect(machine.ssh, host_key=machine.host_key, timeout_seconds=8.0)
        try:
            state = engine_host.poll(session, op.engine_run)
        finally:
            session.close()
    except ShellError as error:
        _later(invocation, f"the host cannot be reached: {error}")
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
    detail += f", {_mb(result.get('bytes_sent'))} sent"
    step = Step(name="copy", started_at=began, ended_at=now, detail=detail)
    try:
        taken = _read_result(result)
    except (KeyError, TypeError, ValueError, msgspec.ValidationError):
        _fail(invocation, "engine_failed", "the engine's result cannot be read")
        return

    def change(tx: Transaction, o: Operation, _machine: Machine | None) -> Operation:
        snapshot = tx.get(Snapshot, o.snapshot_id or "")
        if snapshot is not None and snapshot.state is SnapshotState.TAKING:
            tx.put(replace(snapshot, **taken))
        return replace(o, phase=domain.VERIFYING, tries=0, not_before=0.0, steps=(*o.steps, step))

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
    _fail(invocation, code, f"{said}{named}")


def _one_before(ports: Ports, op: Operation) -> str | None:
    known = ports.store.find(Snapshot, queries.snapshots_of_machine(op.machine))
    this = next((s for s in known if s.id == op.snapshot_id), None)
    older = [s for s in known if s.restorable and this is not None and s.created_at < this.created_at]
    return max(older, key=lambda s: s.created_at).id if older else None


def _engine_died(invocation: Invocation, op: Operation) -> None:
    if op.rounds >= domain.MAX_ATTEMPTS:
        _fail(invocation, "engine_died", f"the engine died on the host, {op.rounds} times")
    else:
        _again(invocation, "the engine died; it goes on from what it had sent")


def _again(invocation: Invocation, why: str) -> None:
    log.warning("engine is started again", extra={"operation": invocation.operation_id, "why": why})
    invocation.apply(
        lambda _tx, o, _machine: replace(
            o, phase=domain.STARTING, not_before=invocation.now() + backoff_seconds(o.rounds, first=1.0, most=20.0)
        )
    )


def _later(invocation: Invocation, why: str) -> None:
    """Nothing could be learned: try again, for a while."""

    def change(_tx: Transaction, op: Operation, _machine: Machine | None) -> Operation:
        now = invocation.now()
        waited = now - (op.steps[-1].ended_at if op.steps else op.created_at)
        if waited > domain.UNREACHABLE_SECONDS_MAX and op.tries > 5:
            return replace(op, problem=Problem(code="unreachable", detail=why[:300], safe=UNTOUCHED))
        return replace(op, tries=op.tries + 1, not_before=now + backoff_seconds(op.tries, first=1.0, most=20.0))

    invocation.apply(change)


def _fail(invocation: Invocation, code: str, detail: str) -> None:
    hint = "see `dumont operations`; what was sent already is not sent again"
    problem = Problem(code=code, detail=detail[:400], safe=UNTOUCHED, hint=hint)
    invocation.apply(lambda _tx, o, _machine: replace(o, problem=o.problem or problem))


# --- Verify and end -----------------------------------------------------------------------------------------------


def absent(needed: Sequence[Pack], listed: Sequence[BlobSeen]) -> list[str]:
    """What a listing does not show as it must be: the latest version of its name, with that size and that checksum."""
    latest = {seen.key: seen for seen in listed if seen.is_latest}
    wrong = []
    for pack in needed:
        seen = latest.get(pack.key)
        if seen is None or seen.size != pack.size or seen.md5 != pack.md5:
            wrong.append(pack.key)
    return wrong


def _verify(invocation: Invocation, op: Operation) -> None:
    """Look ourselves: the store's own listing has the manifest and each pack, by size and checksum. Then, in one
    transaction, the snapshot counts."""
    ports, began = invocation.ports, invocation.now()
    snapshot = ports.store.get(Snapshot, op.snapshot_id or "")
    if snapshot is None or snapshot.manifest is None:
        _fail(invocation, "lost", "its record is not there any more")
        return
    needed = [snapshot.manifest, *snapshot.packs]
    outside = [p.key for p in needed if not p.key.startswith(domain.machine_prefix(op.machine))]
    if outside:
        _fail(invocation, "engine_failed", f"the engine named an object that is not this machine's: {outside[0][:100]}")
        return
    try:
        wrong = absent(needed, ports.make_blobs().list(domain.machine_prefix(op.machine)))
    except BlobUnavailable as error:
        _later(invocation, f"the object store did not answer: {error}")
        return
    except BlobError as error:
        _fail(invocation, "store_refused", f"the object store cannot be listed: {error}")
        return
    if wrong and op.tries < LISTINGS_MAX:
        _later(invocation, f"{len(wrong)} objects are not in the listing")
        return
    problem = None
    if wrong:
        problem = Problem(
            code="not_verified",
            detail=f"{len(wrong)} of {len(needed)} objects are not in the store as they were sent: {wrong[0]}",
            safe=UNTOUCHED,
            hint=f"take it again: dumont snapshot {op.machine}",
        )
    step = Step(
        name="verify", started_at=began, ended_at=invocation.now(), ok=not wrong, detail=f"{len(needed)} objects"
    )

    def change(tx: Transaction, o: Operation, _machine: Machine | None) -> Operation:
        fresh = tx.get(Snapshot, snapshot.id)
        if fresh is not None and fresh.state is SnapshotState.TAKING and problem is None:
            state = SnapshotState.INCOMPLETE if fresh.missing else SnapshotState.COMPLETE
            tx.put(replace(fresh, state=state, completed_at=invocation.now()))
        return replace(o, phase=domain.DONE, problem=o.problem or problem, not_before=0.0, steps=(*o.steps, step))

    invocation.apply(change)


def _end(invocation: Invocation, op: Operation, *, abandoned: bool) -> None:
    if op.store_key_id:
        _revoke(invocation.ports, op.store_key_id)

    def change(tx: Transaction, o: Operation, machine: Machine | None) -> Operation:
        now = invocation.now()
        snapshot = tx.get(Snapshot, o.snapshot_id or "")
        if o.kind is OperationKind.SNAPSHOT and snapshot is not None and snapshot.state is SnapshotState.TAKING:
            tx.put(replace(snapshot, state=SnapshotState.FAILED, problem=o.problem))
        if machine is not None and machine.operation_id == o.id:
            tx.put(replace(machine, operation_id=None, updated_at=now))
        if abandoned:
            return replace(o, state=OperationState.SUPERSEDED)
        return replace(o, state=OperationState.FAILED if o.problem is not None else OperationState.SUCCEEDED)

    invocation.apply(change)


def _revoke(ports: Ports, key_id: str) -> None:
    try:
        ports.make_blobs().revoke_key(key_id)
    except BlobError as error:
        log.warning("a key was not revoked and ends by itself", extra={"error": str(error)})
