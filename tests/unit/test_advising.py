"""Which offers hold a model: what is asked of a market, what is taken of its answer, and what its silence means."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import pytest
from msgspec.structs import replace

from dumont.adapters.memory_store import MemoryStore
from dumont.domain.errors import InvalidInput, ProviderDown
from dumont.domain.offers import Offer, OfferQuery, matches
from dumont.operations.advising import Advised, AdvisorQuery, Fit, advise
from dumont.operations.look import MarketUnavailableError
from dumont.ports import Provider
from tests.unit.rest_support import ManualClock, make_ports

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


class Market:
    """A market of these offers; it does not answer about some counts of GPUs. Advice asks nothing else of it."""

    name = "vast"

    def __init__(self, *offers: Offer, silent: tuple[int, ...] = ()) -> None:
        self.offers = offers
        self.silent = silent
        self.asked: list[OfferQuery] = []

    def search(self, query: OfferQuery) -> list[Offer]:
        self.asked.append(query)
        if query.gpu_count in self.silent:
            raise ProviderDown("no answer", provider="vast")
        return [offer for offer in self.offers if matches(offer, query)]


def offer(gpu: str, usd: float, vram: float, *, count: int = 1, number: int = 0) -> Offer:
    return Offer(
        provider="vast", id=f"{gpu}-{count}-{number}", gpu=gpu, gpu_count=count, gpu_usd_per_hour=usd, vram_gib=vram,
        reliability=0.99, verified=True, region="Paris, FR", disk_gb=500.0, cuda_version=12.8,
        machine_id=f"{gpu}{number}", host_id=f"{gpu}{number}", storage_usd_per_gb_hour=0.0,
    )  # fmt: skip


def ask(market: Market, **wish: Any) -> Advised:
    providers = {"vast": cast(Provider, market)}
    ports = dataclasses.replace(make_ports(MemoryStore(), ManualClock(0.0)), providers=providers)
    return advise(ports, AdvisorQuery(**{"model": LLAMA} | wish))


def kinds(fits: list[Fit], quantisation: str = "fp16") -> list[tuple[int, str]]:
    return [(fit.gpu_count, fit.gpu) for fit in fits if fit.quantisation == quantisation]


def test_the_cheapest_kind_that_holds_it_comes_first_and_old_gpus_do_not_count() -> None:
    market = Market(
        offer("RTX 4090", 0.30, 24), offer("RTX 3090", 0.20, 24), offer("RTX 4080", 0.10, 16),
        offer("Tesla P40", 0.05, 24), offer("RTX 3060", 0.14, 12, count=2),
    )  # fmt: skip
    fits = ask(market).fits
    assert kinds(fits) == [(2, "RTX 3060"), (1, "RTX 3090"), (1, "RTX 4090")]
    assert kinds(fits, "int4")[0] == (1, "RTX 4080")


def test_ollama_computes_on_old_gpus_too() -> None:
    assert kinds(ask(Market(offer("Tesla P40", 0.05, 24)), model="llama3.1:8b").fits, "int4") == [(1, "Tesla P40")]


def test_a_kinds_price_is_its_cheapest_and_its_race_goes_to_the_third() -> None:
    market = Market(*(offer("RTX 3090", usd, 24, number=n) for n, usd in enumerate((0.5, 0.2, 0.4, 0.3))))
    fit = ask(market).fits[0]
    assert (fit.usd_per_hour, fit.race_usd_per_hour, fit.count) == (0.2, 0.4, 4)


def test_one_search_is_made_for_each_count_and_none_where_a_split_saves_nothing() -> None:
    market = Market()
    ask(market)
    assert [query.gpu_count for query in market.asked] == [1, 2]
    one = market.asked[0]
    assert one.min_vram_gib == pytest.approx(8.8, abs=0.1), "the least with which any quantisation fits"
    assert (one.min_cuda, one.disk_gb, one.verified_only, one.min_reliability) == (12.8, 48.0, True, 0.95)
    market.asked.clear()
    ask(market, model="llama 70b", gpu_count=4, quantisation="int4", min_cuda=12.0, disk_gb=100.0)
    assert [(q.gpu_count, q.min_cuda, q.disk_gb) for q in market.asked] == [(4, 12.0, 100.0)]


def test_silence_about_some_counts_is_told_and_silence_about_all_is_an_error() -> None:
    told = ask(Market(offer("RTX 3090", 0.2, 24), silent=(2,)))
    assert kinds(told.fits) == [(1, "RTX 3090")]
    assert told.unsearched == (2,)
    with pytest.raises(MarketUnavailableError):
        ask(Market(silent=(1, 2)))


def test_what_nobody_knows_is_refused_before_any_market_is_asked() -> None:
    market = Market()
    with pytest.raises(InvalidInput):
        ask(market, model="something")
    assert market.asked == []
    with pytest.raises(InvalidInput, match="no GPU is known"):
        ask(market, gpu="RTX 9999")


def test_an_offer_that_hides_its_memory_holds_nothing() -> None:
    assert ask(Market(replace(offer("RTX 3090", 0.1, 24), vram_gib=None))).fits == []
