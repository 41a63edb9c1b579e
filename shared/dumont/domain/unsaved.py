"""What a workspace holds that no verified snapshot has, and whether it may be replaced or destroyed all the same. Pure.

Invariant 4: nothing that a user has is lost unseen. Invariant 6: what cannot be read is not "nothing".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from dumont.domain.records import Operation, OperationKind, Problem
from dumont.domain.snapshots import Snapshot

PATHS_NAMED = 5
SAFE = "The machine runs on, untouched."


class Unsaved(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's word on a workspace: how many files differ from the snapshot `snapshot_id` ("": there was none to
    compare with), how many it has more, the first of their `paths`, and those that could not be read."""

    snapshot_id: str
    changed: int
    added: int
    paths: tuple[str, ...]
    unreadable: tuple[str, ...]
    unusable: tuple[str, ...] = ()


_AT_IMPORT = msgspec.json.Decoder(Unsaved)
"""Read now: two threads that meet a shape for the first time at once end the process (`adapters.shapes`)."""


def read(result: Mapping[str, object]) -> Unsaved:
    """The engine's result. Raises `msgspec.ValidationError` for one that is not whole: unreadable is not unchanged."""
    return msgspec.convert(result, Unsaved)


def refusal(op: Operation, found: Unsaved) -> Problem | None:
    """Why a destroy or a restore must not go on; None if all that is there is in the snapshot."""
    if found.unreadable:
        return unreadable(op, f"{_named(found.unreadable)} cannot be read")
    if not found.changed and not found.added:
        return None
    if op.kind is OperationKind.DESTROY and not found.snapshot_id:
        return not_empty(op, found.paths)
    count = found.changed + found.added
    against = f"as snapshot {found.snapshot_id} has them" if found.snapshot_id else "in any complete snapshot"
    unusable = f"; {found.unusable[0]}" if found.unusable else ""
    return Problem(
        code="unsaved_files",
        detail=f"{count} file{'s are' if count > 1 else ' is'} not {against}: {_named(found.paths)}{unusable}"[:400],
        safe=SAFE,
        hint=_ways_on(op, "lose them"),
    )


def not_empty(op: Operation, paths: Sequence[str]) -> Problem:
    """There are files, and no complete snapshot that they could be in."""
    return Problem(
        code="unsaved_files" if op.kind is OperationKind.RESTORE else "workspace_not_empty",
        detail=f"its workspace holds files ({_named(paths)}), and no complete snapshot has them",
        safe=SAFE,
        hint=_ways_on(op, "lose them"),
    )


def unreadable(op: Operation, why: str) -> Problem:
    """Nobody knows what would be lost."""
    return Problem(
        code="workspace_unreadable",
        detail=f"its workspace cannot be read, so that nobody knows what would be lost: {why}"[:300],
        safe=SAFE,
        hint=_ways_on(op, "go on all the same"),
    )


def incomplete(op: Operation, snapshot: Snapshot) -> Problem | None:
    """Why a destroy must not go on after the snapshot that it took: it lacks files. None if it is complete."""
    if not snapshot.missing:
        return None
    words = {OperationKind.HIBERNATE: f"hibernate {op.machine}", OperationKind.FAILOVER: f"failover {op.machine}"}
    again = words.get(op.kind, f"down {op.machine} --snapshot")
    return Problem(
        code="snapshot_incomplete",
        detail=f"{snapshot.id} lacks files that could not be read whole: {_named(snapshot.missing)}"[:400],
        safe=f"{SAFE} All other files are in {snapshot.id}.",
        hint=f"make them readable, or stop what writes them, then: dumont {again}",
    )


def _ways_on(op: Operation, what: str) -> str:
    if op.kind is OperationKind.FAILOVER:
        return f"dumont failover {op.machine} --discard moves it with what its last snapshot has"
    if op.kind is OperationKind.DESTROY:
        return f"dumont down {op.machine} --snapshot takes a snapshot first; with --discard: {what}"
    return f"take a snapshot first: dumont snapshot {op.machine}; or say --discard to {what}"


def _named(paths: Sequence[str]) -> str:
    more = ", …" if len(paths) > PATHS_NAMED else ""
    return ", ".join(path[:120] for path in paths[:PATHS_NAMED]) + more
