"""Days in which little happens: no machine runs, the sweeps rest, and now and then somebody wakes one for a while.

They cost next to nothing: while the schedule is paused there is no event but its own minutes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import random
from collections.abc import Callable

from msgspec.structs import replace

from dumont.domain.errors import ScheduleUnavailable, StoreError, UserError
from dumont.domain.reaping import held_by
from dumont.domain.records import Machine, MachineState, Operation
from dumont.operations import destroy, hibernate, wake
from dumont.optional_ports import ScheduleState
from dumont.ports import Query
from tests.simulation import users
from tests.simulation.broken import Broken
from tests.simulation.world import World

DAY_SECONDS = 86_400.0
SHARE = 0.05
"""Of histories that have such days."""
VISITS_EVERY_SECONDS = 10 * 3600.0
REST_SECONDS = 1200.0
"""In which the sweeps come to rest where nothing is open: ten minutes, and the minutes of two sweeps that fail."""
LOOKS_EVERY_SECONDS = 3600.0
"""A second schedule, which nobody pauses, looks once an hour whether it is right to rest (`infra/schedule.tf`)."""
TRIES = 24
KEEPS_SECONDS = 300.0
RESTING = (MachineState.HIBERNATED, MachineState.FAILED, MachineState.DESTROYED)
ALL = Query(limit=1000)


class SimSchedule:
    """Cloud Scheduler's side: it may be away, and its answers may get lost. Drawn apart."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = random.Random(f"schedule/{world.seed}")
        self.paused = False
        self.owed = False
        """Whether somebody's resume has failed, or they died at it, since it was paused: what they wished may wait for
        the hourly look."""

    def pause(self) -> None:
        """Start no more sweeps."""
        self._set(paused=True)

    def resume(self) -> None:
        """Start them again."""
        self._set(paused=False)

    def state(self) -> ScheduleState:
        """How it stands."""
        self._call("state")
        return ScheduleState.PAUSED if self.paused else ScheduleState.RUNNING

    def _set(self, *, paused: bool) -> None:
        self.owed = self.owed or not paused
        self._call("pause" if paused else "resume")
        self.paused, self.owed = paused, False
        self._call("answer")

    def _call(self, call: str) -> None:
        world = self._world
        world.hub.pause(f"schedule.{call}")
        if world.outages.away("scheduler", world.hub.now) or self._rng.random() < world.weather.server_error:
            raise ScheduleUnavailable("the scheduler does not answer")


def of(seed: int) -> bool:
    """Whether a seed's history has such days."""
    return random.Random(f"days/{seed}").random() < SHARE


def let_sweeps_rest(world: World) -> SimSchedule:
    """From now on they do where nothing is left for them to do."""
    schedule = world.schedule = SimSchedule(world)
    world.ports = dataclasses.replace(world.ports, make_schedule=lambda: schedule)

    def look() -> None:
        world.start_sweep(seconds=10.0, every_seconds=60.0)
        world.hub.after(LOOKS_EVERY_SECONDS, look)

    world.hub.after(LOOKS_EVERY_SECONDS, look)
    return schedule


def live(world: World) -> None:
    """One to four days. Raises `Broken` where something is under way or bills, and nothing sweeps."""
    if world.schedule is None:
        return
    rng = random.Random(f"visits/{world.seed}")
    until = world.hub.now + rng.uniform(1.0, 4.0) * DAY_SECONDS
    _all_rest(world)
    while world.hub.now < until and world.schedule.paused:
        world.hub.run(min(until, world.hub.now + rng.expovariate(1 / VISITS_EVERY_SECONDS)))
        is_right_to_rest(world)
        sleeping = [m.id for m in world.store.quiet.find(Machine, ALL) if m.state is MachineState.HIBERNATED]
        if sleeping and world.hub.now < until:
            _visit(world, rng, rng.choice(sleeping))


def _visit(world: World, rng: random.Random, name: str) -> None:
    """Somebody wakes a machine, twice, as one who hears nothing does; uses it, and lets it sleep."""
    rouse = functools.partial(wake.request, world.ports, name, requested_by="visitor")
    ask(world, f"wake {name}", rouse, dies_at=world.death())
    world.hub.run(world.hub.now + rng.uniform(5.0, 60.0))
    ask(world, f"wake {name} again", rouse)
    world.hub.run(world.hub.now + rng.uniform(300.0, 1200.0))
    users.write_files(world, name)
    _all_rest(world)


def _all_rest(world: World) -> None:
    """Put every machine to sleep, and let go of those that will not; then wait for the sweeps to rest."""
    for number in range(TRIES):
        awake = [m for m in world.store.quiet.find(Machine, ALL) if not _rests(m)]
        if not awake and not _under_way(world):
            world.hub.run(world.hub.now + REST_SECONDS)
            return
        for machine in awake:
            _without_policies(world, machine.id)
            if number < TRIES / 3:
                work = functools.partial(
                    hibernate.request, world.ports, machine.id, tier="hibernate", requested_by="visitor"
                )
                ask(world, f"hibernate {machine.id}", work)
            else:
                end = functools.partial(destroy.request, world.ports, machine.id, discard=True, requested_by="visitor")
                ask(world, f"down {machine.id}", end)
        world.hub.run(world.hub.now + KEEPS_SECONDS)


def _rests(machine: Machine) -> bool:
    return machine.state in RESTING and not held_by(machine) and machine.deadline is None


def _under_way(world: World) -> bool:
    return bool(world.market.live(world.hub.now)) or any(op.open for op in world.store.quiet.find(Operation, ALL))


def is_right_to_rest(world: World) -> None:
    """Nothing sweeps for hours: nothing was to be left that needs it, but for what a failed resume left to the next
    hourly look."""
    waiting = [op for op in world.store.quiet.find(Operation, ALL) if op.open]
    live = [i.label for i in world.market.live(world.hub.now)]
    if world.schedule is not None and world.schedule.paused and not world.schedule.owed and (waiting or live):
        raise Broken(f"invariant 7: nothing sweeps, and {waiting or live} is there")


def _without_policies(world: World, name: str) -> None:
    """A machine that is looked at each so many minutes lets no sweep rest, asleep or not."""
    for machine in world.store.quiet.find(Machine, ALL):
        if machine.id == name:
            spec = replace(machine.spec, snapshot_every_minutes=None, verify_every_days=None, spare="none")
            changed = replace(machine, spec=spec)
            world.store.quiet.transact(lambda tx, changed=changed: tx.put(changed))  # type: ignore[misc]


def ask(world: World, what: str, work: Callable[[], object], dies_at: int | None = None) -> None:
    """A user's request, who may be told no."""

    def attempt() -> None:
        with contextlib.suppress(UserError, StoreError):  # told no
            work()

    world.hub.spawn(what, attempt, dies_at=dies_at)
