"""Costs, budgets and the ledger: to the second, and never less than what bills."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dumont.domain import costs, ledger
from dumont.domain.offers import Offer
from dumont.domain.records import Instance, InstanceState

OFFER = Offer(provider="vast", id="1", gpu="RTX 4090", gpu_usd_per_hour=0.36, storage_usd_per_gb_hour=0.0018)


def rental(**changes: object) -> Instance:
    made = Instance(
        id="label", machine="ada", epoch=1, rented_by="op-1", operation_id="op-1", provider="vast", offer=OFFER,
        disk_gb=20.0, state=InstanceState.BOOTED, intended_at=0.0, created_at=0.0, seen_booting_at=100.0,
        booted_at=100.0,
    )  # fmt: skip
    return replace(made, **changes)


def test_the_disk_bills_from_creation_and_the_gpu_from_when_it_runs() -> None:
    cost = costs.accrued(rental(), 200.0)
    assert cost.gpu_usd == pytest.approx(100 * 0.36 / 3600)
    assert cost.storage_usd == pytest.approx(200 * 20 * 0.0018 / 3600)


def test_a_start_between_two_looks_counts_from_the_middle() -> None:
    """It happened between them, and nobody says when: over many rentals the errors cancel."""
    assert costs.runs_since(rental(seen_booting_at=96.0, booted_at=100.0)) == 98.0
    assert costs.runs_since(rental(seen_booting_at=None, booted_at=4.0)) == 2.0
    assert costs.runs_since(rental(booted_at=None)) is None


def test_a_rental_stops_billing_only_when_it_is_gone() -> None:
    releasing = rental(state=InstanceState.RELEASING, releasing_at=150.0)
    assert costs.accrued(releasing, 300.0) == costs.accrued(rental(), 300.0)
    gone = rental(state=InstanceState.GONE, open=False, gone_at=200.0)
    assert costs.accrued(gone, 10_000.0) == costs.accrued(rental(), 200.0)


def test_a_create_whose_answer_was_lost_is_counted_on_the_side_of_caution() -> None:
    unknown = rental(state=InstanceState.INTENDED, created_at=None, booted_at=None, outcome_unknown=True)
    assert costs.accrued(unknown, 100.0).storage_usd > 0
    refused = rental(state=InstanceState.GONE, created_at=None, booted_at=None, gone_at=1.0)
    assert costs.accrued(refused, 100.0).total_usd == 0


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=6), st.floats(0, 2000))
def test_stretches_of_time_add_up_to_the_whole(cuts: list[float], now: float) -> None:
    edges = sorted({0.0, now, *[c for c in cuts if c < now]})
    parts = [costs.accrued(rental(), now, from_time=a, to_time=b).total_usd for a, b in itertools.pairwise(edges)]
    assert sum(parts) == pytest.approx(costs.accrued(rental(), now).total_usd)


@given(st.floats(0.0001, 10), st.floats(0, 5000))
def test_a_budget_is_not_passed_before_its_deadline(budget_usd: float, now: float) -> None:
    books = [rental(), rental(id="other", booted_at=None)]
    deadline = costs.budget_deadline(books, budget_usd, now)
    assert deadline is not None
    assert deadline >= now
    if costs.total_at_most_usd(books, now) < budget_usd:
        assert costs.total_at_most_usd(books, deadline) <= budget_usd + 1e-9
        assert costs.total(books, deadline).total_usd <= costs.total_at_most_usd(books, deadline) + 1e-9


def test_no_budget_and_nothing_that_bills_have_no_deadline() -> None:
    assert costs.budget_deadline([rental()], None, 0.0) is None
    assert costs.budget_deadline([rental(state=InstanceState.GONE, open=False, gone_at=1.0)], 1.0, 5.0) is None


def test_the_ledger_is_written_once_gone_and_sums_to_the_cost() -> None:
    assert ledger.entries(rental(booted_at=None), 500.0) == []
    gone = rental(state=InstanceState.GONE, open=False, gone_at=3700.0)
    entries = ledger.entries(gone, 4000.0)
    assert {e.kind for e in entries} == {"gpu", "storage"}
    assert sum(e.amount_micro_usd for e in entries) / 1e6 == pytest.approx(
        costs.accrued(gone, 4000.0).total_usd, abs=2e-6
    )
    assert [e.id for e in entries] == [e.id for e in ledger.entries(gone, 9000.0)], "written again is the same"
