"""The engine's end is an event: whoever waits for a copy or a restore goes on at once, not at the next sweep."""

from __future__ import annotations

from dumont.agent import tokens
from dumont.domain.heartbeats import EngineSeen, Report
from dumont.domain.records import Instance, Operation, OperationKind
from dumont.operations import heartbeats, snapshot
from tests.simulation.agents import SECRET
from tests.simulation.test_saved_deaths import wish
from tests.simulation.test_spares import ALL, after, instance, machine_of, of_kind, spec, standing_by
from tests.simulation.world import World

SECONDS_MOST = 2.5
"""From the engine's end: half a second at most until the heartbeat, then one look over SSH. Sweeps are 7 s apart here,
and the operation itself would look again after a second, at the next sweep."""


def copied_late(world: World) -> list[float]:
    """How long after each snapshot's last object was sent its operation knew."""
    late = []
    for op in of_kind(world, OperationKind.SNAPSHOT):
        sent_at = max(at for key, (_, at) in world.blobs.objects.items() if key.endswith(op.snapshot_id or "?"))
        late += [step.ended_at - sent_at for step in op.steps if step.name == "copy"]
    return late


def test_a_snapshot_that_ends_is_known_before_the_next_sweep() -> None:
    world, _ = standing_by(spec("none", heartbeat_seconds=20.0))
    for _ in range(5):
        after(world, lambda: snapshot.request_snapshot(world.ports, "ada", requested_by="u"), 200.0)
    late = copied_late(world)
    assert len(late) == 6
    assert max(late) < SECONDS_MOST


def test_a_run_that_ended_long_ago_cuts_short_nothing_that_waits() -> None:
    world, _ = standing_by(spec("none"))
    serving = instance(world, machine_of(world).instance_id)
    identity = tokens.read(SECRET, tokens.make(SECRET, "ada", 1, serving.id))
    assert identity is not None
    wish(world, lambda: snapshot.request_snapshot(world.ports, "ada", requested_by="u"))
    world.hub.run(world.hub.now + 2.0)
    waiting = of_kind(world, OperationKind.SNAPSHOT)[-1]
    assert waiting.open
    assert waiting.engine_run

    def beat(run: str) -> None:
        report = Report(sequence=10_000, engine=EngineSeen(run=run, ended=True))
        wish(world, lambda: heartbeats.receive(world.ports, identity, report))
        world.hub.run(world.hub.now + 0.4)

    beat("op-of-yesterday-snapshot-snap-0-1")
    assert not was_woken(world, waiting), "that run is not the one it waits for"
    beat(waiting.engine_run)
    assert was_woken(world, waiting)


def was_woken(world: World, before: Operation) -> bool:
    now = world.store.quiet.get(Operation, before.id)
    assert now is not None
    return now.not_before != before.not_before


def test_an_instance_without_a_run_is_left_alone() -> None:
    world, _ = standing_by(spec("running"))
    spare_id = machine_of(world).spare_instance_id or ""
    before = world.store.quiet.get(Instance, spare_id)
    identity = tokens.read(SECRET, tokens.make(SECRET, "ada", 1, spare_id))
    assert identity is not None
    report = Report(sequence=10_000, engine=EngineSeen(run="op-1-snap-1-1", ended=True))
    wish(world, lambda: heartbeats.receive(world.ports, identity, report))
    world.hub.run(world.hub.now + 1.0)
    assert world.store.quiet.get(Instance, spare_id) == before
    assert not [op for op in world.store.quiet.find(Operation, ALL) if op.open]
