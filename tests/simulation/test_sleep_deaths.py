"""A machine sleeps and wakes, with one death: at each port call in turn from the moment its user says `hibernate`.

Invariants 4, 7, 9 and 10: it sleeps without a GPU, wakes with its files, on one host, and no storage key is left.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dumont.domain.records import Instance, Machine, MachineSpec, MachineState, Operation, OperationKind
from dumont.operations import hibernate, provision, wake
from dumont.ports import Query
from tests.simulation.invariants import Invariants
from tests.simulation.lives import calls_with_effect
from tests.simulation.test_saved_deaths import wish
from tests.simulation.world import Weather, World

SPEC = MachineSpec(
    gpu="RTX 4090", max_price_usd_per_hour=0.4, boot_timeout_seconds=300.0, race_width=1, heartbeat_seconds=20.0,
    run="serve", snapshot_every_minutes=None,
)  # fmt: skip
SHARDS = 4
SEED = 5
"""One with short copies: else most calls ask how far an engine is."""
SECONDS_MOST = 900.0


def machine_of(world: World) -> Machine:
    machine = world.store.quiet.get(Machine, "ada")
    assert machine is not None
    return machine


def files_of(world: World) -> dict[str, bytes]:
    """The user's files on the host that serves."""
    record = world.store.quiet.get(Instance, machine_of(world).instance_id or "")
    assert record is not None
    files = world.files.setdefault(int(record.provider_instance_id or 0), {})
    return {name: content for name, content in files.items() if name.startswith("user/")}


def until(world: World, state: MachineState, where: str) -> None:
    """The machine is in this state, and nothing is under way any more."""
    ends_at = world.hub.now + SECONDS_MOST
    while True:
        world.hub.run(world.hub.now + 5.0)
        machine = world.store.quiet.get(Machine, "ada")
        still = not any(op.open for op in world.store.quiet.find(Operation, Query(limit=100)))
        if machine is not None and machine.state is state and machine.operation_id is None and still:
            return
        assert world.hub.now < ends_at, f"{where}: {machine}"


def asked_twice(world: World, work: Callable[[], object], state: MachineState, where: str) -> None:
    """A user who heard no answer asks again."""
    wish(world, work)
    world.hub.after(4.0, lambda: wish(world, work))
    until(world, state, where)


def slept_and_woke(tier: str, kill_at: int | None) -> tuple[World, int]:
    """A life from `up` to awake again, and how many port calls came before `hibernate`."""
    world = World(SEED, Weather())
    world.hub.kill_at = kill_at
    invariants = Invariants(world)
    world.hub.after_event = invariants.check
    world.start_schedule()
    where = f"{tier}, killed at call {kill_at}"
    wish(world, lambda: provision.request(world.ports, "ada", SPEC, requested_by="u"))
    until(world, MachineState.RUNNING, where)
    record = world.store.quiet.get(Instance, machine_of(world).instance_id or "")
    assert record is not None
    world.files.setdefault(int(record.provider_instance_id or 0), {})["user/model.bin"] = b"weights"
    before = world.hub.counted_calls

    def sleep() -> object:
        return hibernate.request(world.ports, "ada", tier=tier, requested_by="u")

    asked_twice(world, sleep, MachineState.HIBERNATED, where)
    asleep = machine_of(world)
    assert world.agents.serving("ada") == [], where
    kept = [i.label for i in world.market.live(world.hub.now)]
    assert kept == ([asleep.paused_instance_id] if asleep.paused_instance_id else []), f"{where}: {kept}"
    assert not any(i.phase(world.hub.now).running for i in world.market.live(world.hub.now)), where
    assert world.blobs.keys == {}, f"{where}: a key outlives its operation"

    asked_twice(world, lambda: wake.request(world.ports, "ada", requested_by="u"), MachineState.RUNNING, where)
    assert files_of(world) == {"user/model.bin": b"weights"}, where
    assert len(world.market.live(world.hub.now)) == 1, f"{where}: one machine, and nothing beside it"
    world.hub.run(world.hub.now + SPEC.heartbeat_seconds + 2.0)
    assert len(world.agents.serving("ada")) == 1, f"{where}: its workload runs again"
    wakes = [op for op in world.store.quiet.find(Operation, Query(limit=100)) if op.kind is OperationKind.WAKE]
    assert len(wakes) == 1, f"{where}: asked twice, it is woken once"
    assert world.blobs.keys == {}, f"{where}: a key outlives its operation"
    return world, before


TIERS = ("hibernate", "pause")


def calls_of(tier: str) -> list[int]:
    """The port calls after `hibernate` that may change something."""
    world, before = slept_and_woke(tier, None)
    if tier == "pause":  # until then both tiers do the same
        before = next(
            n for n, (_, call) in enumerate(world.hub.counted) if n > before and call.startswith("market.PUT")
        )
    return calls_with_effect(world, before)


CALLS = {tier: calls_of(tier) for tier in TIERS}


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("tier", TIERS)
def test_a_death_at_any_call_ends_asleep_without_a_gpu_and_awake_with_its_files(tier: str, shard: int) -> None:
    assert len(CALLS[tier]) > 25, "it is too short to prove anything"
    for call in CALLS[tier][shard::SHARDS]:
        slept_and_woke(tier, call)
