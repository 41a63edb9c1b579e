"""A sweep that finds nothing reads little: it runs every few seconds for as long as any machine does."""

from __future__ import annotations

import itertools
from collections import Counter

from dumont.adapters.memory_store import MemoryStore
from dumont.domain.records import Schedule
from dumont.operations.sweep import REAP_EVERY_SECONDS, REAPER, sweep_for
from tests.unit.rest_support import ManualClock, make_ports

PASSES = 20
EVERY_SECONDS = 3.0


def test_when_the_reaper_is_due_is_not_read_at_each_pass() -> None:
    calls: Counter[str] = Counter()
    clock = ManualClock(1000.0)
    ports = make_ports(MemoryStore(pause=lambda call: calls.update([call])), clock)
    sweep_for(ports, seconds=58.0, every_seconds=EVERY_SECONDS)
    clock.moment = 1010.0 + REAP_EVERY_SECONDS
    calls.clear()
    sweep_for(ports, seconds=58.0, every_seconds=EVERY_SECONDS)
    assert calls["find"] >= 5 * PASSES
    assert calls["get"] < PASSES


def test_the_reaper_comes_each_minute_all_the_same() -> None:
    clock, store = ManualClock(1000.0), MemoryStore()
    ports = make_ports(store, clock)
    ran_at = []
    for minute in range(60):
        clock.moment = max(clock.moment, 1000.0 + 60.0 * minute)
        sweep_for(ports, seconds=58.0, every_seconds=EVERY_SECONDS)
        ran_at.append(store.get(Schedule, REAPER).last_run_at)  # type: ignore[union-attr]
    assert max(later - earlier for earlier, later in itertools.pairwise(ran_at)) <= REAP_EVERY_SECONDS + EVERY_SECONDS


def test_who_has_run_it_meanwhile_has_run_it() -> None:
    store = MemoryStore()

    class Interrupted(ManualClock):
        """Another sweeper, whose lease we had lost, runs the reaper in the middle of our minute."""

        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if 1030.0 <= self.moment < 1030.0 + EVERY_SECONDS:
                store.transact(lambda tx: tx.put(Schedule(id=REAPER, last_run_at=self.moment)))

    clock = Interrupted(1000.0)
    ports = make_ports(store, clock)
    store.transact(lambda tx: tx.put(Schedule(id=REAPER, last_run_at=1000.0 - REAP_EVERY_SECONDS + 40.0)))
    sweep_for(ports, seconds=58.0, every_seconds=EVERY_SECONDS)
    other = store.get(Schedule, REAPER)
    assert other is not None
    assert 1030.0 <= other.last_run_at < 1030.0 + EVERY_SECONDS
