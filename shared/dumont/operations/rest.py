"""The rest of the sweeps: with nothing to do their schedule is paused, and the first wish resumes it.

The schedule and the store are two things that no transaction spans, so that they are kept together by order:

- A *wish* commits its work, and only then reads the rest's phase (`wake`).
- A *sweeper* that finds nothing announces the pause (PAUSING); it pauses; only then it looks again; it says PAUSED.

Whichever came first, one sees the other. If the work was committed before the sweeper's last look, that look finds it
and the sweeper resumes. If after, the announcement was there before the commit, so the wish reads PAUSING or PAUSED and
resumes itself.

A wish that reads PAUSING does not know whether its resume came before the sweeper's pause. So it leaves the phase as it
is: a sweeper that lives looks after its pause and resumes; if it died between the two, the phase still says so,
and whoever calls `wake` next (a worker's invocation, another wish) resumes again. Only a resume that is known to follow
the pause (PAUSED, or a PAUSING so old that its call has ended) sets the phase to AWAKE, and only in its own turn.

A wish that could not resume is made good by the worker that its message leads to. Where the message is lost as well, an
hourly sweep of a second schedule, which is never paused, finds what was left, and resumes.
"""

from __future__ import annotations

import logging

from msgspec.structs import replace

from dumont import queries
from dumont.domain.alerts import Alert
from dumont.domain.chats import Chat
from dumont.domain.errors import ScheduleError, StoreError
from dumont.domain.heartbeats import Heartbeat
from dumont.domain.jobs import Job
from dumont.domain.records import Instance, Machine, Operation, Record
from dumont.domain.rest import PAUSE_SECONDS_MAX, RestPhase, SweepRest, Work, may_rest
from dumont.domain.subscriptions import Delivery
from dumont.optional_ports import SweepSchedule
from dumont.ports import Ports, Transaction

log = logging.getLogger(__name__)

SWEEPS = "sweeps"


def look(ports: Ports) -> Work:
    """What a sweep could have to do, up to the first thing found: one to eleven reads, of one record each."""
    store = ports.store
    if store.find(Machine, queries.any_machine_open()):
        return Work(machines_open=1)
    if store.find(Operation, queries.any_operation_open()):
        return Work(operations_open=1)
    if store.find(Instance, queries.any_instance_open()):
        return Work(instances_open=1)
    with_deadlines: tuple[type[Record], ...] = (Machine, Operation, Heartbeat, Job)
    if ports.alerts:
        with_deadlines += (Alert, Chat)
    if ports.subscriptions:
        with_deadlines += (Delivery,)
    return Work(deadlines=sum(bool(store.find(kind, queries.any_deadline())) for kind in with_deadlines))


def rest(ports: Ports, schedule: SweepSchedule) -> bool:
    """Pause the schedule if nothing is left to do; the last act of a sweeper, under its lease. True if it rests now.

    Raises `StoreError` or `ScheduleError`; called again at the end of the next sweep, it makes good whatever it left.
    """
    work = look(ports)
    now = ports.clock.now()
    state = ports.store.get(SweepRest, SWEEPS) or SweepRest(id=SWEEPS)
    if work.any:
        wake(ports, schedule)
        return False
    if state.quiet_since is None:
        _note_quiet(ports, now)
        return False
    if not may_rest(work, state.quiet_since, now):
        return False
    turn = _announce(ports, now)
    # A process that was frozen for as long has lost its turn: its announcement counts as stale soon (see `wake`).
    if ports.clock.now() > now + PAUSE_SECONDS_MAX / 2:
        return _withdraw(ports, schedule, turn)
    schedule.pause()
    if look(ports).any:
        return _withdraw(ports, schedule, turn)
    return _settle(ports, turn, RestPhase.PAUSED)


def wake(ports: Ports, schedule: SweepSchedule) -> bool:
    """Resume the schedule if it rests, or may; called **after** the commit of whatever needs sweeps. One read where
    nothing rests, and one write for the first wish after a quiet time. True if it was resumed.

    Raises `StoreError` or `ScheduleError`: then whoever made the wish says so, or tries again.
    """
    state = ports.store.get(SweepRest, SWEEPS)
    if state is None:
        return False
    if state.quiet_since is not None:
        # Or work that comes and goes between two looks would not count, and its strays not have their ten minutes.
        _note_quiet(ports, None)
    if state.phase is RestPhase.AWAKE:
        return False
    # Read before the call: an announcement that is old by then had its pause carried out, or never will.
    known_to_follow = state.phase is RestPhase.PAUSED or ports.clock.now() > state.announced_at + PAUSE_SECONDS_MAX
    schedule.resume()
    if known_to_follow:
        _settle(ports, state.turn, RestPhase.AWAKE)
    return True


def wake_if_possible(ports: Ports, schedule: SweepSchedule) -> bool:
    """As `wake`, where a scheduler or a store that does not answer must not fail the wish, which is committed: it is
    logged, and since the phase is left as it was, the next call tries again."""
    try:
        return wake(ports, schedule)
    except (ScheduleError, StoreError) as error:
        log.error("the sweeps' schedule was not resumed", extra={"error": str(error)})
        return False


def _announce(ports: Ports, now: float) -> int:
    def work(tx: Transaction) -> int:
        state = tx.get(SweepRest, SWEEPS) or SweepRest(id=SWEEPS)
        tx.put(replace(state, phase=RestPhase.PAUSING, turn=state.turn + 1, announced_at=now))
        return state.turn + 1

    return ports.store.transact(work)


def _withdraw(ports: Ports, schedule: SweepSchedule, turn: int) -> bool:
    """Work came between: whatever was paused, now or in an earlier turn, goes on."""
    schedule.resume()
    _settle(ports, turn, RestPhase.AWAKE)
    return False


def _settle(ports: Ports, turn: int, phase: RestPhase) -> bool:
    """Set the phase, unless another turn has begun: then it is that one's to set."""

    def work(tx: Transaction) -> bool:
        state = tx.get(SweepRest, SWEEPS)
        if state is None or state.turn != turn:
            return False
        if state.phase is not phase:
            tx.put(replace(state, phase=phase))
        return True

    return ports.store.transact(work)


def _note_quiet(ports: Ports, since: float | None) -> None:
    def work(tx: Transaction) -> None:
        state = tx.get(SweepRest, SWEEPS) or SweepRest(id=SWEEPS)
        if (state.quiet_since is None) != (since is None):
            tx.put(replace(state, quiet_since=since))

    ports.store.transact(work)
