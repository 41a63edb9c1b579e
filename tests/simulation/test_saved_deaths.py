"""A machine goes saved, with one death: at each port call in turn from the moment its user says `down --snapshot`.

Invariants 4, 7 and 9: what it held is in a complete snapshot, the machine is gone, and no storage key is left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from dumont.domain.errors import UserError
from dumont.domain.records import Instance, Machine, MachineSpec, MachineState
from dumont.domain.snapshots import Snapshot
from dumont.operations import destroy, provision, snapshot
from dumont.ports import Query
from tests.simulation.invariants import Invariants
from tests.simulation.lives import calls_with_effect, rest
from tests.simulation.world import Weather, World

SPEC = MachineSpec(
    gpu="RTX 4090", max_price_usd_per_hour=0.4, boot_timeout_seconds=300.0, race_width=1, heartbeat_seconds=60.0
)
SHARDS = 4


def running(kill_at: int | None) -> tuple[World, Invariants, int]:
    """A machine with one file in its workspace, and how many port calls that took."""
    world = World(7, Weather())
    world.hub.kill_at = kill_at
    invariants = Invariants(world)
    world.hub.after_event = invariants.check
    world.start_schedule()
    start = world.hub.now
    world.hub.at(
        start + 1.0, lambda: wish(world, lambda: provision.request(world.ports, "ada", SPEC, requested_by="u"))
    )
    rest(world, 2.0, 300.0)
    machine = world.store.quiet.get(Machine, "ada")
    assert machine is not None
    record = world.store.quiet.get(Instance, machine.instance_id or "")
    assert record is not None
    world.files.setdefault(int(record.provider_instance_id or 0), {})["user/model.bin"] = b"weights"
    return world, invariants, world.hub.counted_calls


def wish(world: World, work: Callable[[], object]) -> None:
    def attempt() -> None:
        with contextlib.suppress(UserError):  # done already: a user who heard no answer asks again
            work()

    world.hub.spawn("wish", attempt)


def saved(kill_at: int | None) -> tuple[World, int]:
    world, invariants, before = running(kill_at)
    start = world.hub.now

    def down() -> object:
        return destroy.request(world.ports, "ada", discard=False, snapshot_first=True, requested_by="u")

    for moment in (1.0, 61.0):
        world.hub.at(start + moment, lambda: wish(world, down))
    rest(world, 62.0, 900.0)
    invariants.check_quiet()
    machine = world.store.quiet.get(Machine, "ada")
    assert machine is not None
    assert machine.state is MachineState.DESTROYED, f"killed at call {kill_at}: {machine}"
    good = [s for s in world.store.quiet.find(Snapshot, Query(limit=100)) if s.good]
    assert [world.saved[s.id] for s in good] == [{"user/model.bin": "weights"}]
    assert world.blobs.keys == {}, "no key outlives its operation"
    return world, before


WORLD, BEFORE = saved(None)
CALLS = calls_with_effect(WORLD, BEFORE)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_death_at_any_call_loses_neither_files_nor_keys(shard: int) -> None:
    assert len(CALLS) > 20, "it is too short to prove anything"
    for call in CALLS[shard::SHARDS]:
        saved(call)


def test_a_machine_whose_files_are_saved_goes_without_a_word_and_one_with_others_stays() -> None:
    world, invariants, _ = running(None)
    files = next(files for files in world.files.values() if "user/model.bin" in files)

    def take() -> object:
        return snapshot.request_snapshot(world.ports, "ada", requested_by="u")

    def down() -> object:
        return destroy.request(world.ports, "ada", discard=False, requested_by="u")

    def restore() -> object:
        return snapshot.request_restore(
            world.ports, "ada", snapshot_id=None, path="", fall_back=False, requested_by="u"
        )

    def after(work: Callable[[], object]) -> None:
        wish(world, work)
        world.hub.run(world.hub.now + 400.0)

    after(down)
    assert state(world) is MachineState.RUNNING, "nothing is saved"
    after(take)
    files["user/model.bin"] = b"more weights"
    after(restore)
    assert files["user/model.bin"] == b"more weights"
    after(down)
    assert state(world) is MachineState.RUNNING, "what is saved is not what is there"
    files["user/model.bin"] = b"weights"
    after(restore)
    after(down)
    assert state(world) is MachineState.DESTROYED
    invariants.check_quiet()


def state(world: World) -> MachineState:
    machine = world.store.quiet.get(Machine, "ada")
    assert machine is not None
    return machine.state
