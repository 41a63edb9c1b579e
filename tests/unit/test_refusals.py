"""Proofs that did not hold: an hour's count in the audit log, and what a flood of them costs."""

from __future__ import annotations

import pytest

from dumont.adapters.memory_store import MemoryStore
from dumont.domain.audit import AuditEntry
from dumont.domain.errors import StoreUnavailable
from dumont.edge import audit
from dumont.edge.audit import ListEntries
from dumont.edge.uses import HOUR_SECONDS, REFUSALS_NOTED_SECONDS, Refusals
from dumont.ports import Query
from tests.unit.rest_support import ManualClock, make_ports

NOW = 1_800_000_000.0
ADDRESS = "198.51.100.7"


def test_a_flood_costs_one_write_a_minute_and_process_and_is_one_entry_an_hour() -> None:
    calls: list[str] = []
    clock = ManualClock(NOW - NOW % HOUR_SECONDS)
    ports = make_ports(MemoryStore(pause=calls.append), clock)
    processes = [Refusals(clock.now) for _ in range(2)]
    for _ in range(3):
        for process in processes:
            for number in range(1000):
                process.note(ports, f"203.0.113.{number % 250}")
        clock.moment += REFUSALS_NOTED_SECONDS
    assert calls.count("commit") == 6
    (entry,) = ports.store.find(AuditEntry, Query())
    assert (entry.who, entry.name, entry.status) == ("", "nobody", 401)
    assert entry.count == 2 * (1 + 1000 + 1000), "all but the last minute's, which come with the next one"
    clock.moment += HOUR_SECONDS
    processes[0].note(ports, ADDRESS)
    assert len(ports.store.find(AuditEntry, Query())) == 2


def test_who_reads_the_audit_log_sees_how_many_and_the_last_address() -> None:
    clock = ManualClock(NOW)
    ports, process = make_ports(MemoryStore(), clock), Refusals(clock.now)
    for _ in range(5):
        process.note(ports, ADDRESS)
        clock.moment += REFUSALS_NOTED_SECONDS
    (shown,) = audit.latest(ports.store, ListEntries())
    assert (shown["count"], shown["address"], shown["what"]) == (5, ADDRESS, "wrong keys or tokens")


def test_a_store_that_is_away_loses_no_count_and_refuses_nobody() -> None:
    away = [True]

    def pause(_call: str) -> None:
        if away[0]:
            raise StoreUnavailable("down")

    clock = ManualClock(NOW)
    ports, process = make_ports(MemoryStore(pause=pause), clock), Refusals(clock.now)
    for _ in range(3):
        process.note(ports, ADDRESS)
    away[0] = False
    clock.moment += REFUSALS_NOTED_SECONDS
    process.note(ports, ADDRESS)
    (entry,) = ports.store.find(AuditEntry, Query())
    assert entry.count == 4


def test_what_may_not_write_says_it_in_its_log_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock(NOW)
    ports, process = make_ports(MemoryStore(), clock), Refusals(clock.now)
    caplog.set_level("WARNING", logger="dumont")
    for _ in range(100):
        process.note(None, ADDRESS)
    assert [record.message for record in caplog.records] == ["wrong keys were tried"]
    process.note(ports, ADDRESS)
    (entry,) = ports.store.find(AuditEntry, Query())
    assert entry.count == 1, "what could not be written is not counted with what could"
