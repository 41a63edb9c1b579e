"""What every store does: one suite, each store. Queries and concurrency have files of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from dumont.domain.notices import WebhookEvent
from dumont.domain.records import (
    Check,
    GpuReading,
    InstanceState,
    Machine,
    MachineSpec,
    MachineState,
    Proof,
    Schedule,
    SshEndpoint,
    Step,
)
from dumont.ports import Query, Store, Transaction, Where
from tests.contract.stores import OFFER, STORES, instance, machine, make_store, operation, put


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    yield from make_store(request.param, tmp_path, request)


def notice(event_id: str, expires_at: float) -> WebhookEvent:
    return WebhookEvent(id=event_id, provider="vast", kind="k", received_at=1.0, expires_at=expires_at)


def test_a_record_that_was_never_put_is_none(store: Store) -> None:
    assert store.get(Machine, "nobody") is None
    assert store.transact(lambda transaction: transaction.get(Machine, "nobody")) is None


def test_a_record_put_is_got_back_equal(store: Store) -> None:
    put(store, machine("a"))
    assert store.get(Machine, "a") == machine("a")


def test_when_a_record_ends_is_got_back_to_the_microsecond_and_stays_as_it_is(store: Store) -> None:
    for number, moment in enumerate((1_800_000_000.0, 1_800_000_000.123456, 1_799_999_999.9999995)):
        event = notice(f"vast.{number}", moment)
        put(store, event)
        first = store.get(WebhookEvent, event.id)
        assert first is not None
        assert abs(first.expires_at - moment) < 1e-6
        put(store, first)
        assert store.get(WebhookEvent, event.id) == first, "what is read is written as the same"


def test_what_ends_can_be_asked_for_by_its_end(store: Store) -> None:
    put(store, notice("vast.a", 100.0), notice("vast.b", 200.0))
    ended = Query(where=(Where("expires_at", "<=", 150.0),))
    assert [event.id for event in store.find(WebhookEvent, ended)] == ["vast.a"]


def test_put_replaces_the_whole_record(store: Store) -> None:
    put(store, machine("a", operation_id="op", deadline=5.0))
    put(store, machine("a"))
    assert store.get(Machine, "a") == machine("a")


def test_delete_removes_a_record_and_of_one_that_is_not_there_succeeds(store: Store) -> None:
    put(store, machine("a"))
    for _ in range(2):
        store.transact(lambda transaction: transaction.delete(Machine, "a"))
        assert store.get(Machine, "a") is None


def test_create_keeps_the_first_and_raises_nothing(store: Store) -> None:
    store.transact(lambda transaction: transaction.create(machine("a", epoch=1)))
    store.transact(lambda transaction: transaction.create(machine("a", epoch=2)))
    assert store.get(Machine, "a") == machine("a", epoch=1)


def test_a_record_is_created_again_after_it_was_deleted(store: Store) -> None:
    def renew(transaction: Transaction) -> None:
        transaction.delete(Machine, "a")
        transaction.create(machine("a", epoch=2))

    put(store, machine("a"))
    store.transact(renew)
    assert store.get(Machine, "a") == machine("a", epoch=2)


def test_within_a_transaction_what_was_written_is_read(store: Store) -> None:
    def work(transaction: Transaction) -> list[Machine | None]:
        seen = [transaction.get(Machine, "a")]
        transaction.put(machine("a", epoch=2))
        seen.append(transaction.get(Machine, "a"))
        transaction.create(machine("a", epoch=3))
        seen.append(transaction.get(Machine, "a"))
        transaction.delete(Machine, "a")
        seen.append(transaction.get(Machine, "a"))
        transaction.create(machine("b"))
        seen.append(transaction.get(Machine, "b"))
        return seen

    put(store, machine("a", epoch=1))
    second = machine("a", epoch=2)
    assert store.transact(work) == [machine("a", epoch=1), second, second, None, machine("b")]
    assert store.get(Machine, "a") is None
    assert store.get(Machine, "b") == machine("b")


def test_reads_may_follow_writes(store: Store) -> None:
    def work(transaction: Transaction) -> Machine | None:
        transaction.put(machine("b"))
        return transaction.get(Machine, "a")

    put(store, machine("a"))
    assert store.transact(work) == machine("a")


def test_nothing_is_seen_outside_before_the_commit(store: Store) -> None:
    def work(transaction: Transaction) -> Machine | None:
        transaction.put(machine("a"))
        return store.get(Machine, "a")

    assert store.transact(work) is None
    assert store.get(Machine, "a") == machine("a")


def test_an_exception_rolls_back_all_and_propagates(store: Store) -> None:
    def work(transaction: Transaction) -> None:
        transaction.get(Machine, "a")
        transaction.put(machine("a", epoch=2))
        transaction.put(operation("op"))
        transaction.delete(Machine, "b")
        raise LookupError("ours")

    put(store, machine("a"), machine("b"))
    with pytest.raises(LookupError, match="ours"):
        store.transact(work)
    assert store.get(Machine, "a") == machine("a")
    assert store.get(Machine, "b") == machine("b")
    assert store.get(type(operation("op")), "op") is None
    put(store, machine("a", epoch=3))
    assert store.get(Machine, "a") == machine("a", epoch=3)


def test_a_transaction_answers_with_what_its_work_does(store: Store) -> None:
    assert store.transact(lambda _: "done") == "done"


def test_a_transaction_over_several_collections_is_one(store: Store) -> None:
    def work(transaction: Transaction) -> None:
        transaction.create(machine("a", operation_id="op"))
        transaction.create(operation("op", machine="a"))
        transaction.create(instance("i", machine="a"))

    store.transact(work)
    assert store.get(Machine, "a") == machine("a", operation_id="op")
    assert store.get(type(operation("op")), "op") == operation("op", machine="a")
    assert store.get(type(instance("i")), "i") == instance("i", machine="a")


def test_the_same_id_in_two_collections_is_two_records(store: Store) -> None:
    put(store, machine("x"), operation("x"))
    store.transact(lambda transaction: transaction.delete(Machine, "x"))
    assert store.get(type(operation("x")), "x") == operation("x")


def test_enums_structs_tuples_and_unicode_come_back_as_they_were(store: Store) -> None:
    proof = Proof(
        checks=(Check(name="ssh", ok=True, seconds=1.25, seen="ユニコード — ±∞ 🦆 \u0000 \\ '\" $.x"),),
        started_at=1e9 + 0.1,
        seconds=2.0,
        gpus=(GpuReading(model="RTX 4090", vram_mib=24564.0), GpuReading(model="RTX 4090")),
    )
    record = instance(
        "dumont.main.trainer-1.2.7f",
        state=InstanceState.PROVEN,
        proof=proof,
        ssh=SshEndpoint(host="192.0.2.1", port=2222),
        tries=2**53 + 1,
    )
    put(store, record)
    found = store.get(type(record), record.id)
    assert found == record
    assert found is not None
    assert found.state is InstanceState.PROVEN
    assert found.proof is not None
    assert isinstance(found.proof.checks, tuple)


def test_a_float_that_is_a_whole_number_stays_a_float(store: Store) -> None:
    put(store, Schedule(id="s", last_run_at=1700000000.0))
    found = store.get(Schedule, "s")
    assert found is not None
    assert isinstance(found.last_run_at, float)


def test_a_large_record_is_kept_whole(store: Store) -> None:
    steps = tuple(Step(name=f"step {n}", started_at=n, ended_at=n + 0.5, detail="é" * 500) for n in range(200))
    large = operation("large", steps=steps, candidates=(OFFER,) * 200)
    put(store, large)
    assert store.get(type(large), "large") == large


def test_a_spec_with_all_fields_set_is_kept(store: Store) -> None:
    spec = MachineSpec(
        gpu="RTX 4090", max_price_usd_per_hour=0.5, region="CH", ssh_public_keys=("ssh-ed25519 AAAA",) * 8
    )
    record = machine("a", spec=spec, state=MachineState.FAILING_OVER, host_key="ssh-ed25519 AAAA")
    put(store, record)
    assert store.get(Machine, "a") == record


@pytest.mark.parametrize("record_id", ["", "a/b", ".", "..", "__a__"])
def test_an_id_that_firestore_could_not_hold_is_no_id_anywhere(store: Store, record_id: str) -> None:
    assert store.get(Machine, record_id) is None
    assert store.transact(lambda transaction: transaction.get(Machine, record_id)) is None
    with pytest.raises(ValueError, match="not an id"):
        put(store, machine(record_id))
    store.transact(lambda transaction: transaction.delete(Machine, record_id))


def test_an_operator_that_stores_do_not_share_is_refused(store: Store) -> None:
    put(store, machine("a"))
    with pytest.raises(ValueError, match="!="):
        store.find(Machine, Query(where=(Where("epoch", "!=", 1),)))


def test_a_record_read_is_safe_to_change_by_replacing(store: Store) -> None:
    put(store, machine("a"))
    first = store.get(Machine, "a")
    assert first is not None
    replace(first, epoch=9)
    assert store.get(Machine, "a") == machine("a")
