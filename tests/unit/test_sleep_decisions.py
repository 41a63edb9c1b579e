"""Hibernate and wake decide purely: nothing is let go before it is saved; who cannot be woken sleeps on as before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dumont.domain import failover, hibernation, provisioning, snapshots
from dumont.domain.actions import (
    Abandon,
    AwaitStop,
    Dismiss,
    FallAsleep,
    Fence,
    Finish,
    GiveUp,
    Pause,
    PollEngine,
    Release,
    Rent,
    Start,
    StartEngine,
    Stop,
    TakeBack,
    Try,
    VerifySnapshot,
    Wait,
    Win,
)
from dumont.domain.destruction import CHECKED, RELEASE
from dumont.domain.offers import Offer
from dumont.domain.records import (
    KEPT_DISK,
    Instance,
    InstanceState,
    Machine,
    MachineSpec,
    MachineState,
    Operation,
    OperationKind,
    Problem,
)

NOW = 1_000_000.0
times = st.floats(min_value=NOW - 5000, max_value=NOW + 5000)
OFFER = Offer(provider="vast", id="1", gpu="RTX 4090", gpu_usd_per_hour=0.17, storage_usd_per_gb_hour=0.0001)
PROBLEM = Problem(code="x", detail="y")
COPYING = (snapshots.COPY, snapshots.COPYING, snapshots.VERIFYING)
ASLEEP_PHASES = (CHECKED, hibernation.PAUSING, RELEASE)
PHASES = (hibernation.STOPPING, *COPYING, *ASLEEP_PHASES)
problems = st.none() | st.just(PROBLEM)

operations = st.builds(
    Operation, id=st.just("op-1"), kind=st.just(OperationKind.HIBERNATE), machine=st.just("ada"), epoch=st.just(1),
    created_at=times, updated_at=times, phase=st.sampled_from(PHASES), not_before=times, tries=st.integers(0, 9),
    tried_since=st.just(0.0) | times, tier=st.sampled_from([hibernation.PAUSE, hibernation.HIBERNATE]),
    problem=problems,
)  # fmt: skip
machines = st.builds(
    Machine, id=st.just("ada"), epoch=st.integers(1, 2), created_at=times, updated_at=times,
    state=st.sampled_from(tuple(MachineState)), operation_id=st.sampled_from(["op-1", "op-2", None]),
    instance_id=st.sampled_from(["label-0", None]), paused_instance_id=st.sampled_from(["label-0", None]),
    spec=st.just(MachineSpec(gpu="RTX 4090", heartbeat_seconds=5.0)),
)  # fmt: skip


def instance(number: int, state: InstanceState, **more: object) -> Instance:
    known = state is not InstanceState.INTENDED
    made = Instance(
        id=f"label-{number}", machine="ada", epoch=1, rented_by="op-1", operation_id="op-1", provider="vast",
        offer=OFFER, disk_gb=20, state=state, open=state is not InstanceState.GONE, intended_at=NOW - 100,
        provider_instance_id=str(number) if known else None, created_at=NOW - 99 if known else None, keys_attached=True,
    )  # fmt: skip
    return replace(made, **more)


@st.composite
def books(draw: st.DrawFn, states: tuple[InstanceState, ...] = tuple(InstanceState)) -> list[Instance]:
    return [
        instance(number, draw(st.sampled_from(states)), next_check_at=draw(times), tries=draw(st.integers(0, 9)))
        for number in range(draw(st.integers(0, 3)))
    ]


# --- To sleep -----------------------------------------------------------------------------------------------------


@given(operations, st.none() | machines, books())
def test_a_hibernation_always_knows_what_to_do_next(
    op: Operation, machine: Machine | None, known: list[Instance]
) -> None:
    action = hibernation.decide(op, machine, known, NOW)
    if isinstance(action, Wait):
        assert action.until > NOW, "a wait that is over at once would be a busy loop"


@given(operations, machines, books())
def test_nothing_is_let_go_before_its_snapshot_is_verified(
    op: Operation, machine: Machine, known: list[Instance]
) -> None:
    """Invariant 4: the phase after the verification is the only way to a stop or a release."""
    action = hibernation.decide(op, machine, known, NOW)
    if op.phase not in ASLEEP_PHASES:
        assert isinstance(
            action, AwaitStop | StartEngine | PollEngine | VerifySnapshot | Wait | GiveUp | Finish | Abandon
        )
    if isinstance(action, Pause | FallAsleep):
        assert op.phase in (CHECKED, hibernation.PAUSING)
        assert op.problem is None
        assert (machine.operation_id, machine.epoch) == (op.id, op.epoch)
        assert machine.state is MachineState.HIBERNATING


@given(operations, machines, books())
def test_whatever_fails_before_that_leaves_the_machine_awake(
    op: Operation, machine: Machine, known: list[Instance]
) -> None:
    mine = replace(machine, operation_id=op.id, epoch=op.epoch, state=MachineState.HIBERNATING, instance_id="label-0")
    if op.phase != RELEASE:
        assert hibernation.decide(replace(op, problem=PROBLEM), mine, known, NOW) == Finish()


@given(operations, machines, books())
def test_a_hibernation_that_lost_its_machine_touches_nothing(
    op: Operation, machine: Machine, known: list[Instance]
) -> None:
    if op.phase != RELEASE and (machine.operation_id != op.id or machine.epoch != op.epoch):
        assert hibernation.decide(op, machine, known, NOW) == Abandon()


@given(operations, machines, books())
def test_the_paused_instance_is_never_released(op: Operation, machine: Machine, known: list[Instance]) -> None:
    action = hibernation.decide(replace(op, phase=RELEASE), machine, known, NOW)
    if isinstance(action, Release):
        assert action.instance_id != machine.paused_instance_id
    if isinstance(action, Finish):
        assert all(i.state is InstanceState.GONE for i in known if i.id != machine.paused_instance_id)


@given(operations, st.floats(0.01, 1000))
def test_a_pause_that_takes_too_long_or_meets_a_silent_provider_becomes_a_hibernation(
    op: Operation, seconds: float
) -> None:
    machine = Machine(
        id="ada", epoch=1, created_at=NOW, updated_at=NOW, state=MachineState.HIBERNATING, operation_id="op-1",
        instance_id="label-0", spec=MachineSpec(gpu="RTX 4090"),
    )  # fmt: skip
    asked = replace(op, problem=None, tier=hibernation.PAUSE, tried_since=NOW - seconds, not_before=NOW + 1.0)
    for phase in (CHECKED, hibernation.PAUSING):
        action = hibernation.decide(replace(asked, phase=phase), machine, [], NOW)
        assert action == (FallAsleep() if seconds >= hibernation.PAUSE_SECONDS else Wait(NOW + 1.0))


@given(operations, times)
def test_a_copy_that_cannot_be_begun_ends_the_attempt_soon(op: Operation, began_at: float) -> None:
    machine = Machine(
        id="ada", epoch=1, created_at=NOW, updated_at=NOW, state=MachineState.HIBERNATING, operation_id="op-1",
        instance_id="label-0", spec=MachineSpec(gpu="RTX 4090"),
    )  # fmt: skip
    op = replace(op, phase=snapshots.COPY, problem=None, created_at=began_at, steps=())
    action = hibernation.decide(op, machine, [], NOW)
    over = op.tries >= hibernation.COPY_TRIES and began_at + hibernation.COPY_SECONDS <= NOW
    assert isinstance(action, GiveUp) == over


# --- Awake again --------------------------------------------------------------------------------------------------

wakes = st.builds(
    Operation, id=st.just("op-1"), kind=st.just(OperationKind.WAKE), machine=st.just("ada"), epoch=st.just(2),
    created_at=times, updated_at=times, not_before=times, tries=st.integers(0, 9), tried_since=times, problem=problems,
    phase=st.sampled_from([provisioning.RACE, provisioning.RELEASE, provisioning.GIVE_UP]),
    suspect_instance_id=st.sampled_from(["label-0", None]), snapshot_id=st.sampled_from(["snap-1", None]),
    unrestorable=st.booleans(), tried=st.lists(st.sampled_from(["resume", "cold", "hold"]), max_size=3).map(tuple),
    candidates=st.sampled_from([(), (OFFER,)]), rounds=st.integers(0, 4),
)  # fmt: skip
wakers = st.builds(
    Machine, id=st.just("ada"), epoch=st.integers(2, 3), created_at=times, updated_at=times,
    state=st.just(MachineState.WAKING), operation_id=st.sampled_from(["op-1", "op-1", "op-2"]),
    spec=st.just(MachineSpec(gpu="RTX 4090", heartbeat_seconds=5.0)),
)  # fmt: skip


@st.composite
def kept(draw: st.DrawFn) -> Instance:
    return instance(
        0,
        draw(st.sampled_from([s for s in InstanceState if s not in (InstanceState.INTENDED, InstanceState.STOPPED)])),
        restored_snapshot_id=KEPT_DISK,
        last_status=draw(st.sampled_from(["stopped", "running", "gone", ""])),
        problem=draw(
            st.sampled_from(
                [None, failover.PAUSED, failover.STARTING, Problem(code="start_failed", detail=""),
                 Problem(code="start_refused", detail=""), Problem(code="start_too_slow", detail="")]
            )
        ),
        next_check_at=draw(times),
        returned_at=draw(st.none() | times),
        woken_at=draw(st.none() | times),
    )  # fmt: skip


@given(wakes, wakers, kept(), books())
def test_a_wake_always_knows_what_to_do_next(
    op: Operation, machine: Machine, paused: Instance, others: list[Instance]
) -> None:
    action = failover.decide(op, machine, [paused, *others[1:]], NOW)
    if isinstance(action, Wait):
        assert action.until > NOW, "a wait that is over at once would be a busy loop"
    assert not isinstance(action, Fence), "what sleeps has been fenced"


@given(wakes, wakers, kept(), books())
def test_who_cannot_be_woken_sleeps_on_with_what_was_kept(
    op: Operation, machine: Machine, paused: Instance, others: list[Instance]
) -> None:
    op = replace(op, phase=provisioning.GIVE_UP, suspect_instance_id=paused.id)
    machine = replace(machine, epoch=2, operation_id=op.id)
    action = failover.decide(op, machine, [paused, *others[1:]], NOW)
    assert isinstance(action, Release | Stop | Wait | Finish | Dismiss) or action.__class__.__name__ == "Survey"
    if isinstance(action, Dismiss):
        assert action.instance_id != paused.id
    if isinstance(action, Release):
        assert action.instance_id != paused.id or paused.state is InstanceState.RELEASING
    if isinstance(action, Finish) and paused.open and paused.state is not InstanceState.RELEASING:
        # Nothing of it bills a GPU: it was not started, or its start was refused or cancelled.
        assert paused.state is InstanceState.LOST
        assert paused.problem is None or paused.problem.code not in ("start_failed", "starting")
        assert paused.woken_at is None or (paused.problem is not None and paused.problem.code == "start_too_slow")


@given(wakes, wakers, kept(), books())
def test_only_one_way_back_serves_and_only_with_the_files(
    op: Operation, machine: Machine, paused: Instance, others: list[Instance]
) -> None:
    action = failover.decide(op, machine, [paused, *others[1:]], NOW)
    if isinstance(action, Win) and op.snapshot_id is not None:
        winner = next(i for i in [paused, *others] if i.id == action.instance_id)
        assert winner.restored_snapshot_id in (op.snapshot_id, KEPT_DISK)
    if isinstance(action, Rent | Win | Start | Stop | TakeBack | Try | Dismiss) and op.phase == provisioning.RACE:
        assert (machine.operation_id, machine.epoch) == (op.id, op.epoch)


@given(wakes, wakers, kept())
def test_a_stopped_host_is_started_before_anything_is_rented(op: Operation, machine: Machine, paused: Instance) -> None:
    op = replace(op, phase=provisioning.RACE, suspect_instance_id=paused.id, tried=(), problem=None)
    machine = replace(machine, epoch=2, operation_id=op.id)
    paused = replace(paused, state=InstanceState.LOST, last_status="stopped", problem=failover.PAUSED, returned_at=None,
                     next_check_at=NOW + 1)  # fmt: skip
    assert failover.decide(op, machine, [paused], NOW) == Try(failover.RESUME)
    began = replace(op, tried=(failover.RESUME,), tried_since=NOW)
    assert failover.decide(began, machine, [paused], NOW) == Start(paused.id)
    refused = replace(paused, problem=Problem(code="start_refused", detail=""))
    assert failover.decide(replace(began, snapshot_id="snap-1"), machine, [refused], NOW) == Try(failover.COLD)


@given(wakes, wakers, kept(), books())
def test_without_a_snapshot_nothing_is_built_anew_beside_the_kept_disk(
    op: Operation, machine: Machine, paused: Instance, others: list[Instance]
) -> None:
    op = replace(op, snapshot_id=None, unrestorable=True, discard=False)
    action = failover.decide(op, machine, [paused, *others[1:]], NOW)
    if op.tried[-1:] != (failover.COLD,):
        assert not isinstance(action, Rent)
