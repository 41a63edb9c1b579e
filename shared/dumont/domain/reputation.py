"""Host reputation: what we saw of each rented machine's host ourselves; `trust` says what that lets us believe. Pure.

A market's own figure did not predict hosts without a working GPU (reliability 0.996 was seen on one). So each boot,
proof, lie, death and speed is counted per machine of a host; evidence fades with a half-life of 30 days, and blocks
end by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import msgspec
from msgspec.structs import replace

from dumont.domain.host_events import HostEvent, HostEventKind
from dumont.domain.offers import Offer
from dumont.domain.records import Record

HALF_LIFE_SECONDS = 30 * 86400.0
RECENT_MOST = 16
REASONS_MOST = 8

BLOCK_HOURS: Mapping[HostEventKind, float] = {
    HostEventKind.BOOT_FAILED: 1.0,
    HostEventKind.DIED: 2.0,
    HostEventKind.PROOF_FAILED: 4.0,
    HostEventKind.LIED: 24.0,
}
"""How long a machine is left alone after its first offence; each further one that has not faded doubles it."""
BLOCK_HOURS_MOST = 14 * 24.0


class Spread(msgspec.Struct, frozen=True):
    """A running weighted mean and sum of squared deviations (West, 1979): three numbers, however much was seen."""

    weight: float = 0.0
    mean: float = 0.0
    m2: float = 0.0

    def seeing(self, value: float, weight: float = 1.0) -> Spread:
        """With one more observation."""
        total = self.weight + weight
        if total <= 0.0:
            return self
        delta = value - self.mean
        mean = self.mean + delta * weight / total
        return Spread(total, mean, self.m2 + weight * delta * (value - mean))

    def faded(self, share: float) -> Spread:
        """With so much of its weight left."""
        return Spread(self.weight * share, self.mean, self.m2 * share)

    def towards(self, prior: float, prior_weight: float) -> float:
        """The mean, drawn to what is held without any observation, which counts as much as `prior_weight` of them."""
        return (prior * prior_weight + self.mean * self.weight) / (prior_weight + self.weight)


class HostRecord(Record, frozen=True, kw_only=True):
    """What we saw of one machine of a market's host; `id` and `machine_key` are "<provider>.<machine_id>".

    All counts have faded to `as_of`, so they are not whole. Bounded: `reasons` (code → count) keeps the most frequent,
    `recent` the keys of the last events, so that one told twice counts once.
    """

    collection: ClassVar[str] = "hosts"

    machine_key: str
    provider: str
    machine_id: str
    host_id: str | None = None
    created_at: float
    as_of: float
    boots_ok: float = 0.0
    boots_failed: float = 0.0
    proofs_ok: float = 0.0
    proofs_failed: float = 0.0
    lies: float = 0.0
    deaths: float = 0.0
    served_hours: float = 0.0
    boot_seconds: Spread = Spread()
    restore_log_mbps: Spread = Spread()
    """Of the natural logarithm of Mbit/s: speeds differ by factors, and one burst must not hide ten slow ones."""
    reasons: dict[str, float] = msgspec.field(default_factory=dict)
    offences: float = 0.0
    blocked_until: float | None = None
    recent: tuple[str, ...] = ()


def key_of(offer: Offer) -> str | None:
    """The id of the record of an offer's machine; None where the market does not say which machine it is."""
    if not offer.machine_id:
        return None
    return f"{offer.provider}.{offer.machine_id}".replace("/", "_")[:200]


def unknown(offer: Offer, now: float) -> HostRecord | None:
    """The record of an offer's machine before anything was seen of it; None where it cannot be known again."""
    key = key_of(offer)
    if key is None:
        return None
    return HostRecord(
        id=key,
        machine_key=key,
        provider=offer.provider,
        machine_id=offer.machine_id or "",
        host_id=offer.host_id,
        created_at=now,
        as_of=now,
    )


def faded(record: HostRecord, now: float) -> HostRecord:
    """The record with its evidence as it counts now. Time does not run backwards."""
    if now <= record.as_of:
        return record
    share = 0.5 ** ((now - record.as_of) / HALF_LIFE_SECONDS)
    return replace(
        record,
        as_of=now,
        boots_ok=record.boots_ok * share,
        boots_failed=record.boots_failed * share,
        proofs_ok=record.proofs_ok * share,
        proofs_failed=record.proofs_failed * share,
        lies=record.lies * share,
        deaths=record.deaths * share,
        served_hours=record.served_hours * share,
        boot_seconds=record.boot_seconds.faded(share),
        restore_log_mbps=record.restore_log_mbps.faded(share),
        reasons={reason: count * share for reason, count in record.reasons.items()},
        offences=record.offences * share,
    )


def observed(record: HostRecord, event: HostEvent, now: float) -> HostRecord:
    """The record after an event of `now`. One told twice changes nothing; one told late counts as it would have."""
    if event.key in record.recent:
        return record
    record = faded(record, now)
    weight = 0.5 ** ((record.as_of - now) / HALF_LIFE_SECONDS)
    record = replace(record, recent=(*record.recent, event.key)[-RECENT_MOST:])
    match event.kind:
        case HostEventKind.BOOTED:
            boot_seconds = record.boot_seconds.seeing(event.seconds, weight)
            record = replace(record, boots_ok=record.boots_ok + weight, boot_seconds=boot_seconds)
        case HostEventKind.BOOT_FAILED:
            record = replace(record, boots_failed=record.boots_failed + weight)
        case HostEventKind.PROVED:
            record = replace(record, proofs_ok=record.proofs_ok + weight)
        case HostEventKind.PROOF_FAILED:
            record = replace(record, proofs_failed=record.proofs_failed + weight)
        case HostEventKind.LIED:
            record = replace(record, lies=record.lies + weight)
        case HostEventKind.SERVED:
            record = replace(record, served_hours=record.served_hours + weight * event.seconds / 3600)
        case HostEventKind.DIED:
            record = replace(record, deaths=record.deaths + weight)
        case HostEventKind.RESTORED:
            speed = record.restore_log_mbps.seeing(math.log(max(event.mbps, 1e-3)), weight)
            record = replace(record, restore_log_mbps=speed)
    if event.kind in BLOCK_HOURS:
        record = _blocked(record, event, now, weight)
    return record


def _blocked(record: HostRecord, event: HostEvent, now: float, weight: float) -> HostRecord:
    offences = record.offences + weight
    # 2 to the power of offences *before* this one: it doubles with each, and grows mild again as they fade.
    hours = min(BLOCK_HOURS[event.kind] * 2.0 ** min(record.offences, 30.0), BLOCK_HOURS_MOST)
    until = max(record.blocked_until or 0.0, now + hours * 3600)
    reason = (event.reason or event.kind.value)[:60]
    reasons = {**record.reasons, reason: record.reasons.get(reason, 0.0) + weight}
    kept = sorted(reasons, key=lambda r: (r != reason, -reasons[r], r))[:REASONS_MOST]
    return replace(record, offences=offences, blocked_until=until, reasons={r: reasons[r] for r in kept})
