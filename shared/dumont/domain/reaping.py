"""Which instances at a provider nobody answers for. Pure; the sweep asks, a reap operation acts (invariant 2)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from dumont.domain.names import machine_of_label
from dumont.domain.offers import Offer
from dumont.domain.records import Instance, InstanceState, Machine, MachineState
from dumont.domain.statuses import ProviderInstance


def strays(
    deployment: str, listed: Sequence[ProviderInstance], books: Mapping[str, Instance]
) -> list[ProviderInstance]:
    """The listed instances that bear our label and are not open in our books. `books` must be read *after* the list:
    an intent is written before its create call, so whatever the list shows was in the books by then.

    What does not bear our label is never touched. A second instance under one label (a create call that was repeated
    on its way) is a stray as well.
    """
    found = []
    for seen in listed:
        if seen.label is None or machine_of_label(deployment, seen.label) is None:
            continue
        known = books.get(seen.label)
        if known is not None and known.open and known.provider_instance_id in (None, seen.id):
            continue
        twin = books.get(stray_id(seen))
        if twin is not None and twin.open:
            continue
        found.append(seen)
    return found


def unanswered(books: Sequence[Instance], current: Collection[str], open_operations: Collection[str]) -> list[Instance]:
    """The open instances in our books that are nobody's: their operation has ended and they are no machine's."""
    return [i for i in books if i.open and i.id not in current and i.operation_id not in open_operations]


def held_by(machine: Machine) -> frozenset[str]:
    """The instances that are a machine's: the one that serves, the one that it keeps stopped while it sleeps, and its
    spare, if it runs: one that does not has none."""
    with_spare = (MachineState.RUNNING, MachineState.HIBERNATING)
    spare = machine.spare_instance_id if machine.state in with_spare else None
    return frozenset(i for i in (machine.instance_id, machine.paused_instance_id, spare) if i is not None)


def stray_id(seen: ProviderInstance) -> str:
    """The record's id of a stray: its label alone may be another's."""
    return f"{seen.label}+{seen.id}"


def adopted(seen: ProviderInstance, provider: str, deployment: str, operation_id: str, now: float) -> Instance:
    """A stray as a record, to be released. Its offer is not known; its price is, where the provider says it."""
    parsed = machine_of_label(deployment, seen.label or "")
    machine, epoch = parsed if parsed is not None else ("unknown", 0)
    return Instance(
        id=stray_id(seen),
        machine=machine,
        epoch=epoch,
        rented_by=operation_id,
        operation_id=operation_id,
        provider=provider,
        offer=Offer(
            provider=provider,
            id="unknown",
            gpu=seen.gpu or "unknown",
            gpu_usd_per_hour=seen.total_usd_per_hour or 0.0,
            machine_id=seen.machine_id,
            host_id=seen.host_id,
        ),
        disk_gb=0.0,
        state=InstanceState.RELEASING,
        intended_at=seen.started_at or now,
        created_at=seen.started_at or now,
        seen_booting_at=seen.started_at or now,
        booted_at=seen.started_at or now,
        releasing_at=now,
        next_check_at=now,
        provider_instance_id=seen.id,
    )
