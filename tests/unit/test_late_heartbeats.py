"""A heartbeat whose invocation is held up comes after later ones: it must not be taken for the host's last word."""

from __future__ import annotations

from dumont.adapters.memory_store import MemoryStore
from dumont.agent.tokens import AgentIdentity
from dumont.domain.heartbeats import Heartbeat, Report, WorkloadSeen
from dumont.domain.records import Machine, MachineSpec, MachineState
from dumont.operations import heartbeats
from tests.unit.rest_support import ManualClock, make_ports

NOW = 1_800_000_000.0
HELD_UP_SECONDS = 150.0
IDENTITY = AgentIdentity(machine="ada", epoch=1, instance="i-1")


def report(sequence: int, state: str) -> Report:
    return Report(sequence=sequence, workload=WorkloadSeen(state=state))


def test_a_heartbeat_that_was_held_up_is_not_written_over_a_later_one() -> None:
    """Else the old host's lease would be counted from too early a moment (simulation: seed 6000004, invariant 1)."""
    clock = ManualClock(NOW)
    held_up = [True]

    def pause(call: str) -> None:
        if call == "commit" and held_up:
            held_up.clear()
            clock.moment += HELD_UP_SECONDS
            heartbeats.receive(ports, IDENTITY, report(8, "running"))

    store = MemoryStore(pause=pause)
    ports = make_ports(store, clock)
    machine = Machine(
        id="ada", spec=MachineSpec(run="serve"), state=MachineState.RUNNING, epoch=1, created_at=NOW, updated_at=NOW,
        instance_id="i-1", operation_id=None, created_by="u",
    )  # fmt: skip
    _plain(store).transact(lambda tx: tx.put(machine))

    answer = heartbeats.receive(ports, IDENTITY, report(7, "stopped"))

    assert answer.state == "serve"
    beat = store.get(Heartbeat, "i-1")
    assert beat is not None
    assert (beat.sequence, beat.workload.state) == (8, "running")
    assert beat.received_at == NOW + HELD_UP_SECONDS
    assert beat.deadline is not None
    assert beat.deadline > NOW + HELD_UP_SECONDS


def _plain(store: MemoryStore) -> MemoryStore:
    """The same records, without the pause."""
    plain = MemoryStore()
    plain.__dict__.update({name: value for name, value in store.__dict__.items() if name != "_pause"})
    return plain
