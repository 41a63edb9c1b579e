"""Offers of GPU markets: their record, the filters on them, and their ranking by what they cost to finish a job."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from dumont.domain import gpus
from dumont.domain.beliefs import Belief

HOURS_PER_MONTH = 720.0  # Vast.ai states storage per month of 720 hours (reference: "disk $/h = GB × cost / 720")

GpuName = Annotated[str, Meta(examples=["RTX 4090"])]
PositiveInt = Annotated[int, Meta(ge=1, le=64)]
NonNegative = Annotated[float, Meta(ge=0, le=1e6)]
Positive = Annotated[float, Meta(gt=0, le=1e6)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Offer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A listing on a market. `None` means that the market did not say: unknown is never taken for zero or for good.

    Prices: `gpu_usd_per_hour` is for all `gpu_count` GPUs together, without storage; for an interruptible offer it is
    the lowest bid that would win now.
    """

    provider: str
    id: str
    gpu: str
    gpu_count: int = 1
    gpu_usd_per_hour: float
    storage_usd_per_gb_hour: float | None = None
    upload_usd_per_gb: float | None = None
    download_usd_per_gb: float | None = None
    vram_gib: float | None = None
    interruptible: bool = False
    reliability: float | None = None
    verified: bool | None = None
    region: str | None = None
    download_mbps: float | None = None
    upload_mbps: float | None = None
    disk_gb: float | None = None
    disk_mb_per_second: float | None = None
    cpu_cores: float | None = None
    memory_gib: float | None = None
    cuda_version: float | None = None
    driver_version: str | None = None
    dlperf: float | None = None
    machine_id: str | None = None
    host_id: str | None = None
    available_seconds: float | None = None
    static_ip: bool | None = None

    def storage_usd_per_hour(self, disk_gb: float) -> float:
        """What `disk_gb` of disk bills each hour, in every state of the instance."""
        return disk_gb * (self.storage_usd_per_gb_hour or 0.0)

    def total_usd_per_hour(self, disk_gb: float) -> float:
        """GPU and disk together: what a running instance bills each hour, before bandwidth."""
        return self.gpu_usd_per_hour + self.storage_usd_per_hour(disk_gb)


class OfferQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Filters on offers. An offer that does not say what a filter asks about does not pass it."""

    gpu: GpuName | None = None
    gpu_count: PositiveInt = 1
    min_vram_gib: NonNegative | None = None
    max_price_usd_per_hour: Positive | None = None
    min_reliability: Share | None = None
    min_download_mbps: NonNegative | None = None
    min_upload_mbps: NonNegative | None = None
    disk_gb: Annotated[float, Meta(ge=8, le=100_000)] = 20.0
    min_cuda: NonNegative | None = None
    region: Annotated[str, Meta(max_length=64)] | None = None
    verified_only: bool = True
    interruptible: bool = False
    job_hours: Annotated[float, Meta(gt=0, le=8760)] = 1.0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 20


def _at_least(value: float | None, floor: float | None) -> bool:
    return floor is None or (value is not None and value >= floor)


def matches(offer: Offer, query: OfferQuery) -> bool:
    """Whether an offer passes each filter; markets do not apply all of theirs, so that we always check again."""
    if query.gpu is not None and gpus.canonical(offer.gpu) != gpus.canonical(query.gpu):
        return False
    if offer.gpu_count != query.gpu_count or offer.interruptible != query.interruptible:
        return False
    if query.verified_only and offer.verified is not True:
        return False
    if query.region is not None and not in_region(offer.region, query.region):
        return False
    price = offer.total_usd_per_hour(query.disk_gb)
    if query.max_price_usd_per_hour is not None and price > query.max_price_usd_per_hour:
        return False
    return (
        _at_least(offer.vram_gib, query.min_vram_gib)
        and _at_least(offer.reliability, query.min_reliability)
        and _at_least(offer.download_mbps, query.min_download_mbps)
        and _at_least(offer.upload_mbps, query.min_upload_mbps)
        and _at_least(offer.cuda_version, query.min_cuda)
        and _at_least(offer.disk_gb, query.disk_gb)
    )


def in_region(offered: str | None, wanted: str) -> bool:
    """Whether "British Columbia, CA" lies in "CA" or in "british columbia": a whole part, whatever its case."""
    if offered is None:
        return False
    parts = {part.strip().casefold() for part in offered.split(",")}
    return wanted.strip().casefold() in parts or wanted.strip().casefold() == offered.strip().casefold()


# --- Ranking ------------------------------------------------------------------------------------------------------

ASSUMED_RELIABILITY = 0.90  # of an offer that states none: worse than most that do, so that silence never wins
SETUP_HOURS = 75 / 3600  # boot and proof, billed before work begins (72.8 s boot measured on a real RTX 4090 rental)
IMAGE_GB = 8.0  # a common PyTorch image, pulled at each boot: slow links make slow boots
ASSUMED_DOWNLOAD_MBPS = 100.0  # of an offer that states none
FAILED_START_HOURS = 240 / 3600
"""What a rental that never proves itself costs in time and money: one that hangs was seen to take up to its time limit
of 10 minutes, one whose host is broken says so within one."""


class Reputation(Protocol):
    """What we hold of hosts at one moment; `reputation.Known` makes it of our own records."""

    now: float

    def belief(self, offer: Offer) -> Belief:
        """What is believed of the offer's host; of one that was never seen, what is true of most."""
        ...


class RankedOffer(msgspec.Struct, frozen=True, kw_only=True):
    """An offer with what it is expected to cost for the whole job, in USD, all risks counted. `blocked`: its machine
    failed us lately, and is to be left alone for a while."""

    offer: Offer
    finish_usd: float
    price_usd_per_hour: float
    blocked: bool = False


def finish_cost_usd(
    offer: Offer, query: OfferQuery, *, reference_dlperf: float | None = None, belief: Belief | None = None
) -> float:
    """The expected cost in USD to finish a job of `query.job_hours` on this offer.

    The job takes `job_hours` on a GPU of `reference_dlperf` and proportionally less on a faster one; where either is
    unknown it takes `job_hours`.

    With a `belief` of its host: its expected hours and deaths (`Belief.busy`); each start takes its boot; each start
    that succeeds costs (1 − p) / p that do not, at `FAILED_START_HOURS`; each start, failed or not, pulls the image.

    Without one, the market's word alone: its reliability r is read as the chance to get through one hour. With
    hazard h = −ln r per hour and no checkpoint within the job, the expected time to finish work w under restarts is
    (e^{hw} − 1)/h (Daly, 2006, with no checkpoint cost); each failure also pays the set-up again.
    """
    speed = 1.0
    if reference_dlperf and offer.dlperf:
        speed = offer.dlperf / reference_dlperf
    work_hours = query.job_hours / speed
    if belief is not None:
        busy_hours, failures = belief.busy(work_hours)
        rentals_per_start = belief.rentals_per_start()
        start_hours = belief.boot_seconds / 3600 + (rentals_per_start - 1) * FAILED_START_HOURS
    else:
        hazard_per_hour = market_hazard_per_hour(offer)
        # Beyond an exponent of 50 the job never ends; a finite number keeps the order total.
        busy_hours = math.expm1(min(hazard_per_hour * work_hours, 50.0)) / hazard_per_hour
        failures = busy_hours * hazard_per_hour
        rentals_per_start = 1.0
        start_hours = SETUP_HOURS + pull_hours(offer)
    hours = busy_hours + (1 + failures) * start_hours
    traffic_usd = (1 + failures) * rentals_per_start * IMAGE_GB * (offer.download_usd_per_gb or 0.0)
    return hours * offer.total_usd_per_hour(query.disk_gb) + traffic_usd


def market_hazard_per_hour(offer: Offer) -> float:
    """Deaths an hour by the market's word: its reliability read as the chance to get through one hour."""
    reliability = offer.reliability if offer.reliability is not None else ASSUMED_RELIABILITY
    return -math.log(min(max(reliability, 0.01), 0.999999))


def pull_hours(offer: Offer) -> float:
    """How long its image takes to come, by the bandwidth that it offers."""
    return IMAGE_GB * 8000 / (offer.download_mbps or ASSUMED_DOWNLOAD_MBPS) / 3600


def rank(offers: Sequence[Offer], query: OfferQuery, *, reputation: Reputation | None = None) -> list[RankedOffer]:
    """The offers that pass the query, cheapest to finish first; ties by id, so that the order is always the same.

    With a reputation, offers whose machine is blocked at `reputation.now` come after all others.
    """
    passing = [offer for offer in offers if matches(offer, query)]
    speeds = sorted(offer.dlperf for offer in passing if offer.dlperf)
    reference = speeds[len(speeds) // 2] if speeds else None
    beliefs = [reputation.belief(offer) if reputation is not None else None for offer in passing]
    ranked = [
        RankedOffer(
            offer=offer,
            finish_usd=finish_cost_usd(offer, query, reference_dlperf=reference, belief=belief),
            price_usd_per_hour=offer.total_usd_per_hour(query.disk_gb),
            blocked=belief is not None and reputation is not None and belief.is_blocked(reputation.now),
        )
        for offer, belief in zip(passing, beliefs, strict=True)
    ]
    return sorted(ranked, key=lambda r: (r.blocked, r.finish_usd, r.offer.provider, r.offer.id))


FAR_ABOVE = 2.0
"""How many times the best offer's cost a racer may cost."""


def pick_racers(
    ranked: Sequence[RankedOffer], width: int, *, avoid_machines: frozenset[str] = frozenset()
) -> list[Offer]:
    """The offers to race, best first, then the rest as reserves: hosts already tried last, one per host first.

    Racers on one host share its network and its fate, so a second offer of the same host comes after other hosts'.
    A blocked machine is taken only where there is no other at all: better a bad host than none.
    What would cost more than `FAR_ABOVE` times the best is left out: whichever racer proves itself first wins, and who
    names no price means the best offer's, about. Once the cheap ones are tried, the next search has another best.
    One whose GPU costs nothing is no measure for others: it is a listing's slip, and might be the only racer for ever.
    """
    best = next(
        (r for r in ranked if not r.blocked and r.offer.gpu_usd_per_hour > 0 and not _is_of(r.offer, avoid_machines)),
        None,
    )
    seen: set[str] = set()
    first: list[Offer] = []
    later: list[Offer] = []
    blocked: list[Offer] = []
    for entry in ranked:
        offer = entry.offer
        if _is_of(offer, avoid_machines):
            continue
        if best is not None and entry.finish_usd > best.finish_usd * FAR_ABOVE:
            continue
        if entry.blocked:
            blocked.append(offer)
            continue
        host = offer.host_id or offer.machine_id or offer.id
        (later if host in seen else first).append(offer)
        seen.add(host)
    return (first + later or blocked)[: max(width * 4, width + 5)]


def _is_of(offer: Offer, machines: frozenset[str]) -> bool:
    return offer.machine_id is not None and offer.machine_id in machines
