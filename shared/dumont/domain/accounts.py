"""Totals of the ledger: by machine, day, GPU, provider or kind; with what has accrued and is not entered yet. Pure.

A day is of a time zone: an entry that spans two of its days is shared between them by time, exactly, since an entry's
rate does not change.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

from dumont.domain import ledger, meter
from dumont.domain.ledger import DAY_SECONDS, MICRO, LedgerEntry
from dumont.domain.records import Instance

By = Literal["machine", "day", "gpu", "provider", "kind"]


class Total(msgspec.Struct, frozen=True, kw_only=True):
    """What was spent on one of what the totals are by. `accruing_usd` is the part that is not in the ledger yet."""

    key: str
    usd: float
    gpu_usd: float = 0.0
    storage_usd: float = 0.0
    bandwidth_usd: float = 0.0
    object_store_usd: float = 0.0
    other_usd: float = 0.0
    gpu_hours: float = 0.0
    """Hours of one GPU: an hour of a machine with eight counts eight."""
    estimated_usd: float = 0.0
    adjusted_usd: float = 0.0
    """What the provider's own bill says beyond what was metered; negative where it says less."""
    accruing_usd: float = 0.0


def days_between(from_time: float, to_time: float) -> list[str]:
    """The UTC days that a stretch of time touches, oldest first."""
    first = ledger.midnight_before(from_time)
    return [ledger.day_of(first + n * DAY_SECONDS) for n in range(int((to_time - first) // DAY_SECONDS) + 1)]


def accruing(instances: Iterable[Instance], now: float) -> list[LedgerEntry]:
    """What open instances have cost beyond what is entered, as entries that nobody writes down."""
    found = []
    for instance in instances:
        if instance.open:
            entered = {entry.id for entry in ledger.entries(instance, now)}
            whole = ledger.entries(msgspec.structs.replace(instance, gone_at=now, ended_at=now), now)
            found += [
                msgspec.structs.replace(entry, id=f"accruing.{entry.id}", note=_ACCRUING)
                for entry in whole
                if entry.id not in entered
            ]
    return found


_ACCRUING = "accruing"


def totals(entries: Sequence[LedgerEntry], by: By, *, from_time: float, to_time: float, zone: ZoneInfo) -> list[Total]:
    """What was spent within [from_time, to_time), by key: days in their order, all else the dearest first."""
    sums: dict[str, dict[str, float]] = {}
    for entry in entries:
        for key, share in _shares(entry, by, from_time, to_time, zone):
            _add(sums.setdefault(key, {}), entry, share)
    made = [Total(key=key, usd=values.pop("usd", 0.0), **values) for key, values in sums.items()]
    return sorted(made, key=lambda t: t.key if by == "day" else (-t.usd, t.key))


def total(entries: Sequence[LedgerEntry], *, from_time: float, to_time: float) -> Total:
    """All that was spent within [from_time, to_time)."""
    values: dict[str, float] = {}
    for entry in entries:
        for _, share in _shares(entry, "kind", from_time, to_time, ZoneInfo("UTC")):
            _add(values, entry, share)
    return Total(key="all", usd=values.pop("usd", 0.0), **values)


def _add(values: dict[str, float], entry: LedgerEntry, share: float) -> None:
    usd = entry.amount_micro_usd * share / MICRO
    column = _COLUMNS.get(entry.kind, "other_usd")
    adds = {"usd": usd, column: usd}
    if entry.kind == ledger.Kind.GPU and entry.source == "metered":
        adds["gpu_hours"] = (entry.to_time - entry.from_time) * share / ledger.SECONDS_PER_HOUR * entry.gpu_count
    if entry.source == "estimated":
        adds["estimated_usd"] = usd
    if entry.source == "billed":
        adds["adjusted_usd"] = usd
    if entry.note == _ACCRUING:
        adds["accruing_usd"] = usd
    for name, value in adds.items():
        values[name] = values.get(name, 0.0) + value


_COLUMNS: dict[str, str] = {
    ledger.Kind.GPU: "gpu_usd",
    ledger.Kind.STORAGE: "storage_usd",
    ledger.Kind.BANDWIDTH_IN: "bandwidth_usd",
    ledger.Kind.BANDWIDTH_OUT: "bandwidth_usd",
    ledger.Kind.OBJECT_STORAGE: "object_store_usd",
    ledger.Kind.OBJECT_DOWNLOAD: "object_store_usd",
}


def _shares(entry: LedgerEntry, by: By, from_time: float, to_time: float, zone: ZoneInfo) -> list[tuple[str, float]]:
    """The keys that an entry belongs to, each with its share of it; what is outside the time belongs to none."""
    seconds = entry.to_time - entry.from_time
    if seconds <= 0:
        inside = from_time <= entry.from_time < to_time
        return [(_key(entry, by, entry.from_time, zone), 1.0)] if inside else []
    start, end = max(entry.from_time, from_time), min(entry.to_time, to_time)
    if start >= end:
        return []
    if by != "day":
        return [(_key(entry, by, start, zone), (end - start) / seconds)]
    shares = []
    while start < end:
        cut = min(end, _next_midnight(start, zone))
        shares.append((_key(entry, by, start, zone), (cut - start) / seconds))
        start = cut
    return shares


def _key(entry: LedgerEntry, by: By, moment: float, zone: ZoneInfo) -> str:
    match by:
        case "day":
            return datetime.datetime.fromtimestamp(moment, zone).date().isoformat()
        case "machine":
            return entry.machine or "(all)"
        case "gpu":
            return entry.gpu or "(none)"
        case "provider":
            return entry.provider
        case "kind":
            return entry.kind


def _next_midnight(moment: float, zone: ZoneInfo) -> float:
    following = datetime.datetime.fromtimestamp(moment, zone).date() + datetime.timedelta(days=1)
    midnight = datetime.datetime.combine(following, datetime.time(), zone).timestamp()
    return midnight if midnight > moment else moment + DAY_SECONDS


def reached_until(instances: Iterable[Instance]) -> float:
    """When the least known of the open instances was last known: an estimate is no better than that."""
    return min((meter.known_at(i) for i in instances if i.open), default=0.0)
