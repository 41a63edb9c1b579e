"""Histories in which programs are told: whatever dies, is lost or comes twice, each of them hears of everything that it
wants at least once, and of nothing after it was deleted. Receivers fail, and lose their answers; no invariant minds."""

from __future__ import annotations

import json
import os

import pytest

from dumont.domain.records import MachineSpec
from dumont.domain.subscriptions import Delivery, DeliveryState
from dumont.operations import destroy, provision
from dumont.ports import Query
from tests.simulation.history import run
from tests.simulation.invariants import Invariants
from tests.simulation.subscribers import Readers, told_to_programs
from tests.simulation.test_histories import FIRST_SEED
from tests.simulation.test_saved_deaths import wish
from tests.simulation.world import Weather, World

SEEDS = int(os.environ.get("SIMULATION_WEBHOOK_SEEDS", "20"))
BATCH = 10
FROZEN_SECONDS = 201.0
"""The longest that a process is held up between two lines (`Hub.pause`), and a little."""
LAST_SECONDS = 30 * 3600.0
SOME = ("failover.begun", "machine.destroyed", "job.ended", "operation.failed")


def told(seed: int) -> Readers:
    """A history that programs are told of, until nothing is on its way any more."""
    made: list[Readers] = []

    def watch(world: World) -> None:
        readers = told_to_programs(world, failing=(0.0, 0.1, 0.35)[seed % 3])
        readers.subscribe("some", *SOME)
        readers.subscribe("leaver")
        world.hub.after(600.0 + seed % 1500, lambda: readers.leave("leaver"))
        world.hub.after(900.0, lambda: readers.subscribe("late"))
        made.append(readers)

    def deliver_the_rest(world: World) -> None:
        (readers,) = made
        readers.receivers.failing = 0.0
        until = world.hub.now + LAST_SECONDS
        while readers.pending() and world.hub.now < until:
            world.hub.run(world.hub.now + 300.0)

    run(seed, jobs=seed % 2 == 0, watch=watch, afterwards=deliver_the_rest)
    return made[0]


def check(readers: Readers) -> int:
    """Everybody was told all that they want, and nothing else; how much was told."""
    assert not readers.world.defects, readers.world.defects
    assert not readers.pending(), f"still on their way: {readers.pending()}"
    known = readers.world.store.quiet.find(Delivery, Query(limit=10_000))
    dead = [one for one in known if one.state is DeliveryState.DEAD]
    assert not dead, f"given up: {dead}"
    for name in ("all", "some", "late"):
        expected, got = readers.expected(name), {one.delivery_id for one in readers.got(name)}
        missing = {kind for identifier, kind in expected.items() if identifier not in got}
        assert not missing, f"{name} never heard of {missing}"
        noted = {one.id for one in known if one.subscription == readers.ids[name]}
        assert got == noted, f"{name}: what was sent is what the log says"
        bodies: dict[str, set[bytes]] = {}
        for one in readers.got(name):
            bodies.setdefault(one.delivery_id, set()).add(one.body)
        assert all(len(same) == 1 for same in bodies.values()), "what comes twice is the same"
        types = {json.loads(body)["type"] for same in bodies.values() for body in same}
        assert name != "some" or types <= set(SOME)
    late = [one for one in readers.got("leaver") if one.at > readers.until["leaver"] + FROZEN_SECONDS]
    assert not late, f"told after it was deleted: {late}"
    left = [one for one in known if one.subscription == readers.ids["leaver"] and one.deadline is not None]
    assert not left, "nothing waits for who is gone"
    return len(readers.receivers.got)


@pytest.mark.parametrize("first", range(FIRST_SEED, FIRST_SEED + SEEDS, BATCH))
def test_each_thing_is_told_at_least_once_whatever_happens(first: int) -> None:
    count = 0
    for seed in range(first, min(first + BATCH, FIRST_SEED + SEEDS)):
        try:
            count += check(told(seed))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    assert count > 20, "too little happened to show anything"


# --- One death, at each port call in turn -------------------------------------------------------------------------

SPEC = MachineSpec(gpu="RTX 4090", max_price_usd_per_hour=0.4, boot_timeout_seconds=300.0, race_width=1)
SHARDS = 4


def one_life(kill_at: int | None) -> Readers:
    """A machine's life from `up` to `down`, and all of it told."""
    world = World(7, Weather())
    world.hub.kill_at = kill_at
    world.hub.after_event = Invariants(world).check
    readers = told_to_programs(world, failing=0.0)
    world.start_schedule()
    start = world.hub.now
    for moment in (1.0, 61.0):
        world.hub.at(
            start + moment,
            lambda: wish(world, lambda: provision.request(world.ports, "ada", SPEC, requested_by="u")),
        )
    for moment in (601.0, 661.0):
        world.hub.at(
            start + moment,
            lambda: wish(world, lambda: destroy.request(world.ports, "ada", discard=True, requested_by="u")),
        )
    world.hub.run(start + 1500.0)
    heard = {json.loads(one.body)["type"] for one in readers.got("all")}
    assert {"machine.running", "machine.destroyed"} <= heard, f"killed at call {kill_at}: {heard}"
    expected, got = readers.expected("all"), {one.delivery_id for one in readers.got("all")}
    assert expected.keys() <= got, f"killed at call {kill_at}"
    assert not readers.pending(), f"killed at call {kill_at}"
    return readers


CALLS = [
    number
    for number, (caller, call) in enumerate(one_life(None).world.hub.counted, start=1)
    if not caller.startswith("heartbeat")
    and (caller.startswith("deliver") or not call.startswith(("store.get", "store.find")))
]
"""Those that may change something, and all of the delivering worker's."""


@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_death_at_any_port_call_loses_nothing_that_is_to_be_told(shard: int) -> None:
    assert len(CALLS) > 40, "the life is too short to prove anything"
    for call in CALLS[shard::SHARDS]:
        one_life(call)
