"""A machine with a spare: its host dies, and the spare takes over with all files; also with a death at any port call.

And a rehearsal, which touches nothing; and a market's notice, which spares the wait.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dumont.domain.notices import Notice, WebhookEvent
from dumont.domain.records import Instance, InstanceState, Machine, MachineSpec, MachineState, Operation, OperationKind
from dumont.domain.snapshots import Snapshot
from dumont.local.market.faults import Fault
from dumont.operations import destroy, drills, notices, provision, snapshot
from dumont.ports import Query
from tests.simulation.invariants import Invariants
from tests.simulation.lives import calls_with_effect, rest
from tests.simulation.test_saved_deaths import wish
from tests.simulation.world import Weather, World

ALL = Query(limit=1000)
FILES = {"user/model.bin": b"weights"}
SHARDS = 4


def spec(spare: str, **fields: object) -> MachineSpec:
    made = {"gpu": "RTX 4090", "race_width": 1, "boot_timeout_seconds": 300.0, "run": "serve", "spare": spare}
    return MachineSpec(**{**made, **fields})  # type: ignore[arg-type]


def machine_of(world: World) -> Machine:
    machine = world.store.quiet.get(Machine, "ada")
    assert machine is not None
    return machine


def instance(world: World, instance_id: str | None) -> Instance:
    record = world.store.quiet.get(Instance, instance_id or "")
    assert record is not None
    return record


def market_id(record: Instance) -> int:
    return int(record.provider_instance_id or 0)


def of_kind(world: World, kind: OperationKind) -> list[Operation]:
    return sorted((op for op in world.store.quiet.find(Operation, ALL) if op.kind is kind), key=lambda o: o.created_at)


def standing_by(wanted: MachineSpec) -> tuple[World, Invariants]:
    """A machine with a file in its workspace, a snapshot of it, and whatever spare it is to have."""
    world = World(7, Weather())
    invariants = Invariants(world)
    world.hub.after_event = invariants.check
    world.start_schedule()
    after(world, lambda: provision.request(world.ports, "ada", wanted, requested_by="u"), 300.0)
    world.files.setdefault(market_id(instance(world, machine_of(world).instance_id)), {}).update(FILES)
    wish(world, lambda: snapshot.request_snapshot(world.ports, "ada", requested_by="u"))
    rest(world, 5.0, 700.0, lambda: has_its_spare(world))
    return world, invariants


def has_its_spare(world: World) -> bool:
    machine = machine_of(world)
    return machine.spec.spare == "none" or machine.spare_instance_id is not None


def after(world: World, work: Callable[[], object], seconds: float) -> None:
    wish(world, work)
    world.hub.run(world.hub.now + seconds)


def dies(world: World, instance_id: str | None, kind: str = "hung") -> None:
    assert world.market.inject(Fault(kind=kind, instance_id=market_id(instance(world, instance_id))), world.hub.now)
    world.agents.look()


@pytest.mark.parametrize(("spare", "state"), [("running", InstanceState.PROVEN), ("stopped", InstanceState.STOPPED)])
def test_a_spare_on_another_host_has_the_last_snapshot_and_serves_nothing(spare: str, state: InstanceState) -> None:
    world, _ = standing_by(spec(spare))
    machine = machine_of(world)
    beside = instance(world, machine.spare_instance_id)
    assert beside.state is state
    assert beside.offer.machine_id != instance(world, machine.instance_id).offer.machine_id
    taken = next(s for s in world.store.quiet.find(Snapshot, ALL) if s.good)
    assert beside.restored_snapshot_id == taken.id
    assert world.files[market_id(beside)] == FILES
    assert world.agents.serving("ada") == [market_id(instance(world, machine.instance_id))]


def test_a_machine_without_a_snapshot_pays_for_no_spare() -> None:
    world = World(7, Weather())
    world.start_schedule()
    after(world, lambda: provision.request(world.ports, "ada", spec("running"), requested_by="u"), 900.0)
    assert not of_kind(world, OperationKind.SPARE)
    assert len(world.market.live(world.hub.now)) == 1


@pytest.mark.parametrize("spare", ["running", "stopped"])
def test_its_host_dies_and_the_spare_takes_over_and_a_new_one_is_made(spare: str) -> None:
    world, invariants = standing_by(spec(spare))
    before = machine_of(world)
    began = world.hub.now
    dies(world, before.instance_id)
    world.hub.run(began + 100.0)
    machine = machine_of(world)
    assert machine.state is MachineState.RUNNING
    assert machine.instance_id == before.spare_instance_id
    assert world.files[market_id(instance(world, machine.instance_id))] == FILES
    [moved] = [op for op in of_kind(world, OperationKind.FAILOVER) if op.tried]
    assert moved.tried == ("warm",)
    world.hub.run(world.hub.now + 900.0)
    renewed = machine_of(world).spare_instance_id
    assert renewed not in (None, before.spare_instance_id)
    invariants.check_quiet()


def test_a_spare_that_dies_is_replaced_and_its_machine_never_notices() -> None:
    world, invariants = standing_by(spec("running"))
    before = machine_of(world)
    dies(world, before.spare_instance_id)
    world.hub.run(world.hub.now + 900.0)
    machine = machine_of(world)
    assert machine.spare_instance_id not in (None, before.spare_instance_id)
    assert (machine.instance_id, machine.epoch) == (before.instance_id, before.epoch)
    invariants.check_quiet()


def test_a_newer_snapshot_comes_onto_the_spare() -> None:
    world, invariants = standing_by(spec("running"))
    world.files[market_id(instance(world, machine_of(world).instance_id))]["user/model.bin"] = b"more"
    after(world, lambda: snapshot.request_snapshot(world.ports, "ada", requested_by="u"), 400.0)
    beside = instance(world, machine_of(world).spare_instance_id)
    assert world.files[market_id(beside)]["user/model.bin"] == b"more"
    assert beside.state is InstanceState.PROVEN
    invariants.check_quiet()


def test_both_die_and_a_race_brings_it_back() -> None:
    world, invariants = standing_by(spec("running"))
    before = machine_of(world)
    dies(world, before.instance_id)
    dies(world, before.spare_instance_id)
    world.hub.run(world.hub.now + 1200.0)
    machine = machine_of(world)
    assert machine.state is MachineState.RUNNING
    assert machine.instance_id not in (before.instance_id, before.spare_instance_id)
    assert world.files[market_id(instance(world, machine.instance_id))] == FILES
    invariants.check_quiet()


def test_it_goes_with_its_machine() -> None:
    world, invariants = standing_by(spec("running"))
    after(world, lambda: destroy.request(world.ports, "ada", discard=True, requested_by="u"), 300.0)
    assert machine_of(world).state is MachineState.DESTROYED
    assert world.market.live(world.hub.now) == []
    invariants.check_quiet()


def test_a_rehearsal_touches_nothing_and_says_what_it_took() -> None:
    world, invariants = standing_by(spec("none"))
    before = machine_of(world)
    after(world, lambda: drills.request(world.ports, "ada", requested_by="u"), 600.0)
    [drill] = of_kind(world, OperationKind.DRILL)
    assert drill.state.value == "succeeded"
    assert drill.progress["byte_for_byte"] == 1.0
    assert drill.progress["serves_seconds"] > drill.progress["ready_seconds"] > 0
    assert drill.progress["cost_usd"] > 0
    machine = machine_of(world)
    assert (machine.instance_id, machine.epoch, machine.state) == (before.instance_id, before.epoch, before.state)
    assert len(world.market.live(world.hub.now)) == 1
    invariants.check_quiet()


def test_a_host_that_dies_in_the_middle_of_a_rehearsal_is_replaced_by_what_races_there() -> None:
    world, invariants = standing_by(spec("none"))
    wish(world, lambda: drills.request(world.ports, "ada", requested_by="u"))
    world.hub.run(world.hub.now + 5.0)
    dies(world, machine_of(world).instance_id)
    world.hub.run(world.hub.now + 900.0)
    [drill] = of_kind(world, OperationKind.DRILL)
    machine = machine_of(world)
    assert machine.state is MachineState.RUNNING
    assert instance(world, machine.instance_id).rented_by == drill.id
    invariants.check_quiet()


def test_outbid_is_looked_into_at_once_and_once() -> None:
    world, invariants = standing_by(spec("none", interruptible=True, heartbeat_seconds=60.0))
    serving = instance(world, machine_of(world).instance_id)
    dies(world, serving.id, "bid_lost")
    told_at = world.hub.now
    notice = Notice(provider="vast", event_id="e-1", kind="outbid", ids=(str(serving.provider_instance_id),))
    for _ in range(2):
        wish(world, lambda: notices.receive(world.ports, notice))
        world.hub.run(world.hub.now + 1.0)
    moves = [op for op in of_kind(world, OperationKind.FAILOVER) if op.suspect_instance_id == serving.id]
    assert len(moves) == 1
    assert moves[0].suspected_at < told_at + 1.0
    assert moves[0].phase != "start", "fenced within two seconds of the notice, not when a heartbeat is missed"
    assert [e.kind for e in world.store.quiet.find(WebhookEvent, ALL)] == ["outbid"]
    world.hub.run(world.hub.now + 1200.0)
    assert machine_of(world).state is MachineState.RUNNING
    invariants.check_quiet()


@pytest.mark.parametrize("ids", [("99999999",), ()])
def test_a_notice_of_a_stranger_changes_nothing(ids: tuple[str, ...]) -> None:
    world, _ = standing_by(spec("none"))
    notice = Notice(provider="vast", event_id="e-2", kind="outbid", ids=ids)
    after(world, lambda: notices.receive(world.ports, notice), 60.0)
    assert not of_kind(world, OperationKind.FAILOVER)


def taken_over(kill_at: int | None) -> tuple[World, int]:
    """How a spare took over and another was made, and how many port calls came before."""
    world, invariants = standing_by(spec("running"))
    before, calls = machine_of(world), world.hub.counted_calls
    world.hub.kill_at = kill_at
    dies(world, before.instance_id)
    rest(world, 30.0, 1500.0, lambda: machine_of(world).epoch > before.epoch and has_its_spare(world))
    machine = machine_of(world)
    assert machine.state is MachineState.RUNNING, f"killed at call {kill_at}"
    assert world.files[market_id(instance(world, machine.instance_id))] == FILES
    assert machine.spare_instance_id is not None, f"killed at call {kill_at}"
    invariants.check_quiet()
    return world, calls


CALLS = calls_with_effect(*taken_over(None))


@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_death_at_any_call_of_the_takeover_changes_nothing_of_its_end(shard: int) -> None:
    assert len(CALLS) > 40, "it is too short to prove anything"
    for call in CALLS[shard::SHARDS]:
        taken_over(call)
