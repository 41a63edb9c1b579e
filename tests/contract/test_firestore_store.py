"""What is Firestore's own: how each failure of the server becomes another try or a typed error, and in what time."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from dumont import queries
from dumont.adapters import encoding
from dumont.adapters.firestore_store import FirestoreStore
from dumont.adapters.firestore_values import from_fields, to_fields, to_record_fields
from dumont.domain.errors import Contention, StoreUnavailable
from dumont.domain.notices import WebhookEvent
from dumont.domain.records import Machine, Schedule
from dumont.ports import Transaction
from tests.contract.scripted_firestore import Failure, ScriptedFirestore
from tests.contract.stores import increment, machine, put

ABORTED: Failure = (grpc.StatusCode.ABORTED, "Transaction lock timeout.")
UNAVAILABLE: Failure = (grpc.StatusCode.UNAVAILABLE, "socket closed")
EXPIRED: Failure = (grpc.StatusCode.INVALID_ARGUMENT, "The referenced transaction has expired or is no longer valid.")
DENIED: Failure = (grpc.StatusCode.PERMISSION_DENIED, "Missing or insufficient permissions.")


@pytest.fixture
def server() -> Iterator[ScriptedFirestore]:
    with ScriptedFirestore().serving() as server:
        yield server


@pytest.fixture
def store(server: ScriptedFirestore) -> Iterator[FirestoreStore]:
    store = FirestoreStore("test", emulator_host=server.host, call_seconds=5.0)
    yield store
    store.close()


@pytest.fixture
def hasty(server: ScriptedFirestore) -> Iterator[FirestoreStore]:
    store = FirestoreStore("test", emulator_host=server.host, call_seconds=0.5)
    yield store
    store.close()


def test_the_end_of_a_record_is_a_timestamp_as_ttl_policies_demand(
    server: ScriptedFirestore, store: FirestoreStore
) -> None:
    declared = json.loads((Path(__file__).parents[2] / "infra" / "declared.json").read_text(encoding="utf-8"))
    event = WebhookEvent(id="vast.1", provider="vast", kind="k", received_at=1.0, expires_at=1_800_000_000.25)
    put(store, event, machine("a", deadline=7.0))
    fields = [write.update.fields for write in server.named("Commit")[0].writes]
    assert fields[0][declared["expires"]].timestamp_value.timestamp() == event.expires_at
    assert fields[0]["received_at"].double_value == 1.0
    assert fields[1]["deadline"].double_value == 7.0, "what does not end a record stays a number"


def test_a_record_of_before_whose_end_is_a_number_is_read() -> None:
    event = WebhookEvent(id="vast.1", provider="vast", kind="k", received_at=1.0, expires_at=1_800_000_000.25)
    for fields in (to_fields(encoding.to_document(event)), to_record_fields(encoding.to_document(event))):
        assert encoding.from_document(WebhookEvent, from_fields(fields)) == event


@pytest.mark.parametrize("failure", [ABORTED, UNAVAILABLE])
def test_a_plain_read_that_fails_in_passing_is_made_again(
    server: ScriptedFirestore, store: FirestoreStore, failure: Failure
) -> None:
    server.failures = {"BatchGetDocuments": [failure, failure], "RunQuery": [failure, failure]}
    assert store.get(Machine, "a") is None
    assert store.find(Machine, queries.all_machines()) == []
    assert [name for name, _ in server.calls] == ["BatchGetDocuments"] * 3 + ["RunQuery"] * 3


def test_a_transaction_begins_with_its_first_read_and_reads_on_in_it(
    server: ScriptedFirestore, store: FirestoreStore
) -> None:
    def work(transaction: Transaction) -> None:
        transaction.get(Machine, "a")
        transaction.get(Machine, "b")
        transaction.get(Machine, "a")
        transaction.put(machine("a"))

    store.transact(work)
    first, second = server.named("BatchGetDocuments")
    assert "new_transaction" in first
    assert second.transaction == b"transaction 1"
    (commit,) = server.named("Commit")
    assert commit.transaction == b"transaction 1"
    assert commit.writes[0].update.name == "projects/test/databases/(default)/documents/machines/a"


def test_a_work_that_only_writes_needs_no_transaction_but_is_still_one_commit(
    server: ScriptedFirestore, store: FirestoreStore
) -> None:
    def work(transaction: Transaction) -> None:
        transaction.put(machine("a"))
        transaction.delete(Machine, "b")

    store.transact(work)
    assert [name for name, _ in server.calls] == ["Commit"]
    assert len(server.named("Commit")[0].writes) == 2


def test_a_work_that_does_nothing_asks_the_server_nothing(server: ScriptedFirestore, store: FirestoreStore) -> None:
    assert store.transact(lambda _: 1) == 1
    assert server.calls == []


@pytest.mark.parametrize(
    ("method", "failure"),
    [
        ("BatchGetDocuments", ABORTED),
        ("BatchGetDocuments", UNAVAILABLE),
        ("BatchGetDocuments", EXPIRED),
        ("Commit", ABORTED),
        ("Commit", EXPIRED),
    ],
)
def test_a_transaction_that_surely_wrote_nothing_is_run_again(
    server: ScriptedFirestore, store: FirestoreStore, method: str, failure: Failure
) -> None:
    server.failures = {method: [failure, failure]}
    runs = []
    store.transact(lambda transaction: runs.append(increment(transaction)))
    assert len(runs) == (1 if method == "BatchGetDocuments" else 3)
    assert len(server.named(method)) == 3


def test_a_transaction_run_again_keeps_its_place_in_the_line(server: ScriptedFirestore, store: FirestoreStore) -> None:
    server.failures = {"Commit": [ABORTED]}
    store.transact(increment)
    first, second = server.named("BatchGetDocuments")
    assert first.new_transaction.read_write.retry_transaction == b""
    assert second.new_transaction.read_write.retry_transaction == b"transaction 1"


def test_a_second_read_that_is_aborted_runs_the_work_again_in_a_new_transaction(
    server: ScriptedFirestore, store: FirestoreStore
) -> None:
    def work(transaction: Transaction) -> None:
        transaction.get(Machine, "a")
        transaction.get(Machine, "b")

    server.failures = {"BatchGetDocuments": [None, ABORTED]}
    store.transact(work)
    assert server.named("Commit")[0].transaction == b"transaction 2"


@pytest.mark.parametrize("failure", [UNAVAILABLE, (grpc.StatusCode.DEADLINE_EXCEEDED, "late"), DENIED])
def test_a_commit_whose_outcome_is_unknown_is_never_made_again(
    server: ScriptedFirestore, store: FirestoreStore, failure: Failure
) -> None:
    server.failures = {"Commit": [failure]}
    with pytest.raises(StoreUnavailable, match="outcome is unknown"):
        store.transact(increment)
    assert len(server.named("Commit")) == 1


def test_one_that_always_loses_ends_in_contention_when_its_time_is_up(
    server: ScriptedFirestore, hasty: FirestoreStore
) -> None:
    server.failures = {"Commit": [ABORTED] * 100, "BatchGetDocuments": []}
    with pytest.raises(Contention):
        hasty.transact(increment)
    server.failures = {"BatchGetDocuments": [ABORTED] * 100}
    with pytest.raises(Contention):
        hasty.get(Schedule, "counter")


@pytest.mark.parametrize("method", ["BatchGetDocuments", "RunQuery", "Commit"])
def test_a_server_that_does_not_answer_is_unavailable_in_time(
    server: ScriptedFirestore, hasty: FirestoreStore, method: str
) -> None:
    server.silent = {method}
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        hasty.find(Machine, queries.all_machines()) if method == "RunQuery" else hasty.transact(increment)
    assert time.monotonic() - began < 3.0


def test_no_server_is_unavailable_in_time(server: ScriptedFirestore) -> None:
    store = FirestoreStore("test", emulator_host="127.0.0.1:1", call_seconds=0.5)
    with pytest.raises(StoreUnavailable):
        store.get(Machine, "a")
    with pytest.raises(StoreUnavailable):
        store.transact(increment)
    store.close()


def test_what_does_not_pass_is_not_tried_again(server: ScriptedFirestore, store: FirestoreStore) -> None:
    server.failures = {"BatchGetDocuments": [DENIED, DENIED]}
    with pytest.raises(StoreUnavailable, match="PermissionDenied"):
        store.get(Machine, "a")
    with pytest.raises(StoreUnavailable, match="PermissionDenied"):
        store.transact(increment)
    assert len(server.calls) == 2


def test_work_that_raises_lets_go_of_its_locks(server: ScriptedFirestore, store: FirestoreStore) -> None:
    def work(transaction: Transaction) -> None:
        increment(transaction)
        raise LookupError("ours")

    with pytest.raises(LookupError, match="ours"):
        store.transact(work)
    assert server.named("Rollback")[0].transaction == b"transaction 1"
    assert server.named("Commit") == []


def test_a_rollback_that_fails_does_not_hide_why_it_was_made(
    server: ScriptedFirestore, store: FirestoreStore, caplog: pytest.LogCaptureFixture
) -> None:
    def work(transaction: Transaction) -> None:
        increment(transaction)
        raise LookupError("ours")

    server.failures = {"Rollback": [UNAVAILABLE]}
    with caplog.at_level(logging.INFO), pytest.raises(LookupError, match="ours"):
        store.transact(work)
    assert "a rollback failed" in caplog.text
