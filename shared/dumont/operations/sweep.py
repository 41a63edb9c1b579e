"""The sweep: makes good what messages did not. Its work depends on what is due, not on how much there is."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace as with_ports

import msgspec
from msgspec.structs import replace

from dumont import queries
from dumont.domain.budgets import Budget
from dumont.domain.errors import BusUnavailable, ScheduleError, StoreError
from dumont.domain.heartbeats import Heartbeat
from dumont.domain.jobs import Job
from dumont.domain.records import Machine, Operation, Schedule
from dumont.operations import (
    alerts,
    budget_settings,
    budgets,
    failover,
    jobs,
    object_costs,
    policies,
    sleeping,
    spares,
    subscribers,
)
from dumont.operations.reap import reap
from dumont.operations.reconcile import reconcile
from dumont.operations.rest import rest
from dumont.operations.runner import send
from dumont.ports import Bus, Ports, Transaction

log = logging.getLogger(__name__)

REDELIVER_SECONDS = 5.0
"""A due operation is published again after this, if nobody claimed it."""
REAP_EVERY_SECONDS = 60.0
REAPER = "reaper"
RECONCILER = "reconciler"
RECONCILE_EVERY_SECONDS = 6 * 3600.0
RECONCILE_BACK_SECONDS = 3 * 86_400.0
"""A bill may lag: what it lacked at one look it has at the next ones."""
SWEEPER = "sweeper"
SWEEPER_LEASE_SECONDS = 90.0
TAKE_OVER_SECONDS = 12.0
"""How long a sweeper waits for the one before it to end."""
DEAF_SECONDS = 25.0
"""Longer than this without a pass, and whatever stopped us may have stopped heartbeats from being heard too."""


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """What one sweep did."""

    operations: int = 0
    suspects: int = 0
    budgets: int = 0
    reaped: int = 0


class _AskedOnce:
    """A bus for one pass: it may take 20 s to say that it is away, and who has said so once is not asked again. With
    many messages to send, nobody would listen for hosts that fall silent meanwhile; each is sent by a later pass."""

    def __init__(self, inner: Bus) -> None:
        self._inner = inner
        self._away: str | None = None

    def publish(self, topic: str, message: Mapping[str, str]) -> None:
        if self._away is not None:
            raise BusUnavailable(self._away)
        try:
            self._inner.publish(topic, message)
        except BusUnavailable as error:
            self._away = str(error)
            raise


def sweep(ports: Ports, *, listening_since: float = 0.0) -> Swept:
    """One pass: look into silences, wake operations that are due, enforce budgets that are reached, and now and then
    run the reaper. Silence from before `listening_since` is given its time again: it may have been ours."""
    return _pass(ports, listening_since, 0.0)[0]


def _pass(ports: Ports, listening_since: float, slow_look_at: float) -> tuple[Swept, float]:
    """A pass, and when the reaper is due next, at the earliest: before then nobody need read that."""
    ports = with_ports(ports, bus=_AskedOnce(ports.bus))
    now = ports.clock.now()
    woken = looked_at = suspects = 0
    due = queries.due(now)
    for beat in ports.store.find(Heartbeat, due):
        suspects += failover.suspect(ports, beat.id, listening_since=listening_since) is not None
    for op in ports.store.find(Operation, due):
        woken += _wake(ports, op.id, now)
    for machine in ports.store.find(Machine, due):
        looked_at += _look_at(ports, machine.id)
    for job in ports.store.find(Job, due):
        looked_at += jobs.step(ports, job.id) is not None
    for budget in ports.store.find(Budget, due):
        looked_at += budgets.look_at(ports, budget.id)
    reaped = 0
    if now >= slow_look_at:
        is_due, slow_look_at = _turn(ports, REAPER, REAP_EVERY_SECONDS, now)
        reaped = _slow_look(ports) if is_due else 0
    return Swept(operations=woken, suspects=suspects, budgets=looked_at, reaped=reaped), slow_look_at


def sweep_for(ports: Ports, *, seconds: float, every_seconds: float) -> Swept:
    """Sweep again and again for a while: Cloud Scheduler starts us each minute, deadlines are finer than that.

    One sweeper at a time; a second one that is started meanwhile ends at once. A pass that fails is logged, and the
    next one tries anew: one bad answer of the store must not end a minute's sweeping.
    """
    owner = ports.ids.new("sweep")
    until = ports.clock.now() + seconds
    total = Swept()
    last_pass_at = _take_lease(ports, owner, seconds)
    while last_pass_at is None:
        # The minute before may still be at its last pass. To give up here would leave a whole minute unwatched.
        if ports.clock.now() + every_seconds >= until - seconds + TAKE_OVER_SECONDS:
            return total
        ports.clock.sleep(min(every_seconds, 2.0))
        last_pass_at = _take_lease(ports, owner, seconds)
    began = ports.clock.now()
    listening_since = began if began - last_pass_at > DEAF_SECONDS else 0.0
    slow_look_at = 0.0
    while True:
        try:
            done, slow_look_at = _pass(ports, listening_since, slow_look_at)
            total = Swept(
                operations=total.operations + done.operations,
                suspects=total.suspects + done.suspects,
                budgets=total.budgets + done.budgets,
                reaped=total.reaped + done.reaped,
            )
        except StoreError as error:
            log.error("sweep failed", extra={"error": str(error)})
        if ports.clock.now() + every_seconds >= until:
            break
        ports.clock.sleep(every_seconds)
    _rest_if_nothing_runs(ports)
    _release_lease(ports, owner)
    return total


def _rest_if_nothing_runs(ports: Ports) -> None:
    """The last act under the lease: while nothing runs, nothing sweeps, and nothing is paid for."""
    if ports.make_schedule is None:
        return
    try:
        rest(ports, ports.make_schedule())
    except (StoreError, ScheduleError) as error:
        log.warning("the schedule goes on as it is", extra={"error": str(error)})


def _wake(ports: Ports, operation_id: str, now: float) -> bool:
    """Move the deadline on, then publish: however many sweeps run before a slow worker comes to it, it gets one
    message each `REDELIVER_SECONDS`."""

    def work(tx: Transaction) -> Operation | None:
        op = tx.get(Operation, operation_id)
        if op is None or not op.open or op.deadline is None or op.deadline > now:
            return None
        tx.put(replace(op, deadline=now + REDELIVER_SECONDS))
        return op

    op = ports.store.transact(work)
    if op is None:
        return False
    send(ports, op)
    return True


def _look_at(ports: Ports, name: str) -> bool:
    """A machine's deadline: its budget (invariant 8), reached if all goes on as it is, or what its policies want."""
    machine = ports.store.get(Machine, name)
    if machine is None or machine.deadline is None:
        return False
    now = ports.clock.now()
    again = _earliest(
        budgets.enforce_cap(ports, machine, now),
        policies.snapshot_by_policy(ports, machine, now),
        policies.verify_by_policy(ports, machine, now),
        spares.by_policy(ports, machine, now),
        sleeping.by_idleness(ports, machine, now),
        sleeping.by_timetable(ports, machine, now),
    )

    def work(tx: Transaction) -> None:
        fresh = tx.get(Machine, name)
        if fresh is None or fresh.deadline != machine.deadline:
            return
        deadline = None if again is None else max(again, now + REDELIVER_SECONDS)
        tx.put(replace(fresh, deadline=deadline))

    ports.store.transact(work)
    return True


def _earliest(*moments: float | None) -> float | None:
    return min((moment for moment in moments if moment is not None), default=None)


def _slow_look(ports: Ports) -> int:
    """Once a minute: strays at providers, what their lists say for the meter, the day's costs of the object store, what
    was not told yet; and a few times a day the providers' own bills."""
    reaped = len([op for op in reap(ports) if op])
    budget_settings.watch_credit(ports)
    object_costs.enter_yesterday(ports)
    alerts.look(ports)
    subscribers.look(ports)
    now = ports.clock.now()
    if _turn(ports, RECONCILER, RECONCILE_EVERY_SECONDS, now)[0]:
        reconcile(ports, from_time=now - RECONCILE_BACK_SECONDS, to_time=now, enter=True)
    return reaped


def _turn(ports: Ports, identifier: str, every_seconds: float, now: float) -> tuple[bool, float]:
    """Whether what is done each so many seconds is to be done now, by us: its time is taken note of. And when it is due
    next, at the earliest: later, if somebody else does it meanwhile."""
    known = ports.store.get(Schedule, identifier)
    if known is not None and now < known.last_run_at + every_seconds:
        return False, known.last_run_at + every_seconds

    def work(tx: Transaction) -> tuple[bool, float]:
        schedule = tx.get(Schedule, identifier) or Schedule(id=identifier)
        if now < schedule.last_run_at + every_seconds:
            return False, schedule.last_run_at + every_seconds
        tx.put(replace(schedule, last_run_at=now))
        return True, now + every_seconds

    return ports.store.transact(work)


def _take_lease(ports: Ports, owner: str, seconds: float) -> float | None:
    """When the last sweep ended (0: never), if the lease is ours now; None while another holds it."""

    def work(tx: Transaction) -> float | None:
        now = ports.clock.now()
        schedule = tx.get(Schedule, SWEEPER) or Schedule(id=SWEEPER)
        if schedule.lease_owner is not None and schedule.lease_until > now:
            return None
        until = now + min(seconds + 5.0, SWEEPER_LEASE_SECONDS)
        tx.put(replace(schedule, lease_owner=owner, lease_until=until))
        return schedule.last_run_at

    return ports.store.transact(work)


def _release_lease(ports: Ports, owner: str) -> None:
    def work(tx: Transaction) -> None:
        schedule = tx.get(Schedule, SWEEPER)
        if schedule is not None and schedule.lease_owner == owner:
            tx.put(replace(schedule, lease_owner=None, lease_until=0.0, last_run_at=ports.clock.now()))

    ports.store.transact(work)
