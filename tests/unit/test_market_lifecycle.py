"""What the simulated market's instances go through, as functions of time."""

from __future__ import annotations

import contextlib
import math
import random
import statistics
from typing import Any

import pytest

from dumont.local.market.core import Market
from dumont.local.market.faults import Fault
from dumont.local.market.instance import Instance
from dumont.local.market.lifecycle import RUNNING, Durations
from dumont.local.market.refusals import Refused
from dumont.local.market.rows import instance_row

BODY: dict[str, Any] = {"image": "pytorch/pytorch:latest", "disk": 20, "label": "one"}


def rented(market: Market, now: float = 0.0, **body: Any) -> Instance:
    offer = market.search({"rentable": {"eq": True}, "num_gpus": {"eq": 1}}, now)[0]
    return market.create(offer["id"], {**BODY, **body}, now)


def boot_seconds(instance: Instance) -> float:
    running = instance.timeline.first(RUNNING)
    assert running is not None
    return running - instance.created_at


def running(market: Market, **body: Any) -> tuple[Instance, float]:
    """An instance that runs, and a moment at which it does."""
    instance = rented(market, **body)
    return instance, instance.created_at + boot_seconds(instance) + 1.0


def states(instance: Instance, now: float) -> tuple[str | None, str | None, str]:
    phase = instance.phase(now)
    return phase.actual, phase.cur, phase.intended


def test_an_instance_says_nothing_then_loads_then_runs() -> None:
    instance = rented(Market())
    seconds = boot_seconds(instance)
    assert states(instance, 0.0)[0] is None
    assert states(instance, seconds * 0.5) == ("loading", "running", "running")
    assert states(instance, seconds) == ("running", "running", "running")


def test_while_loading_the_message_has_docker_s_layers_and_once_up_it_says_success() -> None:
    instance = rented(Market())
    seconds = boot_seconds(instance)
    loading = instance_row(instance, seconds * 0.6, 0.0)
    assert "Pull complete" in loading["status_msg"]
    assert "Waiting" in loading["status_msg"] or "Downloading" in loading["status_msg"]
    assert "ports" not in loading
    up = instance_row(instance, seconds + 60.0, 0.0)
    assert up["status_msg"].startswith("success, running pytorch/pytorch_latest")
    assert up["ports"]["22/tcp"][0]["HostPort"].isdigit()
    assert up["uptime_mins"] == pytest.approx(1.0)


def test_the_same_seed_boots_the_same_offers_alike_in_whatever_order_they_are_rented() -> None:
    offers = [row["id"] for row in Market(seed=5).search({"num_gpus": {"eq": 1}, "rentable": {"eq": True}}, 0.0)[:6]]
    forward, backward = Market(seed=5), Market(seed=5)
    one = {ask: boot_seconds(forward.create(ask, BODY, 10.0)) for ask in offers}
    other = {ask: boot_seconds(backward.create(ask, BODY, 99.0)) for ask in reversed(offers)}
    assert {ask: round(s, 6) for ask, s in one.items()} == {ask: round(s, 6) for ask, s in other.items()}
    assert len({round(seconds, 6) for seconds in one.values()}) == len(offers)


def test_boots_follow_the_stated_mixture() -> None:
    durations, rng = Durations(), random.Random(1)
    boots = sorted(durations.boot(rng) for _ in range(20_000))

    def share_below(seconds: float) -> float:
        cached = _lognormal_share_below(seconds, 17.0, 0.35)
        return 0.3 * cached + 0.7 * _lognormal_share_below(seconds, 75.0, 0.4)

    # Kolmogorov–Smirnov: below 1.63/√n by chance in 99 of 100 runs; the seed is fixed.
    distance = max(abs((i + 0.5) / len(boots) - share_below(boot)) for i, boot in enumerate(boots))
    assert distance < 1.63 / math.sqrt(len(boots))
    quantiles = statistics.quantiles(boots, n=100)
    assert quantiles[9] == pytest.approx(15, abs=1)
    assert quantiles[49] == pytest.approx(60, abs=2)
    assert quantiles[89] == pytest.approx(115, abs=3)


def _lognormal_share_below(value: float, median: float, sigma: float) -> float:
    return 0.5 * (1.0 + math.erf(math.log(value / median) / (sigma * math.sqrt(2.0))))


def test_the_first_of_five_racers_is_up_in_about_17_seconds() -> None:
    durations, rng = Durations(), random.Random(2)
    fastest = [min(durations.boot(rng) for _ in range(5)) for _ in range(4000)]
    assert 14.0 < statistics.median(fastest) < 18.0


def test_the_time_scale_shortens_boots_and_not_bills() -> None:
    slow, fast = Market(seed=1), Market(seed=1, time_scale=0.01)
    one, other = rented(slow), rented(fast)
    assert boot_seconds(other) == pytest.approx(boot_seconds(one) * 0.01)
    at = boot_seconds(other)
    assert fast.bill(at + 3600.0).gpu_usd == pytest.approx(other.ask.gpu_usd_per_hour)


def test_stopping_takes_some_seconds_and_keeps_the_offer() -> None:
    market = Market()
    instance, now = running(market)
    market.stop(instance.id, now)
    assert states(instance, now) == ("running", "running", "stopped")
    actual, cur, intended = states(instance, now + 60.0)
    assert actual in ("exited", "stopped")
    assert (cur, intended) == ("stopped", "stopped")


def test_starting_shows_exited_until_it_runs() -> None:
    market = Market()
    instance, now = running(market)
    market.stop(instance.id, now)
    market.start(instance.id, now + 60.0)
    assert states(instance, now + 60.0) == ("exited", "running", "running")
    assert states(instance, now + 60.0 + 181.0) == ("running", "running", "running")


def test_a_refused_start_is_queued_and_starts_later_unless_it_is_stopped() -> None:
    market = Market()
    instance, now = running(market)
    market.stop(instance.id, now)
    for cancelled in (True, False):
        market.inject(Fault(kind="resume_refused", instance_id=instance.id, seconds=100.0), now + 60.0)
        with pytest.raises(Refused) as refused:
            market.start(instance.id, now + 60.0)
        assert refused.value.msg == "Required resources are currently unavailable, state change queued."
        assert states(instance, now + 60.0) == ("exited", "stopped", "running")
        if cancelled:
            market.stop(instance.id, now + 61.0)
            assert not instance.timeline.will_run(now + 61.0)
    assert states(instance, now + 200.0)[0] == "running"


def test_rebooting_keeps_the_instance_and_brings_it_back() -> None:
    market = Market()
    instance, now = running(market)
    market.reboot(instance.id, now)
    assert states(instance, now)[0] == "rebooting"
    assert states(instance, now + 200.0)[0] == "running"
    assert instance.timeline.running_since(now + 200.0) != instance.timeline.running_since(now - 0.5)


def test_a_destroyed_instance_is_gone_at_once() -> None:
    market = Market()
    instance, now = running(market)
    market.destroy(instance.id, now)
    assert market.live(now) == []
    for act in (market.destroy, market.start, market.stop, market.instance):
        with pytest.raises(Refused) as refused:
            act(instance.id, now)
        assert (refused.value.status, refused.value.error) == (404, "no_such_instance")


def test_a_destroy_that_lags_leaves_the_instance_there_for_a_while() -> None:
    market = Market()
    instance, now = running(market)
    market.inject(Fault(kind="destroy_lags", seconds=30.0), now)
    market.destroy(instance.id, now)
    market.destroy(instance.id, now + 10.0)
    assert [i.id for i in market.live(now + 29.0)] == [instance.id]
    assert market.live(now + 30.0) == []


@pytest.mark.parametrize(
    ("kind", "expected", "message"),
    [
        ("boot_never_ends", ("loading", "running", "running"), "Waiting"),
        ("oci_error", ("created", "stopped", "running"), "OCI runtime create failed"),
        ("bad_image", ("loading", "running", "running"), "manifest unknown"),
    ],
)
def test_boots_that_fail_never_run(kind: str, expected: tuple[str, str, str], message: str) -> None:
    market = Market()
    market.inject(Fault(kind=kind), 0.0)
    instance, healthy = rented(market), rented(market)
    assert states(instance, 9000.0) == expected
    assert message in instance_row(instance, 9000.0, 0.0)["status_msg"]
    assert market.bill(9000.0).instances[0].gpu_usd == 0.0
    assert states(healthy, 9000.0)[0] == "running"


def test_a_container_that_dies_is_exited_and_can_be_started_again() -> None:
    market = Market()
    market.inject(Fault(kind="dies", after_seconds=600.0), 0.0)
    instance = rented(market)
    up = boot_seconds(instance)
    assert states(instance, up + 599.0)[0] == "running"
    assert states(instance, up + 600.0) == ("exited", "running", "running")
    market.start(instance.id, up + 700.0)
    assert states(instance, up + 900.0)[0] == "running"


def test_a_lost_host_is_offline_and_may_come_back() -> None:
    market = Market()
    instance, now = running(market)
    market.inject(Fault(kind="offline", instance_id=instance.id, seconds=60.0), now)
    assert states(instance, now) == ("offline", "running", "running")
    assert states(instance, now + 60.0) == ("running", "running", "running")
    market.inject(Fault(kind="offline", instance_id=instance.id), now + 100.0)
    assert states(instance, now + 1e6)[0] in ("offline", "exited")


def test_a_lost_bid_stops_the_instance_and_a_higher_one_resumes_it() -> None:
    market = Market()
    offer = market.search({"type": "bid", "rentable": {"eq": True}}, 0.0)[0]
    instance = market.create(offer["id"], {**BODY, "price": offer["min_bid"]}, 0.0)
    now = boot_seconds(instance) + 1.0
    market.inject(Fault(kind="bid_lost", instance_id=instance.id), now)
    assert states(instance, now) == ("exited", "stopped", "stopped")
    assert market.change_bid(instance.id, None, now + 10.0) > offer["min_bid"]
    assert states(instance, now + 200.0)[0] == "running"
    market.change_bid(instance.id, 0.001, now + 300.0)
    assert states(instance, now + 300.0)[1] == "stopped"


def test_a_bid_that_is_too_low_leaves_a_stopped_instance() -> None:
    market = Market()
    offer = market.search({"type": "bid", "rentable": {"eq": True}}, 0.0)[0]
    with pytest.raises(Refused) as refused:
        market.create(offer["id"], {**BODY, "price": 0.001}, 0.0)
    (instance,) = market.live(0.0)
    assert refused.value.body()["new_contract"] == instance.id
    assert states(instance, 1e4) == ("stopped", "stopped", "stopped")


@pytest.mark.parametrize("status", [400, 404, 410])
def test_an_offer_that_is_gone_stays_away_for_a_while(status: int) -> None:
    market = Market()
    ask_id = market.search({"rentable": {"eq": True}}, 0.0)[0]["id"]
    market.inject(Fault(kind="offer_gone", ask_id=ask_id, status=status), 0.0)
    with pytest.raises(Refused) as refused:
        market.create(ask_id, BODY, 0.0)
    assert refused.value.status == status
    assert "no_such_ask" in refused.value.msg
    assert market.live(0.0) == []
    assert not market.search({"id": {"eq": ask_id}, "rentable": {"eq": True}}, 100.0)
    assert market.search({"id": {"eq": ask_id}, "rentable": {"eq": True}}, 300.0)


def test_one_offer_is_rented_once() -> None:
    market = Market()
    instance = rented(market)
    with pytest.raises(Refused) as refused:
        market.create(instance.ask.id, BODY, 1.0)
    assert (refused.value.status, refused.value.error) == (410, "no_such_ask")


@pytest.mark.parametrize(
    "wrong",
    [
        {"image": ""},
        {"image": "x" * 1025},
        {"disk": 7},
        {"disk": 1e9},
        {"disk": "much"},
        {"label": "x" * 257},
        {"onstart": "x" * 4097},
        {"env": {"A": "x" * 32768}},
        {"env": {f"-p {port}:{port}": "1" for port in range(65)}},
        {"env": 5},
        {"price": 0},
    ],
)
def test_a_create_beyond_the_limits_is_refused_and_rents_nothing(wrong: dict[str, Any]) -> None:
    market = Market()
    with pytest.raises(Refused) as refused:
        rented(market, **wrong)
    assert refused.value.status == 400
    assert market.live(0.0) == []


def test_docker_s_flags_are_read_as_an_environment_too() -> None:
    instance = rented(Market(), env="-e A=1 -p 8080:80 -e 'B=x y'")
    assert instance.order.variables == {"A": "1", "B": "x y"}
    assert instance.order.ports == ["80/tcp"]


def test_the_host_takes_its_machine_back_when_the_offer_ends() -> None:
    market = Market(credit_usd=1e6)
    instance = rented(market)
    end = market.offers.ends_at(instance.ask)
    assert market.instance(instance.id, end - 1.0).phase(end - 1.0).running
    # However late one looks, it was stopped then.
    bill = market.bill(end + 5000.0)
    assert bill.instances[0].gpu_seconds == pytest.approx(end - boot_seconds(instance))
    assert states(instance, end) == ("exited", "stopped", "stopped")
    with contextlib.suppress(Refused):
        market.start(instance.id, end + 5000.0)
    assert market.instance(instance.id, end + 6000.0).phase(end + 6000.0).intended == "stopped"


def test_the_next_change_is_known_so_that_virtual_time_can_jump() -> None:
    market = Market()
    instance = rented(market)
    seen = []
    now: float | None = 0.0
    while now is not None:
        seen.append(market.instance(instance.id, now).phase(now).actual)
        now = market.next_change(now)
    assert seen == [None, "loading", "running"]
