"""A seed's history: what users wish and what goes wrong, over hours of virtual time; then calm, then the reckoning."""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable

from msgspec.structs import replace

from dumont.domain.budgets import ALL, Budget, BudgetAction
from dumont.domain.jobs import Job
from dumont.domain.reaping import held_by
from dumont.domain.records import Machine, MachineState, Operation
from dumont.local.market.faults import FaultRate
from dumont.local.market.lifecycle import Durations
from dumont.operations import budget_settings
from dumont.ports import Query
from tests.simulation import days, users
from tests.simulation.invariants import Invariants
from tests.simulation.jobs import JobInvariants, run_jobs
from tests.simulation.mask import Mask
from tests.simulation.world import Weather, World

BUSY_SECONDS = 3600.0
QUIET_SECONDS = 3600.0
LAST_SECONDS = 2400.0
STILL_SECONDS = 240.0

ERA = 4
"""What a history can hold. In the first era the object store was faultless, and no machine slept by itself; in the
second, hosts were cut off less, what was stopped started at once, and no cap was reached by a disk alone; in the third,
no history had days in which nothing runs. The seeds that found something then go on as they went."""


def run(
    seed: int,
    *,
    jobs: bool = False,
    era: int = ERA,
    mask: Mask | None = None,
    watch: Callable[[World], None] | None = None,
    afterwards: Callable[[World], None] | None = None,
) -> World:
    """Run a seed to its end; with `jobs`, users run jobs, too. Raises `Broken` if an invariant does not hold.

    `mask` leaves parts of it out, without any other draw; `watch` is given the world before anything happens,
    `afterwards` when all is over and the world has not ended yet.
    """
    rng = random.Random(f"history/{seed}")
    mask = mask if mask is not None else Mask()
    world = World(seed, _weather(rng), durations=_durations(seed, mask) if era >= 3 else None)
    freeze_share = rng.choice([0.0, 0.0, 0.002])
    world.freezes = bool(freeze_share) and mask.has("freezes")
    world.hub.freeze_share = freeze_share if world.freezes else 0.0
    world.market.faults.rates = tuple(r for r in _market_faults(rng) if mask.has(f"market {r.kind}"))
    _outages(world, rng, mask)
    if mask.has("budget of all"):
        _budget_of_all(world)
    if era >= 2:
        _storage_weather(world)
        _idleness(world, mask)
        _cut_off(world, mask, era)
    for name in Weather.__dataclass_fields__:
        if getattr(world.weather, name) and not mask.has(f"weather {name}"):
            setattr(world.weather, name, 0.0)
    if era >= 4 and days.of(seed) and mask.has("days"):
        days.let_sweeps_rest(world)
    if watch is not None:
        watch(world)
    try:
        _live(world, rng, jobs=jobs, era=era, mask=mask)
        if afterwards is not None:
            afterwards(world)
    finally:
        world.hub.close()
    return world


def _live(world: World, rng: random.Random, *, jobs: bool, era: int, mask: Mask) -> None:
    invariants = Invariants(world)
    world.hub.after_event = invariants.check
    of_jobs = JobInvariants(world, invariants.check)
    if jobs:
        world.hub.after_event = of_jobs.check
    world.start_schedule()
    start = world.hub.now
    for number in range(rng.randint(2, 12)):
        moment = start + rng.uniform(0, BUSY_SECONDS * 0.8)
        world.hub.at(moment, functools.partial(users.wish, world, rng, mask, f"wish {number}"))
    users.sleepy(world, mask)
    if world.long_leases:
        users.impatient(world, mask)
    if era >= 3:
        users.thrifty(world, mask)
        users.scarce(world, mask)
    if jobs and mask.has("jobs"):
        run_jobs(world, users.NAMES)
    world.hub.run(start + min(BUSY_SECONDS, mask.busy_seconds))
    days.live(world)
    world.calm()
    _run_until_settled(world, QUIET_SECONDS)
    _no_more_policies(world)
    _let_go_of_what_is_held(world)
    _run_until_settled(world, LAST_SECONDS)
    for _ in range(5):
        invariants.reconcile()
        if not _stirs(world):
            break
        _run_until_settled(world, LAST_SECONDS)  # a budget may have been reached in that very minute
    invariants.check_quiet(reconciled=True)
    of_jobs.check_quiet()


def _budget_of_all(world: World) -> None:
    """Half of the histories have a budget for all machines together, which some of them reach."""
    rng = random.Random(f"budget/{world.seed}")
    if rng.random() < 0.5:
        return
    action = rng.choice(list(BudgetAction))
    wanted = Budget(id=ALL, usd_total=rng.choice([0.005, 0.02, 0.1]), action=action)
    budget_settings.put(dataclasses.replace(world.ports, store=world.store.quiet), wanted, set_by="history")


def _run_until_settled(world: World, most_seconds: float) -> None:
    """Let things come to rest; and then a while longer, in which what should not stir would. Something may still: a
    host that was to die all along."""
    until = world.hub.now + most_seconds
    still = False
    while world.hub.now < until:
        was_still, still = still, not _stirs(world)
        if was_still and still:
            return
        world.hub.run(world.hub.now + STILL_SECONDS)


def _stirs(world: World) -> bool:
    open_operations = any(op.open for op in world.store.quiet.find(Operation, Query(limit=10_000)))
    open_operations = open_operations or any(not job.ended for job in world.store.quiet.find(Job, Query(limit=1000)))
    return open_operations or len(world.market.live(world.hub.now)) != sum(
        len(held_by(m)) for m in world.store.quiet.find(Machine, Query(limit=1000))
    )


def _no_more_policies(world: World) -> None:
    """Machines stop taking snapshots by themselves: else the reckoning would always find one under way. Some have no
    spare any more."""
    for machine in world.store.quiet.find(Machine, Query(limit=1000)):
        spare = machine.spec.spare if world.seed % 2 else "none"
        spec = replace(machine.spec, snapshot_every_minutes=None, spare=spare)
        world.store.quiet.transact(
            lambda tx, name=machine.id, spec=spec: tx.put(replace(tx.get(Machine, name), spec=spec))  # type: ignore[misc]
        )


def _let_go_of_what_is_held(world: World) -> None:
    """A machine that waits for its old host, since nothing else has its files, waits for its user's word: it comes."""
    for machine in world.store.quiet.find(Machine, Query(limit=1000)):
        if machine.state is MachineState.FAILING_OVER:
            world.hub.spawn(f"let {machine.id} go", functools.partial(users.fail_over, world, machine.id, discard=True))


def _weather(rng: random.Random) -> Weather:
    """Each history has its own mixture: some faults absent, some frequent."""

    def some(most: float) -> float:
        return rng.choice([0.0, 0.0, most / 4, most])

    return Weather(
        message_lost=some(0.3),
        message_twice=some(0.5),
        message_late=some(0.2),
        dies=some(0.3),
        answer_lost=some(0.1),
        request_lost=some(0.1),
        server_error=some(0.1),
        too_frequent=some(0.2),
        list_lags=some(0.5),
        list_garbage=some(0.2),
        commit_unknown=some(0.02),
        store_away=some(0.005),
        agent_dies=some(0.0008),
    )


_SECONDS = {
    "destroy_lags": (5.0, 90.0), "offline": (5.0, 400.0), "network_cut": (5.0, 600.0), "resume_refused": (30.0, 600.0),
}  # fmt: skip


def _market_faults(rng: random.Random) -> tuple[FaultRate, ...]:
    rates = []
    for kind, most in (
        ("boot_never_ends", 0.3), ("oci_error", 0.2), ("bad_image", 0.1), ("ssh_dead", 0.2), ("no_gpu", 0.2),
        ("wrong_gpu", 0.1), ("dies", 0.2), ("offline", 0.1), ("offer_gone", 0.3), ("bid_too_low", 0.1),
        ("bid_lost", 0.2), ("destroy_lags", 0.2), ("network_cut", 0.2), ("hung", 0.1), ("resume_refused", 0.3),
    ):  # fmt: skip
        probability = rng.choice([0.0, 0.0, most / 3, most])
        if probability:
            seconds = _SECONDS.get(kind)
            after = (0.0, 0.0) if kind in ("ssh_dead", "no_gpu") else (0.0, 1800.0)
            rates.append(FaultRate(kind=kind, probability=probability, seconds=seconds, after_seconds=after))
    return tuple(rates)


def _outages(world: World, rng: random.Random, mask: Mask) -> None:
    for what in ("market", "store", "bus", "scheduler", "blobs", "functions"):
        for number in range(rng.choice([0, 0, 1, 2])):
            start, seconds = world.hub.now + rng.uniform(0, BUSY_SECONDS), rng.uniform(5, 150)
            if mask.has(f"outage {what} {number}"):
                world.outages.add(what, start, seconds)


def _storage_weather(world: World) -> None:
    """Objects that get lost, are damaged, or are listed late. Drawn apart, since there was a time without."""
    rng = random.Random(f"storage/{world.seed}")
    world.weather.object_lost = rng.choice([0.0, 0.0, 0.02, 0.1])
    world.weather.object_late = rng.choice([0.0, 0.0, 0.1, 0.5])
    world.weather.object_damaged = rng.choice([0.0, 0.0, 0.02, 0.1])


def _durations(seed: int, mask: Mask) -> Durations | None:
    """On some markets what was stopped takes about as long to start as anybody waits for it."""
    slow = random.Random(f"starts/{seed}").random() < 0.25 and mask.has("slow starts")
    return Durations(start_median=50.0, start_sigma=0.4) if slow else None


def _cut_off(world: World, mask: Mask, era: int) -> None:
    """In some histories many hosts are cut off, go on serving all the while, and come back: what leases are for. On
    others SSH ends, and nothing else."""
    share, probability, within_seconds = (0.25, 0.4, 1800.0) if era < 3 else (0.4, 0.7, 900.0)
    if random.Random(f"cut/{world.seed}").random() < share and mask.has("cut off"):
        world.long_leases = True
        after = (60.0, within_seconds)
        cut = FaultRate(kind="network_cut", probability=probability, seconds=(30.0, 900.0), after_seconds=after)
        deaf = FaultRate(kind="ssh_dead", probability=0.3, after_seconds=(120.0, 900.0))
        world.market.faults.rates = (cut, deaf, *world.market.faults.rates)


def _idleness(world: World, mask: Mask) -> None:
    """In half of the histories machines are used now and then, their agents tell what they can read of it, and some
    sleep by themselves."""
    if random.Random(f"idleness/{world.seed}").random() < 0.5 and mask.has("idleness"):
        world.uses = {}
