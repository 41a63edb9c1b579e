"""A sweep's pass listens for hosts that fall silent, whatever else it finds to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace as with_ports

from dumont.adapters.memory_store import MemoryStore
from dumont.domain.errors import BusUnavailable
from dumont.domain.records import Operation, OperationKind
from dumont.operations.sweep import REDELIVER_SECONDS, sweep
from tests.unit.rest_support import ManualClock, make_ports

NOW = 1_800_000_000.0
AWAY_SECONDS = 20.0


class SlowToRefuse:
    """A bus that takes its time to say that it is away."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.away = True
        self.sent: list[str] = []

    def publish(self, topic: str, message: Mapping[str, str]) -> None:
        if self.away:
            self._clock.sleep(AWAY_SECONDS)
            raise BusUnavailable(f"no answer for {topic}")
        self.sent.append(message["operation_id"])


def test_a_bus_that_is_away_is_asked_once_a_pass_and_all_is_sent_by_a_later_one() -> None:
    store, clock = MemoryStore(), ManualClock(NOW)
    bus = SlowToRefuse(clock)
    ports = with_ports(make_ports(store, clock), bus=bus)
    due: list[Operation] = []
    for number in range(5):
        op = Operation(
            id=f"op-{number}", kind=OperationKind.SNAPSHOT, machine=f"m{number}", epoch=1, created_at=NOW,
            updated_at=NOW, deadline=NOW - 1.0,
        )  # fmt: skip
        due.append(op)
        store.transact(lambda tx, op=op: tx.put(op))  # type: ignore[misc]

    assert sweep(ports).operations == len(due)
    assert clock.now() == NOW + AWAY_SECONDS
    bus.away = False
    clock.sleep(REDELIVER_SECONDS)
    sweep(ports)
    assert sorted(bus.sent) == [op.id for op in due]
