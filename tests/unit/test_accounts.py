"""Totals of the ledger: whatever they are by they add up, days are those of a time zone; and what was saved."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dumont.domain import accounts, costs, ledger, savings
from dumont.domain.accounts import By
from dumont.domain.cloud_prices import CLOUD_PRICES
from dumont.domain.ledger import LedgerEntry
from dumont.domain.turns import Billed
from tests.unit.test_meter import DAY, LIVES, START, Life, live, rental

UTC = ZoneInfo("UTC")
BERLIN = ZoneInfo("Europe/Berlin")
EVER = (0.0, 4e9)


def entry(**changes: object) -> LedgerEntry:
    fields: dict[str, object] = {
        "id": "e", "machine": "ada", "instance_id": "i", "operation_id": "op", "provider": "vast", "gpu": "RTX 4090",
        "kind": "gpu", "amount_micro_usd": 360_000, "usd_per_hour": 0.36, "from_time": START, "to_time": START + 3600,
        "day": ledger.day_of(START), "written_at": START,
    } | changes  # fmt: skip
    return LedgerEntry(**fields)  # type: ignore[arg-type]


@settings(max_examples=100, deadline=None)
@given(LIVES, st.sampled_from(["machine", "day", "gpu", "provider", "kind"]), st.sampled_from([UTC, BERLIN]))
def test_totals_by_anything_add_up_to_the_whole(life: Life, by: By, zone: ZoneInfo) -> None:
    instance, _, _, _ = live(life)
    entries = ledger.entries(instance, 0.0)
    parts = accounts.totals(entries, by, from_time=EVER[0], to_time=EVER[1], zone=zone)
    whole = sum(e.amount_micro_usd for e in entries) / 1e6
    assert sum(part.usd for part in parts) == pytest.approx(whole)
    assert accounts.total(entries, from_time=EVER[0], to_time=EVER[1]).usd == pytest.approx(whole)
    for part in parts:
        columns = (part.gpu_usd, part.storage_usd, part.bandwidth_usd, part.object_store_usd, part.other_usd)
        assert sum(columns) == pytest.approx(part.usd)


@given(st.floats(0, 10 * DAY), st.floats(0, 10 * DAY))
def test_two_stretches_of_time_add_up_to_both(first: float, second: float) -> None:
    instance, _, _, _ = live([(Billed.RUNNING, 200_000.0, 0.0)])
    entries = ledger.entries(instance, 0.0)
    a, b = sorted([START + first, START + second])
    parts = [accounts.total(entries, from_time=x, to_time=y).usd for x, y in ((0.0, a), (a, b), (b, 4e9))]
    assert sum(parts) == pytest.approx(accounts.total(entries, from_time=0.0, to_time=4e9).usd)


def test_a_day_is_that_of_the_time_zone() -> None:
    midnight = ledger.midnight_before(START) + DAY
    late = entry(from_time=midnight - 7200.0, to_time=midnight, amount_micro_usd=720_000)
    assert [t.key for t in accounts.totals([late], "day", from_time=0, to_time=4e9, zone=UTC)] == ["2026-11-18"]
    by_day = accounts.totals([late], "day", from_time=0, to_time=4e9, zone=BERLIN)
    assert [t.key for t in by_day] == ["2026-11-18", "2026-11-19"]
    assert [t.usd for t in by_day] == pytest.approx([0.36, 0.36])


def test_what_accrues_is_counted_up_to_now_and_named() -> None:
    running = rental()
    now = START + 7200.0
    counted = [*ledger.entries(running, now), *accounts.accruing([running], now)]
    total = accounts.total(counted, from_time=0.0, to_time=4e9)
    assert total.usd == pytest.approx(costs.accrued(running, now).total_usd, abs=5e-6)
    assert 0 < total.accruing_usd < total.usd


def test_hours_of_a_machine_with_eight_gpus_count_eight_times() -> None:
    assert accounts.total([entry(gpu_count=8)], from_time=0.0, to_time=4e9).gpu_hours == pytest.approx(8.0)


# --- Savings ------------------------------------------------------------------------------------------------------


def test_a_cloud_is_compared_per_gpu_of_the_same_class_with_date_and_source() -> None:
    saved, unknown = savings.against_clouds([entry()])
    assert unknown == []
    assert {s.cloud for s in saved} == {"AWS", "GCP"}, "no 24 GB GPU of Azure's is known"
    aws = next(s for s in saved if s.cloud == "AWS")
    assert (aws.cloud_gpu, aws.same_chip) == ("A10G", False)
    assert aws.saved_usd == pytest.approx(1.006 - 0.36)
    assert aws.as_of
    assert aws.source.startswith("https://")
    assert "1.00 GPU h × $1.0060 − $0.3600 paid" in aws.formula


def test_a_node_is_never_compared_whole_with_one_gpu() -> None:
    node = next(p for p in CLOUD_PRICES if p.gpu_count == 8)
    matches = savings.same_class("A100 PCIE", 40.0, [node])
    assert matches == [(node, True)]
    saved, _ = savings.against_clouds([entry(gpu="A100 PCIE")], [node])
    assert saved[0].cloud_usd == pytest.approx(node.usd_per_hour / 8)


def test_a_gpu_of_which_no_price_is_known_is_said_to_be_uncompared() -> None:
    saved, unknown = savings.against_clouds([entry(gpu="B300")])
    assert (saved, unknown) == ([], ["B300"])


def test_never_sleeping_is_the_life_at_the_running_rate() -> None:
    ran = [
        entry(id="a", from_time=START, to_time=START + 3600.0),
        entry(id="b", kind="storage", state="running", amount_micro_usd=40_000, to_time=START + 3600.0),
        entry(id="c", kind="storage", state="paused", amount_micro_usd=160_000, from_time=START + 3600.0,
              to_time=START + 5 * 3600.0),
    ]  # fmt: skip
    saving = savings.against_never_sleeping("ada", ran, START + 5 * 3600.0)
    assert saving is not None
    assert saving.usd_per_hour == pytest.approx(0.40)
    assert saving.always_on_usd == pytest.approx(5 * 0.40)
    assert saving.saved_usd == pytest.approx(2.0 - 0.56)


def test_a_machine_that_never_ran_saved_nothing() -> None:
    assert savings.against_never_sleeping("ada", [], START) is None
