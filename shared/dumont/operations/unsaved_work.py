"""Before a workspace is replaced or destroyed: what it holds that no verified snapshot has (invariants 4 and 6).

First a look whether there is any file at all, which costs one command. If there is, the engine on the host compares
the workspace with the snapshots that may stand for it; unchanged files are not read.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from dumont.domain import destruction, moving, unsaved
from dumont.domain import snapshots as domain
from dumont.domain.errors import ShellError
from dumont.domain.records import Instance, Machine, Operation, OperationKind, Problem, Step
from dumont.domain.snapshots import Snapshot, SnapshotState
from dumont.operations.engine_jobs import plain, stand_ins
from dumont.operations.invocation import Invocation
from dumont.ports import Ports, Transaction

INSPECT_TRIES = 3


def inspect(invocation: Invocation, op: Operation, instance_id: str) -> None:
    """Whether there is anything to lose, and if so, how it is to be found out what of it is saved."""
    ports, began = invocation.ports, invocation.now()
    instance = ports.store.get(Instance, instance_id)
    machine = ports.store.get(Machine, instance.machine) if instance is not None else None
    comparable = False
    problem: Problem | None = None
    try:
        files = _files(ports, machine, op.path)
    except ShellError as error:
        files = []
        problem = unsaved.unreadable(op, str(error))
    else:
        comparable = bool(files) and machine is not None and bool(stand_ins(ports, machine))
        problem = unsaved.not_empty(op, files) if files and not comparable else None
    detail = problem.detail if problem is not None else "it is empty" if not files else "it holds files"
    step = Step(name=moving.LOOK, started_at=began, ended_at=invocation.now(), ok=problem is None, detail=detail[:300])
    snapshot_id = ports.ids.new("snap")

    def change(tx: Transaction, o: Operation, machine: Machine | None) -> Operation:
        now = invocation.now()
        if o.discard:  # said meanwhile
            return replace(o, phase=_saved(o), steps=(*o.steps, step))
        if problem is not None and problem.code == "workspace_unreadable":
            if o.tries + 1 < INSPECT_TRIES:
                return replace(o, tries=o.tries + 1, not_before=now + 1.0)
            return replace(o, problem=problem, steps=(*o.steps, step))
        if not files:
            empty = o.kind is OperationKind.FAILOVER
            return replace(o, phase=_saved(o), found_empty=empty, tries=0, not_before=0.0, steps=(*o.steps, step))
        if o.snapshot_first and machine is not None:
            held = replace(step, ok=True, detail="it holds files, and a snapshot is taken first")
            return replace(_begin_copy(tx, o, machine, snapshot_id, now), found_empty=False, steps=(*o.steps, held))
        if comparable:
            return replace(o, phase=domain.CHECK, tries=0, not_before=0.0, steps=(*o.steps, step))
        return replace(o, problem=problem, steps=(*o.steps, step))

    invocation.apply(change)


def compared(invocation: Invocation, op: Operation, result: Mapping[str, object], began: float) -> None:
    """The engine has compared the workspace with its snapshots: go on, or refuse."""
    try:
        found = unsaved.read({name: _plain_all(value) for name, value in result.items()})
        problem = unsaved.refusal(op, found)
        detail = f"it is as {found.snapshot_id} has it" if found.snapshot_id else "it is empty"
    except msgspec.ValidationError:
        problem, detail = unsaved.unreadable(op, "the engine's answer is not whole"), ""
    step = Step(
        name="compare workspace",
        started_at=began,
        ended_at=invocation.now(),
        ok=problem is None,
        detail=problem.detail[:300] if problem is not None else detail,
    )
    snapshot_id = invocation.ports.ids.new("snap")

    def change(tx: Transaction, o: Operation, machine: Machine | None) -> Operation:
        o = replace(o, rounds=0, tries=0, not_before=0.0, steps=(*o.steps, step))
        if problem is None or o.discard:
            return replace(o, phase=_saved(o))
        if o.snapshot_first and machine is not None:  # said meanwhile
            return _begin_copy(tx, o, machine, snapshot_id, invocation.now())
        return replace(o, problem=problem)

    invocation.apply(change)


def _saved(op: Operation) -> str:
    """The phase in which an operation goes on that takes nothing from anyone."""
    return domain.STARTING if op.kind is OperationKind.RESTORE else destruction.CHECKED


def _begin_copy(tx: Transaction, op: Operation, machine: Machine, snapshot_id: str, now: float) -> Operation:
    tx.put(
        Snapshot(
            id=snapshot_id,
            machine=machine.id,
            epoch=op.epoch,
            operation_id=op.id,
            state=SnapshotState.TAKING,
            created_at=now,
            reason=f"before {op.kind.value}",
        )
    )
    return replace(op, snapshot_id=snapshot_id, phase=domain.COPY, rounds=0, tries=0, not_before=0.0)


def _plain_all(value: object) -> object:
    return [plain(item) for item in value] if isinstance(value, list) else value


def _files(ports: Ports, machine: Machine | None, path: str) -> list[str]:
    """Up to ten paths in the workspace, or below a path of it; empty only if that was read and holds nothing.

    Raises `ShellError`.
    """
    if machine is None or machine.ssh is None:
        raise ShellError("it has no address")
    # With a slash at its end a workspace that is a link is followed; a path within it is not: a restore replaces it.
    place = shlex.quote(f"{machine.spec.workspace.rstrip('/')}/{path.strip('/')}")
    session = ports.make_shell().connect(machine.ssh, host_key=machine.host_key, timeout_seconds=8.0)
    try:
        # Files, links and devices count; empty folders hold nothing. A missing workspace was deleted by its user.
        # The status is find's own: with a pipe into head, an unreadable folder would look like an empty one.
        result = session.run(
            f"if [ -e {place} ] || [ -L {place} ]; then find {place} ! -type d -print -quit; fi", timeout_seconds=20.0
        )
    finally:
        session.close()
    if result.exit_status != 0:
        raise ShellError(result.stderr.decode("utf-8", "replace").strip()[:200] or "find failed")
    return [line for line in result.stdout.decode("utf-8", "replace").splitlines() if line][:10]
