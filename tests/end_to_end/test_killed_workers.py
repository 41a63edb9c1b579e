"""Workers killed as processes, at each call of their ports, before and after its effect; then the message comes again.

Invariant 7: one machine, no orphan, and the cost is what the market bills.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dumont.adapters.clock import SystemClock
from dumont.adapters.ssh import generate_key
from dumont.domain import costs
from dumont.domain.ledger import LedgerEntry
from dumont.domain.records import Instance, Machine, MachineSpec, MachineState, Operation
from dumont.edge import wiring
from dumont.local.market.server import MarketServer
from dumont.operations import destroy, provision
from dumont.operations.runner import run_operation
from dumont.operations.workflows import WORKFLOWS
from dumont.ports import Ports, Query
from dumont.settings import read
from tests.end_to_end import crashing_worker
from tests.end_to_end.cloud import clean_environment

SPEC = MachineSpec(gpu="RTX 4090", race_width=2, boot_timeout_seconds=60.0)
MARKET_KEY = "m" * 64


@dataclass
class Setting:
    """A market, a store, and no bus: the test itself delivers messages, when and as often as it likes."""

    market: MarketServer
    ports: Ports
    environment: dict[str, str]

    def killed(self, operation_id: str, call: int, moment: str) -> bool:
        """Whether a worker of its own process died at that call; if it never came so far, it did its work."""
        worker = subprocess.run(
            [sys.executable, "-m", crashing_worker.__name__, operation_id, str(call), moment],
            env=self.environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert worker.returncode in (0, crashing_worker.EXIT_STATUS), worker.stderr
        return worker.returncode == crashing_worker.EXIT_STATUS

    def redeliver_until_ended(self, operation_id: str) -> Operation:
        """Deliver the message again and again, as bus and sweep do."""
        deadline = time.monotonic() + 90
        while True:
            run_operation(self.ports, operation_id, WORKFLOWS, lease_seconds=60.0)
            op = self.ports.store.get(Operation, operation_id)
            assert op is not None
            if not op.open:
                return op
            assert time.monotonic() < deadline, f"it never ended: {op}"
            time.sleep(0.1)


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    (tmp_path / "key").write_text(generate_key()[0])
    with MarketServer(
        folder=tmp_path / "market", clock=SystemClock(), api_keys=[MARKET_KEY], time_scale=0.01, seed=3
    ) as market:
        environment = clean_environment(tmp_path) | {
            "DUMONT_STORE": f"sqlite:{tmp_path / 'store.sqlite3'}",
            "DUMONT_SSH_PRIVATE_KEY_FILE": str(tmp_path / "key"),
            "VAST_API_KEY": MARKET_KEY,
            "VAST_URL": market.url,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]),
        }
        yield Setting(market, wiring.build(read(environment)), environment)


STRIDE = 10
"""Each life dies at every tenth call, before its effect or after it; the simulation dies at each call in turn."""


@pytest.mark.parametrize("first", [0, 5])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_worker_killed_at_any_call_costs_nothing_but_time(setting: Setting, first: int, moment: str) -> None:
    ports = setting.ports
    deaths = 0
    _, up = provision.request(ports, "ada", SPEC, requested_by="test")
    for call in range(4 + first, 200, STRIDE):
        if not setting.killed(up.id, call, moment):
            break
        deaths += 1
        time.sleep(crashing_worker.LEASE_SECONDS)  # the lease of a dead process has to run out: nobody can know
    op = setting.redeliver_until_ended(up.id)
    assert op.problem is None
    machine = ports.store.get(Machine, "ada")
    assert machine is not None
    assert machine.state is MachineState.RUNNING
    live = [line for line in setting.market.market.bill(time.time()).instances if line.destroyed_at is None]
    assert [line.label for line in live] == [machine.instance_id], "one machine, no orphan"

    _, down = destroy.request(ports, "ada", discard=True, requested_by="test")
    for call in range(4 + first, 60, STRIDE):
        if not setting.killed(down.id, call, moment):
            break
        deaths += 1
        time.sleep(crashing_worker.LEASE_SECONDS)
    setting.redeliver_until_ended(down.id)
    machine = ports.store.get(Machine, "ada")
    assert machine is not None
    assert machine.state is MachineState.DESTROYED
    bill = setting.market.market.bill(time.time())
    assert all(line.destroyed_at is not None for line in bill.instances), "nothing is left at the market"
    assert deaths >= 3, "it must die a few times to prove anything"
    _the_books_agree_with_the_bill(ports, bill.total_usd, deaths)


def _the_books_agree_with_the_bill(ports: Ports, bill_usd: float, deaths: int) -> None:
    instances = ports.store.find(Instance, Query())
    entries = ports.store.find(LedgerEntry, Query(limit=1000))
    ledger_usd = sum(entry.amount_micro_usd for entry in entries) / 1e6
    assert ledger_usd == pytest.approx(costs.total(instances, time.time()).total_usd, abs=1e-5)
    # Each death hides a stretch of time from us: a lease that runs out, and a process that starts.
    hidden_seconds = 2.0 * len(instances) + deaths * 4.0
    assert ledger_usd == pytest.approx(bill_usd, abs=hidden_seconds * 0.3 / 3600)
