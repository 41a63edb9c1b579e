"""Retention and garbage collection, at the end of each good snapshot. What goes wrong here fails nobody's snapshot."""

from __future__ import annotations

import logging

from msgspec.structs import replace

from dumont import queries
from dumont.domain import snapshots as domain
from dumont.domain.errors import BlobError
from dumont.domain.records import Machine, Operation
from dumont.domain.snapshots import Collected, Snapshot, SnapshotState
from dumont.operations.invocation import Invocation
from dumont.ports import Transaction

log = logging.getLogger(__name__)

GRACE_SECONDS = 3600.0
"""Packs younger than this stay: an engine that was superseded may still be sending."""
DELETED_AT_ONCE = 1000


def collect(invocation: Invocation, op: Operation, machine: Machine) -> None:
    """Let go what retention lets go, then delete what no snapshot needs: first written down, then done."""
    ports = invocation.ports
    known = ports.store.find(Snapshot, queries.snapshots_of_machine(op.machine))
    going = [s.id for s in domain.let_go(known, domain.retention(machine.spec))]

    def retire(tx: Transaction) -> None:
        fresh = [tx.get(Snapshot, snapshot_id) for snapshot_id in going]
        for snapshot in fresh:
            # Kept by its user's word since we looked? Then it stays.
            if snapshot is not None and not snapshot.keep:
                tx.put(replace(snapshot, state=SnapshotState.DELETED))

    ports.store.transact(retire)
    try:
        _delete(invocation, op)
    except BlobError as error:
        log.warning("garbage stays until next time", extra={"machine": op.machine, "error": str(error)})
    invocation.apply(lambda _tx, o, _machine: replace(o, phase=domain.DONE))


def _delete(invocation: Invocation, op: Operation) -> None:
    ports = invocation.ports
    blobs = ports.make_blobs()
    listed = blobs.list(domain.machine_prefix(op.machine))
    known = ports.store.find(Snapshot, queries.snapshots_of_machine(op.machine))
    uploaded = {seen.key: seen.uploaded_at for seen in listed}
    keys = domain.garbage(uploaded, known, invocation.now(), grace_seconds=GRACE_SECONDS)[:DELETED_AT_ONCE]

    def note(tx: Transaction, o: Operation, _machine: Machine | None) -> Operation:
        before = tx.get(Collected, op.machine) or Collected(id=op.machine)
        tx.put(replace(before, keys=tuple(keys)))
        return o

    invocation.apply(note)
    if keys:
        going = set(keys)
        blobs.delete([seen for seen in listed if seen.key in going])
