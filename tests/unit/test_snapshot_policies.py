"""Which snapshots stay, which is restored, when the next is due, and what may not be lost: pure decisions."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.domain import destruction, snapshots, unsaved
from dumont.domain.actions import Abandon, BeginDestroy, Finish, GiveUp, InspectWorkspace, PollEngine, StartEngine, Wait
from dumont.domain.records import Machine, MachineSpec, MachineState, Operation, OperationKind, Problem
from dumont.domain.snapshots import Pack, Retention, Snapshot, SnapshotState

NOW = 1_000_000.0
DAY = 86400.0
DAMAGED = Problem(code="damaged", detail="…")


def taken(name: str, at: float, **fields: Any) -> Snapshot:
    known: dict[str, Any] = {"machine": "ada", "epoch": 1, "operation_id": "op-0", "state": SnapshotState.COMPLETE}
    return Snapshot(id=name, created_at=at, **{**known, **fields})


def machine(**fields: Any) -> Machine:
    spec = MachineSpec(snapshot_every_minutes=60.0, **fields.pop("spec", {}))
    known: dict[str, Any] = {"state": MachineState.RUNNING, "epoch": 1, "created_at": NOW, "updated_at": NOW}
    known |= {"running_since": NOW, "instance_id": "i", "operation_id": "op-1"}
    return Machine(id="ada", spec=spec, **{**known, **fields})


def operation(kind: OperationKind = OperationKind.DESTROY, **fields: Any) -> Operation:
    return Operation(id="op-1", kind=kind, machine="ada", epoch=1, created_at=NOW, updated_at=NOW, **fields)


SNAPSHOTS = st.lists(
    st.builds(
        taken,
        name=st.uuids().map(str),
        at=st.floats(NOW - 30 * DAY, NOW),
        state=st.sampled_from(SnapshotState),
        keep=st.booleans(),
        problem=st.none() | st.just(DAMAGED),
    ),
    max_size=30,
)


# --- Which stay, and which is taken -----------------------------------------------------------------------------------


@given(SNAPSHOTS, st.builds(Retention, last=st.integers(0, 3), hourly=st.integers(0, 3), daily=st.integers(0, 3)))
def test_retention_never_lets_the_newest_good_one_go(known: list[Snapshot], policy: Retention) -> None:
    going = snapshots.let_go(known, policy)
    complete = [s for s in known if s.state is SnapshotState.COMPLETE]
    if complete:
        assert max(complete, key=lambda s: s.created_at) not in going
    assert snapshots.newest_good(known) not in going
    assert not [s for s in going if s.state is SnapshotState.TAKING or (s.keep and s.restorable)]


def test_how_many_stay_is_its_users_word() -> None:
    hours = [taken(f"h{hour}", NOW - hour * 3600.0) for hour in range(6)]
    usual = snapshots.retention(MachineSpec())
    assert (usual.last, usual.hourly, usual.daily) == (3, 24, 7)
    assert snapshots.let_go(hours, usual) == []
    few = snapshots.retention(MachineSpec(keep_last=1, keep_hourly=2, keep_daily=0))
    assert [s.id for s in snapshots.let_go(hours, few)] == ["h5", "h4", "h3", "h2"]


@given(SNAPSHOTS)
def test_a_whole_snapshot_is_preferred_to_a_damaged_one_and_a_complete_one_to_an_incomplete(
    known: list[Snapshot],
) -> None:
    ordered = snapshots.by_preference(known)
    assert {s.id for s in ordered} == {s.id for s in known if s.restorable}
    good = snapshots.newest_good(known)
    if good is not None:
        assert ordered[0] == good
    assert [s.problem is None for s in ordered] == sorted((s.problem is None for s in ordered), reverse=True)


@given(SNAPSHOTS)
def test_what_a_damaged_snapshot_needs_is_no_garbage(known: list[Snapshot]) -> None:
    packed = [msgspec.structs.replace(s, packs=(Pack(f"packs/{s.id}", 1, "m"),)) for s in known]
    gone = snapshots.garbage({f"packs/{s.id}": 0.0 for s in known}, packed, NOW, grace_seconds=3600.0)
    if any(s.state is SnapshotState.TAKING for s in known):
        assert gone == []
    else:
        assert set(gone) == {f"packs/{s.id}" for s in known if not s.restorable}


# --- When the next is due ---------------------------------------------------------------------------------------------


def test_a_snapshot_is_due_so_long_after_the_last_was_begun_and_at_once_where_the_newest_is_damaged() -> None:
    first = taken("a", NOW + 100.0)
    assert snapshots.due_at(machine(), []) == NOW + 3600.0
    assert snapshots.due_at(machine(), [first]) == NOW + 3700.0
    damaged = msgspec.structs.replace(first, problem=DAMAGED, damaged_at=NOW + 500.0)
    assert snapshots.due_at(machine(), [damaged]) == NOW + 500.0
    tried = taken("b", NOW + 501.0, state=SnapshotState.FAILED)
    assert snapshots.due_at(machine(), [damaged, tried]) == NOW + 501.0 + 3600.0, "it is not tried each moment"
    older = msgspec.structs.replace(damaged, created_at=NOW - 100.0)
    assert snapshots.due_at(machine(), [older, first]) == NOW + 3700.0, "a newer one is whole"


def test_hosts_that_die_more_often_than_snapshots_are_due_do_not_put_them_off_for_ever() -> None:
    saved = taken("a", NOW + 100.0)
    moved = {"epoch": 2, "running_since": NOW + 3000.0}
    assert snapshots.due_at(machine(**moved), [saved]) == NOW + 3700.0, "an hour after the last one"
    late = {"epoch": 3, "running_since": NOW + 9000.0}
    assert snapshots.due_at(machine(**late), [saved]) == NOW + 9600.0, "it is overdue, and left to begin"
    assert snapshots.due_at(machine(**late), [saved, taken("b", NOW + 9700.0, epoch=3)]) == NOW + 13_300.0
    of_an_earlier_life = taken("c", NOW - 7200.0)
    assert snapshots.due_at(machine(), [of_an_earlier_life]) == NOW + 3600.0


def test_reading_back_is_due_every_so_many_days_and_never_where_there_is_nothing_to_read() -> None:
    good = [taken("a", NOW)]
    assert snapshots.verify_due_at(machine(), []) is None
    assert snapshots.verify_due_at(machine(), [taken("a", NOW, problem=DAMAGED)]) is None
    assert snapshots.verify_due_at(machine(), good) == NOW + 7 * DAY
    assert snapshots.verify_due_at(machine(spec={"verify_every_days": 2.0}), good) == NOW + 2 * DAY
    assert snapshots.verify_due_at(machine(spec={"verify_every_days": None}), good) is None
    assert snapshots.verify_due_at(machine(verify_after=NOW + 5.0), good) == NOW + 5.0
    by_hand = msgspec.structs.replace(machine(), spec=MachineSpec())
    assert snapshots.verify_due_at(by_hand, good) is None, "only where snapshots are taken by themselves"


# --- What may not be lost ---------------------------------------------------------------------------------------------


def found(**fields: Any) -> unsaved.Unsaved:
    known = {"snapshot_id": "snap-1", "changed": 0, "added": 0, "paths": (), "unreadable": ()}
    return unsaved.Unsaved(**{**known, **fields})


@pytest.mark.parametrize("kind", [OperationKind.DESTROY, OperationKind.RESTORE])
def test_what_is_unsaved_is_refused_by_name_and_what_is_unreadable_is_not_nothing(kind: OperationKind) -> None:
    op = operation(kind)
    assert unsaved.refusal(op, found()) is None
    changed = unsaved.refusal(op, found(changed=2, paths=("a", "b")))
    assert changed is not None
    assert (changed.code, changed.detail) == ("unsaved_files", "2 files are not as snapshot snap-1 has them: a, b")
    assert "--discard" in changed.hint
    assert "dumont" in changed.hint
    unknown = unsaved.refusal(op, found(unreadable=("c",)))
    assert unknown is not None
    assert unknown.code == "workspace_unreadable", "invariant 6"
    nothing = unsaved.refusal(op, found(snapshot_id="", added=1, paths=("a",)))
    assert nothing is not None


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"snapshot_id": "s", "changed": 0, "added": 0, "paths": []},
        {"snapshot_id": "s", "changed": "0", "added": 0, "paths": [], "unreadable": []},
        {"snapshot_id": "s", "changed": None, "added": 0, "paths": [], "unreadable": []},
    ],
)
def test_an_answer_that_is_not_whole_is_not_taken_for_unchanged(answer: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        unsaved.read(answer)


PHASES = ("start", "look", "check", "checking", "copy", "copying", "verify", "checked", "of a later version")


@given(
    phase=st.sampled_from(PHASES),
    discard=st.booleans(),
    first=st.booleans(),
    problem=st.none() | st.just(DAMAGED),
    now=st.floats(NOW - 10, NOW + 7 * 3600),
    held=st.booleans(),
)
def test_a_workspace_is_destroyed_only_once_it_was_looked_at_or_let_go(
    phase: str, discard: bool, first: bool, problem: Problem | None, now: float, held: bool
) -> None:
    """Invariant 4."""
    op = operation(phase=phase, discard=discard, snapshot_first=first, problem=problem, not_before=NOW)
    action = destruction.decide(op, machine(operation_id="op-1" if held else "op-2"), [], now)
    if not held:
        assert action == Abandon()
    elif isinstance(action, BeginDestroy):
        assert discard or (phase == "checked" and problem is None)
    elif problem is not None:
        assert action == Finish()
    else:
        assert isinstance(action, Wait | InspectWorkspace | StartEngine | PollEngine | GiveUp) or phase == "verify"


def test_a_restore_looks_before_it_replaces_anything() -> None:
    op = operation(OperationKind.RESTORE, phase=snapshots.LOOKING)
    assert snapshots.decide(op, machine(), NOW) == InspectWorkspace("i")
    checking = msgspec.structs.replace(op, phase=snapshots.CHECK)
    assert snapshots.decide(checking, machine(), NOW) == StartEngine()
    assert snapshots.engine_action(checking) == "status"
    assert snapshots.engine_action(msgspec.structs.replace(op, phase=snapshots.STARTING)) == "restore"
    assert snapshots.engine_action(operation(phase=snapshots.COPYING)) == "snapshot"
