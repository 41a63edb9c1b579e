"""Restore before serving: a snapshot is brought onto a racer that has proved itself; the first that is done wins."""

from __future__ import annotations

import logging
from typing import Any

from msgspec.structs import replace

from dumont.domain import snapshots, tending
from dumont.domain.errors import BlobError, ShellError
from dumont.domain.records import Instance, InstanceState, Machine, Operation, OperationKind, Problem, Step
from dumont.domain.snapshots import Snapshot
from dumont.operations import engine_host, engine_jobs, engine_runs
from dumont.operations.invocation import Fact, Invocation, LeaseLostError
from dumont.ports import Ports, ShellSession

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
KEY_SECONDS = 6 * 3600
RESTORES_MOST = 3
UNREACHABLE_TRIES = 8


def restore(invocation: Invocation, op: Operation, machine: Machine, instance: Instance) -> None:
    """Start the restore on an instance, or ask how far it is."""
    try:
        if instance.engine_run:
            _poll(invocation, op, instance)
        else:
            _start(invocation, op, machine, instance)
    except (ShellError, BlobError) as error:
        _later(invocation, instance, str(error))


def _connect(ports: Ports, instance: Instance) -> ShellSession:
    if instance.ssh is None:
        raise ShellError("it has no address")
    return ports.make_shell().connect(instance.ssh, host_key=instance.host_key, timeout_seconds=8.0)


def _start(invocation: Invocation, op: Operation, machine: Machine, instance: Instance) -> None:
    ports = invocation.ports
    snapshot = ports.store.get(Snapshot, op.snapshot_id or "")
    if snapshot is None or not snapshot.restorable:
        _fall_back(invocation, op, "its record is not there any more")
        return
    began = invocation.now()
    run = f"{op.id}-{snapshot.id}-{instance.restores + 1}"
    # A job may begin with another machine's snapshot, which its user named: then this host reads that machine's prefix.
    key = ports.make_blobs().mint_key(snapshots.machine_prefix(snapshot.machine), "read", KEY_SECONDS, holder=op.id)
    try:
        # Held up for longer than the lease, we may not be the one to start anything any more: where the operation has
        # ended meanwhile, so have its keys, all but ours.
        invocation.apply(lambda _tx, o, _machine: o)
    except LeaseLostError:
        engine_runs.revoke(ports, key.key_id)
        raise
    engine = ports.engine()
    try:
        session = _connect(ports, instance)
        try:
            workspace, home = engine_host.prepare(session, machine.spec.workspace, engine)
            as_restore = replace(op, kind=OperationKind.RESTORE, path="")
            job = engine_jobs.job_of(ports, as_restore, machine, snapshot, key, workspace, home)
            if op.kind is OperationKind.DRILL:
                job["options"]["read_back"] = True  # whether each byte comes back is what is rehearsed
            if instance.restored_snapshot_id is not None:
                job["options"]["reuse"] = True  # a spare has most of it already
            ended = engine_host.start(session, run, engine, job)
        finally:
            session.close()
    except ShellError:
        engine_runs.revoke(ports, key.key_id)
        raise
    step = Step(name="start restore", started_at=began, ended_at=invocation.now(), instance_id=instance.id)
    due_at = invocation.now() + (0.0 if ended else POLL_SECONDS)
    try:
        invocation.record(
            {
                instance.id: lambda i: replace(
                    i, engine_run=run, store_key_id=key.key_id, restores=i.restores + 1, tries=0, next_check_at=due_at
                )
            },
            lambda o: replace(o, steps=(*o.steps, step)),
        )
    except LeaseLostError:
        now_is = ports.store.get(Operation, op.id)
        if now_is is None or not now_is.open:
            engine_runs.revoke(ports, key.key_id)  # else it ends with the others, when the operation does
        raise


def _poll(invocation: Invocation, op: Operation, instance: Instance) -> None:
    session = _connect(invocation.ports, instance)
    try:
        state = engine_host.poll(session, instance.engine_run)
    finally:
        session.close()
    event = state.last.get("event")
    if not state.ended and not state.died:
        due_at = invocation.now() + POLL_SECONDS
        progress = {k: float(v) for k, v in state.last.items() if isinstance(v, int | float)}
        invocation.record(
            {instance.id: lambda i: replace(i, next_check_at=due_at, tries=0)},
            lambda o: replace(o, progress=progress or o.progress),
        )
    elif event == "result" and state.ended:
        _done(invocation, instance, state.last)
    else:
        _failed(invocation, op, instance, state.last if event == "error" else {})


def _done(invocation: Invocation, instance: Instance, result: dict[str, Any]) -> None:
    """The engine says that each byte is as its manifest says (invariant 5)."""
    snapshot_id = instance.engine_run.split("-snap-")[-1].rsplit("-", 1)[0]
    _end_run(invocation, instance, lambda i: replace(i, restored_snapshot_id=f"snap-{snapshot_id}"), True,
             engine_runs.extent(result))  # fmt: skip


def _end_run(invocation: Invocation, instance: Instance, fact: Fact, ok: bool, detail: str) -> None:
    engine_runs.revoke(invocation.ports, instance.store_key_id)
    now = invocation.now()
    began = instance.proven_at or now
    step = Step(name="restore", started_at=began, ended_at=now, ok=ok, instance_id=instance.id, detail=detail[:300])

    def ended(record: Instance) -> Instance:
        if record.engine_run != instance.engine_run:
            return record  # another invocation was first
        return replace(fact(record), engine_run="", store_key_id="", next_check_at=now)

    invocation.record({instance.id: ended}, lambda o: replace(o, steps=(*o.steps, _since_its_start(step, o))))


def _since_its_start(step: Step, op: Operation) -> Step:
    """A spare is restored again and again, long after it was proven."""
    starts = [s.started_at for s in op.steps if s.name == "start restore" and s.instance_id == step.instance_id]
    return replace(step, started_at=max([step.started_at, *starts[-1:]]))


def _failed(invocation: Invocation, op: Operation, instance: Instance, error: dict[str, Any]) -> None:
    code, said = str(error.get("code", "engine_died"))[:40], str(error.get("message", "it died without a word"))[:300]
    now = invocation.now()
    if code in ("damaged", "object_missing"):
        files = [str(path) for path in error.get("files", [])][:5]
        _end_run(invocation, instance, lambda i: i, False, f"{said} {', '.join(files)}".strip())
        if instance.engine_run.startswith(f"{op.id}-{op.snapshot_id}-"):
            _fall_back(invocation, op, said)
        return
    problem = Problem(code="restore_failed", detail=f"{code}: {said}"[:300])
    over = instance.restores >= RESTORES_MOST or code not in ("store_unavailable", "store_refused", "engine_died")

    def fact(record: Instance) -> Instance:
        return tending.reject(record, now, problem) if over and record.state is InstanceState.PROVEN else record

    _end_run(invocation, instance, fact, False, problem.detail)


def _fall_back(invocation: Invocation, op: Operation, why: str) -> None:
    """A snapshot that is damaged is not restored in part: the one before it is taken, and the log says so."""
    before = engine_runs.one_before(invocation.ports, op)
    log.error("snapshot damaged", extra={"snapshot": op.snapshot_id, "why": why, "instead": before})
    now = invocation.now()
    detail = f"{op.snapshot_id} is damaged; " + (f"{before} is taken instead" if before else "there is none before it")
    step = Step(name="fall back", started_at=now, ended_at=now, ok=before is not None, detail=detail[:300])
    invocation.apply(
        lambda _tx, o, _machine: (
            replace(o, snapshot_id=before, unrestorable=before is None, steps=(*o.steps, step))
            if o.snapshot_id == op.snapshot_id
            else o
        )
    )


def _later(invocation: Invocation, instance: Instance, why: str) -> None:
    """Nothing could be learned: again, a few times; then this racer is not the one to wait for."""
    now = invocation.now()
    problem = Problem(code="unreachable", detail=f"it proved itself, and then: {why}"[:300])

    def fact(record: Instance) -> Instance:
        if record.state is not InstanceState.PROVEN:
            return record
        if record.tries >= UNREACHABLE_TRIES:
            return tending.reject(record, now, problem)
        wait = tending.backoff_seconds(record.tries, first=1.0, most=15.0)
        return replace(record, tries=record.tries + 1, next_check_at=now + wait)

    invocation.record({instance.id: fact})


def end_keys(ports: Ports, op: Operation) -> None:
    """End every key that was minted for the restores of an operation."""
    if op.snapshot_id is None and not op.unrestorable:
        return
    try:
        ports.make_blobs().revoke_keys(op.id)
    except BlobError as error:
        log.warning("keys were not revoked and end by themselves", extra={"operation": op.id, "error": str(error)})


def last_restorable(ports: Ports, machine: str) -> Snapshot | None:
    """The snapshot to come back from: the newest good one, else one that misses named files, else a damaged one; else
    what its workspace began with."""
    return next(iter(engine_jobs.restorable(ports, machine)), None)
