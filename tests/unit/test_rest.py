"""The sweeps rest when nothing is left to do, and no wish is ever left unswept, however the two are interleaved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product

import greenlet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from dumont.adapters.always_running import AlwaysRunning
from dumont.adapters.memory_store import MemoryStore
from dumont.domain.errors import ScheduleUnavailable
from dumont.domain.offers import Offer
from dumont.domain.records import (
    Instance,
    InstanceState,
    Machine,
    MachineSpec,
    MachineState,
    Operation,
    OperationKind,
    OperationState,
    Record,
)
from dumont.domain.rest import PAUSE_SECONDS_MAX, QUIET_SECONDS, RestPhase, SweepRest, Work, may_rest
from dumont.operations.rest import SWEEPS, look, rest, wake, wake_if_possible
from dumont.optional_ports import ScheduleState
from dumont.ports import Ports
from tests.unit.rest_support import ManualClock, make_ports

NOW = 1_800_000_000.0


class Died(BaseException):
    """A process ended in the middle."""


@dataclass
class Job:
    """A schedule as Google keeps it: what it is told takes effect at some moment within the call."""

    pause_hook: Callable[[str], None] = lambda _call: None
    state_now: ScheduleState = ScheduleState.RUNNING
    told: list[str] = field(default_factory=list)
    reachable: bool = True

    def pause(self) -> None:
        self._tell("pause", ScheduleState.PAUSED)

    def resume(self) -> None:
        self._tell("resume", ScheduleState.RUNNING)

    def state(self) -> ScheduleState:
        return self.state_now

    def _tell(self, what: str, state: ScheduleState) -> None:
        self.pause_hook(what)
        if not self.reachable:
            raise ScheduleUnavailable("told to")
        self.told.append(what)
        self.state_now = state
        self.pause_hook(f"after {what}")


def operation(name: str = "op-1", **changes: object) -> Operation:
    made = Operation(id=name, kind=OperationKind.PROVISION, machine="ada", epoch=1, created_at=NOW, updated_at=NOW)
    return replace(made, **changes)


def machine(**changes: object) -> Machine:
    made = Machine(
        id="ada",
        spec=MachineSpec(gpu="RTX 4090"),
        state=MachineState.DESTROYED,
        epoch=1,
        created_at=NOW,
        updated_at=NOW,
    )
    return replace(made, **changes)


def instance(**changes: object) -> Instance:
    made = Instance(
        id="i-1", machine="ada", epoch=1, rented_by="op-1", operation_id="op-1", provider="vast", disk_gb=20.0,
        offer=Offer(provider="vast", id="1", gpu="RTX 4090", gpu_usd_per_hour=0.2), state=InstanceState.GONE,
        open=False, intended_at=NOW,
    )  # fmt: skip
    return replace(made, **changes)


def put(ports: Ports, record: Record) -> None:
    ports.store.transact(lambda tx: tx.put(record))


def phase(ports: Ports) -> RestPhase:
    state = ports.store.get(SweepRest, SWEEPS)
    return state.phase if state is not None else RestPhase.AWAKE


def quiet_world() -> tuple[Ports, ManualClock]:
    """Nothing is open, and has not been for long."""
    clock = ManualClock(NOW)
    ports = make_ports(MemoryStore(), clock)
    assert not rest(ports, AlwaysRunning())
    clock.moment += QUIET_SECONDS
    return ports, clock


# --- In turn ------------------------------------------------------------------------------------------------------


few = st.integers(0, 1)
works = st.builds(Work, machines_open=few, operations_open=few, instances_open=few, deadlines=few)


@given(works, st.none() | st.floats(0, 5000), st.floats(0, 5000))
def test_nothing_rests_while_anything_is_open_or_was_lately(work: Work, quiet_since: float | None, now: float) -> None:
    if may_rest(work, quiet_since, now):
        assert not work.any
        assert quiet_since is not None
        assert now - quiet_since >= QUIET_SECONDS


@pytest.mark.parametrize(
    "record",
    [
        operation(),
        machine(state=MachineState.RUNNING),
        machine(state=MachineState.FAILING_OVER),
        machine(state=MachineState.HIBERNATED, deadline=NOW + 1e7),
        instance(state=InstanceState.RELEASING, open=True),
        operation(state=OperationState.FAILED, deadline=NOW + 1e7),
    ],
)
def test_whatever_could_fall_due_keeps_the_sweeps_awake(record: Record) -> None:
    ports, _ = quiet_world()
    put(ports, record)
    assert look(ports).any
    job = Job()
    assert not rest(ports, job)
    assert job.told == []


@pytest.mark.parametrize("state", [MachineState.DESTROYED, MachineState.FAILED, MachineState.HIBERNATED])
def test_machines_that_are_over_or_asleep_let_the_sweeps_rest(state: MachineState) -> None:
    ports, _ = quiet_world()
    for record in (machine(state=state), instance(), operation(state=OperationState.SUCCEEDED)):
        put(ports, record)
    job = Job()
    assert rest(ports, job)
    assert job.told == ["pause"]
    assert phase(ports) is RestPhase.PAUSED


def test_the_sweeps_go_on_for_ten_minutes_after_the_last_work() -> None:
    ports, clock = quiet_world()
    put(ports, operation())
    rest(ports, Job())
    put(ports, operation(state=OperationState.SUCCEEDED))
    clock.moment += QUIET_SECONDS
    assert not rest(ports, Job()), "quiet begins with the first look that finds nothing"
    clock.moment += QUIET_SECONDS - 1
    assert not rest(ports, Job())
    clock.moment += 1
    assert rest(ports, Job())


def test_work_between_two_looks_counts_too() -> None:
    ports, _ = quiet_world()
    put(ports, operation())
    wake(ports, Job())
    put(ports, operation(state=OperationState.SUCCEEDED))
    assert not rest(ports, Job())


def test_the_first_wish_resumes_and_the_next_one_asks_nothing() -> None:
    ports, _ = quiet_world()
    job = Job()
    assert rest(ports, job)
    put(ports, operation())
    assert wake(ports, job)
    assert not wake(ports, job)
    assert job.told == ["pause", "resume"]
    assert phase(ports) is RestPhase.AWAKE


def test_a_sweep_that_is_started_by_hand_while_resting_pauses_again() -> None:
    ports, _ = quiet_world()
    job = Job()
    assert rest(ports, job)
    job.state_now = ScheduleState.RUNNING
    assert rest(ports, job)
    assert job.state_now is ScheduleState.PAUSED


def test_a_scheduler_that_does_not_answer_fails_no_wish_and_is_asked_again() -> None:
    ports, _ = quiet_world()
    job = Job()
    assert rest(ports, job)
    job.reachable = False
    assert not wake_if_possible(ports, job)
    job.reachable = True
    assert wake_if_possible(ports, job)
    assert job.state_now is ScheduleState.RUNNING


def test_a_process_that_was_frozen_before_its_pause_does_not_pause() -> None:
    clock = ManualClock(NOW)
    store = MemoryStore(pause=lambda call: setattr(clock, "moment", clock.moment + frozen.get(call, 0.0)))
    frozen: dict[str, float] = {}
    ports = make_ports(store, clock)
    rest(ports, AlwaysRunning())
    clock.moment += QUIET_SECONDS
    frozen["commit"] = PAUSE_SECONDS_MAX
    job = Job()
    assert not rest(ports, job)
    assert "pause" not in job.told


# --- Interleaved --------------------------------------------------------------------------------------------------


class Interleaving:
    """Tasks that yield before each call of the store or the scheduler; the given choices say who goes on."""

    def __init__(self, choices: list[int]) -> None:
        self._choices = iter(choices)
        self._main = greenlet.getcurrent()
        self._tasks: dict[str, greenlet.greenlet] = {}
        self._calls: dict[str, int] = {}
        self._dies_at: dict[str, int] = {}

    def pause(self, call: str) -> None:
        del call
        name = next((n for n, task in self._tasks.items() if task is greenlet.getcurrent()), None)
        if name is None:
            return
        self._main.switch()
        self._calls[name] += 1
        if self._calls[name] == self._dies_at.get(name):
            raise Died

    def start(self, name: str, work: Callable[[], object], *, dies_at: int | None = None) -> None:
        def body() -> None:
            try:
                work()
            except Died:
                return

        self._tasks[name] = greenlet.greenlet(body)
        self._calls[name] = 0
        if dies_at is not None:
            self._dies_at[name] = dies_at

    def run(self) -> None:
        while alive := [task for task in self._tasks.values() if not task.dead]:
            alive[next(self._choices, 0) % len(alive)].switch()
        self._tasks = {}


# Bursts find what single calls do not: drawn call by call, one task hardly ever gets through ten of its calls before
# another's first.
bursts = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 24)), max_size=12)
choices = bursts.map(lambda some: [task for task, calls in some for _ in range(calls)])

SWEEPER_CALLS, WISH_CALLS = 26, 10
"""At least as many calls as each makes: with these each order of two switches back and forth is tried."""


def interleaved(order: list[int]) -> tuple[Interleaving, Ports, Job]:
    tasks = Interleaving(order)
    clock = ManualClock(NOW)
    ports = make_ports(MemoryStore(pause=tasks.pause), clock)
    rest(ports, AlwaysRunning())
    clock.moment += QUIET_SECONDS
    return tasks, ports, Job(pause_hook=tasks.pause)


def wish(ports: Ports, job: Job, name: str) -> Callable[[], object]:
    def work() -> None:
        put(ports, operation(name))
        wake(ports, job)

    return work


def race(order: list[int], *, rested_before: bool = False, dies_at: int | None = None) -> tuple[Ports, Job]:
    """A sweeper (0) and a wish (1), in an order of their calls."""
    tasks, ports, job = interleaved(order)
    if rested_before:
        rest(ports, job)
    tasks.start("sweeper", lambda: rest(ports, job), dies_at=dies_at)
    tasks.start("wish", wish(ports, job, "op-1"))
    tasks.run()
    return ports, job


def test_a_wish_is_never_left_unswept_in_any_order_of_four_bursts() -> None:
    """The race that this is all about, in full: the sweeper, the wish, the sweeper and the wish go on in turn."""
    for first, then, again in product(range(SWEEPER_CALLS), range(WISH_CALLS), (1, 2, 4, 99)):
        _, job = race([0] * first + [1] * then + [0] * again + [1] * 99)
        assert job.state_now is ScheduleState.RUNNING, (first, then, again)


@pytest.mark.parametrize("rested_before", [False, True])
def test_wherever_a_sweeper_dies_somebody_knows_that_the_schedule_may_be_paused(rested_before: bool) -> None:
    for first, then, again in product(range(SWEEPER_CALLS), range(WISH_CALLS), range(1, 9)):
        order = [0] * first + [1] * then + [0] * again + [1] * 99
        ports, job = race(order, rested_before=rested_before, dies_at=first + again)
        assert job.state_now is ScheduleState.RUNNING or phase(ports) is not RestPhase.AWAKE, (first, then, again)
        wake(ports, job)  # a worker's invocation
        assert job.state_now is ScheduleState.RUNNING, (first, then, again)


@settings(max_examples=150, deadline=None)
@given(choices, st.integers(1, 3), st.integers(0, 2), st.integers(1, 2))
def test_a_wish_is_never_left_unswept(order: list[int], wishes: int, rested_before: int, sweepers: int) -> None:
    """Several wishes, and two sweepers, of which one lost its lease."""
    tasks, ports, job = interleaved(order)
    for _ in range(rested_before):
        rest(ports, job)
    for number in range(sweepers):
        tasks.start(f"sweeper {number}", lambda: rest(ports, job))
    for number in range(wishes):
        tasks.start(f"wish {number}", wish(ports, job, f"op-{number}"))
    tasks.run()
    assert job.state_now is ScheduleState.RUNNING


@settings(max_examples=150, deadline=None)
@given(choices, st.integers(1, 30), st.integers(0, 1), st.floats(0, 3 * PAUSE_SECONDS_MAX), st.booleans())
def test_a_sweeper_that_dies_anywhere_is_made_good_by_the_next_call(
    order: list[int], dies_at: int, rested_before: int, later: float, another: bool
) -> None:
    tasks, ports, job = interleaved(order)
    for _ in range(rested_before):
        rest(ports, job)
    tasks.start("sweeper", lambda: rest(ports, job), dies_at=dies_at)
    tasks.start("wish", wish(ports, job, "op-1"))
    if another:
        tasks.start("another sweeper", lambda: rest(ports, job))
    tasks.run()
    assert job.state_now is ScheduleState.RUNNING or phase(ports) is not RestPhase.AWAKE, "nobody would know"
    ports.clock.sleep(later)
    wake(ports, job)  # a worker's invocation
    assert job.state_now is ScheduleState.RUNNING


@settings(max_examples=150, deadline=None)
@given(choices, st.integers(1, 30))
def test_a_wish_that_dies_after_its_commit_is_found_by_the_sweeper_or_the_next_call(
    order: list[int], dies_at: int
) -> None:
    tasks, ports, job = interleaved(order)
    tasks.start("sweeper", lambda: rest(ports, job))
    tasks.start("wish", wish(ports, job, "op-1"), dies_at=dies_at)
    tasks.run()
    if ports.store.get(Operation, "op-1") is None:
        return
    wake(ports, job)
    assert job.state_now is ScheduleState.RUNNING


@settings(max_examples=100, deadline=None)
@given(choices)
def test_once_all_is_done_and_quiet_the_sweeps_rest_again(order: list[int]) -> None:
    tasks, ports, job = interleaved(order)
    tasks.start("sweeper", lambda: rest(ports, job))
    tasks.start("wish", wish(ports, job, "op-1"))
    tasks.run()
    put(ports, operation(state=OperationState.SUCCEEDED))
    rest(ports, job)
    ports.clock.sleep(QUIET_SECONDS + 1)
    rest(ports, job)
    ports.clock.sleep(QUIET_SECONDS + 1)
    assert rest(ports, job)
    assert job.state_now is ScheduleState.PAUSED
