"""Our ledger against a provider's own bill: what differs, why as far as we know, and what to enter. Pure.

What differs of an instance that is gone is entered as an adjustment, so that the ledger's sum is what was paid. Of one
that still bills nothing is entered: its charges may lag. What is ours and not on the bill is only named: a bill that
lacks a line is no proof that nothing is owed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from dumont.domain import costs
from dumont.domain.ledger import MICRO, Kind, LedgerEntry, day_of, micro_usd
from dumont.domain.names import machine_of_label
from dumont.domain.offers import Offer
from dumont.domain.records import Instance, InstanceState

LEAST_USD = 0.0001
"""Differences below this are rounding."""


class Charged(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider says that one instance has cost in all, by kind (`ledger.Kind`, or "other")."""

    instance_id: str
    label: str | None
    started_at: float | None
    ended_at: float | None
    usd: Mapping[str, float]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of one instance's cost, in our books and on the bill."""

    instance_id: str
    provider_instance_id: str
    machine: str
    kind: str
    booked_usd: float
    billed_usd: float
    why: str
    entry: LedgerEntry | None = None
    """What makes it good; None where it is only named."""


def differences(
    charged: Sequence[Charged],
    books: Iterable[Instance],
    entries: Iterable[LedgerEntry],
    *,
    provider: str,
    deployment: str,
    now: float,
) -> list[Difference]:
    """What differs. `entries` are all of the books' instances, and of those that were entered without being in them."""
    by_provider_id = {i.provider_instance_id: i for i in books if i.provider == provider}
    of: dict[str, list[LedgerEntry]] = {}
    for entry in entries:
        of.setdefault(entry.instance_id, []).append(entry)
    found: list[Difference] = []
    for line in charged:
        instance = by_provider_id.pop(line.instance_id, None)
        if instance is not None:
            found += _of_known(line, instance, of.get(instance.id, []), now)
        elif line.label is not None and machine_of_label(deployment, line.label) is not None:
            found += _of_unknown(line, of.get(f"{line.label}+{line.instance_id}", []), provider, deployment, now)
    for instance in by_provider_id.values():
        booked_usd = _booked(of.get(instance.id, []))
        if instance.provider_instance_id is not None and not instance.open and booked_usd >= LEAST_USD:
            found.append(
                Difference(
                    instance_id=instance.id,
                    provider_instance_id=instance.provider_instance_id,
                    machine=instance.machine,
                    kind="all",
                    booked_usd=booked_usd,
                    billed_usd=0.0,
                    why="it is not on the bill (yet)",
                )
            )
    return found


def _booked(entries: Iterable[LedgerEntry]) -> float:
    return sum(entry.amount_micro_usd for entry in entries) / MICRO


def _of_known(line: Charged, instance: Instance, mine: Sequence[LedgerEntry], now: float) -> list[Difference]:
    found = []
    live = costs.accrued(instance, now)
    for kind in sorted({*line.usd, *(e.kind for e in mine)}):
        same = [e for e in mine if e.kind == kind]
        booked_usd = _booked(same)
        if instance.open and kind in (Kind.GPU, Kind.STORAGE):
            booked_usd = live.gpu_usd if kind == Kind.GPU else live.storage_usd
        billed_usd = line.usd.get(kind, 0.0)
        if abs(billed_usd - booked_usd) < LEAST_USD:
            continue
        why = _why(kind, booked_usd, billed_usd)
        entry = None if instance.open else _adjustment(instance, line, kind, same, why, now)
        found.append(
            Difference(
                instance_id=instance.id,
                provider_instance_id=line.instance_id,
                machine=instance.machine,
                kind=kind,
                booked_usd=booked_usd,
                billed_usd=billed_usd,
                why=why,
                entry=entry,
            )
        )
    return found


def _why(kind: str, booked_usd: float, billed_usd: float) -> str:
    if kind == Kind.GPU and booked_usd <= 0:
        return "it ran, and we never saw it run"
    if kind in (Kind.BANDWIDTH_IN, Kind.BANDWIDTH_OUT):
        return "traffic is estimated from what its agent read"
    if billed_usd < booked_usd:
        return "it billed for a shorter time than we saw"
    return "it billed for a longer time than we saw"


def _adjustment(
    instance: Instance, line: Charged, kind: str, same: Sequence[LedgerEntry], why: str, now: float
) -> LedgerEntry:
    at = instance.ended_at or instance.gone_at or now
    # By how many adjustments there are already: two reconciliations at once write the same one, once.
    number = sum(e.source == "billed" for e in same)
    return LedgerEntry(
        id=f"{instance.id}.{kind}.bill.{number}",
        machine=instance.machine,
        instance_id=instance.id,
        operation_id=instance.rented_by,
        provider=instance.provider,
        gpu=instance.offer.gpu,
        gpu_count=instance.offer.gpu_count,
        kind=kind,
        source="billed",
        amount_micro_usd=micro_usd(line.usd.get(kind, 0.0)) - sum(e.amount_micro_usd for e in same),
        usd_per_hour=0.0,
        from_time=at,
        to_time=at,
        day=day_of(at),
        written_at=now,
        note=why,
    )


def _of_unknown(
    line: Charged, mine: Sequence[LedgerEntry], provider: str, deployment: str, now: float
) -> list[Difference]:
    """Of an instance that bears our label and never was in our books: a twin that was rented on the way, and ended."""
    parsed = machine_of_label(deployment, line.label or "")
    machine, epoch = parsed if parsed is not None else ("", 0)
    stray = Instance(
        id=f"{line.label}+{line.instance_id}",
        machine=machine,
        epoch=epoch,
        rented_by="",
        operation_id="",
        provider=provider,
        offer=Offer(provider=provider, id="unknown", gpu="unknown", gpu_usd_per_hour=0.0),
        disk_gb=0.0,
        state=InstanceState.GONE,
        open=line.ended_at is None or line.ended_at >= now - costs.SECONDS_PER_HOUR,
        intended_at=line.started_at or now,
        provider_instance_id=line.instance_id,
        ended_at=line.ended_at,
        gone_at=line.ended_at or now,
    )
    found = _of_known(line, stray, mine, now)
    return [msgspec.structs.replace(d, why="it bears our label, and never was in our books") for d in found]
