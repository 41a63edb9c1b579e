"""Our ledger against the providers' own bills: compared, the differences named, and entered if asked."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import msgspec

from dumont import queries
from dumont.domain import costs, reconciling
from dumont.domain.accounts import days_between
from dumont.domain.errors import ProviderError
from dumont.domain.ledger import MICRO, LedgerEntry
from dumont.domain.reconciling import Charged, Difference
from dumont.domain.records import Instance
from dumont.optional_ports import ChargesShown
from dumont.ports import Ports

log = logging.getLogger(__name__)

ENTERED_AT_ONCE = 200


class Reconciled(msgspec.Struct, frozen=True, kw_only=True):
    """One provider's bill against our books, of the instances that existed within the time asked about."""

    provider: str
    instances: int
    booked_usd: float
    billed_usd: float
    """Of the lines that are ours, by label or by id."""
    differences: list[Difference]
    entered: int = 0
    unanswered: str = ""
    """Why there is no comparison; "" where there is one."""


def reconcile(ports: Ports, *, from_time: float, to_time: float, enter: bool) -> list[Reconciled]:
    """Compare each provider's bill with the ledger; with `enter`, make good what is wrong of instances that are gone.
    Safe to repeat, and at once: an adjustment is written once."""
    return [_of(ports, name, from_time, to_time, enter=enter) for name in ports.providers]


def _of(ports: Ports, name: str, from_time: float, to_time: float, *, enter: bool) -> Reconciled:
    provider = ports.providers[name]
    nothing = Reconciled(provider=name, instances=0, booked_usd=0.0, billed_usd=0.0, differences=[])
    if not isinstance(provider, ChargesShown):
        return msgspec.structs.replace(nothing, unanswered="this provider does not show what it has charged")
    try:
        charged = provider.charges(from_time, to_time)
    except ProviderError as error:
        return msgspec.structs.replace(nothing, unanswered=str(error)[:300])
    now = ports.clock.now()
    books, entries = _books(ports, name, charged, from_time, to_time)
    found = reconciling.differences(charged, books, entries, provider=name, deployment=ports.deployment, now=now)
    missing = [d.entry for d in found if d.entry is not None and d.entry.amount_micro_usd]
    if enter:
        for start in range(0, len(missing), ENTERED_AT_ONCE):
            batch = missing[start : start + ENTERED_AT_ONCE]
            ports.store.transact(lambda tx, batch=batch: [tx.create(entry) for entry in batch])  # type: ignore[misc]
        if missing:
            log.warning("the bill differs from the ledger", extra={"provider": name, "adjusted": len(missing)})
    known = {i.provider_instance_id for i in books} | {d.provider_instance_id for d in found}
    booked = sum(e.amount_micro_usd for e in entries) / MICRO + sum(
        costs.accrued(i, now).total_usd - costs.entered_usd(i) for i in books if i.open
    )
    entered_usd = sum(e.amount_micro_usd for e in missing) / MICRO if enter else 0.0
    return Reconciled(
        provider=name,
        instances=len(books),
        booked_usd=booked + entered_usd,
        billed_usd=sum(sum(c.usd.values()) for c in charged if c.instance_id in known),
        differences=found,
        entered=len(missing) if enter else 0,
    )


def _books(
    ports: Ports, provider: str, charged: Sequence[Charged], from_time: float, to_time: float
) -> tuple[list[Instance], list[LedgerEntry]]:
    """The instances that are on the bill, or that the ledger has something of in this time; and all their entries."""
    store = ports.store
    by_id: dict[str, Instance] = {}
    for ids in batches([c.instance_id for c in charged]):
        for instance in store.find(Instance, queries.instances_of_provider_ids(ids)):
            by_id[instance.id] = instance
    named = {f"{c.label}+{c.instance_id}" for c in charged} | set(by_id)
    for days in batches(days_between(from_time, to_time)):
        for entry in store.find(LedgerEntry, queries.ledger_of_days(days)):
            if entry.provider == provider and entry.instance_id:
                named.add(entry.instance_id)
    for instance_id in named - set(by_id):
        known = store.get(Instance, instance_id)
        if known is not None:
            by_id[known.id] = known
    entries: list[LedgerEntry] = []
    for ids in batches(sorted(named)):
        entries += store.find(LedgerEntry, queries.ledger_of_instances(ids))
    return [i for i in by_id.values() if i.provider == provider], entries


def batches(ids: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Values for one query each."""
    for start in range(0, len(ids), queries.IN_MOST):
        yield tuple(ids[start : start + queries.IN_MOST])
