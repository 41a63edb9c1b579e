"""The ranking of offers for a failover: by what it costs until, and while, the machine serves again. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from dumont.domain.beliefs import Belief
from dumont.domain.offers import FAILED_START_HOURS, Offer, OfferQuery, RankedOffer, Reputation, in_region, rank

DOWNTIME_WORTH = 20.0
"""An hour in which the machine does not serve is held to cost as much as 20 hours of the usual offer's rent: who fails
over waits, and a GPU's rent is small beside a person or a service that does."""
FAR_SECONDS = 10.0
"""More for another country than `near`: restores make many small requests, each a round trip. Assumed."""


class FailoverOffer(RankedOffer, frozen=True, kw_only=True):
    """A ranked offer with the seconds expected until it serves, and what it costs with that time counted in USD.

    `avoided`: its host or region is one to avoid. It is kept, as a last resort, behind all that are not.
    """

    seconds_to_serve: float
    loss_usd: float
    avoided: bool = False


def rank_for_failover(
    offers: Sequence[Offer],
    query: OfferQuery,
    snapshot_bytes: int,
    reputation: Reputation,
    *,
    avoid_machines: frozenset[str] = frozenset(),
    avoid_hosts: frozenset[str] = frozenset(),
    avoid_regions: frozenset[str] = frozenset(),
    near: str | None = None,
) -> list[FailoverOffer]:
    """The offers that pass the query, least loss first; `pick_racers` takes the result.

    Loss = what it costs to finish the job there (`offers.rank`) + seconds until it serves × what downtime costs, which
    is `DOWNTIME_WORTH` times the median rent of what is offered. `avoid_machines` (`machine_id`) are left out: the dead
    one itself. Those of `avoid_hosts` (`host_id`) and `avoid_regions` come after all others, blocked ones last.
    `near` is a region as markets write it ("Paris, FR"): where the machine served.
    """
    ranked = [r for r in rank(offers, query, reputation=reputation) if r.offer.machine_id not in avoid_machines]
    prices = sorted(r.price_usd_per_hour for r in ranked)
    downtime_usd_per_second = DOWNTIME_WORTH * prices[len(prices) // 2] / 3600 if prices else 0.0
    found = []
    for entry in ranked:
        offer = entry.offer
        seconds = seconds_to_serve(offer, reputation.belief(offer), snapshot_bytes, near=near)
        found.append(
            FailoverOffer(
                offer=offer,
                finish_usd=entry.finish_usd,
                price_usd_per_hour=entry.price_usd_per_hour,
                blocked=entry.blocked,
                seconds_to_serve=seconds,
                loss_usd=entry.finish_usd + seconds * downtime_usd_per_second,
                avoided=offer.host_id in avoid_hosts or any(in_region(offer.region, r) for r in avoid_regions),
            )
        )
    return sorted(found, key=lambda r: (r.blocked, r.avoided, r.loss_usd, r.offer.provider, r.offer.id))


def seconds_to_serve(offer: Offer, belief: Belief, snapshot_bytes: int, *, near: str | None = None) -> float:
    """Expected: its boot, the restore at the speed that its host is believed to reach, and a start that fails first
    as often as it is believed to."""
    restore = snapshot_bytes * 8 / 1e6 / belief.restore_mbps
    failed = (belief.rentals_per_start() - 1.0) * FAILED_START_HOURS * 3600
    return belief.boot_seconds + restore + failed + (FAR_SECONDS if _is_far(offer.region, near) else 0.0)


def _is_far(region: str | None, near: str | None) -> bool:
    """Whether it lies in another country; what says nothing of where it lies may be anywhere."""
    if near is None:
        return False
    return region is None or country(region) != country(near)


def country(region: str) -> str:
    """The last part of a region as markets write it: "FR" of "Paris, FR"."""
    return region.rsplit(",", maxsplit=1)[-1].strip().casefold()
