"""The meter over random lives: what it estimates, what it bounds, and that the ledger's entries are exactly it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from dumont.domain import costs, ledger, meter
from dumont.domain.ledger import LedgerEntry
from dumont.domain.offers import Offer
from dumont.domain.records import Instance, InstanceState
from dumont.domain.turns import Billed, Traffic

OFFER = Offer(
    provider="vast", id="1", gpu="RTX 4090", gpu_usd_per_hour=0.36, storage_usd_per_gb_hour=0.0018,
    upload_usd_per_gb=0.002, download_usd_per_gb=0.001,
)  # fmt: skip
START = 1_795_000_000.0
DAY = ledger.DAY_SECONDS


def rental(**changes: object) -> Instance:
    made = Instance(
        id="label", machine="ada", epoch=1, rented_by="op-1", operation_id="op-1", provider="vast", offer=OFFER,
        disk_gb=20.0, state=InstanceState.PROVEN, intended_at=START, created_at=START, seen_booting_at=START + 10,
        booted_at=START + 12,
    )  # fmt: skip
    return replace(made, **changes)


def gone(instance: Instance, now: float) -> Instance:
    return replace(meter.ended(instance, now), state=InstanceState.GONE, open=False, gone_at=now)


def sum_usd(entries: list[LedgerEntry]) -> float:
    return sum(entry.amount_micro_usd for entry in entries) / 1e6


def test_a_stopped_instance_bills_its_disk_alone() -> None:
    stopped = meter.saw(rental(), Billed.STOPPED, START + 112, heard_at=START + 108)
    seconds = 110 - 11
    assert costs.accrued(stopped, START + 1000).gpu_usd == pytest.approx(seconds * 0.36 / 3600)
    assert costs.accrued(stopped, START + 1000).storage_usd == pytest.approx(1000 * 20 * 0.0018 / 3600)


def test_it_bills_again_from_when_it_runs_again() -> None:
    stopped = meter.saw(rental(), Billed.STOPPED, START + 112, heard_at=START + 112)
    again = meter.saw(meter.saw(stopped, Billed.BOOTING, START + 500), Billed.RUNNING, START + 520)
    assert costs.accrued(again, START + 600).gpu_usd == pytest.approx((101 + 90) * 0.36 / 3600)
    assert costs.runs_since(again) == START + 510


def test_a_host_that_is_offline_bills_nothing() -> None:
    away = meter.saw(rental(), Billed.OFFLINE, START + 112, heard_at=START + 112)
    back = meter.saw(away, Billed.RUNNING, START + 312)
    assert costs.accrued(away, START + 312) == costs.accrued(rental(), START + 112)
    assert costs.accrued(back, START + 412).total_usd < costs.accrued(rental(), START + 412).total_usd


def test_one_that_phoned_home_ran_though_nobody_saw_it_run() -> None:
    silent = rental(state=InstanceState.CREATED, booted_at=None, metered_at=START + 300)
    assert meter.gpu_seconds_at_most(gone(silent, START + 310), START, START + 400) == pytest.approx(10)
    heard = replace(silent, phoned_home_at=START + 30)
    assert meter.gpu_seconds_at_most(gone(heard, START + 310), START, START + 400) == pytest.approx(300)


def test_what_was_paused_by_us_is_not_taken_to_run_while_nobody_looks() -> None:
    by_itself, _ = costs.stopped(replace(rental(), state=InstanceState.LOST), START + 112)
    by_us, _ = costs.stopped(replace(rental(), state=InstanceState.LOST), START + 112, by_us=True)
    later = START + 40_000
    assert costs.total_at_most_usd([by_us], later) < 0.02 + costs.accrued(by_us, later).storage_usd
    assert costs.total_at_most_usd([by_itself], later) > 3.0
    assert costs.rate_usd_per_hour([by_us]) == pytest.approx(20 * 0.0018)
    assert costs.rate_usd_per_hour([by_itself]) == pytest.approx(0.36 + 20 * 0.0018)
    begun = replace(meter.saw(by_us, Billed.BOOTING, later), state=InstanceState.CREATED)
    assert costs.total_at_most_usd([begun], later + 3600) > 0.36, "once it is started it may run at any moment"


def test_a_look_that_is_older_than_what_is_known_changes_nothing() -> None:
    stopped = meter.saw(rental(), Billed.STOPPED, START + 112)
    assert meter.saw(stopped, Billed.RUNNING, START + 100) == stopped


def test_one_that_was_counted_as_gone_and_is_not_goes_on_where_its_entries_end() -> None:
    left = gone(rental(), START + 500)
    back = replace(meter.reopened(left), state=InstanceState.RELEASING, open=True, gone_at=None)
    finally_gone = gone(back, START + 900)
    written = {e.id: e for e in ledger.entries(left, START + 500)}
    for entry in ledger.entries(finally_gone, START + 900):
        assert written.setdefault(entry.id, entry).amount_micro_usd == entry.amount_micro_usd
    assert sum_usd(list(written.values())) == pytest.approx(
        costs.accrued(finally_gone, START + 5000).total_usd, abs=4e-6
    )


def test_days_are_closed_at_midnight_once_it_is_known_that_it_ran_until_then() -> None:
    midnight = ledger.midnight_before(START) + DAY
    running = rental()
    assert ledger.closable_days(running, midnight - 1) is None
    assert ledger.closable_days(running, midnight + 60) == midnight
    closed = replace(running, posted_until=midnight, metered_at=midnight + 60)
    entries = ledger.entries_between(running, closed, midnight + 61)
    assert {(e.kind, e.state) for e in entries} == {("gpu", "running"), ("storage", "running")}
    assert all(e.to_time == midnight for e in entries)
    assert ledger.closable_days(closed, midnight + 3600) is None


Life = list[tuple[Billed, float, float]]
"""States, how long each lasts, and how long after its beginning it is seen."""
LIVES: st.SearchStrategy[Life] = st.lists(
    st.tuples(
        st.sampled_from([Billed.RUNNING, Billed.STOPPED, Billed.OFFLINE]),
        st.floats(60.0, 200_000.0),
        st.floats(0.0, 59.0),
    ),
    max_size=12,
)


def live(life: Life) -> tuple[Instance, float, float, list[Instance]]:
    """An instance after its life: how long its GPU and its disk really billed, and each version of its record."""
    instance = rental()
    versions = [instance]
    now, true_gpu, true_disk = START + 12, 1.0, 12.0
    for state, seconds, seen_after in [(Billed.RUNNING, 100.0, 1.0), *life]:
        now += seconds
        true_gpu += seconds * (state is Billed.RUNNING)
        true_disk += seconds * (state is not Billed.OFFLINE)
        seen_at = now - seconds + seen_after
        versions.append(meter.saw(versions[-1], state, seen_at))
        # It is looked at again just before it changes, as the slow look does.
        versions.append(meter.saw(versions[-1], state, now - 0.001))
        midnight = ledger.closable_days(versions[-1], now - 0.001)
        if midnight is not None:
            versions.append(replace(versions[-1], posted_until=midnight))
    versions.append(gone(versions[-1], now))
    return versions[-1], true_gpu, true_disk, versions


@settings(max_examples=200, deadline=None)
@given(LIVES)
def test_the_estimate_is_off_by_no_more_than_what_was_not_seen_and_the_bound_holds(life: Life) -> None:
    instance, true_gpu, true_disk, _ = live(life)
    now = (instance.gone_at or 0.0) + 1.0
    unseen = 3.0 + sum(seen_after for _, _, seen_after in life)
    assert meter.gpu_seconds(instance, 0.0, now) == pytest.approx(true_gpu, abs=unseen)
    assert meter.storage_seconds(instance, 0.0, now) == pytest.approx(true_disk, abs=unseen)
    assert meter.gpu_seconds_at_most(instance, 0.0, now) >= true_gpu - 3.0
    assert meter.gpu_seconds_at_most(instance, 0.0, now) >= meter.gpu_seconds(instance, 0.0, now) - 1e-3


@settings(max_examples=200, deadline=None)
@given(LIVES)
def test_what_is_entered_as_things_happen_is_what_the_whole_life_costs(life: Life) -> None:
    instance, _, _, versions = live(life)
    written: dict[str, LedgerEntry] = {}
    for before, after in itertools.pairwise([None, *versions]):
        assert after is not None
        for entry in ledger.entries_between(before, after, 0.0):
            assert entry.id not in written, "nothing is entered twice"
            written[entry.id] = entry
    whole = ledger.entries(instance, 0.0)
    assert {e.id: e.amount_micro_usd for e in whole} == {i: e.amount_micro_usd for i, e in written.items()}
    cost = costs.accrued(instance, (instance.gone_at or 0.0) + 1.0)
    assert sum_usd(whole) == pytest.approx(cost.total_usd, abs=1e-6 * (len(whole) + 1))
    for entry in whole:
        assert ledger.day_of(entry.from_time) == entry.day
        assert entry.to_time - entry.from_time <= DAY
        made = entry.usd_per_hour * (entry.to_time - entry.from_time) / 3600 * 1e6
        assert entry.amount_micro_usd == pytest.approx(made, abs=0.51)


@given(st.lists(st.floats(0, 1), max_size=5))
def test_stretches_of_a_life_add_up_to_the_whole(shares: list[float]) -> None:
    instance, _, _, _ = live([(Billed.STOPPED, 5000.0, 30.0), (Billed.RUNNING, 100_000.0, 10.0)])
    end = instance.gone_at or 0.0
    edges = sorted({START, end, *[START + share * (end - START) for share in shares]})
    parts = [costs.accrued(instance, end, from_time=a, to_time=b).total_usd for a, b in itertools.pairwise(edges)]
    assert sum(parts) == pytest.approx(costs.accrued(instance, end).total_usd)


def test_traffic_is_entered_at_the_offers_price_and_marked_as_estimated() -> None:
    first = Traffic(received_bytes=3e9, sent_bytes=1e9, at=START + 3600)
    entries = ledger.traffic_entries(rental(), first, START + 3600)
    assert {(e.kind, e.amount_micro_usd, e.source) for e in entries} == {
        ("bandwidth_in", 3000, "estimated"),
        ("bandwidth_out", 2000, "estimated"),
    }
    later = ledger.traffic_entries(
        replace(rental(), traffic=first), Traffic(received_bytes=4e9, sent_bytes=1e9, at=START + 7200), START + 7200
    )
    assert [(e.kind, e.amount_micro_usd) for e in later] == [("bandwidth_in", 1000)]


def test_an_offer_that_does_not_say_what_traffic_costs_has_no_entry_of_it() -> None:
    silent = replace(rental(), offer=replace(OFFER, upload_usd_per_gb=None, download_usd_per_gb=None))
    assert ledger.traffic_entries(silent, Traffic(received_bytes=3e9, sent_bytes=1e9, at=START), START) == []


def test_readings_add_up_and_a_long_silence_counts_for_two_minutes() -> None:
    seen = ledger.more_traffic(Traffic(), 1000.0, None, START)
    seen = ledger.more_traffic(seen, 1000.0, 50.0, START + 5)
    seen = ledger.more_traffic(seen, 1000.0, None, START + 10_000)
    assert (seen.received_bytes, seen.sent_bytes) == (125_000.0, 250.0)
