"""The stores under contract, and records to put in them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from dumont.adapters.memory_store import MemoryStore
from dumont.adapters.sqlite_store import SqliteStore
from dumont.domain.ledger import LedgerEntry
from dumont.domain.offers import Offer
from dumont.domain.records import (
    Instance,
    InstanceState,
    Machine,
    MachineSpec,
    MachineState,
    Operation,
    OperationKind,
    Record,
    Schedule,
)
from dumont.ports import Store, Transaction

STORES = [
    pytest.param("memory"),
    pytest.param("memory, serialised"),
    pytest.param("sqlite"),
    pytest.param("firestore", marks=pytest.mark.emulator),
]


def make_store(name: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store of that kind, closed at the end."""
    if name.startswith("memory"):
        yield MemoryStore(serialise=name.endswith("serialised"))
    elif name == "sqlite":
        sqlite = SqliteStore(folder / "store.db")
        yield sqlite
        sqlite.close()
    else:
        host = request.getfixturevalue("firestore_emulator")
        # Here, so that the tests of the other stores do without Google's libraries.
        from dumont.adapters.firestore_store import FirestoreStore

        firestore = FirestoreStore(f"test-{uuid.uuid4().hex[:12]}", emulator_host=host)
        yield firestore
        firestore.close()


def put(store: Store, *records: Record) -> None:
    """Put the records in one transaction."""

    def work(transaction: Transaction) -> None:
        for record in records:
            transaction.put(record)

    store.transact(work)


# --- Records ------------------------------------------------------------------------------------------------------

OFFER = Offer(provider="vast", id="1", gpu="RTX 4090", gpu_usd_per_hour=0.31, region="Genève, CH")


def machine(name: str, **changes: object) -> Machine:
    made = Machine(
        id=name, spec=MachineSpec(), state=MachineState.REQUESTED, epoch=1, created_at=100.0, updated_at=100.0
    )
    return replace(made, **changes)


def operation(name: str, **changes: object) -> Operation:
    made = Operation(id=name, kind=OperationKind.PROVISION, machine="m", epoch=1, created_at=100.0, updated_at=100.0)
    return replace(made, **changes)


def instance(name: str, **changes: object) -> Instance:
    made = Instance(
        id=name,
        machine="m",
        epoch=1,
        rented_by="op",
        operation_id="op",
        provider="vast",
        offer=OFFER,
        disk_gb=20.0,
        state=InstanceState.INTENDED,
        intended_at=100.0,
    )
    return replace(made, **changes)


def ledger_entry(name: str, **changes: object) -> LedgerEntry:
    made = LedgerEntry(
        id=name,
        machine="m",
        instance_id="i",
        operation_id="op",
        provider="vast",
        gpu="RTX 4090",
        kind="gpu",
        amount_micro_usd=1_234_567,
        usd_per_hour=0.31,
        from_time=100.0,
        to_time=200.0,
        written_at=200.0,
    )
    return replace(made, **changes)


def increment(transaction: Transaction) -> float:
    """Read, then write: what a lost update would show in. The count is kept in a schedule's time."""
    counter = transaction.get(Schedule, "counter") or Schedule(id="counter")
    counter = replace(counter, last_run_at=counter.last_run_at + 1)
    transaction.put(counter)
    return counter.last_run_at


def count(store: Store) -> float:
    counter = store.get(Schedule, "counter")
    return counter.last_run_at if counter else 0.0
