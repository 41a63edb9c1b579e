"""Every kind of record that is stored: one collection each."""

from __future__ import annotations

from dumont.domain.records import ApiKey, Instance, LedgerEntry, Machine, Operation, Record, Schedule
from dumont.domain.snapshots import Collected, Snapshot

RECORDS: tuple[type[Record], ...] = (
    Machine,
    Instance,
    Operation,
    LedgerEntry,
    ApiKey,
    Schedule,
    Snapshot,
    Collected,
)
