"""The ledger against the market's own bill, over random lives of instances on the simulated market."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from dumont.adapters import vast_charges
from dumont.domain import ledger, meter
from dumont.domain.errors import ProviderDown
from dumont.domain.ledger import LedgerEntry
from dumont.domain.offers import Offer
from dumont.domain.reconciling import Charged, Difference, differences
from dumont.domain.records import Instance, InstanceState
from dumont.domain.turns import Billed
from dumont.local.market import charges
from dumont.local.market.core import Market
from dumont.local.market.instance import Instance as Rented
from dumont.local.market.lifecycle import OFFLINE

START = 1_795_000_000.0
RANGE = {"select_filters": '{"day":{"gte":0,"lte":4000000000}}', "limit": "3"}


def charged(market: Market, now: float) -> list[Charged]:
    """All pages of the market's charges, as the adapter reads them."""
    found: list[Charged] = []
    token: str | None = ""
    while token is not None:
        page = charges.page(market.bill(now).instances, {**RANGE, "after_token": token}, now)
        found += [line for line in map(vast_charges.read_charged, page["results"]) if line is not None]
        token = page["next_token"]
    return found


def compare(market: Market, books: list[Instance], entries: list[LedgerEntry], now: float) -> list[Difference]:
    return differences(charged(market, now), books, entries, provider="vast", deployment="test", now=now)


def rent(market: Market, label: str, now: float) -> tuple[Rented, Instance]:
    """A rental on the market, and its record in our books."""
    ask = min(
        market.search({"rentable": {"eq": True}, "rented": {"eq": False}}, now),
        key=lambda row: (row["dph_total"], row["id"]),
    )
    body = {"image": "i", "disk": 20, "label": label}
    rented = market.create(ask["id"], body, now)
    offer = Offer(
        provider="vast", id=str(ask["id"]), gpu=ask["gpu_name"], gpu_usd_per_hour=rented.gpu_usd_per_hour,
        storage_usd_per_gb_hour=rented.storage_usd_per_hour / 20,
    )  # fmt: skip
    return rented, Instance(
        id=label, machine="ada", epoch=1, rented_by="op-1", operation_id="op-1", provider="vast", offer=offer,
        disk_gb=20.0, state=InstanceState.PROVEN, intended_at=now, created_at=now, provider_instance_id=str(rented.id),
    )  # fmt: skip


def look(record: Instance, rented: Rented, now: float) -> Instance:
    """One look, as an operation or the slow look does it."""
    phase = rented.phase(now)
    state = Billed.RUNNING if phase.running else Billed.OFFLINE if phase.actual == OFFLINE else Billed.STOPPED
    if record.booted_at is None:
        if state is not Billed.RUNNING:
            return replace(record, seen_booting_at=now)
        record = replace(record, booted_at=now)
        return replace(record, turns=meter.turns(record), metered_at=now)
    return meter.saw(record, state, now)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5))
def test_after_reconciling_the_sum_of_entries_is_the_markets_bill(seed: int, rentals: int) -> None:
    rng = random.Random(seed)
    market = Market(seed=seed, opened_at=START)
    written: dict[str, LedgerEntry] = {}
    books: list[Instance] = []
    now = START
    for number in range(rentals):
        rented, record = rent(market, f"dumont.test.ada.1.{number}", now)
        seldom = rng.choice([5.0, 60.0, 4000.0])
        for _ in range(rng.randint(1, 25)):
            now += rng.uniform(1.0, seldom)
            if rng.random() < 0.2 and rented.exists(now):
                (market.stop if rented.phase(now).running else market.start)(rented.id, now)
            before, record = record, look(record, rented, now)
            written |= {e.id: e for e in ledger.entries_between(before, record, now) if e.id not in written}
        market.destroy(rented.id, now)
        now += rng.uniform(0.1, 90.0)
        gone = replace(meter.ended(record, now), state=InstanceState.GONE, open=False, gone_at=now)
        written |= {e.id: e for e in ledger.entries_between(record, gone, now) if e.id not in written}
        books.append(gone)
    found = compare(market, books, list(written.values()), now)
    written |= {d.entry.id: d.entry for d in found if d.entry is not None}
    total = sum(e.amount_micro_usd for e in written.values()) / 1e6
    assert total == pytest.approx(market.bill(now).total_usd, abs=0.01)
    assert compare(market, books, list(written.values()), now) == [], "what was made good does not differ"


def test_one_that_ran_unseen_is_named_and_entered_once() -> None:
    market = Market(seed=3, opened_at=START)
    rented, record = rent(market, "dumont.test.ada.1.loser", START)
    market.destroy(rented.id, START + 3600)
    gone = replace(record, state=InstanceState.GONE, open=False, gone_at=START + 3600)
    entries = ledger.entries(gone, START + 3600)
    found = [d for d in compare(market, [gone], entries, START + 4000) if d.kind == "gpu"]
    assert [(d.booked_usd, d.why) for d in found] == [(0.0, "it ran, and we never saw it run")]
    again = [d for d in compare(market, [gone], entries, START + 5000) if d.kind == "gpu"]
    assert [d.entry.id for d in found if d.entry] == [d.entry.id for d in again if d.entry], "written twice is once"


def test_one_with_our_label_that_was_never_in_the_books_is_entered_too() -> None:
    market = Market(seed=3, opened_at=START)
    rented, _ = rent(market, "dumont.test.ada.1.twin", START)
    stranger, _ = rent(market, "somebody-elses", START)
    for instance in (rented, stranger):
        market.destroy(instance.id, START + 3600)
    found = compare(market, [], [], START + 50_000)
    assert {d.instance_id for d in found} == {f"dumont.test.ada.1.twin+{rented.id}"}
    assert {d.machine for d in found} == {"ada"}
    entered = sum(d.entry.amount_micro_usd for d in found if d.entry is not None) / 1e6
    line = next(x for x in market.bill(START + 50_000).instances if x.instance_id == rented.id)
    assert entered == pytest.approx(line.gpu_usd + line.storage_usd, abs=1e-5)


def test_one_that_still_bills_is_named_and_nothing_is_entered() -> None:
    market = Market(seed=3, opened_at=START)
    _, record = rent(market, "dumont.test.ada.1.a", START)
    found = compare(market, [record], [], START + 7200)
    assert found
    assert all(d.entry is None for d in found)


def test_one_that_the_bill_leaves_out_is_named_and_kept() -> None:
    market = Market(seed=3, opened_at=START)
    _, record = rent(market, "dumont.test.ada.1.a", START)
    gone = replace(record, state=InstanceState.GONE, open=False, gone_at=START + 7200)
    entries = ledger.entries(gone, START + 7200)
    [only] = differences([], [gone], entries, provider="vast", deployment="test", now=START + 8000)
    assert (only.why, only.entry) == ("it is not on the bill (yet)", None)


def test_a_line_of_the_bill_that_cannot_be_read_is_an_error_and_not_a_zero() -> None:
    with pytest.raises(ProviderDown, match="without an amount"):
        vast_charges.read_charged({"source": "instance-7", "items": []})
    with pytest.raises(ProviderDown, match="cannot be read"):
        vast_charges.read_charged(None)
    assert vast_charges.read_charged({"source": "volume-7", "amount": 1.0}) is None


def test_what_the_lines_of_a_contract_do_not_explain_is_kept_under_its_own_name() -> None:
    items = [{"type": "gpu", "amount": 1.0}, {"type": "bwd", "amount": 0.25}, {"type": "disk"}, "?"]
    read = vast_charges.read_charged({"source": "instance-7", "amount": 1.5, "metadata": None, "items": items})
    assert read is not None
    assert read.usd == pytest.approx({"gpu": 1.0, "bandwidth_in": 0.25, "other": 0.25})
    assert (read.label, read.started_at) == (None, None)
