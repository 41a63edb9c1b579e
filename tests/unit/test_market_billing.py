"""What the simulated market bills, to the second and below."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.local.market.core import Market
from dumont.local.market.faults import Fault
from dumont.local.market.instance import Instance
from dumont.local.market.lifecycle import RUNNING
from dumont.local.market.refusals import Refused

DISK_GB = 100


def rented(market: Market, **body: Any) -> tuple[Instance, float]:
    """An instance created at 0, and when it runs."""
    offer = market.search({"rentable": {"eq": True}, "disk_space": {"gt": DISK_GB}}, 0.0)[0]
    instance = market.create(offer["id"], {"image": "a", "disk": DISK_GB, **body}, 0.0)
    up = instance.timeline.first(RUNNING)
    assert up is not None
    return instance, up


def test_the_gpu_is_billed_while_it_runs_and_the_disk_from_creation_on() -> None:
    market = Market()
    instance, up = rented(market)
    booting = market.bill(up)
    assert booting.gpu_usd == 0.0
    assert booting.storage_usd == pytest.approx(up / 3600 * DISK_GB * instance.ask.storage_usd_per_gb_month / 720)
    hour_later = market.bill(up + 3600.0)
    assert hour_later.gpu_usd == pytest.approx(instance.ask.gpu_usd_per_hour)
    assert hour_later.instances[0].gpu_seconds == pytest.approx(3600.0)
    assert market.bill(up + 3601.0).gpu_usd == pytest.approx(instance.ask.gpu_usd_per_hour * 3601 / 3600)


def test_a_stopped_instance_bills_its_disk_alone_and_a_destroyed_one_nothing() -> None:
    market = Market()
    instance, up = rented(market)
    market.stop(instance.id, up + 100.0)
    stopped_by = market.next_change(up + 100.0)
    assert stopped_by is not None
    before, after = market.bill(stopped_by), market.bill(stopped_by + 7200.0)
    assert before.instances[0].gpu_seconds == pytest.approx(stopped_by - up)
    assert after.gpu_usd == before.gpu_usd
    assert after.storage_usd - before.storage_usd == pytest.approx(2 * instance.storage_usd_per_hour)
    market.destroy(instance.id, stopped_by + 7200.0)
    assert market.bill(1e6).total_usd == market.bill(stopped_by + 7200.0).total_usd


def test_nothing_is_billed_while_the_host_is_offline() -> None:
    market = Market()
    instance, up = rented(market)
    market.inject(Fault(kind="offline", instance_id=instance.id, seconds=3600.0), up + 50.0)
    assert market.bill(up + 3650.0).total_usd == pytest.approx(market.bill(up + 50.0).total_usd)
    assert market.bill(up + 3660.0).instances[0].gpu_seconds == pytest.approx(60.0)


def test_an_interruptible_instance_bills_its_bid() -> None:
    market = Market()
    offer = market.search({"type": "bid", "rentable": {"eq": True}}, 0.0)[0]
    instance = market.create(offer["id"], {"image": "a", "disk": 8, "price": offer["min_bid"] + 0.01}, 0.0)
    up = instance.timeline.first(RUNNING)
    assert up is not None
    assert market.bill(up + 3600.0).gpu_usd == pytest.approx(offer["min_bid"] + 0.01)


def test_credit_sinks_by_what_is_billed() -> None:
    market = Market(credit_usd=5.0)
    _, up = rented(market)
    bill = market.bill(up + 3600.0)
    assert bill.credit_usd == market.credit_usd(up + 3600.0) == pytest.approx(5.0 - bill.total_usd)


def test_without_credit_everything_stops_at_that_very_moment() -> None:
    market = Market()
    instance, up = rented(market)
    market.set_credit(1.0, up)
    moment = up + 3600.0 / (instance.gpu_usd_per_hour + instance.storage_usd_per_hour)
    bill = market.bill(moment + 1e5)
    assert bill.instances[0].gpu_seconds == pytest.approx(moment - up)
    phase = instance.phase(moment + 1.0)
    assert (phase.actual, phase.intended) == ("exited", "stopped")
    assert bill.credit_usd == pytest.approx(-1e5 / 3600 * instance.storage_usd_per_hour)
    for refused in (lambda: market.start(instance.id, moment + 1e5), lambda: rented(market)):
        with pytest.raises(Refused, match="insufficient_credit"):
            refused()


@given(st.lists(st.floats(min_value=0, max_value=1e5), max_size=12))
def test_the_bill_does_not_depend_on_how_often_one_looks(looks: list[float]) -> None:
    watched, unwatched = Market(seed=2, credit_usd=1.5), Market(seed=2, credit_usd=1.5)
    for market in (watched, unwatched):
        rented(market)
    for look in sorted(looks):
        watched.bill(look)
    assert watched.bill(2e5).total_usd == pytest.approx(unwatched.bill(2e5).total_usd)
    assert watched.credit_usd(2e5) == pytest.approx(unwatched.credit_usd(2e5))
