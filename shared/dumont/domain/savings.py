"""What is saved, each figure with its formula and its prices' dates and sources. Pure.

Against the big clouds: the same hours of one GPU of the same class, at their list prices per GPU (never a whole node
against one GPU). Against never sleeping: the machine kept running from its first hour to now, at what it cost an hour.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from dumont.domain import gpus, ledger
from dumont.domain.cloud_prices import CLOUD_PRICES, CloudPrice
from dumont.domain.ledger import MICRO, Kind, LedgerEntry

_LIKE = (0.8, 1.25)
"""A cloud's GPU counts as of the same class if its memory is within these times ours; the same chip always does."""


class CloudSaving(msgspec.Struct, frozen=True, kw_only=True):
    """The same GPU hours on a cloud. `saved_usd` may be negative: then the cloud would have been cheaper."""

    gpu: str
    gpu_hours: float
    paid_usd: float
    cloud: str
    machine_type: str
    cloud_gpu: str
    same_chip: bool
    usd_per_gpu_hour: float
    cloud_usd: float
    saved_usd: float
    formula: str
    as_of: str
    source: str
    note: str = ""


class SleepSaving(msgspec.Struct, frozen=True, kw_only=True):
    """A machine against itself, never asleep."""

    machine: str
    lifetime_hours: float
    ran_hours: float
    usd_per_hour: float
    always_on_usd: float
    paid_usd: float
    saved_usd: float
    formula: str
    source: str = "the ledger's own rates, each read when it was rented"


class Savings(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. Clouds are alternatives to each other: their savings do not add up."""

    clouds: list[CloudSaving]
    sleep: list[SleepSaving]
    uncompared: list[str]
    """GPUs of ours of whose class no cloud's price is known here."""


def same_class(gpu: str, vram_gib: float | None, prices: Sequence[CloudPrice]) -> list[tuple[CloudPrice, bool]]:
    """Of each cloud the best match: the same chip, or else the cheapest with about as much memory."""
    found: dict[str, tuple[CloudPrice, bool]] = {}
    chips = {word.casefold() for word in gpu.split()}
    for price in prices:
        alike = vram_gib is not None and _LIKE[0] <= price.vram_gib / vram_gib <= _LIKE[1]
        same = price.gpu.split()[0].casefold() in chips
        if not alike:
            continue
        before = found.get(price.cloud)
        if before is None or (same, -price.usd_per_gpu_hour) > (before[1], -before[0].usd_per_gpu_hour):
            found[price.cloud] = (price, same)
    return [found[cloud] for cloud in sorted(found)]


def against_clouds(
    entries: Sequence[LedgerEntry], prices: Sequence[CloudPrice] = CLOUD_PRICES
) -> tuple[list[CloudSaving], list[str]]:
    """By GPU and cloud; and the GPUs that nothing is comparable to. GPU hours alone: clouds bill their disks too."""
    hours: dict[str, float] = {}
    paid: dict[str, float] = {}
    for entry in entries:
        if entry.kind != Kind.GPU or not entry.gpu:
            continue
        paid[entry.gpu] = paid.get(entry.gpu, 0.0) + entry.amount_micro_usd / MICRO
        if entry.source == "metered":
            seconds = (entry.to_time - entry.from_time) * entry.gpu_count
            hours[entry.gpu] = hours.get(entry.gpu, 0.0) + seconds / ledger.SECONDS_PER_HOUR
    savings, unknown = [], []
    for gpu in sorted(hours):
        matches = same_class(gpu, gpus.VRAM_GIB.get(gpu), prices)
        if not matches:
            unknown.append(gpu)
        for price, same_chip in matches:
            cloud_usd = hours[gpu] * price.usd_per_gpu_hour
            savings.append(
                CloudSaving(
                    gpu=gpu,
                    gpu_hours=hours[gpu],
                    paid_usd=paid[gpu],
                    cloud=price.cloud,
                    machine_type=price.machine_type,
                    cloud_gpu=price.gpu,
                    same_chip=same_chip,
                    usd_per_gpu_hour=price.usd_per_gpu_hour,
                    cloud_usd=cloud_usd,
                    saved_usd=cloud_usd - paid[gpu],
                    formula=f"{_short(hours[gpu])} GPU h × ${price.usd_per_gpu_hour:.4f} − ${paid[gpu]:.4f} paid",
                    as_of=price.as_of,
                    source=price.source,
                    note=price.note,
                )
            )
    return savings, unknown


def against_never_sleeping(machine: str, entries: Sequence[LedgerEntry], until: float) -> SleepSaving | None:
    """A machine's own entries; `until`: now, or when it was destroyed. None for one that never ran.

    The rate is what its running hours cost on average, GPU and disk. Hours in which two hosts ran for it (a race, a
    failover) count once as lifetime, and as all that they cost as paid.
    """
    gpu = [e for e in entries if e.kind == Kind.GPU and e.source == "metered" and e.to_time > e.from_time]
    if not gpu:
        return None
    disk = [e for e in entries if e.kind == Kind.STORAGE and e.state == "running" and e.to_time > e.from_time]
    ran_seconds = sum(e.to_time - e.from_time for e in gpu)
    running_usd = sum(e.amount_micro_usd for e in (*gpu, *disk)) / MICRO
    rate = running_usd / ran_seconds * ledger.SECONDS_PER_HOUR
    began = min(e.from_time for e in gpu)
    lifetime_hours = max(0.0, until - began) / ledger.SECONDS_PER_HOUR
    paid_usd = sum(e.amount_micro_usd for e in entries) / MICRO
    always_on_usd = lifetime_hours * rate
    return SleepSaving(
        machine=machine,
        lifetime_hours=lifetime_hours,
        ran_hours=ran_seconds / ledger.SECONDS_PER_HOUR,
        usd_per_hour=rate,
        always_on_usd=always_on_usd,
        paid_usd=paid_usd,
        saved_usd=always_on_usd - paid_usd,
        formula=f"{_short(lifetime_hours)} h × ${rate:.4f}/h − ${paid_usd:.4f} paid (all kinds, asleep and awake)",
    )


def _short(hours: float) -> str:
    """To the hundredth; less than an hour to the second, or the formula would not give its result."""
    return f"{hours:.2f}" if hours >= 1 else f"{hours:.4f}"
