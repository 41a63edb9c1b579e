"""The object store's costs of each day that has ended, entered once, soon after midnight UTC."""

from __future__ import annotations

from dumont import queries
from dumont.domain import object_costs as domain
from dumont.domain.accounts import days_between
from dumont.domain.ledger import DAY_SECONDS, Kind, LedgerEntry, midnight_before
from dumont.domain.records import Operation, OperationKind, OperationState, Schedule
from dumont.domain.snapshots import Snapshot
from dumont.operations.schedules import note_run
from dumont.ports import Ports

LAST = "object-costs"
_DOWNLOADS = (OperationKind.RESTORE, OperationKind.FAILOVER, OperationKind.WAKE, OperationKind.PROVISION)
"""Those that fetch a snapshot, if they have one: a provision, for a job that begins with files."""


def enter_yesterday(ports: Ports) -> int:
    """Enter the day that has ended, if it is not yet. Answers with how many entries were made.

    Days on which no sweep ran (all was at rest) are entered when the next one does, each at what is kept then.
    """
    now = ports.clock.now()
    today = midnight_before(now)
    last = ports.store.get(Schedule, LAST)
    if last is None:
        ports.store.transact(lambda tx: tx.create(Schedule(id=LAST, last_run_at=today)))
        return 0
    if last.last_run_at >= today:
        return 0
    snapshots = ports.store.find(Snapshot, queries.latest_snapshots(limit=10_000))
    stored = domain.stored_bytes(snapshots)
    entries: list[LedgerEntry] = []
    start = max(last.last_run_at, today - 60 * DAY_SECONDS)
    while start < today:
        entries += domain.storage_entries(stored, start, start + DAY_SECONDS, now)
        start += DAY_SECONDS
    entries += _downloads(ports, {s.id: s for s in snapshots}, stored, today, now)
    for begin in range(0, len(entries), 200):
        batch = entries[begin : begin + 200]
        ports.store.transact(lambda tx, batch=batch: [tx.create(e) for e in batch])  # type: ignore[misc]
    note_run(ports, LAST, today)
    return len(entries)


def _downloads(
    ports: Ports, snapshots: dict[str, Snapshot], stored: dict[str, int], today: float, now: float
) -> list[LedgerEntry]:
    days = [day for day in days_between(today - 31 * DAY_SECONDS, today - 1.0) if day[:7] == _month(today - 1.0)]
    entered = 0
    for start in range(0, len(days), queries.IN_MOST):
        for entry in ports.store.find(
            LedgerEntry, queries.ledger_of_days(tuple(days[start : start + queries.IN_MOST]))
        ):
            entered += entry.amount_micro_usd if entry.kind == Kind.OBJECT_DOWNLOAD else 0
    fetched = 0.0
    for op in ports.store.find(Operation, queries.latest_operations(limit=5000)):
        if op.kind not in _DOWNLOADS or op.state is not OperationState.SUCCEEDED or op.ended_at is None:
            continue
        snapshot = snapshots.get(op.snapshot_id or "")
        if snapshot is not None and op.ended_at < today and _month(op.ended_at) == _month(today - 1.0):
            fetched += sum(pack.size for pack in snapshot.packs)
    due = domain.download_entry(fetched, stored, entered, today - DAY_SECONDS, today, now)
    return [due] if due is not None else []


def _month(moment: float) -> str:
    return days_between(moment, moment)[0][:7]
