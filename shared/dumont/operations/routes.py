"""Where a machine's name leads, written in the transaction that changes it."""

from __future__ import annotations

from dumont.domain.records import Machine
from dumont.domain.routing import Route, closed, newer
from dumont.ports import Transaction


def point(tx: Transaction, machine: Machine, now: float) -> None:
    """The name leads to the machine's present instance from this commit on."""
    route = Route(
        id=machine.id,
        epoch=machine.epoch,
        instance_id=machine.instance_id,
        ssh=machine.ssh,
        host_key=machine.host_key,
        updated_at=now,
    )
    tx.put(newer(tx.get(Route, machine.id), route))


def close(tx: Transaction, name: str, now: float) -> None:
    """The name leads nowhere from this commit on."""
    route = tx.get(Route, name)
    if route is not None:
        tx.put(closed(route, now))
