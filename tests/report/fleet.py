"""An ordinary life: machines that run round the clock in a calm world, whose hosts die as hosts on a market do."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from dumont.domain.records import Machine, MachineSpec, MachineState
from dumont.local.market.api import Api
from dumont.local.market.catalogue import CATALOGUES, Ask, catalogue
from dumont.local.market.core import Market
from dumont.local.market.faults import Fault
from dumont.local.market.lifecycle import BOOTS
from dumont.operations import destroy, hibernate, provision, snapshot
from dumont.operations.sweep import sweep_for
from dumont.optional_ports import ScheduleState
from dumont.ports import Query
from tests.report.findings import Findings, found
from tests.report.measures import Measures
from tests.simulation.users import write_files
from tests.simulation.world import KEY, Weather, World

HOUR = 3600.0
DEATHS_EVERY_HOURS = 100.0
"""Chosen, not measured: nobody publishes it. The catalogue's median host, which is like Vast.ai's listings in this, is
up 99% of its time (`reliability2`); if it is away for an hour at a time, that is once in 100 hours."""
KINDS: dict[str, tuple[float, tuple[float, float] | None]] = {
    "dies": (0.3, None),
    "hung": (0.2, (60.0, 1800.0)),
    "offline": (0.3, (120.0, 2 * HOUR)),
    "network_cut": (0.2, (10.0, 1200.0)),
}
"""Kinds of trouble: their shares, and for how long they last (of a hung host: until its provider notices). Chosen."""
SWEEP_SECONDS, SWEEPS_FOR_SECONDS = 3.0, 58.0
"""As deployed: `SweepRequest`'s defaults."""
LOOKS_FOR_SECONDS, LOOK_SECONDS = 10.0, 60.0
"""As deployed: the hourly one of `infra/schedule.tf`."""
WARM_UP_SECONDS = 1800.0
RENTED_EACH_SECONDS = 10.0
"""Nobody rents a hundred machines in one moment: their races would take the same few offers from one another."""
FILES_EVERY_SECONDS = 1200.0
FROM_ONE_CATALOGUE = 10
"""So many machines find room on one catalogue's listings; more need more listings."""
SPEC = MachineSpec(min_vram_gib=12.0, run="python serve.py", snapshot_every_minutes=60.0, max_failovers_per_day=1000)


@dataclass(frozen=True)
class Plan:
    """A fleet to be lived. `rests`: its machines are "asleep" or "destroyed" while it is measured."""

    name: str
    machines: int
    hours: float
    seed: int
    deaths_every_hours: float | None = DEATHS_EVERY_HOURS
    rests: str = ""


class PausableSweeps:
    """What starts the sweeps each minute, as Cloud Scheduler does: it can be paused, but for one sweep an hour."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._paused = False

    def pause(self) -> None:
        self._world.hub.pause("schedule.pause")
        self._paused = True

    def resume(self) -> None:
        self._world.hub.pause("schedule.resume")
        self._paused = False

    def state(self) -> ScheduleState:
        return ScheduleState.PAUSED if self._paused else ScheduleState.RUNNING

    def start(self) -> None:
        """Begin, and go on for ever."""
        if not self._paused:
            self._spawn(SWEEPS_FOR_SECONDS, SWEEP_SECONDS)
        self._world.hub.after(60.0, self.start)

    def look_hourly(self) -> None:
        """Begin with an hour's wait, and go on for ever."""
        self._world.hub.after(HOUR, self._look)

    def _look(self) -> None:
        self._spawn(LOOKS_FOR_SECONDS, LOOK_SECONDS)
        self.look_hourly()

    def _spawn(self, seconds: float, every_seconds: float) -> None:
        def sweep() -> None:
            sweep_for(self._world.ports, seconds=seconds, every_seconds=every_seconds)

        self._world.hub.spawn("sweep", sweep, ended=functools.partial(_ended, self._world))


Begun = Callable[[World, Measures], None]


def live(plan: Plan, begun: Begun = lambda _world, _measures: None) -> Findings:
    """Rent the fleet, let it live, and say what was measured from when all of it served. `begun` is told of that
    moment."""
    world = World(plan.seed, Weather(), durations=BOOTS["real"])
    try:
        return _live(plan, world, begun)
    finally:
        world.hub.close()


def _live(plan: Plan, world: World, begun: Begun) -> Findings:
    world.market = Market(
        seed=plan.seed, opened_at=world.hub.now, durations=BOOTS["real"], credit_usd=1e6, asks=_asks(plan)
    )
    world.api = Api(world.market, [KEY])
    sweeps = PausableSweeps(world)
    world.ports = replace(world.ports, make_schedule=lambda: sweeps)
    measures = Measures()
    measures.watch(world)
    sweeps.start()
    sweeps.look_hourly()
    world.agents.start()
    names = [f"m{number}" for number in range(plan.machines)]
    for number, name in enumerate(names):
        up = functools.partial(provision.request, world.ports, name, SPEC, requested_by="report")
        world.hub.after(number * RENTED_EACH_SECONDS, functools.partial(_spawn, world, f"up {name}", up))
    world.hub.run(world.hub.now + WARM_UP_SECONDS)
    for name in names:
        if plan.rests:
            _rest(world, name, asleep=plan.rests == "asleep")
        else:
            _write(world, name)
            save = functools.partial(snapshot.request_snapshot, world.ports, name, requested_by="report")
            _spawn(world, f"save {name}", save)  # an hour later they are due by policy: a life has a first one
    world.hub.run(world.hub.now + WARM_UP_SECONDS)
    if world.defects:
        raise world.defects[0]
    _check(plan, world)
    for name in names if plan.deaths_every_hours is not None else ():
        _die(plan, world, name, random.Random(f"deaths/{plan.seed}/{name}"), first=True)
    measures.count_from_now()
    begun(world, measures)
    world.hub.run(world.hub.now + plan.hours * HOUR)
    if world.defects:
        raise world.defects[0]
    return found(measures)


def _check(plan: Plan, world: World) -> None:
    wanted = {"": MachineState.RUNNING, "asleep": MachineState.HIBERNATED, "destroyed": MachineState.DESTROYED}
    states = [m.state for m in world.store.quiet.find(Machine, Query(limit=10_000))]
    if any(state is not wanted[plan.rests] for state in states) or len(states) != plan.machines:
        raise RuntimeError(f"{plan.name} did not begin as it should: {sorted(set(states))}, {len(states)} machines")


def _asks(plan: Plan) -> list[Ask]:
    """Listings enough: those of several catalogues, of which each is on hosts of its own."""
    asks: dict[int, Ask] = {}
    for number in range(min(CATALOGUES, -(-plan.machines // FROM_ONE_CATALOGUE))):
        asks |= {ask.id: ask for ask in catalogue((plan.seed + number) % CATALOGUES)}
    return list(asks.values())


def _spawn(world: World, name: str, request: Callable[[], object]) -> None:
    def work() -> None:
        request()

    world.hub.spawn(name, work, ended=functools.partial(_ended, world))


def _ended(world: World, error: Exception | None) -> None:
    """In a calm world nothing may fail."""
    if error is not None:
        world.defects.append(error)


def _rest(world: World, name: str, *, asleep: bool) -> None:
    request: Callable[[], object] = functools.partial(
        destroy.request, world.ports, name, discard=True, snapshot_first=False, requested_by="report"
    )
    if asleep:
        request = functools.partial(hibernate.request, world.ports, name, tier="hibernate", requested_by="report")
    _spawn(world, f"rest {name}", request)


def _write(world: World, name: str) -> None:
    """A user's work, which goes on as long as its machine serves."""
    write_files(world, name)
    world.hub.after(FILES_EVERY_SECONDS, functools.partial(_write, world, name))


def _die(plan: Plan, world: World, name: str, rng: random.Random, *, first: bool = False) -> None:
    """What befalls the host of a machine, again and again: memoryless, whichever host it is by then."""
    if plan.deaths_every_hours is None:
        return
    kinds = list(KINDS)
    kind = rng.choices(kinds, [KINDS[kind][0] for kind in kinds])[0]
    lasts, share, wait = KINDS[kind][1], rng.random(), rng.expovariate(1 / (plan.deaths_every_hours * HOUR))
    machine = world.store.quiet.get(Machine, name)
    if not first and machine is not None and machine.state is MachineState.RUNNING and machine.instance_id:
        served_by = next((i for i in world.market.live(world.hub.now) if i.label == machine.instance_id), None)
        if served_by is not None:
            seconds = None if lasts is None else lasts[0] + share * (lasts[1] - lasts[0])
            world.market.inject(Fault(kind=kind, instance_id=served_by.id, seconds=seconds), world.hub.now)
            world.changed = True
            world.agents.look()
    world.hub.after(wait, functools.partial(_die, plan, world, name, rng))


def plans(*, seed: int, hours: float, with_hundred: bool) -> list[Plan]:
    """The fleets of a report, the longest first. One machine and ten give what each costs; those whose hosts die each
    hour give what deaths cost in time: how often they come changes nothing in that."""
    fleets = [Plan("10 machines", 10, hours, seed)]
    if with_hundred:
        fleets.insert(0, Plan("100 machines", 100, min(hours, 6.0), seed))
    hurried = [
        Plan("hosts that die each hour", 8, max(2.0, hours / 3), seed + number, deaths_every_hours=1.0)
        for number in range(2)
    ]
    still = [
        Plan("1 machine", 1, 2 * hours, seed),
        Plan("nothing there", 1, 24.0, seed, None, "destroyed"),
        Plan("1 machine asleep", 1, 24.0, seed, None, "asleep"),
    ]
    return list(itertools.chain(fleets, hurried, still))
