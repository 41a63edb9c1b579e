"""Quotas: what passes in any minute, when one that was refused is let in, and that many processes share one count."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from flask import Request
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder

from dumont.adapters.memory_store import MemoryStore
from dumont.adapters.sqlite_store import SqliteStore
from dumont.domain.errors import InvalidInput
from dumont.domain.quotas import Quota, Spent, spend
from dumont.edge import limits
from dumont.edge.limits import Limiter, TooManyRequests, address_of, fields
from dumont.edge.problems import document_of
from dumont.settings import read
from tests.unit.rest_support import ManualClock

NOW = 1_800_000_000.0

quotas = st.builds(Quota, st.just("q"), st.integers(1, 50), st.sampled_from([1.0, 60.0, 3600.0]))
pauses = st.lists(st.floats(0.0, 40.0), min_size=1, max_size=150)


# --- The rule -----------------------------------------------------------------------------------------------------


@given(quotas, pauses)
def test_in_no_window_of_the_clock_more_pass_than_may(quota: Quota, waits: list[float]) -> None:
    now, spent, passed = NOW, None, dict[int, int]()
    for wait in waits:
        now += wait
        before = spent
        spent, verdict = spend(before, "s", quota, now)
        if verdict.allowed:
            window = int(now // quota.seconds)
            passed[window] = passed.get(window, 0) + 1
            assert 0 <= verdict.remaining < quota.units
        else:
            assert (spent.count, verdict.remaining) == (before.count if before else 0, 0) or spent.count == 0
        assert 0.0 <= verdict.reset_seconds <= quota.seconds
    assert max(passed.values(), default=0) <= quota.units


@given(quotas, st.integers(1, 200), st.floats(0.0, 1.0))
def test_around_the_turn_of_a_window_no_second_burst_passes(quota: Quota, tries: int, at: float) -> None:
    turn = (NOW // quota.seconds + 1) * quota.seconds
    now, spent, first = turn - 0.01 * quota.seconds, None, 0
    for _ in range(tries):
        spent, verdict = spend(spent, "s", quota, now)
        first += verdict.allowed
    second, later = 0, turn + at * 0.99 * quota.seconds
    for _ in range(tries):
        spent, verdict = spend(spent, "s", quota, later)
        second += verdict.allowed
    assert first == min(tries, quota.units)
    assert first * (1.0 - (later - turn) / quota.seconds) + second <= quota.units + 1e-6


@given(quotas, pauses)
def test_who_waits_as_told_is_let_in(quota: Quota, waits: list[float]) -> None:
    now, spent = NOW, None
    for wait in waits:
        now += wait / 40.0 * quota.seconds / quota.units / 2
        spent, verdict = spend(spent, "s", quota, now)
        if not verdict.allowed:
            assert 0.0 < verdict.retry_after_seconds <= 2 * quota.seconds
            now += verdict.retry_after_seconds + 1e-3
            spent, verdict = spend(spent, "s", quota, now)
            assert verdict.allowed


def test_after_two_windows_nothing_is_left_of_it() -> None:
    quota = Quota("q", 2)
    spent: Spent | None = None
    for _ in range(2):
        spent, verdict = spend(spent, "s", quota, NOW)
    assert spent is not None
    assert spent.expires_at <= NOW + 2 * quota.seconds
    spent, verdict = spend(spent, "s", quota, spent.expires_at)
    assert (verdict.remaining, spent.count, spent.previous) == (1, 1, 0)


# --- In a process, and across processes ---------------------------------------------------------------------------


def test_a_unit_costs_one_read_and_one_write_and_a_flood_costs_nothing() -> None:
    calls: list[str] = []
    store, clock = MemoryStore(pause=calls.append), ManualClock(NOW)
    limiter, quota = Limiter(clock.now), Quota("changes", 2)
    for _ in range(2):
        assert limiter.spend(store, quota, "k").allowed
    assert calls == ["get", "commit"] * 2
    refused = limiter.spend(store, quota, "k")
    mark = len(calls)
    for _ in range(100):
        assert not limiter.spend(store, quota, "k").allowed
    assert len(calls) == mark
    assert limiter.spend(store, quota, "another").allowed
    clock.moment += refused.retry_after_seconds + 0.01
    assert limiter.spend(store, quota, "k").allowed


def test_processes_share_one_count(tmp_path: Path) -> None:
    clock, quota = ManualClock(NOW), Quota("changes", 20)
    passed: list[bool] = []

    def one() -> None:
        store = SqliteStore(tmp_path / "store.db")
        limiter = Limiter(clock.now)
        passed.extend(limiter.spend(store, quota, "k").allowed for _ in range(15))
        store.close()

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == 60
    assert sum(passed) == 20


def test_what_may_not_write_counts_by_itself() -> None:
    clock = ManualClock(NOW)
    limiter, quota = Limiter(clock.now), Quota("wrong-keys", 3)
    assert [limiter.spend_here(quota, "192.0.2.1").allowed for _ in range(5)] == [True] * 3 + [False] * 2
    assert limiter.spend_here(quota, "192.0.2.2").allowed
    clock.moment += 120.0
    assert limiter.spend_here(quota, "192.0.2.1").allowed


def test_strangers_do_not_fill_the_memory() -> None:
    limiter, quota = Limiter(ManualClock(NOW).now), Quota("wrong-keys", 3)
    for number in range(limits.SUBJECTS_MOST + 10):
        limiter.spend_here(quota, str(number))
    assert len(limiter._here) <= limits.SUBJECTS_MOST


@given(quotas, st.lists(st.tuples(st.integers(0, 3), st.floats(0.0, 0.3)), min_size=1, max_size=200))
def test_processes_that_take_ahead_never_let_more_pass_in_a_window(quota: Quota, asks: list[tuple[int, float]]) -> None:
    store, clock = MemoryStore(), ManualClock(NOW)
    processes = [Limiter(clock.now) for _ in range(4)]
    passed = dict[int, int]()
    for process, wait in asks:
        clock.moment += wait * quota.seconds
        verdict = processes[process].spend_often(store, quota, "k")
        if verdict.allowed:
            window = int(clock.moment // quota.seconds)
            passed[window] = passed.get(window, 0) + 1
            assert 0 <= verdict.remaining < quota.units
    assert max(passed.values(), default=0) <= quota.units


def test_a_busy_stream_costs_the_store_little_and_gets_all_that_it_may() -> None:
    calls: list[str] = []
    store, clock = MemoryStore(pause=calls.append), ManualClock(NOW - NOW % 60.0)
    limiter, quota = Limiter(clock.now), Quota("requests", 6000)
    told = [limiter.spend_often(store, quota, "k") for _ in range(300)]
    assert calls == ["get", "commit"], "one read and one write for 300 requests"
    assert [verdict.remaining for verdict in told] == list(range(5999, 5699, -1))
    passed = sum(limiter.spend_often(store, quota, "k").allowed for _ in range(6000))
    assert passed == 5700, "one process gets all of it"
    assert calls.count("commit") <= 150
    mark = len(calls)
    assert not any(limiter.spend_often(store, quota, "k").allowed for _ in range(1000))
    assert len(calls) == mark, "who is refused costs nothing"


def test_what_was_taken_ahead_ends_with_its_window() -> None:
    store, clock = MemoryStore(), ManualClock(NOW - NOW % 60.0)
    limiter, quota = Limiter(clock.now), Quota("requests", 40)
    assert limiter.spend_often(store, quota, "k").taken == 2
    clock.moment += 60.0
    limiter.spend_often(store, quota, "k")
    counted = store.get(Spent, "requests.k")
    assert counted is not None
    assert (counted.previous, counted.count) == (2, 1), "the second unit of the first minute is not used in this one"


def test_a_small_quota_is_exact_however_many_processes_there_are() -> None:
    store, clock = MemoryStore(), ManualClock(NOW)
    processes = [Limiter(clock.now) for _ in range(5)]
    quota = Quota("requests", 7)
    passed = [process.spend_often(store, quota, "k").allowed for process in processes for _ in range(3)]
    assert sum(passed) == 7


# --- What callers are told ----------------------------------------------------------------------------------------


def test_the_header_fields_are_as_the_draft_has_them() -> None:
    clock = ManualClock(NOW + 15.5)
    limiter, store, quota = Limiter(clock.now), MemoryStore(), Quota("changes", 2)
    assert fields(limiter.spend(store, quota, "k")) == {
        "RateLimit-Policy": '"changes";q=2;w=60',
        "RateLimit": '"changes";r=1;t=45',
    }
    limiter.spend(store, quota, "k")
    refused = limiter.spend(store, quota, "k")
    told = fields(refused)
    assert told["RateLimit"] == '"changes";r=0;t=45'
    assert int(told["Retry-After"]) >= refused.retry_after_seconds
    document = document_of(TooManyRequests(refused, "changes"))
    assert (document.status, document.code) == (429, "too_many_requests")
    assert told["Retry-After"] in document.hint


@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        (0, ["198.51.100.7"], "192.0.2.1"),
        (1, ["198.51.100.7"], "198.51.100.7"),
        (1, ["10.0.0.1, 198.51.100.7"], "198.51.100.7"),
        (1, ["10.0.0.1", "198.51.100.7"], "198.51.100.7"),
        (2, ["10.0.0.1, 198.51.100.7, 203.0.113.9"], "198.51.100.7"),
        (2, ["198.51.100.7"], "unknown"),
        (1, [], "unknown"),
        (1, ["somebody"], "unknown"),
        (1, ["x" * 5000], "unknown"),
        (1, ["2001:db8:1:2:3:4:5:6"], "2001:db8:1:2::"),
        (1, ["2001:db8:1:2::"], "2001:db8:1:2::"),
        (1, ["::ffff:198.51.100.7"], "198.51.100.7"),
    ],
)
def test_an_address_is_what_our_own_proxies_saw(proxies: int, forwarded: list[str], expected: str) -> None:
    headers = [("X-Forwarded-For", line) for line in forwarded]
    request = Request(EnvironBuilder(headers=headers, environ_base={"REMOTE_ADDR": "192.0.2.1"}).get_environ())
    assert address_of(request, proxies) == expected


def test_limits_are_whole_numbers() -> None:
    environment = {"DUMONT_STORE": "sqlite:x"}
    assert (read(environment).changes_per_minute, read(environment).wrong_keys_per_minute) == (240, 60)
    assert read({**environment, "DUMONT_CHANGES_PER_MINUTE": "0"}).changes_per_minute == 0
    for wrong in ("-1", "many", "1.5", "٣", "1" * 9):
        with pytest.raises(InvalidInput) as refused:
            read({**environment, "DUMONT_PROXIES": wrong})
        assert refused.value.field == "DUMONT_PROXIES"
