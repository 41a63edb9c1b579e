"""What goes wrong with any call to a provider: refused keys, limits, failing servers. Against the simulated market."""

from __future__ import annotations

import httpx
import pytest

from dumont.adapters.vast import Vast
from dumont.domain.errors import AuthError, ProviderDown, RateLimited
from dumont.local.market.catalogue import catalogue
from dumont.local.market.server import MarketServer
from dumont.ports import CALL_SECONDS_MAX
from tests.contract.market_rig import EVERYTHING, VirtualClock, ask_control, calls, inject


def test_a_wrong_key_is_refused_and_not_quoted(market: MarketServer, clock: VirtualClock, client: httpx.Client) -> None:
    stranger = Vast("wrong-key-wrong-key", market.url, clock=clock, client=client)
    for call in (lambda: stranger.list(""), lambda: stranger.get("1"), lambda: stranger.destroy("1")):
        with pytest.raises(AuthError) as refused:
            call()
        assert "wrong-key" not in str(refused.value)


def test_a_429_without_a_time_is_waited_out_by_its_threshold(
    vast: Vast, market: MarketServer, clock: VirtualClock
) -> None:
    inject(market, "rate_limited", endpoint="user", count=2)
    vast.credit_usd()
    assert clock.slept == [1.0, 1.0]


def test_a_429_with_a_time_is_waited_out(vast: Vast, market: MarketServer, clock: VirtualClock) -> None:
    inject(market, "rate_limited", endpoint="user", retry_after_seconds=9)
    vast.credit_usd()
    assert clock.slept == [9.0]


def test_a_429_beyond_the_budget_is_passed_on(vast: Vast, market: MarketServer, clock: VirtualClock) -> None:
    inject(market, "rate_limited", endpoint="list", retry_after_seconds=120)
    with pytest.raises(RateLimited) as refused:
        vast.list("dumont.")
    assert refused.value.retry_after_seconds == 120
    assert clock.slept == []


def test_429s_without_end_are_given_up_within_the_time_of_a_call(
    vast: Vast, market: MarketServer, clock: VirtualClock
) -> None:
    inject(market, "rate_limited", endpoint="list", retry_after_seconds=10, count=None)
    with pytest.raises(RateLimited):
        vast.list("dumont.")
    assert sum(clock.slept) < CALL_SECONDS_MAX


def test_a_search_held_up_after_its_first_page_answers_with_the_cheaper_part(vast: Vast, market: MarketServer) -> None:
    ask_control(market, "POST", "limits", {"search": 300.0})
    found = vast.search(EVERYTHING)
    assert len(found) == 64
    assert min(o.gpu_usd_per_hour for o in found) == min(
        a.gpu_usd_per_hour for a in catalogue() if a.num_gpus == 1 and not a.taken
    )


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_server_that_fails_twice_is_asked_a_third_time(
    vast: Vast, market: MarketServer, clock: VirtualClock, status: int
) -> None:
    inject(market, "server_error", endpoint="list", status=status, count=2)
    assert vast.list("dumont.") == []
    assert clock.slept == [0.5, 1.0]


def test_a_server_that_fails_on_is_down(vast: Vast, market: MarketServer) -> None:
    inject(market, "server_error", count=None)
    for call in (lambda: vast.list(""), lambda: vast.get("1"), lambda: vast.search(EVERYTHING), vast.credit_usd):
        with pytest.raises(ProviderDown):
            call()
    assert calls(market, "list") == 3


def test_no_server_is_a_provider_that_is_down(vast: Vast, market: MarketServer) -> None:
    market.close()
    with pytest.raises(ProviderDown):
        vast.list("")
