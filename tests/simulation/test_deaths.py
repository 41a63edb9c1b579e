"""One life, from `up` to `down`, with one death: at each port call in turn, before its effect and after it.

Invariant 7: the end is the same, one machine and then none, and the ledger holds what was used.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from dumont.domain.errors import UserError
from dumont.domain.ledger import LedgerEntry
from dumont.domain.records import Machine, MachineSpec, MachineState
from dumont.operations import destroy, provision
from dumont.ports import Query
from tests.simulation.invariants import Invariants
from tests.simulation.lives import calls_with_effect, rest
from tests.simulation.world import Weather, World

SPEC = MachineSpec(gpu="RTX 4090", max_price_usd_per_hour=0.4, boot_timeout_seconds=300.0)
SHARDS = 8


def one_life(kill_at: int | None) -> World:
    world = World(7, Weather())
    world.hub.kill_at = kill_at
    invariants = Invariants(world)
    world.hub.after_event = invariants.check
    world.start_schedule()

    def wish(name: str, work: Callable[[], object]) -> None:
        def attempt() -> None:
            with contextlib.suppress(UserError):  # done already: a user who heard no answer asks again
                work()

        world.hub.spawn(name, attempt)

    def up() -> None:
        provision.request(world.ports, "ada", SPEC, requested_by="user")

    def down() -> None:
        destroy.request(world.ports, "ada", discard=True, requested_by="user")

    start = world.hub.now
    for moment in (1.0, 61.0):
        world.hub.at(start + moment, lambda: wish("up", up))
    rest(world, 62.0, 1200.0)
    machine = world.store.quiet.get(Machine, "ada")
    assert machine is not None
    assert machine.state is MachineState.RUNNING, f"killed at call {kill_at}: {machine.failure}"
    assert len(world.market.live(world.hub.now)) == 1, "one machine, and nothing beside it"
    start = world.hub.now
    for moment in (1.0, 61.0):
        world.hub.at(start + moment, lambda: wish("down", down))
    rest(world, 62.0, 1200.0)
    invariants.check_quiet()
    machine = world.store.quiet.get(Machine, "ada")
    assert machine is not None
    assert machine.state is MachineState.DESTROYED
    assert not world.market.live(world.hub.now)
    return world


CALLS = calls_with_effect(one_life(None), after=0)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_death_at_any_port_call_changes_nothing_of_the_end(shard: int) -> None:
    assert len(CALLS) > 40, "the life is too short to prove anything"
    for call in CALLS[shard::SHARDS]:
        world = one_life(call)
        paid = sum(e.amount_micro_usd for e in world.store.quiet.find(LedgerEntry, Query(limit=1000))) / 1e6
        bill = world.market.bill(world.hub.now)
        # The market bills to the second what we see by looking: each instance's two ends are seen a little late.
        late_usd = sum(0.6 / 3600 * 15 for _ in bill.instances)
        assert paid == pytest.approx(bill.total_usd, abs=late_usd), f"killed at call {call}"


def test_the_same_seed_gives_the_same_history() -> None:
    first, second = one_life(40), one_life(40)
    assert first.hub.events == second.hub.events
    assert first.market.bill(first.hub.now) == second.market.bill(second.hub.now)
    assert first.store.quiet.find(Machine, Query()) == second.store.quiet.find(Machine, Query())
