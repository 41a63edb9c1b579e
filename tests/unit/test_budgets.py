"""Budgets: held against the most that can have been spent, warned of once, and enforced."""

from __future__ import annotations

from dataclasses import replace as with_ports
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from dumont.adapters.memory_store import MemoryStore
from dumont.domain import accounts, costs, ledger
from dumont.domain import budgets as domain
from dumont.domain.budgets import ALL, Budget, BudgetAction, Credit, Spent
from dumont.domain.errors import BudgetReached, Conflict, InvalidInput, Unknown
from dumont.domain.ledger import LedgerEntry
from dumont.domain.records import Instance, InstanceState, Machine, MachineSpec, MachineState, Operation, OperationKind
from dumont.edge.money import BudgetRequest
from dumont.operations import budget_settings, budgets, provision
from dumont.ports import Ports, Query
from tests.unit.rest_support import ManualClock, make_ports
from tests.unit.test_meter import LIVES, START, Life, gone, live, rental

SPEC = MachineSpec(gpu="RTX 4090")


class Rig:
    """A store, a clock, and one machine that runs."""

    def __init__(self, *, alerts: bool = False) -> None:
        self.clock = ManualClock(START + 3600.0)
        self.store = MemoryStore()
        self.ports: Ports = with_ports(make_ports(self.store, self.clock), alerts=alerts)
        self.put(rental(id="i-1", provider_instance_id="1"))
        self.machine("ada", MachineState.RUNNING, instance_id="i-1")

    def put(self, *records: Any) -> None:
        for record in records:
            self.store.transact(lambda tx, record=record: tx.put(record))  # type: ignore[misc]

    def machine(self, name: str, state: MachineState, **changes: Any) -> None:
        made = Machine(id=name, spec=SPEC, state=state, epoch=1, created_at=START, updated_at=START)
        self.put(replace(made, **changes))

    def budget(self, **limits: Any) -> Budget:
        return budget_settings.put(self.ports, Budget(id="", **limits), set_by="test")

    def operations(self) -> list[OperationKind]:
        return [op.kind for op in self.store.find(Operation, Query())]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def spent(usd_per_hour: float, **usd: float) -> Spent:
    return Spent(usd=usd, usd_per_hour=usd_per_hour)  # type: ignore[arg-type]


@given(st.floats(0.01, 100), st.floats(0, 1), st.floats(0.01, 50))
def test_a_budget_is_looked_at_before_the_next_share_can_be_passed(limit: float, share: float, rate: float) -> None:
    budget = Budget(id=ALL, usd_per_day=limit)
    now = ledger.midnight_before(START) + 3600.0
    so_far = spent(rate, day=share * limit)
    verdict = domain.judge(budget, so_far, now)
    assert verdict.due <= now + domain.LOOK_SECONDS
    then = share * limit + (verdict.due - now) / 3600 * rate
    for ahead in (0.5, 0.8, 1.0):
        if share < ahead * domain.FULL:
            assert then <= ahead * limit * (1 + 1e-6)


def test_each_share_is_warned_of_once_a_day() -> None:
    budget = Budget(id=ALL, usd_per_day=10.0)
    warned: list[float] = []
    for hour in range(1, 30):
        now = ledger.midnight_before(START) + hour * 3600.0
        verdict = domain.judge(budget, spent(1.0, day=(hour % 24) * 1.0), now)
        warned += [w.share for w in verdict.warnings]
        budget = replace(budget, warned=verdict.warned)
    assert warned == [0.5, 0.8, 1.0, 0.5]


def test_a_budget_is_held_against_the_most_that_can_have_been_spent(rig: Rig) -> None:
    """Nobody has looked at it for an hour: it may have run all that time."""
    rig.put(rental(id="i-1", provider_instance_id="1", booted_at=None, seen_booting_at=START + 10))
    budget = rig.budget(usd_total=0.3, since=START)
    verdict = budgets.judge(rig.ports, budget, budgets.open_of(rig.ports, budget), rig.clock.now())
    assert verdict.reached == ("total",)


def test_the_hour_is_the_last_sixty_minutes() -> None:
    budget = Budget(id=ALL, usd_per_hour=1.0)
    now = START + 10 * 3600.0
    so_far = domain.spent(budget, [rental()], [], now)
    assert so_far.usd["hour"] == pytest.approx(0.36 + 20 * 0.0018)


def test_what_is_entered_of_an_open_instance_is_not_counted_twice() -> None:
    instance = rental()
    now = START + 3600.0
    entered = ledger.entries(replace(instance, gone_at=now), now)
    budget = Budget(id=ALL, usd_total=1.0, since=START)
    assert domain.spent(budget, [instance], entered, now) == domain.spent(budget, [instance], [], now)


@settings(max_examples=200, deadline=None)
@given(LIVES)
def test_what_a_budget_counts_does_not_fall_when_an_instance_goes(life: Life) -> None:
    """Losers that nobody saw run were counted while they were open, and forgotten when they had gone."""
    last, after, now = before_and_after(life)
    budget = Budget(id=ALL, usd_total=1.0, since=START)
    while_open = domain.spent(budget, [last], [], now).usd["total"]
    entries = written_of(after, now)
    once_gone = domain.spent(budget, [], entries, now).usd["total"]
    unseen_disk_usd = costs.accrued(last, now).storage_usd - costs.accrued(after, now).storage_usd
    assert once_gone >= while_open - unseen_disk_usd - costs.LEAST_MARGIN_USD - 1e-5
    assert accounts.total(entries, from_time=START, to_time=now + 1).usd == pytest.approx(
        costs.accrued(after, now).total_usd, abs=1e-6 * (len(entries) + 1)
    ), "no sum of the ledger knows of the margin"


def test_a_bill_that_is_known_ends_the_doubt_about_what_nobody_saw() -> None:
    loser = gone(rental(booted_at=None, seen_booting_at=START + 1, releasing_at=START + 20), START + 60)
    now = START + 60
    entries = written_of(loser, now)
    billed = replace(entries[0], id="label.gpu.bill.0", kind="gpu", source="billed", amount_micro_usd=1000)
    budget = Budget(id=ALL, usd_per_hour=1.0)
    doubted, known = (domain.spent(budget, [], some, now).usd["hour"] for some in (entries, [*entries, billed]))
    assert doubted == pytest.approx(59 * 0.36 / 3600 + costs.accrued(loser, now).storage_usd, abs=1e-5)
    assert known == pytest.approx(0.001 + costs.accrued(loser, now).storage_usd, abs=1e-5)


def before_and_after(life: Life) -> tuple[Instance, Instance, float]:
    """An instance just before it is known to be gone and after that, and when that was: its last look a minute ago."""
    _, _, _, versions = live(life)
    now = (versions[-1].gone_at or 0.0) + 60.0
    return versions[-2], gone(versions[-2], now), now


def written_of(instance: Instance, now: float) -> list[LedgerEntry]:
    """What the ledger has of an instance that is gone."""
    margin = costs.margin_entry(instance, now)
    return [*ledger.entries(instance, now), *([margin] if margin is not None else [])]


def test_the_first_wish_of_a_fresh_deployment_leaves_the_default_cap(rig: Rig) -> None:
    assert rig.store.get(Budget, ALL) is None
    provision.request(rig.ports, "bob", SPEC, requested_by="test")
    default = rig.store.get(Budget, ALL)
    assert default is not None
    assert (default.usd_per_day, default.is_default, default.action) == (25.0, True, BudgetAction.HIBERNATE)
    assert default.deadline is not None, "the sweep looks at it"
    assert budget_settings.default_limit(rig.ports) == 25.0


def test_nothing_new_is_rented_while_a_budget_is_spent(rig: Rig) -> None:
    rig.budget(usd_per_day=0.1, action=BudgetAction.STOP_NEW)
    with pytest.raises(BudgetReached, match=r"budget of \$0\.10 a day is spent") as refused:
        provision.request(rig.ports, "bob", SPEC, requested_by="test")
    assert (refused.value.status, refused.value.code) == (402, "budget_reached")
    assert rig.store.get(Machine, "bob") is None
    rig.budget(usd_per_day=0.1, action=BudgetAction.WARN)
    provision.request(rig.ports, "bob", SPEC, requested_by="test")


def test_tomorrow_is_another_day(rig: Rig) -> None:
    gone = rental(id="i-1", provider_instance_id="1", state=InstanceState.GONE, open=False, gone_at=START + 3600.0)
    rig.put(gone, *ledger.entries(gone, START + 3600.0))
    rig.budget(usd_per_day=0.1)
    with pytest.raises(BudgetReached):
        budgets.admit(rig.ports, "bob")
    rig.clock.moment = ledger.midnight_before(START) + ledger.DAY_SECONDS + 1.0
    budgets.admit(rig.ports, "bob")


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (BudgetAction.WARN, []),
        (BudgetAction.STOP_NEW, []),
        (BudgetAction.HIBERNATE, [OperationKind.HIBERNATE]),
        (BudgetAction.DESTROY_AFTER_SNAPSHOT, [OperationKind.DESTROY]),
        (BudgetAction.DESTROY, [OperationKind.DESTROY]),
    ],
)
def test_a_budget_that_is_reached_does_what_it_says(
    rig: Rig, action: BudgetAction, expected: list[OperationKind]
) -> None:
    rig.budget(usd_per_day=0.1, action=action)
    assert budgets.look_at(rig.ports, ALL)
    assert rig.operations() == expected
    for op in rig.store.find(Operation, Query()):
        assert op.discard is (action is BudgetAction.DESTROY)
        assert op.snapshot_first is (action is BudgetAction.DESTROY_AFTER_SNAPSHOT)
    assert budgets.look_at(rig.ports, ALL)
    assert rig.operations() == expected, "looked at again, it is the same operation"
    known = rig.store.get(Budget, ALL)
    assert known is not None
    assert known.reached_at == rig.clock.now()


def test_what_never_ran_is_given_up_whatever_would_become_of_it(rig: Rig) -> None:
    """A budget reached in mid-provision: nothing is in it that could be lost."""
    provision.request(rig.ports, "bob", SPEC, requested_by="test")
    rig.put(rental(id="i-2", machine="bob", provider_instance_id="2", booted_at=None))
    rig.machine("ada", MachineState.RUNNING, instance_id="i-1")
    rig.budget(usd_per_day=0.1, action=BudgetAction.HIBERNATE)
    budgets.look_at(rig.ports, ALL)
    destroyed = [op for op in rig.store.find(Operation, Query()) if op.kind is OperationKind.DESTROY]
    assert [(op.machine, op.discard) for op in destroyed] == [("bob", True)]


def test_a_machines_own_cap_destroys_it_as_its_user_said(rig: Rig) -> None:
    rig.machine("ada", MachineState.RUNNING, instance_id="i-1", spec=replace(SPEC, budget_usd=0.1))
    machine = rig.store.get(Machine, "ada")
    assert machine is not None
    budgets.enforce_cap(rig.ports, machine, rig.clock.now())
    assert rig.operations() == [OperationKind.DESTROY]


def test_a_machines_own_cap_is_due_when_it_can_be_reached(rig: Rig) -> None:
    rig.machine("ada", MachineState.RUNNING, instance_id="i-1", spec=replace(SPEC, budget_usd=1.0))
    machine = rig.store.get(Machine, "ada")
    assert machine is not None
    due = budgets.enforce_cap(rig.ports, machine, rig.clock.now())
    assert due is not None
    assert rig.clock.now() < due < rig.clock.now() + 3600 / 0.39
    assert rig.operations() == []


def test_budgets_are_set_shown_and_removed(rig: Rig) -> None:
    rig.budget(machine="ada", usd_total=5.0)
    shown = budget_settings.every(rig.ports)
    assert [(s.budget.machine, s.budget.is_default) for s in shown] == [("", True), ("ada", False)]
    assert shown[1].spent_usd["total"] < 0.01, "a total counts from when it is set"
    budget_settings.remove(rig.ports, "ada", set_by="test")
    budget_settings.remove(rig.ports, "", set_by="test")
    [left] = budget_settings.every(rig.ports)
    assert (left.budget.limits, left.budget.is_default) == ({}, False), "no default comes back by itself"
    with pytest.raises(Unknown):
        budget_settings.remove(rig.ports, "ada", set_by="test")
    with pytest.raises(Unknown):
        rig.budget(machine="nobody", usd_total=5.0)
    with pytest.raises(InvalidInput, match="a budget needs a limit"):
        BudgetRequest().wanted()
    assert issubclass(BudgetReached, Conflict)


class Purse:
    """A provider of which only the credit is asked."""

    name = "vast"

    def __init__(self, credit_usd: float | None) -> None:
        self.left = credit_usd
        self.asked = 0

    def credit_usd(self) -> float | None:
        self.asked += 1
        return self.left


def test_credit_that_will_not_last_a_day_is_an_alert(rig: Rig) -> None:
    purse = Purse(4.0)
    ports = with_ports(rig.ports, providers={"vast": purse})  # type: ignore[dict-item]
    budget_settings.watch_credit(ports)
    seen = rig.store.get(Credit, "vast")
    assert seen is not None
    assert seen.hours_left == pytest.approx(4.0 / 0.396)
    assert seen.low_since == rig.clock.now()
    budget_settings.watch_credit(ports)
    assert purse.asked == 1, "once an hour"
    rig.clock.sleep(3600.0)
    purse.left = 400.0
    budget_settings.watch_credit(ports)
    [seen] = budget_settings.credits_seen(with_ports(ports, providers={}))  # as where no market's key is
    assert seen.low_since is None


def test_an_instance_that_does_not_bill_has_no_end_of_credit() -> None:
    assert domain.credit_seen(None, "vast", 1.0, 0.0, START).hours_left is None
    assert domain.credit_seen(None, "vast", None, 1.0, START).hours_left is None


def test_nothing_open_is_looked_at_seldom(rig: Rig) -> None:
    gone: Instance = rental(id="i-1", state=InstanceState.GONE, open=False, gone_at=START + 60.0)
    rig.put(gone)
    rig.budget(usd_per_day=5.0)
    assert not budgets.look_at(rig.ports, ALL)
    known = rig.store.get(Budget, ALL)
    assert known is not None
    assert known.deadline == rig.clock.now() + domain.QUIET_SECONDS
