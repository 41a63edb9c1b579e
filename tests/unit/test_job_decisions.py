"""Jobs decide purely: what is unknown ends nothing, nothing goes before it is saved, and each job comes to an end."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from dumont.domain import finishing, jobs, snapshots
from dumont.domain.actions import Abandon, BeginDestroy, Finish, PollEngine, ReadLog, Release, StartEngine, Wait
from dumont.domain.destruction import CHECKED, RELEASE
from dumont.domain.heartbeats import Heartbeat, WorkloadSeen, reply
from dumont.domain.jobs import Conclude, Ending, Job, JobState, LetGo, Rest, RunAgain, Save, Stop
from dumont.domain.records import (
    Instance,
    InstanceState,
    Machine,
    MachineSpec,
    MachineState,
    Operation,
    OperationKind,
    Problem,
)
from tests.contract.stores import instance

NOW = 1_000_000.0
times = st.floats(min_value=NOW - 9000, max_value=NOW + 9000)
SPEC = jobs.spec_of(MachineSpec(gpu="RTX 4090"), "train", 0)
OPEN_JOB = Job(id="job-1", machine="ada", command="train", created_at=NOW - 100, time_up_at=NOW + 86_400)
MACHINE = Machine(
    id="ada", spec=SPEC, state=MachineState.RUNNING, epoch=1, created_at=NOW - 100, updated_at=NOW - 50,
    instance_id="i-1", job_id="job-1",
)  # fmt: skip
BEAT = Heartbeat(id="i-1", machine="ada", epoch=1, received_at=NOW - 1, sequence=9)

workloads = st.builds(
    WorkloadSeen,
    state=st.sampled_from(["none", "starting", "running", "healthy", "unhealthy", "stopped", "exited", "nonsense"]),
    restarts=st.integers(-3, 5),
    exit_status=st.none() | st.integers(-1, 255),
)
beats = st.none() | st.builds(
    Heartbeat, id=st.sampled_from(["i-1", "i-2"]), machine=st.just("ada"), epoch=st.integers(1, 3), received_at=times,
    sequence=st.integers(-1, 9), workload=workloads, waits_since=st.none() | times,
)  # fmt: skip
open_jobs = st.builds(
    Job, id=st.just("job-1"), machine=st.just("ada"), command=st.just("train"), created_at=times, time_up_at=times,
    state=st.sampled_from([JobState.PENDING, JobState.RUNNING, JobState.SAVING]), retries=st.integers(0, 3),
    ending=st.sampled_from([e for e in Ending if e is not Ending.ASLEEP]), ending_since=times, epoch=st.integers(0, 3),
    exit_status=st.none() | st.integers(0, 255), save_after=times, attempts=st.integers(0, 9),
    operation_id=st.sampled_from([None, "op-1"]),
)  # fmt: skip
machines = st.none() | st.builds(
    Machine, id=st.just("ada"), spec=st.just(SPEC), epoch=st.integers(1, 3), created_at=times, updated_at=times,
    state=st.sampled_from(tuple(MachineState)), instance_id=st.sampled_from(["i-1", None]),
    job_id=st.sampled_from(["job-1", "job-1", "job-1", "job-2", None]), operation_id=st.sampled_from(["op-1", None]),
)  # fmt: skip
holders = st.none() | st.builds(
    Operation, id=st.sampled_from(["op-1", "op-2"]), kind=st.sampled_from(tuple(OperationKind)), machine=st.just("ada"),
    epoch=st.just(1), created_at=times, updated_at=times,
)  # fmt: skip


def said(status: int | None, *, restarts: int = 0, **more: object) -> Heartbeat:
    beat = replace(BEAT, workload=WorkloadSeen(state="exited", exit_status=status, restarts=restarts))
    return replace(beat, **more)


# --- When a command is over ---------------------------------------------------------------------------------------


@given(open_jobs, machines, holders, beats, times)
def test_only_a_heard_exit_status_of_this_epoch_is_an_end(
    job: Job, machine: Machine | None, held: Operation | None, beat: Heartbeat | None, now: float
) -> None:
    assume(job.ending is Ending.NONE)
    action = jobs.decide(job, machine, held, beat, now)
    if isinstance(action, Save) and action.ending is Ending.EXITED:
        assert machine is not None
        assert beat is not None
        assert machine.state is MachineState.RUNNING
        assert (beat.id, beat.epoch, beat.workload.state) == (machine.instance_id, machine.epoch, "exited")
        assert action.exit_status == beat.workload.exit_status is not None
        assert action.exit_status == 0 or beat.workload.restarts >= job.retries


@pytest.mark.parametrize(
    "beat",
    [
        None,
        replace(BEAT, workload=WorkloadSeen(state="running")),
        replace(BEAT, workload=WorkloadSeen(state="stopped", exit_status=143)),
        said(None),
        said(0, id="i-2"),
        said(0, epoch=2),
        said(0, sequence=-1),
        said(0, waits_since=NOW - 5),
    ],
)
def test_what_is_unknown_is_not_finished(beat: Heartbeat | None) -> None:
    assert isinstance(jobs.decide(OPEN_JOB, MACHINE, None, beat, NOW), Rest)


def test_a_command_that_failed_is_over_once_its_host_has_run_it_again_as_often_as_it_may() -> None:
    job = replace(OPEN_JOB, retries=2)
    assert isinstance(jobs.decide(job, MACHINE, None, said(3, restarts=1), NOW), Rest)
    assert jobs.decide(job, MACHINE, None, said(3, restarts=2), NOW) == Save(Ending.EXITED, 3)
    assert jobs.decide(job, MACHINE, None, said(0, restarts=0), NOW) == Save(Ending.EXITED, 0)


def test_one_that_ended_as_its_time_ran_out_has_ended_by_itself() -> None:
    late = replace(OPEN_JOB, time_up_at=NOW - 1)
    assert jobs.decide(late, MACHINE, None, said(0), NOW) == Save(Ending.EXITED, 0)
    assert jobs.decide(late, MACHINE, None, BEAT, NOW) == Stop(Ending.TIMED_OUT)


# --- What may be given up -----------------------------------------------------------------------------------------


@given(open_jobs, machines, holders, beats, times)
def test_a_save_takes_the_machine_from_nobody_who_changes_it(
    job: Job, machine: Machine | None, held: Operation | None, beat: Heartbeat | None, now: float
) -> None:
    action = jobs.decide(job, machine, held, beat, now)
    if isinstance(action, Save) and held is not None and machine is not None:
        gives_way = (OperationKind.SNAPSHOT, OperationKind.VERIFY, OperationKind.DIFF)
        assert machine.state is MachineState.HIBERNATED or held.kind in gives_way


@given(open_jobs, machines, holders, beats, times)
def test_a_job_lets_go_unsaved_only_what_never_ran_and_leaves_a_machine_only_when_patience_is_over(
    job: Job, machine: Machine | None, held: Operation | None, beat: Heartbeat | None, now: float
) -> None:
    action = jobs.decide(job, machine, held, beat, now)
    if isinstance(action, LetGo):
        assert machine is not None
        assert machine.state in (MachineState.REQUESTED, MachineState.PROVISIONING)
        assert job.ending is not Ending.NONE
    if isinstance(action, Conclude) and action.kept:
        assert job.ending_since is not None
        assert now >= job.ending_since + jobs.PATIENCE_SECONDS
    if isinstance(action, Rest):
        assert action.until > now or action.until == job.save_after
    if isinstance(action, RunAgain):
        assert machine is not None
        assert job.ending is Ending.EXITED
        assert machine.epoch != job.epoch


@given(open_jobs, machines, beats, times)
def test_a_machine_that_is_gone_or_anothers_ends_its_job(
    job: Job, machine: Machine | None, beat: Heartbeat | None, now: float
) -> None:
    action = jobs.decide(job, machine, None, beat, now)
    lost = machine is None or machine.job_id != job.id or machine.state in (MachineState.DESTROYED, MachineState.FAILED)
    if lost:
        assert isinstance(action, Conclude)


def test_a_host_that_dies_before_the_outputs_are_saved_has_its_command_run_again_elsewhere() -> None:
    saving = replace(OPEN_JOB, state=JobState.SAVING, ending=Ending.EXITED, exit_status=0, epoch=1, ending_since=NOW)
    moved = replace(MACHINE, epoch=2, workload_held=True)
    assert jobs.decide(saving, moved, None, None, NOW) == RunAgain()
    cancelled = replace(saving, ending=Ending.CANCELLED)
    assert isinstance(jobs.decide(cancelled, moved, None, None, NOW), Save)


def test_a_save_that_failed_is_tried_again_ever_more_seldom_and_not_for_ever() -> None:
    saving = replace(OPEN_JOB, state=JobState.SAVING, ending=Ending.EXITED, exit_status=0, epoch=1, ending_since=NOW)
    assert jobs.decide(replace(saving, save_after=NOW + 9), MACHINE, None, BEAT, NOW) == Rest(NOW + 9)
    assert isinstance(jobs.decide(saving, MACHINE, None, BEAT, NOW), Save)
    over = jobs.decide(saving, MACHINE, None, BEAT, NOW + jobs.PATIENCE_SECONDS)
    assert isinstance(over, Conclude)
    assert over.kept
    waits = [jobs.save_again_seconds(n) for n in range(12)]
    assert waits == sorted(waits)
    assert waits[-1] == jobs.SAVE_AGAIN_SECONDS_MOST


# --- The saving ---------------------------------------------------------------------------------------------------

PHASES = (
    finishing.STOPPING, finishing.LOG, snapshots.COPY, snapshots.COPYING, snapshots.VERIFYING, snapshots.DONE, CHECKED,
    RELEASE,
)  # fmt: skip
finishes = st.builds(
    Operation, id=st.just("op-1"), kind=st.just(OperationKind.FINISH), machine=st.just("ada"), epoch=st.just(1),
    created_at=times, updated_at=times, phase=st.sampled_from(PHASES), not_before=times, tries=st.integers(0, 9),
    problem=st.none() | st.just(Problem(code="x", detail="y")),
)  # fmt: skip
releasing = st.lists(
    st.sampled_from([InstanceState.RELEASING, InstanceState.GONE]).map(
        lambda state: instance("i", state=state, open=state is not InstanceState.GONE, provider_instance_id="1")
    ),
    max_size=2,
)


@given(finishes, machines, releasing, times)
def test_a_host_is_let_go_only_after_the_check_and_only_by_who_holds_the_machine(
    op: Operation, machine: Machine | None, held: list[Instance], now: float
) -> None:
    action = finishing.decide(op, machine, held, now)
    if op.phase == RELEASE:
        assert isinstance(action, Release | Wait | Finish)
    elif machine is None or machine.operation_id != op.id or machine.epoch != op.epoch:
        assert isinstance(action, Abandon)
    elif isinstance(action, BeginDestroy):
        assert op.phase == CHECKED
        assert op.problem is None
    elif isinstance(action, StartEngine | PollEngine | ReadLog):
        assert machine.state is MachineState.RUNNING


@given(finishes, beats)
def test_the_workload_is_at_rest_only_by_what_was_heard_since_it_is_held(op: Operation, beat: Heartbeat | None) -> None:
    if jobs.at_rest(op, MACHINE, beat):
        assert beat is not None
        assert beat.received_at > op.created_at
        assert beat.workload.state in ("stopped", "exited", "none")


def test_a_new_agent_that_knows_of_no_workload_is_believed_only_once_it_has_ended_what_was_left() -> None:
    op = Operation(id="op-1", kind=OperationKind.FINISH, machine="ada", epoch=1, created_at=NOW, updated_at=NOW)
    fresh = replace(BEAT, received_at=NOW + 30, sequence=0)
    assert not jobs.at_rest(op, MACHINE, fresh)
    assert jobs.at_rest(op, MACHINE, replace(fresh, sequence=3))


def test_a_held_workload_is_not_to_run_on_a_host_that_serves() -> None:
    assert reply(MACHINE, None, instance_id="i-1", epoch=1).workload is not None
    held = reply(replace(MACHINE, workload_held=True), None, instance_id="i-1", epoch=1)
    assert (held.state, held.workload) == ("serve", None)


# --- Its record ---------------------------------------------------------------------------------------------------


def test_attempts_are_counted_on_each_host_and_each_time_it_was_run_again_there() -> None:
    job = replace(OPEN_JOB, retries=2)
    job = jobs.observed(job, MACHINE, None, NOW)
    assert (job.state, job.attempts, job.started_at) == (JobState.RUNNING, 1, NOW)
    job = jobs.observed(job, MACHINE, said(1, restarts=1), NOW + 5)
    assert (job.attempts, job.started_at) == (2, NOW)
    moving = replace(MACHINE, state=MachineState.FAILING_OVER, epoch=2, instance_id=None)
    assert jobs.observed(job, moving, None, NOW + 9) == job
    there = replace(MACHINE, epoch=2, instance_id="i-2")
    job = jobs.observed(job, there, None, NOW + 20)
    assert job.attempts == 3
    assert jobs.observed(job, there, said(1, restarts=999, id="i-2", epoch=2), NOW + 30).attempts == 5


@pytest.mark.parametrize(
    ("ending", "exit_status", "problem", "state", "code"),
    [
        (Ending.EXITED, 0, None, JobState.SUCCEEDED, None),
        (Ending.EXITED, 3, None, JobState.FAILED, "exit_status"),
        (Ending.EXITED, 0, jobs.DESTROYED, JobState.FAILED, "machine_destroyed"),
        (Ending.TIMED_OUT, None, None, JobState.FAILED, "timed_out"),
        (Ending.TIMED_OUT, None, jobs.DESTROYED, JobState.FAILED, "timed_out"),
        (Ending.CANCELLED, None, None, JobState.CANCELLED, None),
        (Ending.CANCELLED, None, jobs.DESTROYED, JobState.CANCELLED, None),
        (Ending.ASLEEP, None, None, JobState.FAILED, "put_to_sleep"),
        (Ending.BUDGET, None, None, JobState.FAILED, "budget_reached"),
        (Ending.NONE, None, jobs.DESTROYED, JobState.FAILED, "machine_destroyed"),
        (Ending.NONE, None, Problem(code="no_machine_proved", detail="d"), JobState.FAILED, "no_machine_proved"),
    ],
)
def test_how_a_job_ended_is_said_as_it_was(
    ending: Ending, exit_status: int | None, problem: Problem | None, state: JobState, code: str | None
) -> None:
    job = replace(OPEN_JOB, ending=ending, exit_status=exit_status)
    end = jobs.concluded(job, NOW, problem=problem, kept=False, snapshot_id="snap-1", cost_usd=0.5)
    assert (end.state, end.problem.code if end.problem is not None else None) == (state, code)
    assert (end.ended, end.deadline, end.ended_at, end.result_snapshot_id) == (True, None, NOW, "snap-1")


@pytest.mark.parametrize("ending", [Ending.EXITED, Ending.CANCELLED, Ending.TIMED_OUT])
def test_outputs_that_could_not_be_saved_are_no_success_and_the_machine_that_has_them_is_named(ending: Ending) -> None:
    job = replace(OPEN_JOB, ending=ending, exit_status=0)
    end = jobs.concluded(job, NOW, problem=jobs.not_saved(job), kept=True, snapshot_id=None, cost_usd=0.5)
    assert end.state is JobState.FAILED
    assert end.machine_kept
    assert end.problem is not None
    assert "STILL BILLS" in end.problem.safe
    assert "dumont down ada --snapshot" in end.problem.hint


def test_a_job_s_machine_runs_its_command_to_its_end_and_never_sleeps_by_itself() -> None:
    wish = MachineSpec(gpu="RTX 4090", idle_after_minutes=5, sleep_at=("daily 22:00",))
    spec = jobs.spec_of(wish, "train", 0)
    assert (spec.run, spec.restart, spec.stateless) == ("train", "never", True)
    assert spec.idle_after_minutes is None
    assert spec.sleep_at == ()
    assert (jobs.spec_of(wish, "train", 2).restart, jobs.spec_of(wish, "train", 2).max_restarts) == ("on-failure", 2)
