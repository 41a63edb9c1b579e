"""Verification: what a snapshot names must be in the object store's own listing before the snapshot counts."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from dumont.domain import destruction, unsaved
from dumont.domain import snapshots as domain
from dumont.domain.errors import BlobError, BlobUnavailable
from dumont.domain.records import Machine, Operation, Problem, Step
from dumont.domain.snapshots import Collected, Pack, Snapshot, SnapshotState
from dumont.operations.engine_runs import UNTOUCHED, fail, later
from dumont.operations.invocation import Invocation
from dumont.ports import BlobSeen, Transaction

LISTINGS_MAX = 3


def absent(needed: Sequence[Pack], listed: Sequence[BlobSeen]) -> list[str]:
    """What a listing does not show as it must be: the latest version of its name, with that size and that checksum."""
    latest = {seen.key: seen for seen in listed if seen.is_latest}
    wrong = []
    for pack in needed:
        seen = latest.get(pack.key)
        if seen is None or seen.size != pack.size or seen.md5 != pack.md5:
            wrong.append(pack.key)
    return wrong


def verify(invocation: Invocation, op: Operation) -> None:
    """Look ourselves: the store's own listing has the manifest and each pack, by size and checksum. Then, in one
    transaction, the snapshot counts."""
    ports, began = invocation.ports, invocation.now()
    snapshot = ports.store.get(Snapshot, op.snapshot_id or "")
    if snapshot is None or snapshot.manifest is None:
        fail(invocation, "lost", "its record is not there any more")
        return
    needed = [snapshot.manifest, *snapshot.packs]
    outside = [p.key for p in needed if not p.key.startswith(domain.machine_prefix(op.machine))]
    if outside:
        fail(invocation, "engine_failed", f"the engine named an object that is not this machine's: {outside[0][:100]}")
        return
    try:
        wrong = absent(needed, ports.make_blobs().list(domain.machine_prefix(op.machine)))
    except BlobUnavailable as error:
        later(invocation, f"the object store did not answer: {error}")
        return
    except BlobError as error:
        fail(invocation, "store_refused", f"the object store cannot be listed: {error}")
        return
    if wrong and op.tries < LISTINGS_MAX:
        later(invocation, f"{len(wrong)} objects are not in the listing")
        return
    problem: Problem | None = None
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
        if wrong:
            # The host believes that the store has them: told to forget them, it sends them again next time.
            collected = tx.get(Collected, o.machine) or Collected(id=o.machine)
            tx.put(replace(collected, keys=tuple(dict.fromkeys([*collected.keys, *wrong]))))
        fresh = tx.get(Snapshot, snapshot.id)
        if fresh is not None and fresh.state is SnapshotState.TAKING and problem is None:
            state = SnapshotState.INCOMPLETE if fresh.missing else SnapshotState.COMPLETE
            tx.put(replace(fresh, state=state, completed_at=invocation.now()))
        o = replace(o, problem=o.problem or problem, not_before=0.0, steps=(*o.steps, step))
        if o.kind in domain.SAVES_FIRST:
            return replace(o, phase=destruction.CHECKED, problem=o.problem or unsaved.incomplete(o, snapshot))
        return replace(o, phase=domain.COLLECTING)

    invocation.apply(change)
