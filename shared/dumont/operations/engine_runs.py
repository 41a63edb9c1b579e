"""Engine runs: started on the host with a key of their own, watched, started again if they die, and read at the end."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from msgspec.structs import replace

from dumont.domain import snapshots as domain
from dumont.domain.errors import BlobError, BlobRefused, ShellError
from dumont.domain.records import Instance, Machine, Operation, OperationKind, Problem, Step
from dumont.domain.snapshots import Pack, Snapshot, SnapshotState
from dumont.domain.tending import backoff_seconds
from dumont.operations import damage, engine_host, unsaved_work
from dumont.operations.engine_jobs import job_of as job_of
from dumont.operations.engine_jobs import mint, plain, restorable, subject
from dumont.operations.invocation import Invocation, LeaseLostError
from dumont.ports import Ports, Transaction

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
MISSING_NAMED = 50
PATHS_SHOWN = 500
DAMAGE = ("damaged", "object_missing")
_MAY_HAVE_KEYS = frozenset(domain.RUNS) | frozenset(domain.START_OF)
UNTOUCHED = "The machine runs on; its workspace is as it was."


def start(invocation: Invocation, op: Operation, machine: Machine) -> None:
    """Start the engine for the operation's present phase, with a key of its own."""
    ports, began = invocation.ports, invocation.now()
    action = domain.engine_action(op)
    snapshot = subject(ports, op, machine)
    if machine.ssh is None or (snapshot is None and action != "status"):
        fail(invocation, "lost", "its record is not there any more")
        return
    # Action and snapshot are part of the name: a restore that falls back, or a destroy that copies after it compared,
    # begins its rounds anew, and must not meet its old run.
    run = f"{op.id}-{action}-{snapshot.id if snapshot is not None else 'none'}-{op.rounds + 1}"
    if op.store_key_id:
        revoke(ports, op.store_key_id)  # the run before has ended
    try:
        key = mint(ports, op, machine)
    except BlobRefused as error:
        fail(invocation, "store_refused", f"the object store makes no key for it: {error}")
        return
    except BlobError as error:
        later(invocation, f"the object store did not answer: {error}")
        return
    try:
        # Held up for longer than the lease, we may not be the one to start anything any more, and our key is nobody's.
        invocation.apply(lambda _tx, o, _machine: replace(o, store_key_id=key.key_id))
    except LeaseLostError:
        revoke(ports, key.key_id)
        raise
    engine = ports.engine()
    try:
        session = ports.make_shell().connect(machine.ssh, host_key=machine.host_key, timeout_seconds=8.0)
        try:
            workspace, home = engine_host.prepare(session, machine.spec.workspace, engine)
            job = job_of(ports, op, machine, snapshot, key, workspace, home)
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
            phase=domain.RUNS.get(o.phase, o.phase),
            engine_run=run,
            rounds=o.rounds + 1,
            tries=0,
            not_before=invocation.now() + POLL_SECONDS / 2,
            steps=(*o.steps, step),
        )
    )


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
    match domain.engine_action(op):
        case "status":
            unsaved_work.compared(invocation, op, result, began)
        case "restore":
            _restored(invocation, result, began)
        case "verify":
            damage.read_back(invocation, result, began)
        case "diff":
            names = ("added", "removed", "changed", "touched")
            found = {name: [plain(path) for path in result.get(name, [])][:PATHS_SHOWN] for name in names}
            invocation.apply(lambda _tx, o, _machine: replace(o, phase=domain.DONE, not_before=0.0, result=found))
        case _:
            _copied(invocation, result, began)


def _restored(invocation: Invocation, result: dict[str, Any], began: float) -> None:
    step = Step(name="restore", started_at=began, ended_at=invocation.now(), detail=extent(result))

    def change(tx: Transaction, o: Operation, machine: Machine | None) -> Operation:
        instance = tx.get(Instance, machine.instance_id or "") if machine is not None else None
        if instance is not None and not o.path:
            tx.put(replace(instance, restored_snapshot_id=o.snapshot_id))
        return replace(o, phase=domain.DONE, not_before=0.0, steps=(*o.steps, step))

    invocation.apply(change)


def _copied(invocation: Invocation, result: dict[str, Any], began: float) -> None:
    detail = f"{extent(result)}, {_size(result.get('bytes_sent'))} sent"
    step = Step(name="copy", started_at=began, ended_at=invocation.now(), detail=detail)
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


def _read_result(result: dict[str, Any]) -> dict[str, Any]:
    """The fields of a snapshot's record that the engine's result gives. The host's word: verified before it counts."""
    manifest = result["manifest"]
    missing = [plain(entry.get("path", "?")) for entry in result["unreadable"]] + [
        plain(path) for path in result["torn"]
    ]
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


def extent(result: dict[str, Any]) -> str:
    """How much an engine's result has been about: "1 file, 512 B in all"."""
    files = result.get("files", 0)
    return f"{files} {'file' if files == 1 else 'files'}, {_size(result.get('bytes_total'))} in all"


def _size(count: object) -> str:
    if not isinstance(count, int | float):
        return "? MB"
    if count < 1e6:  # as a little is not nothing
        return f"{count / 1e3:.1f} kB" if count >= 1e3 else f"{count:.0f} B"
    return f"{count / 1e6:.1f} MB"


def _engine_failed(invocation: Invocation, op: Operation, error: dict[str, Any]) -> None:
    code, said = plain(error.get("code", "failed"))[:40], plain(error.get("message", ""))[:300]
    if code in ("store_unavailable", "store_refused") and op.rounds < domain.MAX_ATTEMPTS:
        _again(invocation, said)
        return
    if code in DAMAGE and domain.engine_action(op) in ("restore", "verify"):
        damage.note(invocation, op, said)
    if op.kind is OperationKind.RESTORE and op.fall_back and code in DAMAGE:
        before = one_before(invocation.ports, op)
        if before is not None:
            log.error("snapshot damaged, going on with the one before", extra={"snapshot": op.snapshot_id})
            step = Step(name="restore", started_at=invocation.now(), ended_at=invocation.now(), ok=False, detail=said)
            invocation.apply(
                lambda _tx, o, _machine: replace(
                    o, snapshot_id=before, phase=domain.STARTING, rounds=0, not_before=0.0, steps=(*o.steps, step)
                )
            )
            return
    files = [plain(path) for path in error.get("files", [])][:10]
    named = f" ({', '.join(files)})" if files else ""
    fail(invocation, code, f"{said}{named}")


def one_before(ports: Ports, op: Operation) -> str | None:
    this = ports.store.get(Snapshot, op.snapshot_id or "")
    older = [s for s in restorable(ports, op.machine) if this is not None and s.created_at < this.created_at]
    # One that is known to be damaged comes last; else the newest, whether or not it has all files.
    return max(older, key=lambda s: (s.problem is None, s.created_at)).id if older else None


def _engine_died(invocation: Invocation, op: Operation) -> None:
    if op.rounds >= domain.MAX_ATTEMPTS:
        fail(invocation, "engine_died", f"the engine died on the host, {op.rounds} times")
    else:
        _again(invocation, "the engine died; it goes on from what it had sent")


def _again(invocation: Invocation, why: str) -> None:
    log.warning("engine is started again", extra={"operation": invocation.operation_id, "why": why})
    invocation.apply(
        lambda _tx, o, _machine: replace(
            o,
            phase=domain.START_OF.get(o.phase, o.phase),
            not_before=invocation.now() + backoff_seconds(o.rounds, first=1.0, most=20.0),
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
    """End a key now, if the store answers; else it ends by itself."""
    try:
        ports.make_blobs().revoke_key(key_id)
    except BlobError as error:
        log.warning("a key was not revoked and ends by itself", extra={"error": str(error)})


def end_keys(ports: Ports, op: Operation) -> None:
    """End every key that was minted for the operation, also one whose minter died before it wrote it down."""
    if not op.store_key_id and op.phase not in _MAY_HAVE_KEYS:
        return
    try:
        ports.make_blobs().revoke_keys(op.id)
    except BlobError as error:
        log.warning("keys were not revoked and end by themselves", extra={"operation": op.id, "error": str(error)})


def give_up_taking(tx: Transaction, op: Operation) -> None:
    """The snapshot that the operation was taking, if it was, will not be."""
    snapshot = tx.get(Snapshot, op.snapshot_id or "")
    if snapshot is not None and snapshot.operation_id == op.id and snapshot.state is SnapshotState.TAKING:
        tx.put(replace(snapshot, state=SnapshotState.FAILED, problem=op.problem))
