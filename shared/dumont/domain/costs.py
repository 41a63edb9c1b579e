"""What instances cost. Vast.ai bills the GPU while an instance runs and its disk from creation on, to the second."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from dumont.domain.records import Instance, InstanceState, LedgerEntry

SECONDS_PER_HOUR = 3600.0


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


def _overlap_seconds(start: float | None, end: float, from_time: float, to_time: float) -> float:
    if start is None:
        return 0.0
    return max(0.0, min(end, to_time) - max(start, from_time))


def billed_until(instance: Instance, now: float) -> float:
    """Until when an instance bills: its end, or now if it has not ended (until it is gone, it may bill)."""
    return min(instance.gone_at, now) if instance.gone_at is not None else now


def runs_since(instance: Instance) -> float | None:
    """From when the GPU bills: half-way between the last look that found it booting and the first that found it
    running, since it happened between the two and nobody says when."""
    booted_at = instance.booted_at
    if booted_at is None or instance.created_at is None:
        return booted_at
    began_at = instance.woken_at if instance.stops and instance.woken_at is not None else instance.created_at
    booting_at = instance.seen_booting_at if instance.seen_booting_at is not None else began_at
    return (min(booting_at, booted_at) + booted_at) / 2


def may_run_since(instance: Instance) -> float | None:
    """The earliest moment from which the GPU can have billed: after the last look that found it booting."""
    if instance.seen_booting_at is not None:
        return instance.seen_booting_at
    return instance.woken_at if instance.stops else instance.created_at


def accrued(instance: Instance, now: float, *, from_time: float = 0.0, to_time: float | None = None) -> Cost:
    """What an instance has cost by `now`, or within a stretch of time.

    The GPU counts from `runs_since`. An instance whose create's answer is unknown counts from
    the intent on, so that a budget errs on the side of caution.
    """
    to_time = now if to_time is None else to_time
    end = billed_until(instance, now)
    created = instance.created_at
    if created is None and instance.outcome_unknown:
        created = instance.intended_at
    storage_seconds = _overlap_seconds(created, end, from_time, to_time)
    gpu_seconds = _overlap_seconds(runs_since(instance), end, from_time, to_time)
    if from_time <= 0.0:
        gpu_seconds += instance.gpu_seconds_before
    return Cost(
        gpu_usd=gpu_seconds * instance.offer.gpu_usd_per_hour / SECONDS_PER_HOUR,
        storage_usd=storage_seconds * instance.offer.storage_usd_per_hour(instance.disk_gb) / SECONDS_PER_HOUR,
    )


def total(instances: list[Instance], now: float) -> Cost:
    """What several instances have cost together by `now`."""
    return sum((accrued(instance, now) for instance in instances), Cost())


def total_at_most_usd(instances: list[Instance], now: float) -> float:
    """What several instances can have cost at most by `now`: what a budget is held against.

    An instance that we have not looked at for a while may have run all that time, and billed its GPU.
    """
    return sum(_at_most_usd(instance, now) for instance in instances)


def _at_most_usd(instance: Instance, now: float) -> float:
    gpu_seconds = _overlap_seconds(may_run_since(instance), billed_until(instance, now), 0.0, now)
    gpu_seconds += instance.gpu_seconds_before
    return accrued(instance, now).storage_usd + gpu_seconds * instance.offer.gpu_usd_per_hour / SECONDS_PER_HOUR


def rate_usd_per_hour(instances: list[Instance]) -> float:
    """The most that the open instances can bill each hour from now on, counting each one's GPU as if it ran."""
    return sum(_rate_usd_per_hour(i) for i in instances if i.open)


def _rate_usd_per_hour(instance: Instance) -> float:
    if instance.state is InstanceState.STOPPED and instance.stopped_at is not None:
        return instance.offer.storage_usd_per_hour(instance.disk_gb)
    return instance.offer.total_usd_per_hour(instance.disk_gb)


def budget_deadline(instances: list[Instance], budget_usd: float | None, now: float) -> float | None:
    """When the budget is reached if all goes on as it is; None without a budget or while nothing bills."""
    rate = rate_usd_per_hour(instances)
    if budget_usd is None or rate <= 0:
        return None
    left_usd = budget_usd - total_at_most_usd(instances, now)
    return now + max(0.0, left_usd) / rate * SECONDS_PER_HOUR


def stopped(instance: Instance, now: float) -> tuple[Instance, list[LedgerEntry]]:
    """A spare that its provider says is stopped, and the entry of the run that ended so: from here on its disk bills
    alone, until it is started again."""
    since = runs_since(instance)
    ran_seconds = max(0.0, now - since) if since is not None else 0.0
    entries = []
    if since is not None:
        amount = ran_seconds * instance.offer.gpu_usd_per_hour / SECONDS_PER_HOUR
        rate = instance.offer.gpu_usd_per_hour
        entries.append(_entry(instance, f"gpu.{instance.stops + 1}", "gpu", amount, rate, since, now, now))
    after = replace(
        instance,
        stopped_at=now,
        stops=instance.stops + 1,
        gpu_seconds_before=instance.gpu_seconds_before + ran_seconds,
        booted_at=None,
        seen_booting_at=None,
        woken_at=None,
    )
    return after, entries


def ledger_entries(instance: Instance, now: float) -> list[LedgerEntry]:
    """The entries for an instance that is gone. Their ids are made of what they are for: written twice is once."""
    if instance.gone_at is None or instance.created_at is None:
        return []
    cost = accrued(instance, now)
    before_usd = instance.gpu_seconds_before * instance.offer.gpu_usd_per_hour / SECONDS_PER_HOUR
    entries = []
    for kind, amount, rate, start in (
        ("gpu", cost.gpu_usd - before_usd, instance.offer.gpu_usd_per_hour, runs_since(instance)),
        ("storage", cost.storage_usd, instance.offer.storage_usd_per_hour(instance.disk_gb), instance.created_at),
    ):
        if start is not None:
            end = max(start, instance.gone_at)
            entries.append(_entry(instance, kind, kind, amount, rate, start, end, now))
    return entries


def _entry(
    instance: Instance, what: str, kind: str, amount_usd: float, rate: float, start: float, end: float, now: float
) -> LedgerEntry:
    return LedgerEntry(
        id=f"{instance.id}.{what}",
        machine=instance.machine,
        instance_id=instance.id,
        operation_id=instance.rented_by,
        provider=instance.provider,
        gpu=instance.offer.gpu,
        kind=kind,
        amount_micro_usd=round(amount_usd * 1_000_000),
        usd_per_hour=rate,
        from_time=start,
        to_time=end,
        written_at=now,
    )
