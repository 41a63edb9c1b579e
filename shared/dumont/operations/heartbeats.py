"""A heartbeat comes in: one write, and the desired state as its answer; now and then it is news for an operation."""

from __future__ import annotations

import logging

from msgspec.structs import replace

from dumont.agent.tokens import AgentIdentity
from dumont.domain import heartbeats, hibernation, idle, idle_history, snapshots
from dumont.domain.heartbeats import Heartbeat, Reply, Report
from dumont.domain.idle import Activity
from dumont.domain.idle_history import IdleHistory
from dumont.domain.jobs import at_rest
from dumont.domain.ledger import more_traffic
from dumont.domain.names import shard_of
from dumont.domain.records import (
    Instance,
    InstanceState,
    Machine,
    MachineSpec,
    MachineState,
    Operation,
    OperationKind,
)
from dumont.domain.turns import Traffic
from dumont.operations.runner import publish
from dumont.ports import Ports, Transaction

log = logging.getLogger(__name__)

STOPPED = frozenset({"none", "stopped", "exited"})
"""A workload's states in which nothing of it runs."""
ENGINE_RUNS = frozenset(snapshots.START_OF)
"""The phases of an operation in which it waits for the engine."""
KEPT_SECONDS = 7 * 86_400.0


def receive(ports: Ports, identity: AgentIdentity, report: Report) -> Reply:
    """Record a heartbeat and answer with what its sender is to do. `identity` is from its checked token: what the
    report itself says of who sent it counts for nothing. Raises `StoreError`.
    """
    now = ports.clock.now()

    def work(tx: Transaction) -> tuple[Machine | None, Instance | None, Reply] | Reply:
        # One transaction: a fence that commits meanwhile makes it run again. So whoever is told to serve was heard
        # before any fence, and the fence has seen it: the old host's lease is known (invariant 1).
        machine = tx.get(Machine, identity.machine)
        serves = heartbeats.serves(machine, identity.instance)
        record = None if serves else tx.get(Instance, identity.instance)
        answer = heartbeats.reply(machine, record, instance_id=identity.instance, epoch=identity.epoch)
        is_spare = machine is not None and machine.spare_instance_id == identity.instance
        before = tx.get(Heartbeat, identity.instance)
        if before is not None and before.sequence >= 0 and before.received_at > now:
            # We were held up, and a later one has been heard: written over it, this one would count the host's lease
            # from too early a moment, and its replacement would serve beside it (invariant 1).
            return answer
        activity = _activity(before, report, machine, now, serving=answer.state == "serve")
        learned = _learned(tx, identity.machine, before, activity, now)
        beat = _beat(identity, report, answer, activity, now, is_spare=is_spare)
        waits_since = None if answer.state == "serve" else (before.waits_since if before is not None else None) or now
        tx.put(replace(beat, traffic=_traffic(before, report, now), waits_since=waits_since))
        if learned is not None:
            tx.put(learned)
        return machine, record, answer

    heard = ports.store.transact(work)
    if isinstance(heard, Reply):
        return heard
    machine, record, answer = heard
    stopped = report.workload.state in STOPPED
    own = machine is not None and machine.instance_id == identity.instance
    if record is not None and _is_news(record, stopped=stopped):
        _tell(ports, record.id, now, stopped=stopped)
        return answer
    if own and machine is not None and stopped and (machine.state is MachineState.HIBERNATING or machine.workload_held):
        _wake_who_waits_for_stop(ports, machine)
    elif own and machine is not None and machine.job_id is not None and report.workload.state == "exited":
        from dumont.operations import jobs  # few heartbeats end a job: a cold start need not read how one ends

        jobs.step(ports, machine.job_id)
    if report.engine is not None and report.engine.ended:
        _wake_owner(ports, machine, None if own else record, report.engine.run)
    return answer


def has_stopped(beat: Heartbeat) -> bool:
    """Whether an agent that was told not to serve has reported since that its workload does not run."""
    return beat.waits_since is not None and beat.received_at > beat.waits_since and beat.workload.state in STOPPED


def _wake_who_waits_for_stop(ports: Ports, machine: Machine) -> None:
    """The workload does not run any more: its snapshot need not wait until it would have been asked after."""
    held = ports.store.get(Operation, machine.operation_id or "")
    if held is None or not _waits_for_stop(held):
        return

    def work(tx: Transaction) -> Operation | None:
        op = tx.get(Operation, held.id)
        beat = tx.get(Heartbeat, machine.instance_id or "")
        if op is None or not _waits_for_stop(op) or beat is None:
            return None
        if not (has_stopped(beat) if op.kind is OperationKind.HIBERNATE else at_rest(op, machine, beat)):
            return None
        tx.put(replace(op, not_before=0.0))
        return op

    op = ports.store.transact(work)
    if op is not None:
        publish(ports, op)


def _waits_for_stop(op: Operation) -> bool:
    """Both kinds begin with it, in a phase of the same name."""
    return op.open and op.kind in (OperationKind.HIBERNATE, OperationKind.FINISH) and op.phase == hibernation.STOPPING


def _traffic(before: Heartbeat | None, report: Report, now: float) -> Traffic:
    readings = report.readings
    received, sent = readings.network_receive_bytes_per_second, readings.network_send_bytes_per_second
    return more_traffic(before.traffic if before is not None else Traffic(), received, sent, now)


def _activity(
    before: Heartbeat | None, report: Report, machine: Machine | None, now: float, *, serving: bool
) -> Activity:
    """What is known of its use after this heartbeat; in the same transaction, so that of two at once both count."""
    return idle.observe(
        before.activity if before is not None else None,
        readings=report.readings,
        workload=report.workload,
        boot_id=report.boot_id[:64],
        sequence=report.sequence,
        received_at=now,
        spec=machine.spec if machine is not None else MachineSpec(),
        serving=serving,
    )


def _learned(
    tx: Transaction, machine: str, before: Heartbeat | None, after: Activity, now: float
) -> IdleHistory | None:
    """What the end of an idle stretch teaches; most heartbeats end none, and cost no read."""
    seconds = idle.stretch_ended(before.activity if before is not None else None, after)
    if seconds is None:
        return None
    return idle_history.learn(tx.get(IdleHistory, machine), machine, seconds=seconds, now=now)


def _beat(
    identity: AgentIdentity, report: Report, answer: Reply, activity: Activity, now: float, *, is_spare: bool
) -> Heartbeat:
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
        activity=activity,
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


def _wake_owner(ports: Ports, machine: Machine | None, record: Instance | None, run: str) -> None:
    """The snapshot engine's run has ended: whoever waits for it need not wait until it would have asked.

    Agents report a run for as long as it is their newest. So only the operation that waits for just this one is woken:
    else each heartbeat would cut short whatever another waits for.
    """
    owner = record.operation_id if record is not None else machine.operation_id if machine is not None else None
    if not run or not owner or (record is not None and record.engine_run != run):
        return

    def work(tx: Transaction) -> Operation | None:
        op = tx.get(Operation, owner)
        instance = tx.get(Instance, record.id) if record is not None else None
        if op is None or not op.open:
            return None
        if instance is not None:
            if not instance.open or instance.engine_run != run:
                return None
            tx.put(replace(instance, next_check_at=0.0))
        elif op.engine_run != run or op.phase not in ENGINE_RUNS:
            return None
        else:
            tx.put(replace(op, not_before=0.0))
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
