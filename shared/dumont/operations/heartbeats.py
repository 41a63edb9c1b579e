"""A heartbeat comes in: one write, and the desired state as its answer; now and then it is news for an operation."""

from __future__ import annotations

import logging

from msgspec.structs import replace

from dumont.agent.tokens import AgentIdentity
from dumont.domain import heartbeats
from dumont.domain.heartbeats import Heartbeat, Reply, Report
from dumont.domain.names import shard_of
from dumont.domain.records import Instance, InstanceState, Machine, Operation
from dumont.operations.runner import publish
from dumont.ports import Ports, Transaction

log = logging.getLogger(__name__)

STOPPED = frozenset({"none", "stopped", "exited"})
"""A workload's states in which nothing of it runs."""
KEPT_SECONDS = 7 * 86_400.0


def receive(ports: Ports, identity: AgentIdentity, report: Report) -> Reply:
    """Record a heartbeat and answer with what its sender is to do. `identity` is from its checked token: what the
    report itself says of who sent it counts for nothing. Raises `StoreError`.
    """
    now = ports.clock.now()

    def work(tx: Transaction) -> tuple[Machine | None, Instance | None, Reply]:
        # One transaction: a fence that commits meanwhile makes it run again. So whoever is told to serve was heard
        # before any fence, and the fence has seen it: the old host's lease is known (invariant 1).
        machine = tx.get(Machine, identity.machine)
        serves = heartbeats.serves(machine, identity.instance)
        record = None if serves else tx.get(Instance, identity.instance)
        answer = heartbeats.reply(machine, record, instance_id=identity.instance, epoch=identity.epoch)
        is_spare = machine is not None and machine.spare_instance_id == identity.instance
        tx.put(_beat(identity, report, answer, now, is_spare=is_spare))
        return machine, record, answer

    machine, record, answer = ports.store.transact(work)
    stopped = report.workload.state in STOPPED
    if record is not None and _is_news(record, stopped=stopped):
        _tell(ports, record.id, now, stopped=stopped)
    elif report.engine is not None and report.engine.ended:
        _wake_owner(ports, machine, record)
    return answer


def _beat(identity: AgentIdentity, report: Report, answer: Reply, now: float, *, is_spare: bool) -> Heartbeat:
    deadline = now + heartbeats.missed_after_seconds(answer.interval_seconds)
    return Heartbeat(
        id=identity.instance,
        machine=identity.machine,
        epoch=answer.epoch,
        received_at=now,
        sequence=report.sequence,
        boot_id=report.boot_id[:64],
        readings=report.readings,
        workload=report.workload,
        agent=report.agent,
        deadline=deadline if answer.state == "serve" or is_spare else None,
        shard=shard_of(identity.instance),
        expires_at=now + KEPT_SECONDS,
    )


def _is_news(record: Instance, *, stopped: bool) -> bool:
    """Its first word after a boot, or after it was given up for lost; and that it has stopped, once it was told to."""
    if record.state is InstanceState.LOST:
        return record.returned_at is None or (stopped and record.stopped_at is None)
    return record.open and record.phoned_home_at is None


def _tell(ports: Ports, instance_id: str, now: float, *, stopped: bool) -> None:
    """Write down that it called, and wake the operation that waits for it."""

    def work(tx: Transaction) -> Operation | None:
        instance = tx.get(Instance, instance_id)
        if instance is None or not _is_news(instance, stopped=stopped):
            return None
        if instance.state is not InstanceState.LOST:
            called = {"phoned_home_at": now}
        elif instance.returned_at is None:
            called = {"returned_at": now}
        else:  # it has been answered "fenced" since: this is no report from before
            called = {"stopped_at": now}
        tx.put(replace(instance, next_check_at=min(instance.next_check_at, now), **called))
        return tx.get(Operation, instance.operation_id)

    op = ports.store.transact(work)
    if op is not None and op.open:
        publish(ports, op)


def _wake_owner(ports: Ports, machine: Machine | None, record: Instance | None) -> None:
    """The snapshot engine's run has ended: whoever waits for it need not wait until it would have asked."""
    owner = record.operation_id if record is not None else machine.operation_id if machine is not None else None
    if owner is None:
        return

    def work(tx: Transaction) -> Operation | None:
        op = tx.get(Operation, owner)
        instance = tx.get(Instance, record.id) if record is not None else None
        if op is None or not op.open:
            return None
        tx.put(replace(op, not_before=0.0))
        if instance is not None and instance.open:
            tx.put(replace(instance, next_check_at=0.0))
        return op

    op = ports.store.transact(work)
    if op is not None:
        publish(ports, op)


def first_heartbeat(tx: Transaction, machine: Machine, winner: Instance, now: float) -> None:
    """From the moment that an instance serves its silence counts, also if its agent was never heard."""
    beat = tx.get(Heartbeat, winner.id)
    deadline = now + heartbeats.missed_after_seconds(machine.spec.heartbeat_seconds) + 5.0
    if beat is None:
        beat = Heartbeat(
            id=winner.id,
            machine=machine.id,
            epoch=machine.epoch,
            received_at=now,
            sequence=-1,
            shard=shard_of(winner.id),
        )
    tx.put(replace(beat, deadline=deadline, suspect_operation_id="", expires_at=now + KEPT_SECONDS))
