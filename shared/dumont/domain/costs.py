"""What instances cost. Vast.ai bills the GPU while an instance runs and its disk from creation on, to the second."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from dumont.domain import meter
from dumont.domain.ledger import MICRO, Kind, LedgerEntry, day_of, entries, entries_between, micro_usd
from dumont.domain.records import Instance, InstanceState
from dumont.domain.turns import Billed

SECONDS_PER_HOUR = 3600.0
LEAST_MARGIN_USD = 0.0001


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """An amount in USD, by what it was for."""

    gpu_usd: float = 0.0
    storage_usd: float = 0.0

    @property
    def total_usd(self) -> float:
        """Everything together."""
        return self.gpu_usd + self.storage_usd

    def __add__(self, other: Cost) -> Cost:
        return Cost(gpu_usd=self.gpu_usd + other.gpu_usd, storage_usd=self.storage_usd + other.storage_usd)


def billed_until(instance: Instance, now: float) -> float:
    """Until when an instance bills: its end, or now if it has not ended (until it is gone, it may bill)."""
    return meter.billed_until(instance, now)


def runs_since(instance: Instance) -> float | None:
    """From when the GPU bills, of its present or last run: half-way between the last look that found it at rest and
    the first that found it running, since it happened between the two and nobody says when."""
    return next((turn.at for turn in reversed(meter.turns(instance)) if turn.state is Billed.RUNNING), None)


def accrued(instance: Instance, now: float, *, from_time: float = 0.0, to_time: float | None = None) -> Cost:
    """What an instance has cost by `now`, or within a stretch of time: of each of its turns what bills in it.

    An instance whose create's answer is unknown counts from the intent on, so that a budget errs on the side of
    caution.
    """
    to_time = now if to_time is None else min(to_time, now)
    return Cost(
        gpu_usd=meter.gpu_seconds(instance, from_time, to_time) * instance.offer.gpu_usd_per_hour / SECONDS_PER_HOUR,
        storage_usd=meter.storage_seconds(instance, from_time, to_time)
        * instance.offer.storage_usd_per_hour(instance.disk_gb)
        / SECONDS_PER_HOUR,
    )


def total(instances: Sequence[Instance], now: float) -> Cost:
    """What several instances have cost together by `now`."""
    return sum((accrued(instance, now) for instance in instances), Cost())


def total_at_most_usd(instances: Sequence[Instance], now: float, *, from_time: float = 0.0) -> float:
    """What several instances can have cost at most by `now`, or since `from_time`: what a budget is held against.

    An instance that we have not looked at for a while may have run all that time, and billed its GPU.
    """
    return sum(_at_most_usd(instance, now, from_time) for instance in instances)


def _at_most_usd(instance: Instance, now: float, from_time: float) -> float:
    gpu_seconds = meter.gpu_seconds_at_most(instance, from_time, now)
    gpu_usd = gpu_seconds * instance.offer.gpu_usd_per_hour / SECONDS_PER_HOUR
    return accrued(instance, now, from_time=from_time).storage_usd + gpu_usd


def margin_entry(instance: Instance, now: float) -> LedgerEntry | None:
    """Of one that is gone: what it can have cost beyond what its entries say, as an entry that adds nothing to any sum;
    None where that is next to nothing.

    A budget that counted an instance at the most while it was open, and forgot that when it was gone, would fall as
    its losers go, and admit what the bill has no room for (invariant 8).
    """
    margin_usd = total_at_most_usd([instance], now) - accrued(instance, now).total_usd
    if margin_usd < LEAST_MARGIN_USD:
        return None
    return LedgerEntry(
        id=f"{instance.id}.margin.{len(meter.turns(instance))}",  # one that came back and went again has another
        machine=instance.machine,
        instance_id=instance.id,
        operation_id=instance.rented_by,
        provider=instance.provider,
        gpu=instance.offer.gpu,
        gpu_count=instance.offer.gpu_count,
        kind=Kind.GPU.value,
        amount_micro_usd=0,
        margin_micro_usd=micro_usd(margin_usd),
        usd_per_hour=instance.offer.gpu_usd_per_hour,
        from_time=now,
        to_time=now,
        day=day_of(now),
        written_at=now,
        note="at most so much more, of what nobody saw",
    )


def margins_usd(entries: Sequence[LedgerEntry], *, from_time: float) -> float:
    """What those that went since then can have cost beyond their entries, but for those whose bill is known."""
    known = {e.instance_id for e in entries if e.source == "billed"}
    return sum(e.margin_micro_usd for e in entries if e.from_time >= from_time and e.instance_id not in known) / MICRO


def entered_usd(instance: Instance) -> float:
    """What of an instance's GPU and disk is in the ledger by now."""
    return sum(entry.amount_micro_usd for entry in entries(instance, 0.0)) / MICRO


def rate_usd_per_hour(instances: Sequence[Instance]) -> float:
    """The most that the open instances can bill each hour from now on, counting each one's GPU as if it ran, but of
    those that we have paused."""
    return sum(_rate_usd_per_hour(i) for i in instances if i.open)


def _rate_usd_per_hour(instance: Instance) -> float:
    if meter.is_paused(instance):
        return instance.offer.storage_usd_per_hour(instance.disk_gb)
    return instance.offer.total_usd_per_hour(instance.disk_gb)


def budget_deadline(instances: Sequence[Instance], budget_usd: float | None, now: float) -> float | None:
    """When the budget is reached if all goes on as it is; None without a budget or while nothing bills."""
    rate = rate_usd_per_hour(instances)
    if budget_usd is None or rate <= 0:
        return None
    left_usd = budget_usd - total_at_most_usd(instances, now)
    return now + max(0.0, left_usd) / rate * SECONDS_PER_HOUR


def stopped(
    instance: Instance, now: float, *, heard_at: float | None = None, by_us: bool | None = None
) -> tuple[Instance, list[LedgerEntry]]:
    """An instance that its provider says is stopped, and the entries of the run that ended so: from here on its disk
    bills alone, until it is started again.

    `heard_at`: when its agent last spoke. `by_us`: it runs again only if we start it; by default so of a spare.
    """
    paused = instance.state is InstanceState.STOPPED if by_us is None else by_us
    after = meter.saw(instance, Billed.PAUSED if paused else Billed.STOPPED, now, heard_at=heard_at)
    after = replace(after, stopped_at=now, booted_at=None, seen_booting_at=None, woken_at=None)
    # Without its turns written down, its runs would be forgotten with `booted_at`.
    after = after if after.turns else replace(after, turns=meter.turns(instance))
    return after, entries_between(instance, after, now)
