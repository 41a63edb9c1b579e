"""Damage in what the object store keeps: noted on each snapshot that needs it, and never referred to again.

A damaged snapshot is not deleted, for most of it may be whole: it is restored only where it is named, or where there is
no better one. The host is told to forget the damaged packs, so that the next snapshot sends their content anew; where
snapshots are taken by policy, that one is due at once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from dumont import queries
from dumont.domain import snapshots as domain
from dumont.domain.records import Machine, MachineState, Operation, Problem, Step
from dumont.domain.snapshots import Collected, Snapshot
from dumont.operations.engine_jobs import plain
from dumont.operations.invocation import Invocation
from dumont.ports import Transaction

log = logging.getLogger(__name__)

UNTOUCHED = "The machine runs on; its workspace is as it was."
PLACES_NAMED = 10


def read_back(invocation: Invocation, result: Mapping[str, Any], began: float) -> None:
    """A deep verification's end: all content was read back from the store and hashed, or the damage is named."""
    ok = result.get("ok") is True
    places = [place for place in result.get("damage", []) if isinstance(place, dict)]
    said = "; ".join(_described(place) for place in places[:PLACES_NAMED])[:400] or "the engine's answer is not whole"
    packs = [str(place.get("pack", "")) for place in places]
    step = Step(name="read back", started_at=began, ended_at=invocation.now(), ok=ok, detail="" if ok else said[:300])
    if not ok:
        _mark(invocation, invocation.ports.store.get(Operation, invocation.operation_id), said, packs, step)
        return
    known = _known(invocation)

    def change(tx: Transaction, o: Operation, machine: Machine | None) -> Operation:
        now = invocation.now()
        snapshot = tx.get(Snapshot, o.snapshot_id or "")
        if snapshot is not None and snapshot.restorable:
            whole = replace(snapshot, deep_verified_at=now, problem=None, damaged_at=None)
            tx.put(whole)
            newest = domain.newest_good([whole, *(s for s in known if s.id != whole.id)])
            every_days = machine.spec.verify_every_days if machine is not None else None
            if machine is not None and every_days is not None and newest == whole:
                tx.put(replace(machine, verify_after=now + every_days * 86400.0))
        return replace(o, phase=domain.DONE, not_before=0.0, steps=(*o.steps, step))

    invocation.apply(change)


def note(invocation: Invocation, op: Operation, said: str) -> None:
    """A restore or a verification met damage and stopped there: the packs are those that its message names."""
    snapshot = invocation.ports.store.get(Snapshot, op.snapshot_id or "")
    packs = [pack.key for pack in snapshot.packs if pack.key in said] if snapshot is not None else []
    _mark(invocation, op, said, packs, None)


def _mark(invocation: Invocation, op: Operation | None, said: str, packs: Sequence[str], step: Step | None) -> None:
    """Write down what is damaged; with a step, this is also how a verification ends."""
    if op is None:
        return
    log.error("snapshot damaged", extra={"machine": op.machine, "snapshot": op.snapshot_id, "said": said[:300]})
    problem = Problem(
        code="damaged",
        detail=f"its content is damaged: {said}"[:400],
        safe=UNTOUCHED,
        hint=f"take a new snapshot (dumont snapshot {op.machine}); an older one may still be whole",
    )
    suspects = [s.id for s in _known(invocation) if s.id != op.snapshot_id and _needs(s, packs)]

    def change(tx: Transaction, o: Operation, machine: Machine | None) -> Operation:
        now = invocation.now()
        snapshot = tx.get(Snapshot, op.snapshot_id or "")
        if snapshot is not None and snapshot.restorable:
            tx.put(replace(snapshot, problem=problem, damaged_at=now))
        for suspect_id in suspects:
            suspect = tx.get(Snapshot, suspect_id)
            if suspect is not None and suspect.restorable and suspect.problem is None:
                tx.put(replace(suspect, problem=_suspected(op, packs), damaged_at=now))
        if packs:
            collected = tx.get(Collected, o.machine) or Collected(id=o.machine)
            tx.put(replace(collected, keys=tuple(dict.fromkeys([*collected.keys, *packs]))))
        if machine is not None and machine.state is MachineState.RUNNING:
            after = machine.verify_after if step is None else _next_time(machine, now)
            tx.put(replace(machine, deadline=now, verify_after=after))
        if step is None:
            return o
        return replace(o, phase=domain.DONE, problem=o.problem or problem, not_before=0.0, steps=(*o.steps, step))

    invocation.apply(change)


def _next_time(machine: Machine, now: float) -> float | None:
    every_days = machine.spec.verify_every_days
    return machine.verify_after if every_days is None else now + every_days * 86400.0


def _suspected(op: Operation, packs: Sequence[str]) -> Problem:
    return Problem(
        code="shares_damaged_pack",
        detail=f"it needs {packs[0]}, in which {op.snapshot_id} was found damaged"[:400],
        hint="whether it is damaged itself is what `dumont snapshot verify` says",
    )


def _needs(snapshot: Snapshot, packs: Sequence[str]) -> bool:
    return snapshot.restorable and any(pack.key in packs for pack in snapshot.packs)


def _known(invocation: Invocation) -> list[Snapshot]:
    op = invocation.ports.store.get(Operation, invocation.operation_id)
    return invocation.ports.store.find(Snapshot, queries.snapshots_of_machine(op.machine if op is not None else ""))


def _described(place: Mapping[str, Any]) -> str:
    files = ", ".join(plain(path) for path in list(place.get("files", []))[:PLACES_NAMED])
    where = f"{place.get('pack', '?')} at offset {place.get('offset', '?')}: {plain(place.get('message', '?'))}"
    return f"{where} ({files})" if files else where
