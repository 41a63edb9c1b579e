"""A reached budget that cannot stop a machine tries ever more seldom, and says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace as with_ports

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dumont import queries
from dumont.domain.alerts import Alert, AlertKind
from dumont.domain.budgets import ALL, BudgetAction
from dumont.domain.enforcement import FIRST_WAIT_SECONDS, LOOKED_AT, MOST_WAIT_SECONDS, TOLD_AFTER, InVain, in_vain
from dumont.domain.hibernation import BY_BUDGET
from dumont.domain.records import (
    Machine,
    MachineSpec,
    MachineState,
    Operation,
    OperationKind,
    OperationState,
    Problem,
)
from dumont.operations import budgets
from dumont.ports import Ports, Query
from tests.unit.rest_support import FrozenBefore
from tests.unit.test_budgets import Rig

FAILED, SUCCEEDED = OperationState.FAILED, OperationState.SUCCEEDED
UNREADABLE = Problem(code="workspace_unreadable", detail="its workspace cannot be read: no answer")


def ended(at: float, state: OperationState = FAILED, **changes: object) -> Operation:
    made = Operation(
        id=f"op-{at:.0f}", kind=OperationKind.HIBERNATE, machine="ada", epoch=1, state=state, created_at=at - 20,
        updated_at=at, ended_at=at, requested_by=BY_BUDGET, problem=UNREADABLE,
    )  # fmt: skip
    return replace(made, **changes)


def found(*newest_first: Operation) -> InVain:
    seen = in_vain(newest_first)
    assert seen is not None
    return seen


@given(st.integers(1, LOOKED_AT))
def test_the_wait_doubles_with_each_try_in_vain_up_to_a_quarter_of_an_hour(tries: int) -> None:
    seen = found(*(ended(1000.0 - n * 10) for n in range(tries)))
    assert (seen.tries, seen.last.ended_at) == (tries, 1000.0)
    assert seen.again_at - 1000.0 == min(MOST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (tries - 1))
    assert seen.to_be_told is (tries >= TOLD_AFTER)


def test_as_many_operations_are_looked_at_as_the_longest_wait_needs() -> None:
    seen = found(*(ended(1000.0 - n * 10) for n in range(LOOKED_AT // 2)))
    assert seen.again_at == 1000.0 + MOST_WAIT_SECONDS, "other operations may stand between the tries"


@pytest.mark.parametrize(
    "since",
    [
        ended(990.0, SUCCEEDED),
        ended(990.0, OperationState.SUPERSEDED),
        ended(990.0, OperationState.RUNNING, ended_at=None),
        ended(990.0, SUCCEEDED, requested_by="sam", kind=OperationKind.SNAPSHOT),
        ended(990.0, SUCCEEDED, requested_by="", kind=OperationKind.FAILOVER),
    ],
)
def test_what_went_well_since_is_a_reason_to_try_now(since: Operation) -> None:
    assert in_vain([since, ended(980.0), ended(970.0)]) is None
    assert found(ended(1000.0), since, ended(980.0)).tries == 1


@pytest.mark.parametrize(
    "between",
    [
        ended(990.0, requested_by="policy", kind=OperationKind.SNAPSHOT),
        ended(990.0, SUCCEEDED, requested_by="policy", kind=OperationKind.VERIFY),
    ],
)
def test_what_says_nothing_of_the_host_is_passed_over(between: Operation) -> None:
    assert found(ended(1000.0), between, ended(980.0)).tries == 2
    assert found(between, ended(980.0)).tries == 1


@pytest.mark.parametrize("action", [BudgetAction.HIBERNATE, BudgetAction.DESTROY_AFTER_SNAPSHOT])
def test_a_machine_that_cannot_be_stopped_is_tried_ever_more_seldom_and_told_once(action: BudgetAction) -> None:
    rig = Rig(alerts=True)
    rig.budget(usd_per_day=0.1, action=action)
    began = rig.clock.now()
    tries: list[float] = []
    while rig.clock.now() < began + 3600.0:
        assert budgets.look_at(rig.ports, ALL)
        for op in rig.store.find(Operation, queries.any_operation_open()):
            tries.append(rig.clock.now() - began)
            in_vain_now = replace(op, state=FAILED, ended_at=rig.clock.now(), problem=UNREADABLE)
            rig.put(in_vain_now)
            rig.machine("ada", MachineState.RUNNING, instance_id="i-1")
        rig.clock.sleep(10.0)
    assert tries == [0.0, 30.0, 90.0, 210.0, 450.0, 930.0, 1830.0, 2730.0]
    (told,) = [a for a in rig.store.find(Alert, Query()) if a.kind is AlertKind.UNENFORCED]
    assert (told.machine, told.words["code"], told.words["action"]) == ("ada", UNREADABLE.code, action.value)
    assert told.written_at == began + 40.0, "after the second try in vain"


def test_a_budget_that_may_lose_everything_does_not_wait() -> None:
    rig = Rig()
    rig.put(*(ended(rig.clock.now() - n, kind=OperationKind.DESTROY) for n in (1, 2, 3)))
    rig.budget(usd_per_day=0.1, action=BudgetAction.DESTROY)
    budgets.look_at(rig.ports, ALL)
    (op,) = rig.store.find(Operation, queries.any_operation_open())
    assert op.discard


def raised(rig: Rig) -> None:
    rig.budget(usd_per_day=50.0, action=BudgetAction.DESTROY)


def removed(rig: Rig) -> None:
    rig.budget(usd_per_day=0.1, action=BudgetAction.WARN)


def another_of_its_name(rig: Rig) -> None:
    rig.machine("ada", MachineState.RUNNING, instance_id="i-1", created_at=rig.clock.now())


def nothing(_: Rig) -> None:
    """Nothing happens."""


@pytest.mark.parametrize("before", [MachineState.RUNNING, MachineState.PROVISIONING])
@pytest.mark.parametrize("meanwhile", [nothing, raised, removed, another_of_its_name])
def test_a_sweep_that_is_frozen_once_it_has_judged_destroys_nothing_that_is_not_to_be_by_then(
    before: MachineState, meanwhile: Callable[[Rig], None]
) -> None:
    rig = Rig()
    rig.budget(usd_per_day=0.1, action=BudgetAction.DESTROY)
    rig.machine("ada", before, instance_id="i-1")
    budgets.look_at(frozen_before_it_acts(rig, meanwhile), ALL)
    assert len(rig.operations()) == (meanwhile is nothing)


def test_a_boot_that_has_ended_meanwhile_is_not_given_up_as_one_that_never_ran() -> None:
    """A budget that lets machines sleep, and one that had just come to run, with its first files (invariant 4)."""
    rig = Rig()
    rig.budget(usd_per_day=0.1, action=BudgetAction.HIBERNATE)
    rig.machine("ada", MachineState.PROVISIONING, instance_id=None)

    def runs(rig: Rig) -> None:
        rig.machine("ada", MachineState.RUNNING, instance_id="i-1")

    budgets.look_at(frozen_before_it_acts(rig, runs), ALL)
    assert rig.operations() == []
    budgets.look_at(rig.ports, ALL)
    assert rig.operations() == [OperationKind.HIBERNATE], "saved first, at the next look"


def test_a_machines_own_cap_is_not_anothers_of_its_name() -> None:
    rig = Rig()
    capped = MachineSpec(gpu="RTX 4090", budget_usd=0.01)
    rig.machine("ada", MachineState.RUNNING, instance_id="i-1", spec=capped)
    machine = rig.store.get(Machine, "ada")
    assert machine is not None

    def made_anew(rig: Rig) -> None:
        rig.machine("ada", MachineState.RUNNING, instance_id="i-1", spec=capped, created_at=rig.clock.now())

    budgets.enforce_cap(frozen_before_it_acts(rig, made_anew), machine, rig.clock.now())
    assert rig.operations() == []
    budgets.enforce_cap(frozen_before_it_acts(rig, nothing), machine, rig.clock.now())
    assert rig.operations() == [], "it is not this machine that has spent it"


def frozen_before_it_acts(rig: Rig, meanwhile: Callable[[Rig], None]) -> Ports:
    def frozen() -> None:
        rig.clock.sleep(142.0)
        meanwhile(rig)

    return with_ports(rig.ports, store=FrozenBefore(rig.store, frozen))
