"""A machine with a cap bills again once it wakes: what it spent before counts, and only the sweep counts that."""

from __future__ import annotations

import pytest

from dumont.adapters.memory_store import MemoryStore
from dumont.domain.records import Machine, MachineSpec, MachineState
from dumont.operations import wake
from tests.unit.rest_support import ManualClock, make_ports

NOW = 1_800_000_000.0


@pytest.mark.parametrize(("budget_usd", "deadline"), [(0.1, NOW), (None, None)])
def test_a_wake_makes_a_machine_with_a_cap_due_at_once(budget_usd: float | None, deadline: float | None) -> None:
    """Else three wakes in vain can spend more than twice its cap (simulation: seed 6000002, invariant 8)."""
    store = MemoryStore()
    spec = MachineSpec(gpu="RTX 4090", budget_usd=budget_usd)
    asleep = Machine(
        id="ada", spec=spec, state=MachineState.HIBERNATED, epoch=1, created_at=NOW - 900.0, updated_at=NOW - 600.0,
        slept_at=NOW - 600.0,
    )  # fmt: skip
    store.transact(lambda tx: tx.put(asleep))

    wake.request(make_ports(store, ManualClock(NOW)), "ada", requested_by="u")

    machine = store.get(Machine, "ada")
    assert machine is not None
    assert machine.state is MachineState.WAKING
    assert machine.deadline == deadline
