"""Transactions of many at once: nothing is lost, nothing is half done. Heavy where the store is fast enough for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dumont.adapters.memory_store import ATTEMPTS, MemoryStore
from dumont.domain.errors import Contention
from dumont.domain.records import Machine, Schedule
from dumont.ports import Query, Store, Transaction
from tests.contract.stores import STORES, count, increment, machine, make_store, put

WAIT_SECONDS = 20.0


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    yield from make_store(request.param, tmp_path, request)


def until_it_is_done(store: Store, work: Callable[[Transaction], object]) -> None:
    """As callers do: `Contention` wrote nothing, so the whole is asked for again."""
    for _ in range(1000):
        try:
            store.transact(work)
        except Contention:
            continue
        return
    raise AssertionError("lost a thousand times")


def test_what_a_transaction_read_does_not_change_under_it(store: Store) -> None:
    """Another writes between the read and the commit: either it waits, or the work is run again on what it wrote."""
    has_read, other_wrote = threading.Event(), threading.Event()
    seen: list[float] = []

    def slow(transaction: Transaction) -> None:
        seen.append(increment(transaction))
        has_read.set()
        other_wrote.wait(0.3)  # a store that makes the other wait for us goes on after this

    def other() -> None:
        assert has_read.wait(WAIT_SECONDS)
        put(store, Schedule(id="counter", last_run_at=10.0))
        other_wrote.set()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(other)
        store.transact(slow)
        running.result(WAIT_SECONDS)
    # Ours first and theirs over it, or theirs first and ours on it; never ours over theirs, which would be 1.
    assert (count(store), seen[-1]) in {(10.0, 1.0), (11.0, 11.0)}


def test_of_two_that_create_the_same_record_one_wins_and_the_other_sees_it(store: Store) -> None:
    both = threading.Barrier(2)

    def claim(epoch: int) -> int:
        def work(transaction: Transaction) -> int:
            transaction.create(machine("a", epoch=epoch))
            there = transaction.get(Machine, "a")
            assert there is not None
            return there.epoch

        both.wait(WAIT_SECONDS)
        return store.transact(work)

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(claim, [1, 2]))
    kept = store.get(Machine, "a")
    assert kept is not None
    assert answers == [kept.epoch, kept.epoch]


def test_a_little_contention_loses_no_increment(store: Store) -> None:
    """Tiny, since the emulator clears its locks by time-outs."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: until_it_is_done(store, increment), range(4)))
    assert count(store) == 4


@pytest.mark.parametrize("store", ["memory", "memory, serialised", "sqlite"], indirect=True)
def test_heavy_contention_loses_no_increment(store: Store) -> None:
    start = threading.Barrier(8)

    def fifty() -> None:
        start.wait(WAIT_SECONDS)
        for _ in range(50):
            until_it_is_done(store, increment)

    with ThreadPoolExecutor(8) as pool:
        for running in [pool.submit(fifty) for _ in range(8)]:
            running.result(60)
    assert count(store) == 400


@pytest.mark.parametrize("store", ["memory", "memory, serialised", "sqlite"], indirect=True)
def test_money_moved_between_records_is_never_seen_twice_or_gone(store: Store) -> None:
    """Transfers over random pairs, and readers that sum up all: every sum is the one that they began with."""
    names = [f"account-{number}" for number in range(5)]
    stop = threading.Event()
    wrong: list[float] = []

    def transfer(number: int) -> Callable[[Transaction], None]:
        source, target = names[number % 5], names[(number * 3 + 1) % 5]

        def work(transaction: Transaction) -> None:
            for name, amount in ((source, -1.0), (target, +1.0)):
                account = transaction.get(Schedule, name)
                assert account is not None
                transaction.put(Schedule(id=name, last_run_at=account.last_run_at + amount))

        return work

    def total(transaction: Transaction) -> float:
        accounts = [transaction.get(Schedule, name) for name in names]
        return sum(account.last_run_at for account in accounts if account)

    def read() -> None:
        while not stop.is_set():
            try:
                found = store.transact(total)
            except Contention:
                continue
            if found != 500.0:
                wrong.append(found)

    put(store, *[Schedule(id=name, last_run_at=100.0) for name in names])
    with ThreadPoolExecutor(5) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        writers = [pool.submit(until_it_is_done, store, transfer(number)) for number in range(150)]
        for writer in writers:
            writer.result(60)
        stop.set()
        for reader in readers:
            reader.result(WAIT_SECONDS)
    assert wrong == []
    assert store.transact(total) == 500.0


# --- The optimistic store of simulations --------------------------------------------------------------------------


def test_a_transaction_in_memory_that_always_loses_ends_in_contention() -> None:
    store = MemoryStore()
    runs = 0

    def work(transaction: Transaction) -> None:
        nonlocal runs
        runs += 1
        increment(transaction)
        store.transact(increment)  # another's, in between, each time

    with pytest.raises(Contention):
        store.transact(work)
    assert runs == ATTEMPTS
    assert count(store) == ATTEMPTS, "only the others' writes are there"


def test_a_record_made_between_a_read_and_the_commit_runs_the_work_again() -> None:
    store = MemoryStore()
    seen: list[Machine | None] = []

    def work(transaction: Transaction) -> None:
        seen.append(transaction.get(Machine, "a"))
        if len(seen) == 1:
            put(store, machine("a", epoch=7))
        transaction.put(machine("b"))

    store.transact(work)
    assert seen == [None, machine("a", epoch=7)]


def test_a_record_deleted_and_made_anew_is_not_taken_for_the_one_read() -> None:
    store = MemoryStore()
    put(store, machine("a"))
    runs = 0

    def work(transaction: Transaction) -> None:
        nonlocal runs
        runs += 1
        transaction.get(Machine, "a")
        if runs == 1:
            store.transact(lambda other: other.delete(Machine, "a"))
            put(store, machine("a"))
        transaction.put(machine("b"))

    store.transact(work)
    assert runs == 2


def test_others_writes_to_what_was_not_read_run_nothing_again() -> None:
    store = MemoryStore()
    runs = 0

    def work(transaction: Transaction) -> None:
        nonlocal runs
        runs += 1
        transaction.put(machine("a"))
        put(store, machine("b"))

    store.transact(work)
    assert runs == 1


def test_a_simulation_is_asked_before_each_call_and_may_run_others_there() -> None:
    calls: list[str] = []
    others: list[Callable[[], object]] = []

    def pause(call: str) -> None:
        calls.append(call)
        if call == "commit" and others:
            others.pop()()

    store = MemoryStore(pause=pause)
    others.append(lambda: store.transact(increment))
    store.transact(increment)
    assert count(store) == 2
    assert calls == ["get", "commit", "get", "commit", "get", "commit", "get"]
    store.find(Schedule, Query())
    assert calls[-1] == "find"
