"""What our own records let us believe of an offer's host: Beta and Gamma posteriors over one shared prior. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import msgspec

from dumont.domain.beliefs import Belief
from dumont.domain.offers import (
    ASSUMED_DOWNLOAD_MBPS,
    ASSUMED_RELIABILITY,
    FAILED_START_HOURS,
    SETUP_HOURS,
    Offer,
    market_hazard_per_hour,
    pull_hours,
)
from dumont.domain.reputation import HostRecord, faded, key_of


class Prior(msgspec.Struct, frozen=True, kw_only=True):
    """What is held of any host before it was seen, as if so many boots, proofs, deaths and hours had been."""

    boots_ok: float
    boots_failed: float
    proofs_ok: float
    proofs_failed: float
    deaths: float
    hours: float


PRIOR = Prior(boots_ok=4.5, boots_failed=0.5, proofs_ok=4.75, proofs_failed=0.25, deaths=0.24, hours=24.0)
"""Assumed, since nobody publishes it: of ten boots one fails, of twenty proofs one, and a host dies each 100 hours.
It counts as five boots, five proofs and a day: a handful of our own rentals outweighs it."""
HOST_COUNTS_MOST = 10.0
HOST_HOURS_MOST = 48.0
"""No single host moves what is held of all of them by more than this."""
SIBLING_COUNTS_MOST = 3.0
SIBLING_HOURS_MOST = 12.0
"""Other machines of the same host: the same owner, network and power, another board."""
MARKET_COUNTS = 1.0
MARKET_HOURS = 8.0
"""The market's own reliability counts as one boot, and as eight hours: it is a word, not an observation."""
BOOT_PRIOR_WEIGHT = 2.0
SPEED_PRIOR_WEIGHT = 1.0
OFFERED_SPEED_SHARE = 0.5
"""Of the bandwidth that a host offers a restore is assumed to reach half, until it was measured."""


def pooled(records: Iterable[HostRecord], now: float, *, prior: Prior = PRIOR) -> Prior:
    """The prior that all records together support. Its means move; it counts as much as it did."""
    sums = [prior.boots_ok, prior.boots_failed, prior.proofs_ok, prior.proofs_failed, prior.deaths, prior.hours]
    for record in records:
        capped = _capped(faded(record, now), HOST_COUNTS_MOST, HOST_HOURS_MOST)
        sums = [have + more for have, more in zip(sums, capped, strict=True)]
    boots = (prior.boots_ok + prior.boots_failed) / (sums[0] + sums[1])
    proofs = (prior.proofs_ok + prior.proofs_failed) / (sums[2] + sums[3])
    hours = prior.hours / sums[5]
    return Prior(
        boots_ok=sums[0] * boots,
        boots_failed=sums[1] * boots,
        proofs_ok=sums[2] * proofs,
        proofs_failed=sums[3] * proofs,
        deaths=sums[4] * hours,
        hours=prior.hours,
    )


def _capped(record: HostRecord, counts: float, hours: float) -> tuple[float, float, float, float, float, float]:
    """Its boots (ok, failed), proofs (ok, failed), deaths and hours, each pair scaled down to at most that weight."""
    boots = min(1.0, counts / max(record.boots_ok + record.boots_failed, 1e-9))
    proofs = min(1.0, counts / max(record.proofs_ok + record.proofs_failed, 1e-9))
    lived = min(1.0, hours / max(record.served_hours, 1e-9), counts / max(record.deaths, 1e-9))
    return (
        record.boots_ok * boots,
        record.boots_failed * boots,
        record.proofs_ok * proofs,
        record.proofs_failed * proofs,
        record.deaths * lived,
        record.served_hours * lived,
    )


class Known:
    """An `offers.Reputation` made of records at one moment: key of the machine → its record."""

    def __init__(self, records: Mapping[str, HostRecord], now: float) -> None:
        self.now = now
        self._records = {key: faded(record, now) for key, record in records.items()}
        self._prior = pooled(self._records.values(), now)
        self._of_host: dict[tuple[str, str], list[HostRecord]] = {}
        for record in self._records.values():
            if record.host_id is not None:
                self._of_host.setdefault((record.provider, record.host_id), []).append(record)

    def belief(self, offer: Offer) -> Belief:
        """The posteriors over the offer's machine: shared prior, market's word, its host's other machines, itself."""
        key = key_of(offer)
        record = self._records.get(key) if key is not None else None
        others = self._of_host.get((offer.provider, offer.host_id), []) if offer.host_id is not None else []
        return believed(offer, record, [other for other in others if other is not record], self._prior)


def believed(offer: Offer, record: HostRecord | None, siblings: Iterable[HostRecord], prior: Prior) -> Belief:
    """The posteriors over one offer; records have been `faded` to now.

    Boots and proofs are Beta: prior counts plus seen ones. A rental works if it boots and then proves itself, and the
    two are taken as independent, so that the means multiply. Deaths an hour are Gamma: shape is prior deaths plus
    seen ones, rate is prior hours plus served ones.
    """
    reliability = min(max(offer.reliability if offer.reliability is not None else ASSUMED_RELIABILITY, 0.0), 1.0)
    counts = [prior.boots_ok, prior.boots_failed, prior.proofs_ok, prior.proofs_failed, prior.deaths, prior.hours]
    counts[0] += MARKET_COUNTS * reliability
    counts[1] += MARKET_COUNTS * (1.0 - reliability)
    counts[4] += MARKET_HOURS * market_hazard_per_hour(offer)
    counts[5] += MARKET_HOURS
    related = [0.0] * 6
    for sibling in siblings:
        capped = _capped(sibling, SIBLING_COUNTS_MOST, SIBLING_HOURS_MOST)
        related = [have + more for have, more in zip(related, capped, strict=True)]
    boots_share = min(1.0, SIBLING_COUNTS_MOST / max(related[0] + related[1], 1e-9))
    proofs_share = min(1.0, SIBLING_COUNTS_MOST / max(related[2] + related[3], 1e-9))
    lived_share = min(1.0, SIBLING_HOURS_MOST / max(related[5], 1e-9), SIBLING_COUNTS_MOST / max(related[4], 1e-9))
    shares = (boots_share, boots_share, proofs_share, proofs_share, lived_share, lived_share)
    counts = [have + more * share for have, more, share in zip(counts, related, shares, strict=True)]
    boot_seconds = (SETUP_HOURS + pull_hours(offer)) * 3600
    log_mbps = math.log((offer.download_mbps or ASSUMED_DOWNLOAD_MBPS) * OFFERED_SPEED_SHARE)
    if record is not None:
        # A machine that lied is held to have failed that proof once more: it was a choice, not an accident.
        own = (record.boots_ok, record.boots_failed, record.proofs_ok, record.proofs_failed + record.lies)
        counts = [have + more for have, more in zip(counts, (*own, record.deaths, record.served_hours), strict=True)]
        boot_seconds = record.boot_seconds.towards(boot_seconds, BOOT_PRIOR_WEIGHT)
        log_mbps = record.restore_log_mbps.towards(log_mbps, SPEED_PRIOR_WEIGHT)
    works, deviation = _both(counts[0], counts[1], counts[2], counts[3])
    return Belief(
        works=works,
        works_deviation=deviation,
        deaths=counts[4],
        hours=counts[5],
        boot_seconds=boot_seconds,
        restore_mbps=math.exp(log_mbps),
        blocked_until=record.blocked_until if record is not None else None,
    )


def _both(boots_ok: float, boots_failed: float, proofs_ok: float, proofs_failed: float) -> tuple[float, float]:
    """Mean and standard deviation of the product of two independent Beta variables."""
    (boot, boot_square), (proof, proof_square) = _moments(boots_ok, boots_failed), _moments(proofs_ok, proofs_failed)
    mean = boot * proof
    return mean, math.sqrt(max(0.0, boot_square * proof_square - mean * mean))


def _moments(ok: float, failed: float) -> tuple[float, float]:
    total = ok + failed
    return ok / total, ok * (ok + 1.0) / (total * (total + 1.0))


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """What choosing an offer is expected to cost beyond one whose host never fails and boots as usual.

    `extra_seconds` and `extra_usd` for one start; `works` and `works_deviation` as in `Belief`; `seen` how many boots
    that rests on, faded.
    """

    works: float
    works_deviation: float
    deaths_per_hour: float
    extra_seconds: float
    extra_usd: float
    seen: float
    blocked_until: float | None


def score(offer: Offer, record: HostRecord | None, now: float, *, prior: Prior = PRIOR) -> Score:
    """How an offer's host is rated, for people to read: `offers.rank` uses the same belief.

    One start takes 1 / p rentals. Those that fail cost `FAILED_START_HOURS` each; the one that works boots in its
    expected time, against the usual one's.
    """
    record = faded(record, now) if record is not None else None
    belief = believed(offer, record, (), prior)
    lost_seconds = (belief.rentals_per_start() - 1.0) * FAILED_START_HOURS * 3600
    extra_seconds = lost_seconds + belief.boot_seconds - SETUP_HOURS * 3600
    return Score(
        works=belief.works,
        works_deviation=belief.works_deviation,
        deaths_per_hour=belief.deaths_per_hour,
        extra_seconds=extra_seconds,
        extra_usd=extra_seconds / 3600 * offer.gpu_usd_per_hour,
        seen=record.boots_ok + record.boots_failed if record is not None else 0.0,
        blocked_until=belief.blocked_until if belief.is_blocked(now) else None,
    )
