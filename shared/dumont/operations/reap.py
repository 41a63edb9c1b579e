"""The reaper: finds instances at providers that nobody answers for, and starts operations that release them."""

from __future__ import annotations

import logging

from msgspec.structs import replace

from dumont import queries
from dumont.domain import meter, reaping
from dumont.domain.errors import ProviderError
from dumont.domain.names import label_prefix
from dumont.domain.records import (
    Instance,
    InstanceState,
    Machine,
    Operation,
    OperationKind,
    Problem,
)
from dumont.domain.tending import dismiss
from dumont.operations import ledger, metering
from dumont.operations.runner import new_operation, publish
from dumont.ports import Ports, Provider, ProviderInstance, Transaction

log = logging.getLogger(__name__)

NOBODY = "reaper"


def reap(ports: Ports) -> list[str]:
    """Look at every provider and at our books; answer with the ids of the reap operations started.

    A provider that does not answer is looked at again next time: unreadable is not empty, and not full either.
    """
    started = []
    for provider in ports.providers.values():
        asked_at = ports.clock.now()
        try:
            # The list first, the books after it: see `reaping.strays`.
            listed = provider.list(label_prefix(ports.deployment))
        except ProviderError as error:
            log.warning("reaper: not readable", extra={"provider": provider.name, "error": str(error)})
            continue
        books = _books(ports)
        metering.learn(ports, provider.name, listed, books, asked_at)
        for seen in reaping.strays(ports.deployment, listed, books):
            log.error("orphan found", extra={"provider": provider.name, "label": seen.label, "instance": seen.id})
            started.append(_adopt_stray(ports, provider, seen))
    return started + _adopt_unanswered(ports)


def _books(ports: Ports) -> dict[str, Instance]:
    return {i.id: i for i in ports.store.find(Instance, queries.open_instances())}


def _reap_operation(ports: Ports, machine: str, epoch: int, now: float) -> Operation:
    return new_operation(
        ports.ids.new("op"),
        OperationKind.REAP,
        machine,
        epoch,
        now,
        requested_by=NOBODY,
        phase="release",
        due_in_seconds=0.0,
    )


def _adopt_stray(ports: Ports, provider: Provider, seen: ProviderInstance) -> str:
    def work(tx: Transaction) -> Operation | None:
        now = ports.clock.now()
        labelled = tx.get(Instance, seen.label or "")
        before = tx.get(Instance, reaping.stray_id(seen))
        op = _reap_operation(ports, "unknown", 0, now)
        if labelled is not None and labelled.provider_instance_id in (None, seen.id):
            # In our books after all, and counted as gone: it is not. It goes back on them, and is released.
            if labelled.open and _is_open(tx, labelled.operation_id):
                return None
            back = replace(
                meter.reopened(labelled),
                state=InstanceState.RELEASING,
                open=True,
                gone_at=None,
                next_check_at=now,
                operation_id=op.id,
                provider_instance_id=seen.id,
                created_at=labelled.created_at if labelled.created_at is not None else labelled.intended_at,
                releasing_at=now,
                outcome_unknown=False,
                tries=0,
            )
            ledger.put(tx, labelled, back, now)
            op = replace(op, machine=labelled.machine, epoch=labelled.epoch)
        elif before is not None and before.open and _is_open(tx, before.operation_id):
            return None
        else:
            record = reaping.adopted(seen, provider.name, ports.deployment, op.id, now)
            tx.put(record)
            op = replace(op, machine=record.machine, epoch=record.epoch)
        tx.put(op)
        return op

    op = ports.store.transact(work)
    if op is None:
        return ""
    publish(ports, op)
    return op.id


def _is_open(tx: Transaction, operation_id: str) -> bool:
    op = tx.get(Operation, operation_id)
    return op is not None and op.open


def _adopt_unanswered(ports: Ports) -> list[str]:
    """Open instances whose operation ended without them: written by an invocation that had lost its lease."""
    books = list(_books(ports).values())
    machines = {name: ports.store.get(Machine, name) for name in {i.machine for i in books}}
    current = {i for m in machines.values() if m is not None for i in reaping.held_by(m)}
    operations = {op_id: ports.store.get(Operation, op_id) for op_id in {i.operation_id for i in books}}
    alive = {op_id for op_id, op in operations.items() if op is not None and op.open}
    started = []
    for instance in reaping.unanswered(books, current, alive):
        op = ports.store.transact(lambda tx, i=instance: _take_over(ports, tx, i.id))  # type: ignore[misc]
        if op is not None:
            publish(ports, op)
            started.append(op.id)
    return started


def _take_over(ports: Ports, tx: Transaction, instance_id: str) -> Operation | None:
    now = ports.clock.now()
    instance = tx.get(Instance, instance_id)
    if instance is None or not instance.open or _is_open(tx, instance.operation_id):
        return None
    machine = tx.get(Machine, instance.machine)
    if machine is not None and instance.id in reaping.held_by(machine):
        return None
    log.error("instance without an operation found", extra={"instance": instance.id})
    op = _reap_operation(ports, instance.machine, instance.epoch, now)
    why = Problem(code="orphan", detail="no operation answered for it")
    tx.put(replace(dismiss(instance, now, why), operation_id=op.id, next_check_at=now))
    tx.put(op)
    return op
