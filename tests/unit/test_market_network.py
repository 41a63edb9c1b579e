"""Faults of the network and of hosts, on the simulated market, as functions of time."""

from __future__ import annotations

import math
import random
import statistics
from typing import Any

import pytest

from dumont.local.market import interventions
from dumont.local.market.core import Market
from dumont.local.market.faults import Fault, FaultRate
from dumont.local.market.instance import Instance
from dumont.local.market.lifecycle import BOOTS, RUNNING
from dumont.local.market.refusals import Refused

BODY: dict[str, Any] = {"image": "pytorch/pytorch:latest", "disk": 20, "label": "one"}


def rented(market: Market, now: float = 0.0, **body: Any) -> Instance:
    offer = market.search({"rentable": {"eq": True}, "num_gpus": {"eq": 1}}, now)[0]
    return market.create(offer["id"], {**BODY, **body}, now)


def up_at(instance: Instance) -> float:
    moment = instance.timeline.first(RUNNING)
    assert moment is not None
    return moment


def running(market: Market, **body: Any) -> tuple[Instance, float]:
    """An instance that runs, and a moment at which it does."""
    instance = rented(market, **body)
    return instance, up_at(instance) + 1.0


def works(instance: Instance, now: float) -> tuple[str | None, bool, bool, bool]:
    """What the market says; whether SSH, the network and the processes work."""
    alive = instance.container_since(now) is not None
    return instance.phase(now).actual, instance.ssh_works(now), instance.network_works(now), alive


def fault(market: Market, kind: str, instance: Instance, now: float, **details: Any) -> None:
    assert market.inject(Fault(kind=kind, instance_id=instance.id, **details), now) == [instance.id]


def test_a_network_is_cut_for_a_while_and_the_market_does_not_know() -> None:
    market = Market()
    instance, now = running(market)
    assert works(instance, now) == ("running", True, True, True)
    fault(market, "network_cut", instance, now, after_seconds=10.0, seconds=60.0)
    assert works(instance, now + 9.0) == ("running", True, True, True)
    assert works(instance, now + 10.0) == ("running", False, False, True)
    assert not instance.reaches_out(now + 69.0)
    assert works(instance, now + 70.0) == ("running", True, True, True)
    assert instance.reaches_out(now + 70.0)
    assert [market.next_change(now), market.next_change(now + 10.0)] == [now + 10.0, now + 70.0]


def test_a_hung_host_runs_as_far_as_the_market_knows() -> None:
    market = Market()
    instance, now = running(market)
    fault(market, "hung", instance, now, after_seconds=5.0)
    assert market.next_change(now) == now + 5.0
    assert works(instance, now + 5.0) == ("running", False, True, False)
    assert works(instance, now + 1e6) == ("running", False, True, False)
    assert not instance.reaches_out(now + 6.0)
    assert not instance.will_have_container(now + 6.0)
    market.stop(instance.id, now + 10.0)
    market.start(instance.id, now + 100.0)
    assert works(instance, now + 300.0) == ("running", True, True, True)


def test_a_hung_host_may_be_seen_to_be_offline_later() -> None:
    market = Market()
    instance, now = running(market)
    fault(market, "hung", instance, now, seconds=90.0)
    assert instance.phase(now + 89.0).actual == "running"
    assert works(instance, now + 90.0) == ("offline", False, False, False)


def test_an_offline_host_keeps_its_container_and_its_return_is_no_start() -> None:
    market = Market()
    instance, now = running(market)
    since = instance.container_since(now)
    fault(market, "offline", instance, now, seconds=60.0)
    assert works(instance, now + 1.0) == ("offline", False, False, True)
    assert works(instance, now + 60.0) == ("running", True, True, True)
    assert {instance.container_since(now + after) for after in (0.0, 30.0, 60.0, 90.0)} == {since}


@pytest.mark.parametrize("back", [True, False])
def test_a_stop_of_an_offline_host_is_done_when_it_is_back(back: bool) -> None:
    market = Market()
    instance, now = running(market)
    fault(market, "offline", instance, now, seconds=60.0 if back else None)
    market.stop(instance.id, now + 10.0)
    assert works(instance, now + 11.0) == ("offline", False, False, True)
    assert instance.phase(now + 11.0).intended == "stopped"
    assert (instance.phase(now + 61.0).actual in ("exited", "stopped")) is back
    assert (instance.container_since(now + 61.0) is None) is back


def test_a_start_of_an_offline_host_is_done_when_it_is_back() -> None:
    market = Market()
    instance, now = running(market)
    market.stop(instance.id, now)
    fault(market, "offline", instance, now + 60.0, seconds=60.0)
    market.start(instance.id, now + 70.0)
    assert works(instance, now + 71.0) == ("offline", False, False, False)
    assert instance.phase(now + 71.0).intended == "running"
    assert works(instance, now + 120.0) == ("running", True, True, True)


def test_what_is_cut_off_can_be_mended_at_any_moment() -> None:
    market = Market()
    for kind in ("network_cut", "offline"):
        instance, now = running(market)
        fault(market, kind, instance, now)
        assert not instance.network_works(now + 1000.0)
        assert interventions.mend(market, instance.id, None, now + 1000.0) == [instance.id]
        assert works(instance, now + 1000.0) == ("running", True, True, True)
        market.destroy(instance.id, now + 1001.0)


def test_a_host_that_was_stopped_while_it_was_offline_is_stopped_once_it_is_mended() -> None:
    market = Market()
    instance, now = running(market)
    fault(market, "offline", instance, now)
    market.stop(instance.id, now + 10.0)
    interventions.mend(market, None, "one", now + 20.0)
    assert works(instance, now + 20.0) == ("exited", False, True, False)


def test_a_container_that_ends_while_its_host_is_offline_is_exited_when_that_is_back() -> None:
    market = Market()
    for seconds in (60.0, None):
        instance, now = running(market)
        fault(market, "offline", instance, now, seconds=seconds)
        market.container_exited(instance.id, now + 10.0)
        assert works(instance, now + 10.0) == ("offline", False, False, False)
        if seconds is None:
            interventions.mend(market, instance.id, None, now + 60.0)
        assert works(instance, now + 60.0) == ("exited", False, True, False)


@pytest.mark.parametrize(("outlives", "unreached"), [(True, 1), (False, 0)])
def test_a_destroy_may_not_reach_a_machine_that_is_cut_off(outlives: bool, unreached: int) -> None:
    market = Market()
    instance, now = running(market)
    fault(market, "network_cut", instance, now, seconds=60.0, outlives_destroy=outlives)
    market.destroy(instance.id, now + 10.0)
    assert market.live(now + 10.0) == []
    assert len(market.unreached(now + 10.0)) == unreached
    spent = market.bill(now + 10.0).total_usd
    if outlives:
        assert market.next_change(now + 10.0) == now + 60.0
    assert market.unreached(now + 60.0) == []
    assert market.bill(now + 3600.0).total_usd == spent, "what is destroyed bills nothing, wherever it runs"


def test_a_destroy_reaches_a_machine_whose_network_is_back() -> None:
    market = Market()
    instance, now = running(market)
    fault(market, "network_cut", instance, now, seconds=60.0, outlives_destroy=True)
    market.destroy(instance.id, now + 61.0)
    assert market.unreached(now + 61.0) == []


def test_faults_at_a_create_count_from_when_it_runs() -> None:
    market = Market()
    market.inject(Fault(kind="network_cut", after_seconds=30.0, seconds=30.0), 0.0)
    market.inject(Fault(kind="hung", after_seconds=100.0), 0.0)
    instance = rented(market)
    up = up_at(instance)
    found = [works(instance, up + after)[1] for after in (0.0, 31.0, 61.0, 101.0)]
    assert found == [True, False, True, False]


def test_a_label_names_instances_and_a_star_stands_for_anything() -> None:
    market = Market()
    old, new, other = (rented(market, label=f"dumont.x.{name}.u") for name in ("ada.1", "ada.2", "bob.1"))
    now = max(up_at(each) for each in (old, new, other))
    assert market.inject(Fault(kind="hung", label="*.ada.*"), now) == [old.id], "the oldest, for a count of 1"
    assert market.inject(Fault(kind="dies", label="*.ada.*", count=None), now) == [old.id, new.id]
    assert other.phase(now).running
    with pytest.raises(Refused) as refused:
        market.inject(Fault(kind="dies", label="*.eve.*"), now)
    assert refused.value.status == 404


def test_a_fault_waits_for_a_create_of_its_label() -> None:
    market = Market()
    market.inject(Fault(kind="boot_never_ends", label="*.ada.2.*", at_create=True), 0.0)
    market.inject(Fault(kind="offer_gone", label="*.bob.*"), 0.0)
    assert rented(market, label="d.ada.1.u").timeline.first(RUNNING) is not None
    assert rented(market, label="d.ada.2.u").timeline.first(RUNNING) is None
    assert rented(market, label="d.ada.2.v").timeline.first(RUNNING) is not None, "it counts to one"
    with pytest.raises(Refused):
        rented(market, label="d.bob.1.u")


def test_destroys_and_starts_of_a_label_may_have_faults_too() -> None:
    market = Market()
    one, other = (rented(market, label=label) for label in ("d.ada.1.u", "d.bob.1.u"))
    market.inject(Fault(kind="destroy_lags", label="*.bob.*", seconds=60.0), 0.0)
    for each in (one, other):
        market.destroy(each.id, 1.0)
    assert market.live(2.0) == [other]


def test_rates_of_the_new_kinds_draw_nothing_for_the_old_ones() -> None:
    plain, faulty = Market(seed=3), Market(seed=3, fault_rates=[FaultRate(kind="hung", probability=1.0)])
    assert up_at(rented(plain)) == up_at(rented(faulty))


# --- Boots --------------------------------------------------------------------------------------------------------


def test_real_boots_have_a_tail_that_a_race_cuts_off() -> None:
    durations, rng = BOOTS["real"], random.Random(1)
    boots = [durations.boot(rng) for _ in range(40_000)]
    ending = [boot for boot in boots if math.isfinite(boot)]
    assert 1 - len(ending) / len(boots) == pytest.approx(0.05, abs=0.01)
    assert statistics.median(boots) == pytest.approx(66, abs=3)
    assert sorted(boots)[36_000] == pytest.approx(210, abs=20)
    assert sum(boot > 300 for boot in boots) / len(boots) == pytest.approx(0.084, abs=0.01)
    raced = sorted(min(durations.boot(rng) for _ in range(3)) for _ in range(20_000))
    assert raced[19_800] == pytest.approx(110, abs=15)


def test_a_boot_that_never_ends_loads_for_ever() -> None:
    market = Market(durations=BOOTS["real"], credit_usd=1e6)
    asks = [row["id"] for row in market.search({"rentable": {"eq": True}, "num_gpus": {"eq": 1}}, 0.0)]
    instances = [market.create(ask, BODY, 0.0) for ask in asks]
    endless = [each for each in instances if each.timeline.first(RUNNING) is None]
    assert 0 < len(endless) < len(instances) / 4
    assert {each.phase(1e5).actual for each in endless} == {"loading"}
    now: float | None = 0.0
    while now is not None:
        last, now = now, market.next_change(now)
    assert math.isfinite(last)
