"""From what the demo saw to what its report says: pure, so that each figure can be tested. Nothing here prints."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from dumont.domain import costs
from dumont.domain.cloud_prices import CLOUD_PRICES, CloudPrice
from dumont.domain.records import Instance
from dumont.local.demo.recording import Check, Recording, Resource, Span

BILL_REMARK = (
    "Dumont counts a GPU from half-way between its last look that found it booting and the first that found it "
    "running, a second or two apart; the market counts from the moment itself. In a run this short that shows."
)
BETWEEN = "between steps"
"""Time that no step of the main path accounts for: requests, polling, the control plane's own work."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """All the stretches of one name: together, and as a part of the whole. Cost is what *all* rentals billed then."""

    name: str
    seconds: float
    share: float
    cost_usd: float


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of the timeline, in seconds from its start. Segments follow each other without gap or overlap."""

    name: str
    start: float
    end: float


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of a rental's life, in seconds from the start: rent, boot, proof, serve or release."""

    name: str
    start: float
    end: float


class Rental(msgspec.Struct, frozen=True, kw_only=True):
    """One rental, with its cost by kind and, where it was read, the market's own bill for it."""

    letter: str
    instance_id: str
    gpu: str
    region: str
    host: str
    usd_per_hour: float
    won: bool
    gpu_seconds: float
    gpu_usd: float
    storage_usd: float
    total_usd: float
    market_usd: float | None
    phases: tuple[Phase, ...]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A cloud's list price for one GPU beside ours. `times_dearer` is its price divided by ours."""

    cloud: str
    machine_type: str
    gpu: str
    usd_per_gpu_hour: float
    times_dearer: float
    same_time_usd: float
    as_of: str
    source: str
    note: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the report says. `steps` add up to `total_seconds` and `total_cost_usd`."""

    simulated: bool = True
    machine: str
    started_at: float
    time_scale: float
    ok: bool
    total_seconds: float
    demo_seconds: float
    total_cost_usd: float
    gpu_usd_per_gpu_hour: float | None
    offers_found: int
    steps: tuple[Step, ...]
    segments: tuple[Segment, ...]
    rentals: tuple[Rental, ...]
    resources: tuple[Resource, ...]
    comparison: tuple[Comparison, ...]
    checks: tuple[Check, ...]
    output: tuple[str, ...]
    saved: tuple[Resource, ...]
    moved: tuple[Resource, ...]
    slept: tuple[Resource, ...]
    savings: tuple[Resource, ...]


def build(recording: Recording, *, prices: Sequence[CloudPrice] = CLOUD_PRICES) -> Report:
    """The report on a recording, with a last check of its own: that the figures add up."""
    segments = main_path(recording.spans, recording.started_at, recording.ended_at)
    total = costs.total(list(recording.instances), recording.ended_at).total_usd
    steps = _steps(segments, recording)
    rentals = _rentals(recording)
    checks = (*recording.checks, _adds_up(steps, rentals, recording, total))
    offer = recording.offer
    per_gpu = offer.gpu_usd_per_hour / offer.gpu_count if offer else None
    return Report(
        machine=recording.machine,
        started_at=recording.started_at,
        time_scale=recording.time_scale,
        ok=all(check.ok for check in checks),
        total_seconds=recording.ended_at - recording.started_at,
        demo_seconds=recording.demo_seconds,
        total_cost_usd=total,
        gpu_usd_per_gpu_hour=per_gpu,
        offers_found=recording.offers_found,
        steps=steps,
        segments=tuple(
            Segment(name=s.name, start=s.started_at - recording.started_at, end=s.ended_at - recording.started_at)
            for s in segments
        ),
        rentals=rentals,
        resources=_resources(recording),
        comparison=compare(per_gpu, sum(r.gpu_seconds for r in rentals if r.won), prices) if per_gpu else (),
        checks=checks,
        output=recording.output,
        saved=recording.saved,
        moved=recording.moved,
        slept=recording.slept,
        savings=recording.savings,
    )


def main_path(spans: Sequence[Span], start: float, end: float) -> list[Span]:
    """The spans put end to end from `start` to `end`: each moment counts once, for the span that began first, and
    what no span covers is `BETWEEN`.
    """
    placed: list[Span] = []
    cursor = start
    for span in sorted(spans, key=lambda s: (s.started_at, s.ended_at)):
        begin, finish = max(span.started_at, cursor), min(span.ended_at, end)
        if begin >= end or finish <= begin:
            continue
        if begin > cursor:
            placed.append(Span(name=BETWEEN, started_at=cursor, ended_at=begin))
        placed.append(Span(name=span.name, started_at=begin, ended_at=finish))
        cursor = finish
    if cursor < end:
        placed.append(Span(name=BETWEEN, started_at=cursor, ended_at=end))
    return placed


def _steps(segments: Sequence[Span], recording: Recording) -> tuple[Step, ...]:
    names = list(dict.fromkeys(s.name for s in segments if s.name != BETWEEN))
    if any(s.name == BETWEEN for s in segments):
        names.append(BETWEEN)
    whole = max(recording.ended_at - recording.started_at, 1e-9)
    steps = []
    for name in names:
        mine = [s for s in segments if s.name == name]
        seconds = sum(s.ended_at - s.started_at for s in mine)
        cost = sum(
            costs.accrued(i, recording.ended_at, from_time=s.started_at, to_time=s.ended_at).total_usd
            for s in mine
            for i in recording.instances
        )
        steps.append(Step(name=name, seconds=seconds, share=seconds / whole, cost_usd=cost))
    return tuple(steps)


def _rentals(recording: Recording) -> tuple[Rental, ...]:
    bills = {bill.instance_id: bill for bill in recording.bills}
    made = []
    for place, instance in enumerate(sorted(recording.instances, key=lambda i: i.intended_at)):
        cost = costs.accrued(instance, recording.ended_at)
        bill = bills.get(instance.id)
        offer = instance.offer
        running_until = costs.billed_until(instance, recording.ended_at)
        made.append(
            Rental(
                letter=chr(ord("A") + place % 26),
                instance_id=instance.id,
                gpu=f"{offer.gpu_count}× {offer.gpu}" if offer.gpu_count > 1 else offer.gpu,
                region=offer.region or "unknown",
                host=offer.host_id or "unknown",
                usd_per_hour=offer.total_usd_per_hour(instance.disk_gb),
                won=instance.id == recording.winner_id or instance.id in recording.served_ids,
                gpu_seconds=max(0.0, running_until - instance.booted_at) if instance.booted_at else 0.0,
                gpu_usd=cost.gpu_usd,
                storage_usd=cost.storage_usd,
                total_usd=cost.total_usd,
                market_usd=bill.total_usd if bill else None,
                phases=_phases(instance, recording),
            )
        )
    return tuple(made)


def _phases(instance: Instance, recording: Recording) -> tuple[Phase, ...]:
    leaving = instance.releasing_at or instance.gone_at or recording.ended_at
    moments = (
        ("rent", instance.intended_at, instance.created_at),
        ("boot", instance.created_at, min(instance.booted_at or leaving, leaving)),
        ("proof", instance.booted_at, min(instance.proven_at or leaving, leaving)),
        ("serve", instance.proven_at, leaving),
        ("release", instance.releasing_at, instance.gone_at or recording.ended_at),
    )
    return tuple(
        Phase(name=name, start=start - recording.started_at, end=end - recording.started_at)
        for name, start, end in moments
        if start is not None and end is not None and end > start
    )


def compare(ours_usd_per_gpu_hour: float, gpu_seconds: float, prices: Sequence[CloudPrice]) -> tuple[Comparison, ...]:
    """Each cloud's price for one GPU against ours, cheapest first."""
    return tuple(
        Comparison(
            cloud=price.cloud,
            machine_type=price.machine_type,
            gpu=price.gpu,
            usd_per_gpu_hour=price.usd_per_gpu_hour,
            times_dearer=price.usd_per_gpu_hour / ours_usd_per_gpu_hour,
            same_time_usd=price.usd_per_gpu_hour * gpu_seconds / costs.SECONDS_PER_HOUR,
            as_of=price.as_of,
            source=price.source,
            note=price.note,
        )
        for price in sorted(prices, key=lambda p: p.usd_per_gpu_hour)
    )


def _resources(recording: Recording) -> tuple[Resource, ...]:
    offer, winner, proof = recording.offer, recording.winner, recording.proof
    if offer is None or winner is None:
        return ()
    gpu = recording.gpus[0] if recording.gpus else None
    pairs = (
        ("GPU", f"{offer.gpu_count}× {gpu.model if gpu else offer.gpu}"),
        ("VRAM", f"{gpu.vram_mib:,.0f} MiB each" if gpu and gpu.vram_mib else ""),
        ("driver", gpu.driver_version if gpu else ""),
        ("CPU, memory", _cpu_text(offer.cpu_cores, offer.memory_gib)),
        ("disk", f"{winner.disk_gb:.0f} GB rented{_free_text(proof.disk_free_gb if proof else None)}"),
        ("region", offer.region),
        ("host", f"{offer.host_id or 'unknown'} (reliability {offer.reliability:.1%})" if offer.reliability else None),
        ("market", f"{offer.provider}, simulated"),
        ("price", f"${offer.gpu_usd_per_hour:.4f}/h GPU + ${offer.storage_usd_per_hour(winner.disk_gb):.4f}/h disk"),
    )
    return tuple(Resource(name=name, value=value) for name, value in pairs if value)


def _cpu_text(cores: float | None, memory_gib: float | None) -> str:
    parts = [f"{cores:g} cores" if cores else "", f"{memory_gib:.0f} GiB" if memory_gib else ""]
    return ", ".join(part for part in parts if part)


def _free_text(free_gb: float | None) -> str:
    return f", {free_gb:,.1f} GB free" if free_gb is not None else ""


def _adds_up(steps: Sequence[Step], rentals: Sequence[Rental], recording: Recording, total_usd: float) -> Check:
    wall = recording.ended_at - recording.started_at
    seconds = sum(step.seconds for step in steps)
    by_step, by_rental = sum(s.cost_usd for s in steps), sum(r.total_usd for r in rentals)
    ok = math.isclose(seconds, wall, abs_tol=1e-3) and all(
        math.isclose(part, total_usd, abs_tol=1e-7) for part in (by_step, by_rental)
    )
    seen = f"steps {seconds:.2f} s of {wall:.2f} s; ${by_step:.6f} by step, ${by_rental:.6f} by rental"
    return Check(name="the report's figures add up", ok=ok, seen=seen)


def headline_usd(amount: float) -> str:
    """A total: to the hundredth of a cent, or to the millionth of a USD where that would say next to nothing."""
    return f"${amount:.4f}" if amount >= 0.01 else f"${amount:.6f}"


def rounded_to_sum(values: Sequence[float], digits: int) -> list[float]:
    """The values rounded so that they add up to their rounded sum: the largest remainders are rounded up.

    A reader who adds the shown figures up must come to the shown total.
    """
    scale = 10**digits
    floors = [math.floor(value * scale + 1e-9) for value in values]
    missing = round(sum(values) * scale) - sum(floors)
    by_remainder = sorted(range(len(values)), key=lambda i: floors[i] - values[i] * scale)
    for i in by_remainder[: max(0, missing)]:
        floors[i] += 1
    return [floor / scale for floor in floors]
