"""What machines do by themselves: snapshots every so often, and the newest good one read back now and then."""

from __future__ import annotations

import logging
from collections.abc import Callable

from dumont import queries
from dumont.domain import alerts as to_tell
from dumont.domain import snapshots
from dumont.domain.errors import Conflict, Unknown
from dumont.domain.records import Machine, MachineState
from dumont.domain.snapshots import Snapshot
from dumont.operations import alerts, snapshot
from dumont.ports import Ports

log = logging.getLogger(__name__)

AGAIN_SECONDS = 5.0
"""A snapshot that could not be begun, because something else is under way, is tried again after this."""
BUSY_SECONDS = 60.0
"""A verification gives way to all else, and asks again after this."""


def snapshot_by_policy(ports: Ports, machine: Machine, now: float) -> float | None:
    """Begin the snapshot that the machine's policy wants by now; answers with when the next look is due."""
    if machine.state is MachineState.HIBERNATED:
        return None
    taken = ports.store.find(Snapshot, queries.snapshots_of_machine(machine.id))
    due_at = snapshots.due_at(machine, taken)
    if due_at is None or due_at > now or machine.state is not MachineState.RUNNING:
        return due_at
    alerts.write(ports, to_tell.overdue(machine, taken, now))
    damaged = any(s.damaged_at == due_at for s in taken)
    reason = "damage" if damaged else "policy"
    _try(machine, lambda: snapshot.request_snapshot(ports, machine.id, reason=reason, requested_by="policy"))
    return now + AGAIN_SECONDS


def verify_by_policy(ports: Ports, machine: Machine, now: float) -> float | None:
    """Begin the deep verification that the machine's policy wants by now, if nothing else is under way; answers with
    when the next look is due."""
    if machine.spec.snapshot_every_minutes is None or machine.spec.verify_every_days is None:
        return None
    if machine.state is MachineState.HIBERNATED:
        return None
    taken = ports.store.find(Snapshot, queries.snapshots_of_machine(machine.id))
    due_at = snapshots.verify_due_at(machine, taken)
    newest = snapshots.newest_good(taken)
    if due_at is None or newest is None or due_at > now:
        return due_at
    if machine.state is not MachineState.RUNNING or machine.operation_id is not None:
        return now + BUSY_SECONDS
    snapshot_at = snapshots.due_at(machine, taken)
    if snapshot_at is not None and snapshot_at <= now:
        return now + BUSY_SECONDS  # the snapshot goes first
    _try(machine, lambda: snapshot.request_reading(ports, newest.id, requested_by="policy"))
    return now + BUSY_SECONDS


def _try(machine: Machine, begin: Callable[[], object]) -> None:
    try:
        begin()
    except (Conflict, Unknown) as error:
        log.info("not begun now", extra={"machine": machine.id, "error": str(error)})
