"""Duties that come again: when one ran last."""

from __future__ import annotations

from msgspec.structs import replace

from dumont.domain.records import Schedule
from dumont.ports import Ports, Transaction


def note_run(ports: Ports, schedule_id: str, at: float) -> None:
    """Write down that a duty ran. What is there is read first, as always where a record is written over: a later
    version of us may keep more in it."""

    def work(tx: Transaction) -> None:
        before = tx.get(Schedule, schedule_id) or Schedule(id=schedule_id)
        tx.put(replace(before, last_run_at=at))

    ports.store.transact(work)
