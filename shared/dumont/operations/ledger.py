"""The ledger as things happen: what a change of an instance makes due is entered in the same transaction."""

from __future__ import annotations

from msgspec.structs import replace

from dumont.domain import costs, meter
from dumont.domain.heartbeats import Heartbeat
from dumont.domain.ledger import entries, entries_between, traffic_entries
from dumont.domain.records import Instance, InstanceState
from dumont.ports import Transaction


def put(tx: Transaction, before: Instance | None, after: Instance, now: float) -> Instance:
    """Write an instance, with the ledger's entries that the change makes due. Answers with it as it is written."""
    due = entries_between(before, after, now)
    if after.state is InstanceState.GONE and (before is None or before.state is not InstanceState.GONE):
        after = _last_words(tx, after, now)
        due = entries(after, now)  # all of them once more: nothing of it is looked at after this
        margin = costs.margin_entry(after, now)
        due += [margin] if margin is not None else []
    for entry in due:
        tx.create(entry)
    tx.put(after)
    return after


def put_with_traffic(tx: Transaction, before: Instance, after: Instance, now: float) -> Instance:
    """The same, and what went over its network since it was last entered."""
    return put(tx, before, _with_traffic(tx, after, tx.get(Heartbeat, after.id), now), now)


def _last_words(tx: Transaction, instance: Instance, now: float) -> Instance:
    """One that is gone: its agent's last words say how long it was there at least, and what it had sent by then."""
    if instance.created_at is None:
        return instance
    beat = tx.get(Heartbeat, instance.id)
    # Once it was to be destroyed its agent's word counts for nothing: a host that nobody reaches runs on, unbilled.
    if beat is not None and instance.releasing_at is None and beat.sequence >= 0:
        instance = meter.ended(instance, now, heard_at=beat.received_at)
    return _with_traffic(tx, instance, beat, now)


def _with_traffic(tx: Transaction, instance: Instance, beat: Heartbeat | None, now: float) -> Instance:
    if beat is None or beat.traffic.at <= instance.traffic.at:
        return instance
    for entry in traffic_entries(instance, beat.traffic, now):
        tx.create(entry)
    return replace(instance, traffic=beat.traffic)
