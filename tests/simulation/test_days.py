"""Days in which nothing runs: they pass at hardly any cost, and what is wished in the middle of them is done."""

from __future__ import annotations

import dataclasses

import pytest

from dumont.domain.records import Machine, MachineSpec, MachineState, OperationKind
from dumont.operations import provision, wake
from dumont.operations.runner import new_operation
from tests.simulation import days, lives
from tests.simulation.broken import Broken
from tests.simulation.invariants import Invariants
from tests.simulation.world import Weather, World

SPEC = MachineSpec(gpu="RTX 4090", race_width=2)


def a_world(weather: Weather) -> tuple[World, days.SimSchedule]:
    world = World(7, weather)
    schedule = days.let_sweeps_rest(world)
    world.hub.after_event = Invariants(world).check
    world.start_schedule()
    return world, schedule


def test_days_in_which_nothing_runs_cost_next_to_nothing() -> None:
    world, schedule = a_world(Weather())
    begins_at = world.hub.now
    days.live(world)
    assert world.hub.now - begins_at >= days.DAY_SECONDS
    assert schedule.paused
    looks = (world.hub.now - begins_at) / days.LOOKS_EVERY_SECONDS
    assert world.hub.port_calls < 1000 + 60 * looks, "twenty minutes of sweeps, and a look an hour"


@pytest.mark.parametrize(
    "weather", [Weather(), Weather(server_error=0.2, message_lost=0.5, dies=0.2)], ids=["calm", "bad"]
)
def test_a_machine_is_woken_in_the_middle_of_them_and_sleeps_again(weather: Weather) -> None:
    world, schedule = a_world(weather)
    days.ask(world, "up", lambda: provision.request(world.ports, "ada", SPEC, requested_by="user"))
    lives.rest(world, 10.0, 3600.0)
    days.live(world)
    ada = world.store.quiet.get(Machine, "ada")
    assert schedule.paused
    assert ada is not None
    assert ada.epoch > 1, "it was woken"
    assert ada.state is MachineState.HIBERNATED
    world.calm()
    days.ask(world, "wake", lambda: wake.request(world.ports, "ada", requested_by="user"))
    lives.rest(world, 10.0, 3600.0)
    ada = world.store.quiet.get(Machine, "ada")
    assert not schedule.paused
    assert ada is not None
    assert ada.state is MachineState.RUNNING


def test_what_waits_while_nothing_sweeps_is_noticed() -> None:
    world, schedule = a_world(Weather())
    world.hub.run(world.hub.now + days.REST_SECONDS)
    assert schedule.paused
    days.is_right_to_rest(world)
    op = new_operation("op-1", OperationKind.PROVISION, "ada", 1, world.hub.now, requested_by="user")
    world.store.quiet.transact(lambda tx: tx.put(op))
    with pytest.raises(Broken, match="nothing sweeps"):
        days.is_right_to_rest(world)


def test_a_wish_of_which_nobody_heard_is_found_within_the_hour() -> None:
    """Whoever wished died before the resume, and the message is lost as well."""
    world, schedule = a_world(Weather(message_lost=1.0))
    begins_at = world.hub.now
    world.hub.run(begins_at + days.LOOKS_EVERY_SECONDS - 300.0)
    unheard = dataclasses.replace(world.ports, make_schedule=None)
    days.ask(world, "up", lambda: provision.request(unheard, "ada", SPEC, requested_by="user"))
    world.hub.run(world.hub.now + 60.0)
    assert schedule.paused
    world.weather.message_lost = 0.0
    world.hub.run(begins_at + days.LOOKS_EVERY_SECONDS + 900.0)
    assert not schedule.paused
    ada = world.store.quiet.get(Machine, "ada")
    assert ada is not None
    assert ada.state is MachineState.RUNNING
