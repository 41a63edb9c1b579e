"""Cold failovers in virtual time: the real decisions, steps and adapters in the simulation's world, thousands of times.

The world is calm: nothing fails in it but what a boot-time distribution has in it, and one host a run, which hangs.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from dumont.domain.records import Instance, Machine, MachineSpec, MachineState, Operation, OperationKind
from dumont.local.market.api import Api
from dumont.local.market.core import Market
from dumont.local.market.faults import Fault
from dumont.local.market.lifecycle import BOOTS
from dumont.operations import provision, snapshot
from dumont.operations.sweep import sweep_for
from dumont.ports import Query
from tests.benchmarks.figures import Figure, percentile
from tests.simulation.engine import Run, SimEngines
from tests.simulation.world import KEY, Weather, World

SWEEP_SECONDS = 3.0
"""As deployed."""
WAIT_MOST_SECONDS = 3600.0
WIDTHS = (1, 2, 3, 5)


@dataclass(frozen=True)
class Failover:
    """One run: seconds from the death of the host, and what the race cost beside its winner."""

    recovered: bool
    to_fenced: float = 0.0
    to_serving: float = 0.0
    losers_usd: float = 0.0
    rentals: int = 0


class _Engines(SimEngines):
    """Engines that move what they have to in one and the same time."""

    transfer_seconds = 0.0

    def _begin(self, instance_id: int, key: tuple[int, str], job: dict[str, Any]) -> None:
        run = self._runs[key] = Run(lines=[{"event": "progress", "files": 0}])
        self._world.hub.after(self.transfer_seconds, lambda: self._end(instance_id, run, job, False))


def one(seed: int, width: int, boots: str, time_scale: float, transfer_seconds: float, run: str) -> Failover:
    """Provision a machine, save its files, let its host hang, and wait until it serves elsewhere."""
    world = World(seed, Weather())
    world.market = Market(
        seed=seed, opened_at=world.hub.now, durations=BOOTS[boots], time_scale=time_scale, credit_usd=1000.0
    )
    world.api = Api(world.market, [KEY])
    engines = _Engines(world, world.blobs)
    engines.transfer_seconds = transfer_seconds
    world.engines = engines
    _start_schedule(world)
    spec = MachineSpec(gpu="RTX 4090", race_width=width, run=run)
    world.hub.spawn("up", lambda: _done(provision.request(world.ports, "ada", spec, requested_by="user")))
    if not _until(world, lambda: _machine(world).state is MachineState.RUNNING):
        return Failover(recovered=False)  # nothing to fail over: counted apart by the caller, through `rentals`
    lost = _serving(world)
    world.files.setdefault(int(lost.provider_instance_id or 0), {})["user/model.bin"] = b"weights"
    world.hub.spawn("save", lambda: _done(snapshot.request_snapshot(world.ports, "ada", requested_by="user")))
    _until(world, lambda: _ended(world, OperationKind.SNAPSHOT))
    world.hub.run(world.hub.now + world.hub.rng.uniform(10.0, 25.0))
    died_at = world.hub.now
    world.market.inject(Fault(kind="hung", instance_id=int(lost.provider_instance_id or 0)), died_at)
    world.agents.look()
    recovered = _until(world, lambda: _machine(world).epoch > lost.epoch and _machine(world).instance_id is not None)
    return _seen(world, lost, died_at, recovered)


def _seen(world: World, lost: Instance, died_at: float, recovered: bool) -> Failover:
    _until(world, lambda: _ended(world, OperationKind.FAILOVER))
    op = next(o for o in _all(world, Operation) if o.kind is OperationKind.FAILOVER)
    machine = _machine(world)
    rented = [i for i in _all(world, Instance) if i.rented_by == op.id]
    losers = {i.id for i in rented if i.id != machine.instance_id}
    bill = world.market.bill(world.hub.now)
    return Failover(
        recovered=recovered,
        to_fenced=next((s.ended_at for s in op.steps if s.name == "confirm"), died_at) - died_at,
        to_serving=(machine.running_since or died_at) - died_at,
        losers_usd=sum(line.gpu_usd + line.storage_usd for line in bill.instances if line.label in losers),
        rentals=len(rented),
    )


def _done(_: object) -> None:
    return None


def _all(world: World, kind: type[Any]) -> list[Any]:
    found: list[Any] = world.store.quiet.find(kind, Query(limit=1000))
    return found


def _machine(world: World) -> Machine:
    found: Machine | None = world.store.quiet.get(Machine, "ada")
    return found if found is not None else Machine(
        id="ada", spec=MachineSpec(), state=MachineState.REQUESTED, epoch=0, created_at=0.0, updated_at=0.0
    )  # fmt: skip


def _serving(world: World) -> Instance:
    found: Instance | None = world.store.quiet.get(Instance, _machine(world).instance_id or "")
    assert found is not None
    return found


def _ended(world: World, kind: OperationKind) -> bool:
    of_kind = [o for o in _all(world, Operation) if o.kind is kind]
    return bool(of_kind) and not any(o.open for o in of_kind)


def _until(world: World, holds: Any) -> bool:
    ends_at = world.hub.now + WAIT_MOST_SECONDS
    while not holds():
        if world.hub.now >= ends_at or _machine(world).state is MachineState.FAILED:
            return False
        world.hub.run(world.hub.now + 1.0)
    return True


def _start_schedule(world: World) -> None:
    """As `World.start_schedule`, at the deployed pace."""

    def tick() -> None:
        world.hub.spawn("sweep", lambda: _done(sweep_for(world.ports, seconds=59.5, every_seconds=SWEEP_SECONDS)))
        world.hub.after(60.0, tick)

    tick()
    world.agents.start()


# --- Many of them -------------------------------------------------------------------------------------------------


def _some(arguments: tuple[Sequence[int], int, str, float, float, str]) -> list[Failover]:
    logging.disable(logging.CRITICAL)  # this process is here for nothing else
    seeds, *rest = arguments
    return [one(seed, *rest) for seed in seeds]  # type: ignore[arg-type]


def sample(
    width: int, *, runs: int, boots: str = "real", time_scale: float = 1.0, transfer_seconds: float = 10.0,
    run: str = "serve", processes: int = 2,
) -> list[Failover]:  # fmt: skip
    """So many failovers of one race width, of a machine with a workload (`run`), whose old lease has to be waited for,
    or without; those whose machine never came up in the first place are left out."""
    pieces = [range(start, runs, processes * 4) for start in range(processes * 4)]
    jobs = [(piece, width, boots, time_scale, transfer_seconds, run) for piece in pieces]
    with ProcessPoolExecutor(processes) as pool:
        found = [failover for piece in pool.map(_some, jobs) for failover in piece]
    return [f for f in found if f.rentals]


def figures(width: int, found: Sequence[Failover], *, goal: float | None) -> Iterator[Figure]:
    """A width's figures."""
    seconds = [f.to_serving for f in found if f.recovered]
    after_fence = [f.to_serving - f.to_fenced for f in found if f.recovered]
    name = f"race of {width}"
    yield Figure(name=f"{name}: death → serving, p50", value=statistics.median(seconds), unit="s", goal=goal)
    yield Figure(name=f"{name}: death → serving, p90", value=percentile(seconds, 0.9), unit="s")
    yield Figure(name=f"{name}: death → serving, p99", value=percentile(seconds, 0.99), unit="s")
    yield Figure(name=f"  {name}: of it fenced → serving, p50", value=statistics.median(after_fence), unit="s")
    yield Figure(name=f"  {name}: not back within an hour", unit="%",
                 value=100 * (1 - len(seconds) / len(found)))  # fmt: skip
    yield Figure(name=f"  {name}: its losers cost, mean", unit="¢",
                 value=100 * statistics.fmean(f.losers_usd for f in found))  # fmt: skip
