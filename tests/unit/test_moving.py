"""A move by hand, before its fence: nothing that only the old host has is lost unasked (invariant 4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dumont.domain import failover, moving, provisioning, snapshots
from dumont.domain.actions import (
    Abandon,
    Dismiss,
    Fence,
    Finish,
    GiveUp,
    InspectWorkspace,
    StartEngine,
    TakeBack,
    Try,
    Wait,
)
from dumont.domain.destruction import CHECKED
from dumont.domain.records import (
    InstanceState,
    Machine,
    MachineSpec,
    MachineState,
    Operation,
    OperationKind,
    Problem,
    Step,
)
from tests.unit.test_meter import START, rental

NOW = START + 100.0
SPEC = MachineSpec(gpu="RTX 4090")
MACHINE = Machine(
    id="ada", spec=SPEC, state=MachineState.RUNNING, epoch=1, created_at=START, updated_at=START, instance_id="i-1",
    operation_id="op-1",
)  # fmt: skip
MOVE = Operation(
    id="op-1", kind=OperationKind.FAILOVER, machine="ada", epoch=1, phase=moving.CONFIRM, created_at=START,
    updated_at=START, requested_by="ada@example.org", suspect_instance_id="i-1", suspected_at=START, forced=True,
    snapshot_first=True,
)  # fmt: skip
BEFORE = [moving.CONFIRM, *snapshots.RUNS, *snapshots.START_OF, snapshots.VERIFYING]


def decide(op: Operation = MOVE, machine: Machine | None = MACHINE) -> object:
    return failover.decide(op, machine, [], NOW)


def test_it_looks_first_then_saves_and_only_then_fences() -> None:
    assert isinstance(decide(), InspectWorkspace)
    assert isinstance(decide(replace(MOVE, phase=snapshots.COPY)), StartEngine)
    assert isinstance(decide(replace(MOVE, phase=CHECKED)), Fence)


@given(st.sampled_from(BEFORE), st.booleans(), st.integers(0, 9))
def test_nothing_is_fenced_before_it_is_saved(phase: str, failed: bool, tries: int) -> None:
    problem = Problem(code="workspace_unreadable", detail="") if failed else None
    op = replace(MOVE, phase=phase, problem=problem, tries=tries)
    assert not isinstance(decide(op), Fence)
    assert isinstance(decide(replace(op, discard=True)), Fence), "unless its user says that it may be lost"


def test_a_host_that_was_silent_already_is_left_as_in_any_death() -> None:
    assert isinstance(decide(replace(MOVE, snapshot_first=False), replace(MACHINE, operation_id=None)), Fence)


def test_a_machine_that_counts_as_stateless_is_saved_too_while_it_lives() -> None:
    stateless = replace(MACHINE, spec=replace(SPEC, stateless=True))
    assert isinstance(decide(machine=stateless), InspectWorkspace)


@pytest.mark.parametrize("phase", [snapshots.COPY, snapshots.COPYING, snapshots.VERIFYING])
def test_a_host_that_does_not_answer_is_not_waited_for(phase: str) -> None:
    assert isinstance(decide(replace(MOVE, phase=phase, tries=moving.SAVE_TRIES)), GiveUp)


def test_what_keeps_it_from_being_saved_ends_it_and_it_gives_way_to_who_holds_the_machine() -> None:
    assert isinstance(decide(replace(MOVE, problem=Problem(code="snapshot_incomplete", detail=""))), Finish)
    assert isinstance(decide(machine=replace(MACHINE, operation_id="op-2")), Abandon)
    assert isinstance(decide(machine=replace(MACHINE, epoch=2)), Abandon)


def test_one_that_was_empty_is_built_anew_and_does_not_wait_for_its_old_host() -> None:
    lost = rental(id="i-1", state=InstanceState.LOST, next_check_at=NOW + 60, operation_id="op-1")
    over = replace(MOVE, phase=provisioning.RACE, epoch=2)
    machine = replace(MACHINE, epoch=2, state=MachineState.FAILING_OVER, instance_id=None)
    assert failover.decide(replace(over, found_empty=True), machine, [lost], NOW) == Try("cold")
    assert failover.decide(over, machine, [lost], NOW) == Try("hold"), "what nobody looked at may hold files"


def test_that_it_was_empty_is_believed_for_a_moment_only() -> None:
    """Between the look and the fence whoever looked may have died, and somebody may have put files there."""

    def looked(at: float) -> Operation:
        step = Step(name=moving.LOOK, started_at=at - 1, ended_at=at)
        return replace(MOVE, phase=CHECKED, found_empty=True, steps=(step,))

    assert isinstance(decide(looked(NOW - 1)), Fence)
    late = looked(NOW - 60)
    assert isinstance(decide(late), InspectWorkspace)
    assert decide(replace(late, not_before=NOW + 1)) == Wait(NOW + 1)
    assert isinstance(decide(replace(late, discard=True)), Fence)
    unreadable = Problem(code="workspace_unreadable", detail="")
    assert isinstance(decide(replace(late, problem=unreadable)), Finish)


def test_where_there_is_nowhere_to_move_to_it_goes_on_where_it_was() -> None:
    lost = rental(id="i-1", state=InstanceState.LOST, returned_at=NOW - 1, next_check_at=NOW + 60, operation_id="op-1")
    over = replace(MOVE, phase=provisioning.RACE, epoch=2, tried=("cold",), tried_since=START - 1e6, snapshot_id="s-1")
    machine = replace(MACHINE, epoch=2, state=MachineState.FAILING_OVER, instance_id=None)
    action = failover.decide(over, machine, [lost], NOW)
    assert isinstance(action, TakeBack)
    assert action.problem is not None
    silent = replace(lost, returned_at=None)
    assert isinstance(failover.decide(over, machine, [silent], NOW), GiveUp)


def test_what_is_handed_over_once_the_race_is_over_is_let_go() -> None:
    """A spare that came late would bill, and nobody would wait for it (invariant 2)."""
    late = rental(id="i-2", state=InstanceState.CREATED, operation_id="op-1", next_check_at=NOW)
    over = replace(MOVE, phase=provisioning.RELEASE, epoch=2)
    machine = replace(MACHINE, epoch=2, operation_id=None)
    assert failover.decide(over, machine, [late], NOW) == Dismiss("i-2")
    held = replace(machine, spare_instance_id="i-2")
    assert isinstance(failover.decide(over, held, [late], NOW), Finish), "unless it is the machine's"
