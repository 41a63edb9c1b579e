"""A job from its wish to its end, with one death: at each port call in turn from the moment its command has ended.

Invariants 4 and 7: it succeeds once, its output is in its snapshot, its machine is gone, and no storage key is left.
"""

from __future__ import annotations

import pytest

from dumont.domain.jobs import Job, JobLog, JobState
from dumont.domain.ledger import LedgerEntry
from dumont.domain.records import Machine, MachineSpec, MachineState, Operation
from dumont.operations import jobs
from dumont.ports import Query
from tests.simulation.invariants import Invariants
from tests.simulation.jobs import JobInvariants
from tests.simulation.lives import calls_with_effect
from tests.simulation.test_saved_deaths import wish
from tests.simulation.world import Weather, World

SPEC = MachineSpec(
    gpu="RTX 4090", max_price_usd_per_hour=0.4, boot_timeout_seconds=300.0, race_width=1, heartbeat_seconds=20.0
)
SHARDS = 4
SEED = 5
"""One with short copies: else most calls ask how far an engine is."""
SECONDS_MOST = 1200.0


def ended(kill_at: int | None) -> tuple[World, int]:
    """A job that has ended, and how many port calls came before its command had."""
    world = World(SEED, Weather())
    world.hub.kill_at = kill_at
    world.hub.after_event = JobInvariants(world, Invariants(world).check).check
    world.start_schedule()
    where = f"killed at call {kill_at}"
    wish(world, lambda: jobs.request(world.ports, "job 100 0", SPEC, requested_by="u", name="ada"))
    before = 0
    ends_at = world.hub.now + SECONDS_MOST
    while True:
        world.hub.run(world.hub.now + 1.0)
        assert world.hub.now < ends_at, f"{where}: {world.store.quiet.find(Job, Query())}"
        if not any("user/out-ada" in files for files in world.files.values()):
            before = world.hub.counted_calls
        found = world.store.quiet.find(Job, Query())
        still = not any(op.open for op in world.store.quiet.find(Operation, Query(limit=100)))
        if found and found[0].ended and still:
            break
    (job,) = found
    assert (job.state, job.exit_status, job.attempts) == (JobState.SUCCEEDED, 0, 1), f"{where}: {job}"
    log = world.store.quiet.get(JobLog, job.id)
    assert log is not None, where
    assert log.text == "hello\n"
    machine = world.store.quiet.get(Machine, "ada")
    assert machine is not None
    assert machine.state is MachineState.DESTROYED, where
    assert world.market.live(world.hub.now) == [], where
    assert world.blobs.keys == {}, f"{where}: a key outlives its operation"
    booked_usd = sum(e.amount_micro_usd for e in world.store.quiet.find(LedgerEntry, Query(limit=1000))) / 1e6
    assert job.cost_usd == pytest.approx(booked_usd, abs=1e-5), where
    return world, before


CALLS = calls_with_effect(*ended(None), heartbeats=True)
"""An agent's word that the command has ended is a heartbeat that does more than others."""


@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_death_at_any_call_ends_a_job_once_with_its_output_saved_and_its_machine_gone(shard: int) -> None:
    assert len(CALLS) > 20, "it is too short to prove anything"
    for call in CALLS[shard::SHARDS]:
        ended(call)
