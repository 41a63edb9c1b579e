"""The provider contract, held by the Vast.ai adapter against a simulated market behind a real port."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import httpx
import pytest

from dumont.adapters.vast import Vast
from dumont.domain import offers as offer_rules
from dumont.domain.errors import (
    BidTooLow,
    InvalidRequest,
    NotFound,
    OfferGone,
    OutOfCredit,
    ProviderDown,
    ProviderError,
    RateLimited,
    StartRefused,
)
from dumont.domain.offers import OfferQuery
from dumont.local.market.api import Api
from dumont.local.market.catalogue import Ask, catalogue
from dumont.local.market.control import control
from dumont.local.market.core import Market
from dumont.local.market.http import HttpServer
from dumont.local.market.server import MarketServer
from dumont.ports import InstanceStatus
from tests.contract.market_rig import (
    EVERYTHING,
    KEY,
    VirtualClock,
    ask_control,
    calls,
    cheapest,
    inject,
    rental,
    until,
)

PREFIX = "dumont.test."


# --- Search -------------------------------------------------------------------------------------------------------


LISTED = {str(ask.id): ask for ask in catalogue()}


def test_search_finds_every_offer_beyond_the_first_page(vast: Vast, market: MarketServer) -> None:
    expected = {ask_id for ask_id, ask in LISTED.items() if ask.num_gpus == 1 and not ask.taken}
    assert len(expected) > 64
    found = vast.search(EVERYTHING)
    assert {offer.id for offer in found} == expected
    assert len(found) == len(expected)
    assert calls(market, "search") == 2


@pytest.mark.parametrize(
    "query",
    [
        OfferQuery(gpu="rtx_4090"),
        OfferQuery(gpu="RTX 4090", gpu_count=2, verified_only=False),
        OfferQuery(min_vram_gib=48, max_price_usd_per_hour=0.6),
        OfferQuery(min_vram_gib=24, min_reliability=0.99, region="CA"),
        OfferQuery(min_download_mbps=800, min_upload_mbps=400, min_cuda=12.6, disk_gb=500),
        OfferQuery(interruptible=True, max_price_usd_per_hour=0.2),
    ],
)
def test_search_answers_with_all_that_passes_and_nothing_else(vast: Vast, query: OfferQuery) -> None:
    everything = vast.search(
        OfferQuery(
            gpu_count=query.gpu_count,
            verified_only=False,
            interruptible=query.interruptible,
            disk_gb=query.disk_gb,
        )
    )
    expected = {offer.id for offer in everything if offer_rules.matches(offer, query)}
    assert {offer.id for offer in vast.search(query)} == expected
    assert expected


def test_an_offer_says_what_the_market_says_of_it(vast: Vast) -> None:
    offer = cheapest(vast, OfferQuery(gpu="RTX 4090"))
    ask = LISTED[offer.id]
    assert (offer.provider, offer.gpu, offer.vram_gib, offer.region) == ("vast", "RTX 4090", 24, "British Columbia, CA")
    assert offer.gpu_usd_per_hour == pytest.approx(0.1689)
    assert offer.storage_usd_per_hour(100) == pytest.approx(ask.storage_usd_per_hour(100))
    assert (offer.machine_id, offer.host_id) == (str(ask.machine_id), str(ask.host_id))
    assert offer.verified is True
    assert offer.available_seconds == pytest.approx(ask.offered_for_seconds)


def test_an_interruptible_offer_is_priced_by_the_bid_that_wins(vast: Vast) -> None:
    for offer in vast.search(OfferQuery(interruptible=True)):
        assert offer.interruptible
        assert offer.gpu_usd_per_hour == LISTED[offer.id].min_bid_usd_per_hour


def test_search_gets_past_many_offers_of_one_price(clock: VirtualClock, client: httpx.Client) -> None:
    one = next(ask for ask in catalogue() if not ask.taken and ask.num_gpus == 1)
    same = [_copy(one, 1000 + n, one.gpu_usd_per_hour) for n in range(200)]
    dearer = [_copy(one, 2000 + n, one.gpu_usd_per_hour + 0.5) for n in range(10)]
    with _serving(Api(Market(asks=[*dearer, *same], opened_at=clock.now()), [KEY]), clock) as url:
        found = Vast(KEY, url, clock=clock, client=client).search(EVERYTHING)
    assert {offer.id for offer in found} == {str(ask.id) for ask in [*same, *dearer]}


def _copy(ask: Ask, ask_id: int, price: float) -> Ask:
    fields = {**ask.fields, "id": ask_id, "ask_contract_id": ask_id}
    return dataclasses.replace(ask, id=ask_id, gpu_usd_per_hour=price, fields=fields)


@contextlib.contextmanager
def _serving(api: Api, clock: VirtualClock) -> Iterator[str]:
    """An API over listings of one's own, behind a port."""
    server = HttpServer(
        lambda request: api.handle(request, clock.now()),
        lambda method, path, body: control(api, method, path, body, clock.now()),
        0,
    )
    server.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.close()


# --- Creating -----------------------------------------------------------------------------------------------------


def test_what_is_created_bears_its_label_and_is_found_by_it(vast: Vast) -> None:
    created = vast.create(cheapest(vast), rental("dumont.test.a.1.x"))
    other = vast.create(cheapest(vast), rental("somebody.else"))
    assert [i.id for i in vast.list("dumont.test.")] == [created]
    assert vast.get(other).label == "somebody.else"


def test_a_lost_answer_is_an_unknown_outcome_and_the_label_tells(vast: Vast, market: MarketServer) -> None:
    offer = cheapest(vast)
    inject(market, "lost_answer", endpoint="create")
    with pytest.raises(ProviderDown):
        vast.create(offer, rental("dumont.test.lost.1.x"))
    assert calls(market, "create") == 1
    [found] = vast.list("dumont.test.lost.1.x")
    assert found.label == "dumont.test.lost.1.x"


def test_an_error_of_the_server_is_not_tried_again(vast: Vast, market: MarketServer, clock: VirtualClock) -> None:
    offer = cheapest(vast)
    inject(market, "server_error", endpoint="create", status=503)
    with pytest.raises(ProviderDown):
        vast.create(offer, rental())
    assert calls(market, "create") == 1
    assert clock.slept == []


def test_a_refusal_for_frequency_is_passed_on_at_once(vast: Vast, market: MarketServer, clock: VirtualClock) -> None:
    offer = cheapest(vast)
    inject(market, "rate_limited", endpoint="create", retry_after_seconds=7)
    with pytest.raises(RateLimited) as refused:
        vast.create(offer, rental())
    assert refused.value.retry_after_seconds == 7
    assert (calls(market, "create"), clock.slept) == (1, [])
    with pytest.raises(RateLimited):
        vast.create(offer, rental())
    assert calls(market, "create") == 1, "within the time it was told to wait, it does not even ask"
    clock.sleep(7.0)
    vast.create(offer, rental())


@pytest.mark.parametrize("status", [400, 404, 410])
def test_an_offer_that_is_gone(vast: Vast, market: MarketServer, status: int) -> None:
    offer = cheapest(vast)
    inject(market, "offer_gone", status=status)
    with pytest.raises(OfferGone):
        vast.create(offer, rental())
    assert vast.list("") == []


def test_an_offer_cannot_be_rented_twice(vast: Vast) -> None:
    offer = cheapest(vast)
    vast.create(offer, rental("dumont.test.a.1.x"))
    with pytest.raises(OfferGone):
        vast.create(offer, rental("dumont.test.b.1.x"))


def test_no_credit(vast: Vast, market: MarketServer) -> None:
    offer = cheapest(vast)
    inject(market, "out_of_credit")
    with pytest.raises(OutOfCredit):
        vast.create(offer, rental())


def test_a_bid_that_loses_names_the_stopped_instance_that_bills(vast: Vast) -> None:
    offer = cheapest(vast, OfferQuery(interruptible=True))
    with pytest.raises(BidTooLow) as refused:
        vast.create(offer, rental(bid=offer.gpu_usd_per_hour / 2))
    [left] = vast.list(PREFIX)
    assert refused.value.provider_instance_id == left.id
    assert left.status is InstanceStatus.STOPPED


def test_an_interruptible_offer_without_a_bid_is_refused_here(vast: Vast, market: MarketServer) -> None:
    with pytest.raises(InvalidRequest):
        vast.create(cheapest(vast, OfferQuery(interruptible=True)), rental())
    assert calls(market, "create") == 0


def test_a_bid_that_wins_runs_and_can_be_changed(vast: Vast, clock: VirtualClock, market: MarketServer) -> None:
    offer = cheapest(vast, OfferQuery(interruptible=True))
    created = vast.create(offer, rental(bid=offer.gpu_usd_per_hour * 1.2))
    until(clock, vast, created, InstanceStatus.RUNNING)
    vast.change_bid(created, offer.gpu_usd_per_hour * 1.5)
    held = market.market.instance(int(created), clock.now())
    assert held.bid_usd_per_hour == pytest.approx(offer.gpu_usd_per_hour * 1.5)
    vast.change_bid(created, offer.gpu_usd_per_hour * 0.5)
    assert vast.get(created).status is InstanceStatus.STOPPED


# --- A life -------------------------------------------------------------------------------------------------------


def test_an_instance_starts_runs_and_says_where(vast: Vast, clock: VirtualClock) -> None:
    created = vast.create(cheapest(vast), rental())
    assert vast.get(created).status is InstanceStatus.STARTING
    running = until(clock, vast, created, InstanceStatus.RUNNING)
    assert running.ssh is not None
    assert running.ssh.port > 0
    assert running.total_usd_per_hour is not None


def test_a_stop_and_a_start(vast: Vast, clock: VirtualClock) -> None:
    created = vast.create(cheapest(vast), rental())
    until(clock, vast, created, InstanceStatus.RUNNING)
    vast.stop(created)
    until(clock, vast, created, InstanceStatus.STOPPED)
    vast.start(created)
    until(clock, vast, created, InstanceStatus.RUNNING)


def test_a_start_that_is_refused_stays_queued_until_a_stop(
    vast: Vast, clock: VirtualClock, market: MarketServer
) -> None:
    created = vast.create(cheapest(vast), rental())
    until(clock, vast, created, InstanceStatus.RUNNING)
    vast.stop(created)
    until(clock, vast, created, InstanceStatus.STOPPED)
    inject(market, "resume_refused", seconds=60)
    with pytest.raises(StartRefused):
        vast.start(created)
    vast.stop(created)
    clock.sleep(600.0)
    assert vast.get(created).status is InstanceStatus.STOPPED


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("oci_error", InstanceStatus.BROKEN),
        ("bad_image", InstanceStatus.BROKEN),
        ("dies", InstanceStatus.STOPPED),
        ("bid_lost", InstanceStatus.STOPPED),
        ("offline", InstanceStatus.OFFLINE),
    ],
)
def test_what_befalls_instances_has_its_status(
    vast: Vast, clock: VirtualClock, market: MarketServer, fault: str, status: InstanceStatus
) -> None:
    inject(market, fault)
    created = vast.create(cheapest(vast), rental())
    until(clock, vast, created, status)


def test_a_boot_that_never_ends_goes_on_starting(vast: Vast, clock: VirtualClock, market: MarketServer) -> None:
    inject(market, "boot_never_ends")
    created = vast.create(cheapest(vast), rental())
    clock.sleep(7200.0)
    assert vast.get(created).status is InstanceStatus.STARTING


def test_a_key_is_attached_once_however_often(vast: Vast, market: MarketServer, clock: VirtualClock) -> None:
    created = vast.create(cheapest(vast), rental())
    for _ in range(2):
        vast.attach_ssh_key(created, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHWGYlMT8CxcILI")
    held = market.market.instance(int(created), clock.now()).keys.values()
    assert list(held) == ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHWGYlMT8CxcILI"]


def test_logs_are_read(vast: Vast, clock: VirtualClock) -> None:
    created = vast.create(cheapest(vast), rental())
    until(clock, vast, created, InstanceStatus.RUNNING)
    assert "success, running" in vast.logs(created, tail=10)


def test_credit_is_read(vast: Vast) -> None:
    assert vast.credit_usd() == pytest.approx(100.0)


# --- Listing ------------------------------------------------------------------------------------------------------


@pytest.fixture
def thirty(vast: Vast) -> list[str]:
    offers = sorted(vast.search(EVERYTHING), key=lambda offer: offer.gpu_usd_per_hour)[:30]
    return [vast.create(offer, rental(f"{PREFIX}m{n}.1.x")) for n, offer in enumerate(offers)]


def test_a_listing_has_every_page(vast: Vast, market: MarketServer, thirty: list[str]) -> None:
    assert sorted(i.id for i in vast.list(PREFIX)) == sorted(thirty)
    assert calls(market, "list") == 2
    assert [i.label for i in vast.list(f"{PREFIX}m7.")] == [f"{PREFIX}m7.1.x"]


def test_a_listing_that_lacks_a_part_is_no_listing(vast: Vast, market: MarketServer, thirty: list[str]) -> None:
    inject(market, "list_truncated", keep=3)
    with pytest.raises(ProviderDown):
        vast.list(PREFIX)


def test_an_error_under_status_200_is_no_empty_listing(vast: Vast, market: MarketServer, thirty: list[str]) -> None:
    inject(market, "list_error_200")
    with pytest.raises(ProviderError):
        vast.list(PREFIX)


def test_a_listing_waits_between_its_pages_as_asked(
    vast: Vast, market: MarketServer, clock: VirtualClock, thirty: list[str]
) -> None:
    ask_control(market, "POST", "limits", {"list": 1.0})
    assert len(vast.list(PREFIX)) == 30
    assert clock.slept == [1.0]


# --- Destroying ---------------------------------------------------------------------------------------------------


def test_only_get_proves_that_an_instance_is_gone(vast: Vast, clock: VirtualClock, market: MarketServer) -> None:
    created = vast.create(cheapest(vast), rental())
    inject(market, "destroy_lags", seconds=30)
    vast.destroy(created)
    assert vast.get(created).id == created
    clock.sleep(31.0)
    with pytest.raises(NotFound):
        vast.get(created)
    assert vast.list(PREFIX) == []


def test_destroying_what_is_gone_succeeds(vast: Vast) -> None:
    created = vast.create(cheapest(vast), rental())
    vast.destroy(created)
    vast.destroy(created)
    vast.destroy("123456789")
    with pytest.raises(NotFound):
        vast.get("123456789")


def test_a_destroy_whose_answer_is_lost_is_sent_again(vast: Vast, market: MarketServer) -> None:
    created = vast.create(cheapest(vast), rental())
    inject(market, "lost_answer", endpoint="destroy")
    vast.destroy(created)
    assert calls(market, "destroy") == 2
