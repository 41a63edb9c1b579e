"""The ledger: amounts of money, appended as they come to be, each with the rate that it was made with. Pure.

An instance's entries are made of its turns, cut at each midnight UTC: one for each kind, turn and day, once that
stretch of time is over. Nothing is ever computed from a price that is read later.
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Iterator
from typing import ClassVar, Literal

from dumont.domain import meter
from dumont.domain.records import Instance, Record
from dumont.domain.turns import Billed, Traffic

SECONDS_PER_HOUR = 3600.0
DAY_SECONDS = 86_400.0
BYTES_PER_GB = 1e9
MICRO = 1_000_000


class Kind(enum.StrEnum):
    """What money is spent on."""

    GPU = "gpu"
    STORAGE = "storage"
    BANDWIDTH_IN = "bandwidth_in"
    BANDWIDTH_OUT = "bandwidth_out"
    OBJECT_STORAGE = "object_storage"
    OBJECT_DOWNLOAD = "object_download"


class LedgerEntry(Record, frozen=True, kw_only=True):
    """One amount of money, appended and never changed; `id` is made of what it is for, so that it is written once.

    `amount_micro_usd` is in millionths of a USD, so that sums are exact. It is `usd_per_hour` × the time from
    `from_time` to `to_time`, or `usd_per_gb` × `quantity_gb`. `day` is the UTC day that it belongs to ("2026-11-22").
    """

    collection: ClassVar[str] = "ledger"

    machine: str
    """"": of the whole deployment."""
    instance_id: str
    operation_id: str
    provider: str
    gpu: str
    gpu_count: int = 1
    kind: str
    state: str = ""
    """Of GPU and storage: the state that the instance was in (`Billed`)."""
    source: Literal["metered", "estimated", "billed"] = "metered"
    """Metered by its state and the time; estimated from readings; or a difference to the provider's own bill."""
    amount_micro_usd: int
    margin_micro_usd: int = 0
    """By how much more it can have been, of what nobody saw: budgets alone count it, until the bill itself is known."""
    usd_per_hour: float
    quantity_gb: float = 0.0
    usd_per_gb: float = 0.0
    from_time: float
    to_time: float
    day: str = ""
    written_at: float
    note: str = ""


def day_of(moment: float) -> str:
    """The UTC day of a moment, as ISO has it."""
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).date().isoformat()


def midnight_before(moment: float) -> float:
    """The beginning of the UTC day of a moment."""
    return moment - moment % DAY_SECONDS


def micro_usd(amount_usd: float) -> int:
    """USD as the ledger keeps them."""
    return round(amount_usd * MICRO)


def entries(instance: Instance, now: float) -> list[LedgerEntry]:
    """The entries of all of an instance's stretches of time that are over: its turns but the last, that one's days
    that were closed (`posted_until`), and, once it is gone, all."""
    known = meter.turns(instance)
    if not known:
        return []
    until = instance.gone_at if instance.gone_at is not None else max(known[-1].at, instance.posted_until)
    return [
        _entry(instance, kind, number, state, start, end, now)
        for number, state, start, end in _pieces(instance, until)
        for kind in (Kind.GPU, Kind.STORAGE)
        if _rate(instance, kind, state) > 0
    ]


def entries_between(before: Instance | None, after: Instance, now: float) -> list[LedgerEntry]:
    """The entries that a change of an instance makes due: to be written in the transaction that writes the change."""
    if before is not None and _closed(before) == _closed(after):
        return []
    written = {e.id for e in entries(before, now)} if before is not None else set()
    return [entry for entry in entries(after, now) if entry.id not in written]


def _closed(instance: Instance) -> tuple[object, ...]:
    return (instance.created_at, instance.booted_at, instance.turns, instance.gone_at, instance.posted_until)


def _pieces(instance: Instance, until: float) -> Iterator[tuple[int, Billed, float, float]]:
    for number, state, start, end in meter.spans(instance, until):
        while start < end:
            cut = min(end, midnight_before(start) + DAY_SECONDS)
            yield number, state, start, cut
            start = cut


def _rate(instance: Instance, kind: Kind, state: Billed) -> float:
    if kind is Kind.GPU:
        return instance.offer.gpu_usd_per_hour if state is Billed.RUNNING else 0.0
    return instance.offer.storage_usd_per_hour(instance.disk_gb) if state is not Billed.OFFLINE else 0.0


def _entry(
    instance: Instance, kind: Kind, number: int, state: Billed, start: float, end: float, now: float
) -> LedgerEntry:
    rate = _rate(instance, kind, state)
    return LedgerEntry(
        id=f"{instance.id}.{kind}.{number}.{day_of(start)}",
        machine=instance.machine,
        instance_id=instance.id,
        operation_id=instance.rented_by,
        provider=instance.provider,
        gpu=instance.offer.gpu,
        gpu_count=instance.offer.gpu_count,
        kind=kind.value,
        state=state.value,
        amount_micro_usd=micro_usd(rate * (end - start) / SECONDS_PER_HOUR),
        usd_per_hour=rate,
        from_time=start,
        to_time=end,
        day=day_of(start),
        written_at=now,
    )


def closable_days(instance: Instance, known_at: float) -> float | None:
    """Up to which midnight its days can be closed, its state being known up to `known_at`; None: no further than they
    are. What is not known yet is not entered: it may turn out to have stopped."""
    known = meter.turns(instance)
    if not known or not instance.open:
        return None
    midnight = midnight_before(known_at)
    return midnight if midnight > max(instance.posted_until, known[0].at) else None


# --- Bandwidth ----------------------------------------------------------------------------------------------------


def traffic_entries(instance: Instance, seen: Traffic, now: float) -> list[LedgerEntry]:
    """The entries of what went over its network since the last ones (`instance.traffic`), where its offer says what
    that costs. Estimated: the agent's readings leave out what came before it ran (the image), and what it missed."""
    before = instance.traffic
    made = []
    for kind, rate, total, entered in (
        (Kind.BANDWIDTH_IN, instance.offer.download_usd_per_gb, seen.received_bytes, before.received_bytes),
        (Kind.BANDWIDTH_OUT, instance.offer.upload_usd_per_gb, seen.sent_bytes, before.sent_bytes),
    ):
        # A total that has shrunk was begun anew: its record had been forgotten.
        gb = (total - entered if total >= entered else total) / BYTES_PER_GB
        if not rate or gb <= 0:
            continue
        since = before.at or instance.created_at or seen.at
        made.append(
            LedgerEntry(
                id=f"{instance.id}.{kind}.{round(seen.at * 1000)}",
                machine=instance.machine,
                instance_id=instance.id,
                operation_id=instance.rented_by,
                provider=instance.provider,
                gpu=instance.offer.gpu,
                gpu_count=instance.offer.gpu_count,
                kind=kind.value,
                source="estimated",
                amount_micro_usd=micro_usd(gb * rate),
                usd_per_hour=0.0,
                quantity_gb=gb,
                usd_per_gb=rate,
                from_time=min(since, seen.at),
                to_time=seen.at,
                day=day_of(seen.at),
                written_at=now,
            )
        )
    return made


TRAFFIC_GAP_SECONDS_MOST = 120.0


def more_traffic(
    before: Traffic, received_bytes_per_second: float | None, sent_bytes_per_second: float | None, now: float
) -> Traffic:
    """The totals after one more reading. Of a long silence only two minutes are taken to have gone on like that."""
    seconds = min(max(0.0, now - before.at), TRAFFIC_GAP_SECONDS_MOST) if before.at else 0.0
    return Traffic(
        received_bytes=before.received_bytes + max(0.0, received_bytes_per_second or 0.0) * seconds,
        sent_bytes=before.sent_bytes + max(0.0, sent_bytes_per_second or 0.0) * seconds,
        at=now,
    )
