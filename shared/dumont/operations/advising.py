"""Which offers hold a model: the advisor's arithmetic put to the markets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from dumont.domain import advisor, templates
from dumont.domain.advisor import Advice, Context, Need, Requests
from dumont.domain.errors import ProviderError
from dumont.domain.known_models import Quantisation
from dumont.domain.offers import GpuName, NonNegative, Offer, OfferQuery, Positive, PositiveInt, RankedOffer, Share
from dumont.operations import look
from dumont.ports import Ports

RACERS = 3
"""As many as a provision races by default: what any of them costs is what is to be agreed to."""


class AdvisorQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model by any name, how it is to be served, and which offers will do; the latter as `MachineSpec` has them."""

    model: Annotated[str, Meta(min_length=1, max_length=128, examples=["llama 3.1 8b"])]
    context: Context | None = None
    requests: Requests = 1
    quantisation: Quantisation | None = None
    gpu: GpuName | None = None
    gpu_count: PositiveInt | None = None
    max_price_usd_per_hour: Positive | None = None
    min_reliability: Share | None = 0.95
    min_download_mbps: NonNegative | None = None
    min_cuda: NonNegative | None = None
    region: Annotated[str, Meta(max_length=64)] | None = None
    verified_only: bool = True
    disk_gb: Annotated[float, Meta(ge=8, le=10_000)] | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 5
    """So many kinds of GPU at each quantisation."""


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of GPU and a count that hold a model at a quantisation: the cheapest such offer, and how many there are.

    `race_usd_per_hour`: what the dearest of the cheapest `RACERS` costs."""

    quantisation: Quantisation
    gpu: str
    gpu_count: int
    vram_gib: float
    needs_vram_gib: float
    count: int
    usd_per_hour: float
    race_usd_per_hour: float
    offer: Offer


class Advised(msgspec.Struct, frozen=True, kw_only=True):
    """What a model needs, and what the markets offer for it: the cheapest kinds of GPU at each quantisation."""

    advice: Advice
    fits: list[Fit]
    query: OfferQuery
    unsearched: tuple[int, ...] = ()
    """The counts of GPUs that no market was heard about."""
    unanswered: tuple[str, ...] = ()


def advise(ports: Ports, wish: AdvisorQuery) -> Advised:
    """What a model needs and which offers hold it. Raises `InvalidInput` for a name that says nothing and for a GPU
    that nobody knows, `MarketUnavailableError` if no market answered at all.

    One search for each count of GPUs: markets part their offers by it, and allow few searches a minute.
    """
    quantisations = (wish.quantisation,) if wish.quantisation is not None else advisor.QUANTISATIONS
    advice = advisor.advise(wish.model, context=wish.context, requests=wish.requests, quantisations=quantisations)
    query = _query(wish, advice)
    least = _least_vram(advice.needs, wish.gpu_count)
    found: dict[int, list[RankedOffer]] = {}
    unanswered: set[str] = set()
    failure: ProviderError | None = None
    for count, vram_gib in least.items():
        try:
            offers = look.search(ports, replace(query, gpu_count=count, min_vram_gib=vram_gib))
        except ProviderError as error:
            failure = error
            continue
        found[count] = offers.offers
        unanswered.update(offers.unanswered)
    if failure is not None and not found:
        raise failure
    fits = [fit for need in advice.needs for fit in _fits(need, found, gguf=advice.gguf)[: wish.limit]]
    return Advised(
        advice=advice,
        fits=fits,
        query=query,
        unsearched=tuple(count for count in least if count not in found),
        unanswered=tuple(sorted(unanswered)),
    )


def _query(wish: AdvisorQuery, advice: Advice) -> OfferQuery:
    template = templates.for_advice(advice)
    return OfferQuery(
        gpu=wish.gpu,
        max_price_usd_per_hour=wish.max_price_usd_per_hour,
        min_reliability=wish.min_reliability,
        min_download_mbps=wish.min_download_mbps,
        min_cuda=wish.min_cuda if wish.min_cuda is not None else template.min_cuda,
        region=wish.region,
        verified_only=wish.verified_only,
        disk_gb=wish.disk_gb if wish.disk_gb is not None else templates.disk_gb(advice),
        limit=1000,
    )


def _least_vram(needs: Sequence[Need], gpu_count: int | None) -> dict[int, float]:
    """For each count of GPUs the memory with which one of the quantisations fits."""
    least: dict[int, float] = {}
    for need in needs:
        for split in need.splits:
            if gpu_count is None or split.gpu_count == gpu_count:
                least[split.gpu_count] = min(split.vram_gib, least.get(split.gpu_count, split.vram_gib))
    return dict(sorted(least.items()))


def _fits(need: Need, found: dict[int, list[RankedOffer]], *, gguf: bool) -> list[Fit]:
    """The kinds of GPU that hold a need, the cheapest first."""
    fits = []
    for split in need.splits:
        kinds: dict[str, list[RankedOffer]] = {}
        for ranked in found.get(split.gpu_count, ()):
            offer = ranked.offer
            # llama.cpp, and hence Ollama, computes on older ones too.
            if (offer.vram_gib or 0.0) >= split.vram_gib and (gguf or advisor.serves(offer.gpu)):
                kinds.setdefault(offer.gpu, []).append(ranked)
        for gpu, offers in kinds.items():
            offers.sort(key=lambda ranked: (ranked.price_usd_per_hour, ranked.offer.provider, ranked.offer.id))
            cheapest = offers[0]
            fits.append(
                Fit(
                    quantisation=need.quantisation,
                    gpu=gpu,
                    gpu_count=split.gpu_count,
                    vram_gib=min(ranked.offer.vram_gib or 0.0 for ranked in offers),
                    needs_vram_gib=split.vram_gib,
                    count=len(offers),
                    usd_per_hour=cheapest.price_usd_per_hour,
                    race_usd_per_hour=offers[:RACERS][-1].price_usd_per_hour,
                    offer=cheapest.offer,
                )
            )
    return sorted(fits, key=lambda fit: (fit.usd_per_hour, fit.gpu_count, fit.gpu))
