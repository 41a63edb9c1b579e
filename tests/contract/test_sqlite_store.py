"""What is SQLite's own: many processes on one file, the lock's time-out, indexes, and a process that is killed."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dumont.adapters.sqlite_store import INDEXES, SqliteStore, select
from dumont.domain.collections import RECORDS
from dumont.domain.errors import Contention, StoreUnavailable
from dumont.domain.records import Machine, Schedule
from dumont.ports import Query, Transaction
from tests.contract.stores import count, increment, machine, put
from tests.contract.test_store_queries import CASES

SCRIPT = """
import sys
from dumont.adapters.sqlite_store import SqliteStore
from dumont.domain.records import Schedule

def ready():
    print("ready", flush=True)
    sys.stdin.readline()

def increment(transaction):
    counter = transaction.get(Schedule, "counter") or Schedule(id="counter")
    transaction.put(Schedule(id="counter", last_run_at=counter.last_run_at + 1))

def half(transaction):
    increment(transaction)
    transaction.put(Schedule(id="half"))
    ready()
"""
INCREMENT = f"""{SCRIPT}
ready()
store = SqliteStore(sys.argv[1])
for _ in range(50):
    store.transact(increment)
store.close()
"""
DIE_HALFWAY = f"""{SCRIPT}
SqliteStore(sys.argv[1]).transact(half)
"""

MADE_FOR = {
    "open instances of a machine",
    "instances of an operation",
    "instances rented by an operation",
    "open instances",
    "a machine's history",
    "the latest operations",
    "all machines",
    "a machine's ledger",
    "a machine's snapshots",
    "the latest snapshots",
    "a subscription's deliveries",
    "a subscription's dead deliveries",
}
"""The queries whose order comes from an index too."""
SORTED = {
    "due operations",
    "due machines",
    "due deliveries",
    "the first few that are due",
    "instances that a machine ever had",
    "instances that some machines ever had",
    "instances of some operations",
    "instances rented by some operations",
    "the ledger of some days",
    "a machine's ledger of some days",
    "the ledger of some instances",
    "instances by their provider's ids",
}
"""The queries that may sort the few records that an index found."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path, busy_seconds=5.0)
    yield store
    store.close()


def start(script: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def test_processes_that_make_the_file_and_increment_at_once_lose_nothing(path: Path) -> None:
    processes = [start(INCREMENT, path) for _ in range(5)]
    for process in processes:
        wait_until_ready(process)
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0] * 5
    store = SqliteStore(path)
    assert count(store) == 250
    store.close()


def test_a_process_killed_in_its_transaction_leaves_nothing_half_done(path: Path, store: SqliteStore) -> None:
    store.transact(increment)
    process = start(DIE_HALFWAY, path)
    wait_until_ready(process)
    process.kill()
    process.communicate(timeout=10)
    assert store.get(Schedule, "half") is None
    assert store.transact(increment) == 2


def test_what_is_stored_is_there_when_the_file_is_opened_again(path: Path, store: SqliteStore) -> None:
    put(store, machine("a"))
    store.close()
    again = SqliteStore(path)
    assert again.get(Machine, "a") == machine("a")
    again.close()


def test_a_lock_held_too_long_by_another_process_is_contention_and_writes_nothing(path: Path) -> None:
    store = SqliteStore(path, busy_seconds=0.1)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(Contention):
        store.transact(increment)
    assert count(store) == 0, "readers never wait"
    holder.execute("ROLLBACK")
    holder.close()
    assert store.transact(increment) == 1
    store.close()


def test_a_transaction_within_a_transaction_is_contention_and_no_deadlock(path: Path) -> None:
    store = SqliteStore(path, busy_seconds=0.1)

    def work(transaction: Transaction) -> None:
        increment(transaction)
        store.transact(increment)

    with pytest.raises(Contention):
        store.transact(work)
    assert count(store) == 0
    store.close()


def test_a_closed_store_says_so(store: SqliteStore) -> None:
    store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        store.get(Machine, "a")


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreUnavailable):
        SqliteStore(tmp_path / "noise")
    with pytest.raises(StoreUnavailable):
        SqliteStore(tmp_path / "missing" / "store.db")


def test_work_that_leaves_with_any_exception_frees_the_lock(store: SqliteStore) -> None:
    def work(transaction: Transaction) -> None:
        increment(transaction)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.transact(work)
    assert store.transact(increment) == 1


@pytest.mark.parametrize("case", sorted(MADE_FOR | SORTED))
def test_each_query_runs_on_an_index(path: Path, store: SqliteStore, case: str) -> None:
    kind, query, _ = CASES[case]
    statement, values = select(kind.collection, query)
    with sqlite3.connect(path) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    connection.close()
    assert f"USING INDEX {kind.collection}_by_" in plan[0], plan
    if case in MADE_FOR:
        assert len(plan) == 1, f"sorts: {plan}"


def test_indexes_are_on_fields_that_records_have() -> None:
    fields = {kind.collection: set(kind.__struct_fields__) for kind in RECORDS}
    for collection, indexes in INDEXES.items():
        for index in indexes:
            assert fields[collection] >= set(index)


def test_a_field_that_is_no_name_never_reaches_the_sql() -> None:
    with pytest.raises(ValueError, match="not a field"):
        select(Schedule.collection, Query(order_by="id') --"))
