"""The users of a history: what they wish, and when. Drawn from the seed alone, whatever becomes of it."""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable

from msgspec.structs import replace

from dumont.domain.errors import StoreError, UserError
from dumont.domain.records import Instance, Machine, MachineSpec, MachineState, Operation, OperationKind
from dumont.operations import destroy, drills, failover, hibernate, provision, snapshot, wake
from dumont.ports import Query
from tests.simulation.mask import Mask
from tests.simulation.world import World

NAMES = ("ada", "bob", "cy")
WISHES = {"up": 5, "down": 4, "files": 3, "snapshot": 3, "restore": 2, "failover": 1, "hibernate": 3, "wake": 3}
"""What users wish, by how often."""


def wish(world: World, rng: random.Random, mask: Mask, part: str) -> None:
    """A user's request: an HTTP function's invocation, which may die like any other; users try again.

    `part` is its name in the mask. What is left out is drawn all the same: all wishes share one `rng`.
    """
    name = rng.choice(NAMES)
    kind = rng.choices(list(WISHES), list(WISHES.values()))[0]
    wanted = mask.has(part)
    if kind == "files":
        if wanted:
            write_files(world, name)
        return
    again = rng.random() < 0.3
    spec = _with_spare(world, _as_of_now(world, _spec(rng)))
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
                    fail_over(world, name, discard=discard)
            elif kind == "restore":
                snapshot.request_restore(
                    world.ports, name, snapshot_id=None, path="", fall_back=first, discard=discard, requested_by="user"
                )
            else:
                destroy.request(world.ports, name, discard=discard, snapshot_first=first, requested_by="user")
        except (UserError, StoreError):
            pass  # the user is told, and nothing has changed

    again_after = rng.uniform(0, 3) if again else 0.0
    if not wanted:
        return
    world.hub.spawn(f"{kind} {name}", work, dies_at=world.death())
    if again:
        world.hub.after(again_after, lambda: world.hub.spawn(f"{kind} {name} again", work))


def sleepy(world: World, mask: Mask) -> None:
    """In most histories one user sends a machine to sleep and wakes it, again and again. Drawn apart, as spares are."""
    rng = random.Random(f"sleep/{world.seed}")
    if rng.random() < 0.3:
        return
    name, spec = rng.choice(NAMES), _as_of_now(world, _spec(rng))
    count = 0
    moment = world.hub.now + rng.uniform(1.0, 300.0)

    def then(kind: str, most_seconds: float, work: Callable[[], object]) -> None:
        nonlocal moment, count
        count += 1
        moment += rng.uniform(1.0, most_seconds)

        def attempt() -> None:
            with contextlib.suppress(UserError, StoreError):  # told no: they go on with what is next all the same
                work()

        wanted = mask.has(f"sleepy {count}")
        for _ in range(rng.choice([1, 1, 1, 2])):
            at = moment + rng.uniform(0.0, 1.0)
            if wanted:
                world.hub.at(at, lambda: world.hub.spawn(f"{kind} {name}", attempt))

    then("up", 10.0, lambda: provision.request(world.ports, name, spec, requested_by="sleepy"))
    moment += rng.uniform(100.0, 400.0)
    for _ in range(rng.randint(1, 4)):
        if mask.has(f"sleepy files {count}"):
            world.hub.at(moment, lambda: write_files(world, name))
        tier = rng.choice(["pause", "hibernate"])
        sleep = functools.partial(hibernate.request, world.ports, name, tier=tier, requested_by="sleepy")
        then("hibernate", 300.0, sleep)
        if tier == "pause" and rng.random() < 0.2:
            deeper = functools.partial(hibernate.request, world.ports, name, tier="hibernate", requested_by="sleepy")
            then("deepen", 400.0, deeper)
        then("wake", 400.0, lambda: wake.request(world.ports, name, requested_by="sleepy"))
        moment += rng.uniform(0.0, 200.0)


def impatient(world: World, mask: Mask) -> None:
    """One who saves nothing, and takes a machine down that may not answer just then. Drawn apart."""
    rng = random.Random(f"impatient/{world.seed}")
    name, moment = "dee", world.hub.now

    def attempt(work: Callable[[], object]) -> None:
        with contextlib.suppress(UserError, StoreError):
            work()

    for number in range(3):
        spec = _as_of_now(world, replace(_spec(rng), budget_usd=None, max_price_usd_per_hour=None))
        up = functools.partial(provision.request, world.ports, name, spec, requested_by="impatient")
        down = functools.partial(destroy.request, world.ports, name, discard=False, requested_by="impatient")
        parts = [("up", up, moment + rng.uniform(0.0, 60.0)), ("down", down, moment + rng.uniform(300.0, 1100.0))]
        files_at = moment + rng.uniform(120.0, 300.0)
        moment += 1150.0
        if not mask.has(f"impatient {number}"):
            continue
        world.hub.at(files_at, lambda: write_files(world, name))
        for what, work, at in parts:
            told = functools.partial(attempt, work)
            world.hub.at(at, functools.partial(world.hub.spawn, f"{what} {name}", told))


def thrifty(world: World, mask: Mask) -> None:
    """In some histories one whose machine has a small cap, which it may reach while it sleeps with its
    disk kept. Drawn apart."""
    rng = random.Random(f"thrifty/{world.seed}")
    if rng.random() >= 0.25 or not mask.has("thrifty"):
        return
    name, moment = "eve", world.hub.now + rng.uniform(0.0, 300.0)
    cap_usd = rng.uniform(0.010, 0.020)  # about what it has spent by then
    spec = MachineSpec(
        gpu="RTX 3090", disk_gb=100.0, budget_usd=cap_usd, race_width=1, stateless=True, run="serve", sleep_tier="pause"
    )

    def attempt(work: Callable[[], object]) -> None:
        with contextlib.suppress(UserError, StoreError):
            work()

    up = functools.partial(provision.request, world.ports, name, spec, requested_by="thrifty")
    sleep = functools.partial(hibernate.request, world.ports, name, tier="pause", requested_by="thrifty")
    for what, work, later_seconds in (("up", up, 0.0), ("sleep", sleep, 240.0), ("sleep", sleep, 400.0)):
        told = functools.partial(attempt, work)
        world.hub.at(moment + later_seconds, functools.partial(world.hub.spawn, f"{what} {name}", told))


def scarce(world: World, mask: Mask) -> None:
    """Where what was stopped starts slowly, two who have all that there is of a model between them: where a wake finds
    its own host too slow, there is no other. Drawn apart."""
    rng = random.Random(f"scarce/{world.seed}")
    if world.durations is None or not mask.has("scarce"):
        return
    spec = MachineSpec(gpu="Tesla T4", race_width=1)

    def attempt(work: Callable[[], object]) -> None:
        with contextlib.suppress(UserError, StoreError):
            work()

    for name in ("fay", "gus"):
        up = functools.partial(provision.request, world.ports, name, spec, requested_by="scarce")
        sleep = functools.partial(hibernate.request, world.ports, name, tier="pause", requested_by="scarce")
        rouse = functools.partial(wake.request, world.ports, name, requested_by="scarce")
        moment = world.hub.now + rng.uniform(0.0, 200.0)
        for what, work, seconds in (("up", up, 0.0), *(("sleep", sleep, 400.0), ("wake", rouse, 500.0)) * 3):
            moment += rng.uniform(0.6, 1.0) * seconds
            told = functools.partial(attempt, work)
            world.hub.at(moment, functools.partial(world.hub.spawn, f"{what} {name}", told))


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


def _as_of_now(world: World, spec: MachineSpec) -> MachineSpec:
    """Some machines sleep by themselves, and some have long leases, where the history has that."""
    rng = random.Random(f"idle/{world.seed}/{world.hub.events}")
    if world.long_leases:
        spec = replace(spec, run="serve", fence_after_seconds=rng.choice([120.0, 300.0]), heartbeat_seconds=5.0,
                       stateless=True, max_failovers_per_day=24)  # fmt: skip
    if world.uses is None:
        return spec
    tier = rng.choice(["auto", "pause", "hibernate", "hibernate"])
    return replace(spec, idle_after_minutes=rng.choice([None, 2.0, 4.0]), sleep_tier=tier)


def _with_spare(world: World, spec: MachineSpec) -> MachineSpec:
    """Some machines have a spare. Drawn apart, so that seeds from before there were spares go on as they went."""
    rng = random.Random(f"spare/{world.seed}/{world.hub.events}")
    spare = rng.choice(["none", "none", "stopped", "running"])
    return replace(spec, spare=spare, spare_refresh_minutes=rng.choice([1.0, 20.0]))


def write_files(world: World, name: str) -> None:
    """The user puts a file into a running machine's workspace; not while they have it taken down, replaced or moved:
    what is written after the look, or the copy, began stays behind, as the command says."""
    machine = world.store.quiet.get(Machine, name)
    if machine is None or machine.state is not MachineState.RUNNING or machine.instance_id is None:
        return
    held_by = world.store.quiet.get(Operation, machine.operation_id or "")
    if held_by is not None and held_by.kind in (OperationKind.DESTROY, OperationKind.RESTORE, OperationKind.FAILOVER):
        return
    record = world.store.quiet.get(Instance, machine.instance_id)
    if record is not None and record.provider_instance_id is not None:
        world.files.setdefault(int(record.provider_instance_id), {})["user/model.bin"] = rng_bytes(world)


def fail_over(world: World, name: str, *, discard: bool) -> None:
    """The user moves a machine, or lets its old host go."""
    failover.request(world.ports, name, discard=discard, requested_by="user")


def rng_bytes(world: World) -> bytes:
    """A content that no other file has."""
    return f"weights {world.hub.now}".encode()


def count_of(world: World, kind: type[Machine]) -> int:
    """How many machines a history has had."""
    return len(world.store.quiet.find(kind, Query(limit=1000)))
