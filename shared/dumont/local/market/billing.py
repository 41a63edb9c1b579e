"""What instances bill. The GPU while `actual_status` is running; the disk from creation to destruction, in every
state but offline. Exact to the fraction of a second.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from dumont.local.market.instance import Instance
from dumont.local.market.lifecycle import OFFLINE, RUNNING

HOUR_SECONDS = 3600.0


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What one instance has cost so far, in USD."""

    instance_id: int
    label: str | None
    ask_id: int
    machine_id: int
    created_at: float
    destroyed_at: float | None
    gpu_seconds: float
    gpu_usd: float
    storage_usd: float


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """What the account's instances have cost so far, those destroyed too, in USD; and what credit is left."""

    instances: tuple[Line, ...]
    gpu_usd: float
    storage_usd: float
    total_usd: float
    credit_usd: float

    def as_json(self) -> dict[str, Any]:
        """For the control endpoint."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        return built


def charges(instance: Instance, start: float, end: float) -> tuple[float, float, float]:
    """What an instance bills within [start, end): USD of GPU, USD of storage, seconds of GPU."""
    low = max(start, instance.created_at)
    high = end if instance.destroyed_at is None else min(end, instance.destroyed_at)
    gpu_seconds = storage_seconds = 0.0
    lasting = instance.timeline.lasting(low, high)
    spans = instance.timeline.spans(low, high) if lasting is None else [(low, high, lasting)] if low < high else []
    for span_start, span_end, phase in spans:
        if phase.actual == RUNNING:
            gpu_seconds += span_end - span_start
        if phase.actual != OFFLINE:
            storage_seconds += span_end - span_start
    return (
        gpu_seconds * instance.gpu_usd_per_hour / HOUR_SECONDS,
        storage_seconds * instance.storage_usd_per_hour / HOUR_SECONDS,
        gpu_seconds,
    )


def total_charges(instances: Iterable[Instance], start: float, end: float) -> float:
    """What instances bill together within [start, end), in USD."""
    return sum(sum(charges(instance, start, end)[:2]) for instance in instances)


def settle(instances: Iterable[Instance], until: float) -> float:
    """Enter what each instance has billed since it was last settled; the sum, in USD."""
    spent = 0.0
    for instance in instances:
        gpu_usd, storage_usd, gpu_seconds = charges(instance, instance.settled_until, until)
        instance.gpu_usd += gpu_usd
        instance.storage_usd += storage_usd
        instance.gpu_seconds += gpu_seconds
        instance.settled_until = max(instance.settled_until, until)
        spent += gpu_usd + storage_usd
    return spent


def exhausted_at(instances: list[Instance], credit_usd: float, start: float, end: float) -> float | None:
    """The moment within (start, end] at which the credit is used up; None if some is left."""
    moments = {end}
    for instance in instances:
        moments.update(instance.timeline.changes(start, end))
        moments.update(m for m in (instance.created_at, instance.destroyed_at) if m is not None and start < m < end)
    low = start
    for high in sorted(moments):
        spent = total_charges(instances, low, high)
        if spent >= credit_usd:
            return high if spent <= 0 else low + (high - low) * max(0.0, credit_usd) / spent
        credit_usd -= spent
        low = high
    return None


def line(instance: Instance) -> Line:
    """An instance's line of the bill, as last settled."""
    return Line(
        instance_id=instance.id,
        label=instance.label,
        ask_id=instance.ask.id,
        machine_id=instance.ask.machine_id,
        created_at=instance.created_at,
        destroyed_at=instance.destroyed_at,
        gpu_seconds=instance.gpu_seconds,
        gpu_usd=instance.gpu_usd,
        storage_usd=instance.storage_usd,
    )
