"""A seed's history: what users wish and what goes wrong, over hours of virtual time; then calm, then the reckoning."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import random
from collections.abc import Callable

from msgspec.structs import replace

from dumont.domain.budgets import ALL, Budget, BudgetAction
from dumont.domain.errors import StoreError, UserError
from dumont.domain.jobs import Job
from dumont.domain.reaping import held_by
from dumont.domain.records import Instance, Machine, MachineSpec, MachineState, Operation, OperationKind
from dumont.local.market.faults import FaultRate
from dumont.operations import budget_settings, destroy, drills, failover, hibernate, provision, snapshot, wake
from dumont.ports import Query
from tests.simulation.invariants import Invariants
from tests.simulation.jobs import JobInvariants, run_jobs
from tests.simulation.world import Weather, World

BUSY_SECONDS = 3600.0
QUIET_SECONDS = 3600.0
LAST_SECONDS = 2400.0
STILL_SECONDS = 240.0

NAMES = ("ada", "bob", "cy")
WISHES = {"up": 5, "down": 4, "files": 3, "snapshot": 3, "restore": 2, "failover": 1, "hibernate": 3, "wake": 3}
"""What users wish, by how often."""


def run(seed: int, *, jobs: bool = False) -> World:
    """Run a seed to its end; with `jobs`, users run jobs, too. Raises `Broken` if an invariant does not hold."""
    rng = random.Random(f"history/{seed}")
    world = World(seed, _weather(rng))
    world.hub.freeze_share = rng.choice([0.0, 0.0, 0.002])
    world.market.faults.rates = _market_faults(rng)
    _outages(world, rng)
    _budget_of_all(world)
    invariants = Invariants(world)
    world.hub.after_event = invariants.check
    of_jobs = JobInvariants(world, invariants.check)
    if jobs:
        world.hub.after_event = of_jobs.check
    world.start_schedule()
    start = world.hub.now
    for _ in range(rng.randint(2, 12)):
        world.hub.at(start + rng.uniform(0, BUSY_SECONDS * 0.8), lambda: _wish(world, rng))
    _sleepy_user(world)
    if jobs:
        run_jobs(world, NAMES)
    world.hub.run(start + BUSY_SECONDS)
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
    return world


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
            world.hub.spawn(f"let {machine.id} go", functools.partial(_fail_over, world, machine.id, discard=True))


def _fail_over(world: World, name: str, *, discard: bool) -> None:
    failover.request(world.ports, name, discard=discard, requested_by="user")


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


def _outages(world: World, rng: random.Random) -> None:
    for what in ("market", "store", "bus", "scheduler", "blobs", "functions"):
        for _ in range(rng.choice([0, 0, 1, 2])):
            world.outages.add(what, world.hub.now + rng.uniform(0, BUSY_SECONDS), rng.uniform(5, 150))


def _wish(world: World, rng: random.Random) -> None:
    """A user's request: an HTTP function's invocation, which may die like any other; users try again."""
    name = rng.choice(NAMES)
    kind = rng.choices(
        ["up", "down", "files", "snapshot", "restore", "failover", "hibernate", "wake"], [5, 4, 3, 3, 2, 1, 3, 3]
    )[0]
    if kind == "files":
        _write_files(world, name)
        return
    again = rng.random() < 0.3
    spec = _with_spare(world, _spec(rng))
    discard, first = rng.choice([(True, False), (False, False), (False, True)])

    tier = rng.choice(["pause", "hibernate"])

    rehearses = random.Random(f"drill/{world.seed}/{world.hub.events}").random() < 0.5

    def work() -> None:
        try:
            if kind == "up":
                provision.request(world.ports, name, spec, requested_by="user")
            elif kind == "snapshot":
                snapshot.request_snapshot(world.ports, name, requested_by="user")
            elif kind == "hibernate":
                hibernate.request(world.ports, name, tier=tier, requested_by="user")
            elif kind == "wake":
                wake.request(world.ports, name, requested_by="user")
            elif kind == "failover":
                if rehearses:
                    drills.request(world.ports, name, requested_by="user")
                else:
                    _fail_over(world, name, discard=discard)
            elif kind == "restore":
                snapshot.request_restore(
                    world.ports, name, snapshot_id=None, path="", fall_back=first, discard=discard, requested_by="user"
                )
            else:
                destroy.request(world.ports, name, discard=discard, snapshot_first=first, requested_by="user")
        except (UserError, StoreError):
            pass  # the user is told, and nothing has changed

    world.hub.spawn(f"{kind} {name}", work, dies_at=world.death())
    if again:
        world.hub.after(rng.uniform(0, 3), lambda: world.hub.spawn(f"{kind} {name} again", work))


def _sleepy_user(world: World) -> None:
    """In most histories one user sends a machine to sleep and wakes it, again and again. Drawn apart, as spares are."""
    rng = random.Random(f"sleep/{world.seed}")
    if rng.random() < 0.3:
        return
    name, spec = rng.choice(NAMES), _spec(rng)
    moment = world.hub.now + rng.uniform(1.0, 300.0)

    def then(kind: str, most_seconds: float, work: Callable[[], object]) -> None:
        nonlocal moment
        moment += rng.uniform(1.0, most_seconds)

        def attempt() -> None:
            with contextlib.suppress(UserError, StoreError):  # told no: they go on with what is next all the same
                work()

        for _ in range(rng.choice([1, 1, 1, 2])):
            world.hub.at(moment + rng.uniform(0.0, 1.0), lambda: world.hub.spawn(f"{kind} {name}", attempt))

    then("up", 10.0, lambda: provision.request(world.ports, name, spec, requested_by="sleepy"))
    moment += rng.uniform(100.0, 400.0)
    for _ in range(rng.randint(1, 4)):
        world.hub.at(moment, lambda: _write_files(world, name))
        tier = rng.choice(["pause", "hibernate"])
        sleep = functools.partial(hibernate.request, world.ports, name, tier=tier, requested_by="sleepy")
        then("hibernate", 300.0, sleep)
        if tier == "pause" and rng.random() < 0.2:
            deeper = functools.partial(hibernate.request, world.ports, name, tier="hibernate", requested_by="sleepy")
            then("deepen", 400.0, deeper)
        then("wake", 400.0, lambda: wake.request(world.ports, name, requested_by="sleepy"))
        moment += rng.uniform(0.0, 200.0)


def _spec(rng: random.Random) -> MachineSpec:
    return MachineSpec(
        gpu=rng.choice(["RTX 4090", "RTX 4090", "RTX 3090", "H100 SXM"]),
        max_price_usd_per_hour=rng.choice([None, 0.05, 0.4, 3.0]),
        race_width=rng.randint(1, 3),
        boot_timeout_seconds=rng.choice([120.0, 300.0]),
        ssh_timeout_seconds=60.0,
        interruptible=rng.random() < 0.2,
        budget_usd=rng.choice([None, None, 0.01, 0.1]),
        snapshot_every_minutes=rng.choice([None, None, 5.0, 20.0]),
        run=rng.choice(["", "serve", "serve"]),
        heartbeat_seconds=rng.choice([5.0, 20.0]),
        fence_after_seconds=rng.choice([0.0, 30.0, 120.0]),
        stateless=rng.random() < 0.3,
        max_failovers_per_day=rng.choice([0, 2, 24]),
        verify_every_days=rng.choice([None, 0.01, 7.0]),
    )


def _with_spare(world: World, spec: MachineSpec) -> MachineSpec:
    """Some machines have a spare. Drawn apart, so that seeds from before there were spares go on as they went."""
    rng = random.Random(f"spare/{world.seed}/{world.hub.events}")
    spare = rng.choice(["none", "none", "stopped", "running"])
    return replace(spec, spare=spare, spare_refresh_minutes=rng.choice([1.0, 20.0]))


def _write_files(world: World, name: str) -> None:
    """The user puts a file into a running machine's workspace; not while they have it taken down or replaced."""
    machine = world.store.quiet.get(Machine, name)
    if machine is None or machine.state is not MachineState.RUNNING or machine.instance_id is None:
        return
    held_by = world.store.quiet.get(Operation, machine.operation_id or "")
    if held_by is not None and held_by.kind in (OperationKind.DESTROY, OperationKind.RESTORE):
        return
    record = world.store.quiet.get(Instance, machine.instance_id)
    if record is not None and record.provider_instance_id is not None:
        world.files.setdefault(int(record.provider_instance_id), {})["user/model.bin"] = rng_bytes(world)


def rng_bytes(world: World) -> bytes:
    """A content that no other file has."""
    return f"weights {world.hub.now}".encode()


def count_of(world: World, kind: type[Machine]) -> int:
    """How many machines a history has had."""
    return len(world.store.quiet.find(kind, Query(limit=1000)))
