"""A machine whose files are on its host alone: when that stops, it is started again, until it serves.

Nothing may be built in its place, so nothing else is left to do; and what cannot be hurried is not asked all the time.
"""

from __future__ import annotations

import pytest

from dumont.domain.records import MachineState, OperationKind
from dumont.local.market.faults import Fault
from dumont.local.market.lifecycle import Durations
from dumont.operations import provision
from tests.simulation.invariants import Invariants
from tests.simulation.test_spares import after, dies, instance, machine_of, market_id, of_kind, spec
from tests.simulation.world import Weather, World

CALLS_PER_SECOND_MOST = 2.0


def stopped(durations: Durations | None, *, refused: int) -> World:
    """A machine with a file that no snapshot has, whose host has stopped, and is started in vain so many times."""
    world = World(7, Weather(), durations=durations)
    invariants = Invariants(world)
    world.hub.after_event = invariants.check
    world.start_schedule()
    after(world, lambda: provision.request(world.ports, "ada", spec("none"), requested_by="u"), 300.0)
    before = instance(world, machine_of(world).instance_id)
    world.files.setdefault(market_id(before), {})["user/model.bin"] = b"weights"
    if refused:
        fault = Fault(kind="resume_refused", instance_id=market_id(before), count=refused)
        world.market.inject(fault, world.hub.now)
    dies(world, before.id, "dies")
    return world


@pytest.mark.parametrize(
    ("durations", "refused", "seconds_most"),
    [(None, 0, 120.0), (None, 2, 600.0), (Durations(start_median=170.0, start_sigma=0.01), 0, 360.0)],
    ids=["at once", "refused twice", "slowly"],
)
def test_a_host_that_stopped_is_started_until_it_serves(
    durations: Durations | None, refused: int, seconds_most: float
) -> None:
    world = stopped(durations, refused=refused)
    before, began, calls = machine_of(world).instance_id, world.hub.now, world.hub.counted_calls
    while machine_of(world).state is not MachineState.RUNNING or not of_kind(world, OperationKind.FAILOVER):
        world.hub.run(world.hub.now + 5.0)
        assert world.hub.now < began + seconds_most, of_kind(world, OperationKind.FAILOVER)
    machine = machine_of(world)
    assert machine.instance_id == before
    assert world.files[market_id(instance(world, machine.instance_id))]["user/model.bin"] == b"weights"
    assert world.hub.counted_calls - calls < 100 + CALLS_PER_SECOND_MOST * (world.hub.now - began)
