"""Jobs: a command that ends. A machine is rented for it, runs it, and goes once its outputs are verified. Pure.

Nobody has to stay connected: what a heartbeat or a deadline shows moves a job on. What is unknown moves nothing: a job
whose host is silent runs, until its host is confirmed dead (then it goes on from its last snapshot elsewhere), the
workload's exit status is heard, or its time is up.
"""

from __future__ import annotations

import enum
from typing import ClassVar

import msgspec
from msgspec.structs import replace

from dumont.domain.heartbeats import Heartbeat
from dumont.domain.records import (
    Machine,
    MachineSpec,
    MachineState,
    Operation,
    OperationKind,
    Problem,
    Record,
)

LOOK_SECONDS = 30.0
"""How often a job is looked at that nothing else brings to mind."""
SOON_SECONDS = 3.0
SAVE_AGAIN_SECONDS = 15.0
SAVE_AGAIN_SECONDS_MOST = 240.0
PATIENCE_SECONDS = 3600.0
"""For so long after it was to end are its outputs tried to be saved (a copy under way is waited for). Then the job has
failed, and its machine is left as it is: nothing is destroyed that is not saved."""
NEW_AGENT_SECONDS = 10.0
LOG_BYTES_MOST = 64 * 1024
HOURS_MOST = 24.0
"""What a job may take if nobody says otherwise: a command that hangs must not bill for ever."""


class JobState(enum.StrEnum):
    """A job's life. The last three are its end, which comes once."""

    PENDING = "pending"  # its machine is searched for, proved, filled
    RUNNING = "running"  # a machine has it; also while that is moved to another host
    SAVING = "saving"  # the command is over, or is being stopped; its outputs are saved, then its host goes
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDS = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class Ending(enum.StrEnum):
    """Why a job is being brought to its end."""

    NONE = ""
    EXITED = "exited"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    BUDGET = "budget"
    ASLEEP = "asleep"  # its machine was put to sleep, by a budget or by hand: saved already


class Job(Record, frozen=True, kw_only=True):
    """A command and the machine that is rented for it. `deadline` is when it must be looked at again; None once ended.

    `attempts` counts the command's starts: on each host, and each time it was run again there after it had failed.
    """

    collection: ClassVar[str] = "jobs"

    machine: str
    command: str
    state: JobState = JobState.PENDING
    created_at: float
    created_by: str = ""
    time_up_at: float
    """When its time is up, whatever it does then."""
    retries: int = 0
    """How often the command is run again, on its host, after it ended with another status than 0."""
    inputs_snapshot_id: str | None = None
    keep_machine: bool = False
    discard_outputs: bool = False
    """Nothing of its workspace is saved at the end: its user said so."""
    ending: Ending = Ending.NONE
    ending_since: float | None = None
    ended_by: str = ""
    exit_status: int | None = None
    exited_at: float | None = None
    epoch: int = 0
    """The machine's epoch in which it was last seen to be given its command."""
    attempts: int = 0
    earlier_attempts: int = 0
    started_at: float | None = None
    operation_id: str | None = None
    """The operation that saves its outputs, while there is one."""
    saves: int = 0
    """How often saving was begun since it is ending."""
    save_after: float = 0.0
    result_snapshot_id: str | None = None
    machine_kept: bool = False
    cost_usd: float | None = None
    """Of all rentals of its machine, at its end."""
    problem: Problem | None = None
    ended_at: float | None = None
    deadline: float | None = None
    shard: int = 0

    @property
    def ended(self) -> bool:
        """Whether it has come to its end."""
        return self.state in ENDS


class JobLog(Record, frozen=True, kw_only=True):
    """The end of what a job's command wrote on its last host, at most `LOG_BYTES_MOST`; `id` is the job's."""

    collection: ClassVar[str] = "joblogs"

    text: str
    read_at: float
    instance_id: str | None = None
    file_bytes: int = 0
    """How long the host's log file was then: what came before is not here."""


def spec_of(spec: MachineSpec, command: str, retries: int) -> MachineSpec:
    """The machine for a job: it runs the command until that ends, and no policy puts it to sleep meanwhile.

    `stateless`: a host that dies before the first snapshot loses only what can be done again.
    """
    return replace(
        spec,
        run=command,
        restart="on-failure" if retries else "never",
        max_restarts=retries,
        stateless=True,
        idle_after_minutes=None,
        wake_at=(),
        sleep_at=(),
    )


# --- What is seen -------------------------------------------------------------------------------------------------


def heard(machine: Machine, beat: Heartbeat | None) -> Heartbeat | None:
    """The last word of the host that serves, if it has said anything since it does."""
    if beat is None or beat.sequence < 0 or beat.id != machine.instance_id or beat.epoch != machine.epoch:
        return None
    return beat if beat.waits_since is None else None


def final_exit(job: Job, machine: Machine, beat: Heartbeat | None) -> int | None:
    """The status with which the command ended for good; None while it runs, is run again, or nobody knows."""
    said = heard(machine, beat)
    if said is None or said.workload.state != "exited" or said.workload.exit_status is None:
        return None
    status = said.workload.exit_status
    return status if status == 0 or said.workload.restarts >= job.retries else None


def observed(job: Job, machine: Machine | None, beat: Heartbeat | None, now: float) -> Job:
    """The job with what its machine shows of its attempts."""
    if machine is None or machine.state is not MachineState.RUNNING or job.ended or job.ending is not Ending.NONE:
        return job
    if machine.epoch != job.epoch:
        job = replace(
            job,
            state=JobState.RUNNING,
            epoch=machine.epoch,
            earlier_attempts=job.attempts,
            attempts=job.attempts + 1,
            started_at=job.started_at if job.started_at is not None else now,
        )
    said = heard(machine, beat)
    again = min(max(0, said.workload.restarts), job.retries) if said is not None else 0
    return replace(job, attempts=max(job.attempts, job.earlier_attempts + 1 + again))


def at_rest(op: Operation, machine: Machine, beat: Heartbeat | None) -> bool:
    """Whether the agent has said, since the operation began to hold the workload, that nothing of it runs."""
    if beat is None or beat.sequence < 0 or beat.received_at <= op.created_at:
        return False
    if beat.workload.state == "none":
        # An agent that was started anew knows of no workload, and ends what its predecessor left within some seconds.
        up_seconds = beat.sequence * machine.spec.heartbeat_seconds
        return min(up_seconds, beat.received_at - op.created_at) >= NEW_AGENT_SECONDS
    return beat.workload.state in ("stopped", "exited")


# --- What to do next ----------------------------------------------------------------------------------------------


class Rest(msgspec.Struct, frozen=True):
    """Nothing to do before then."""

    until: float


class Stop(msgspec.Struct, frozen=True):
    """Bring it to its end: from here on its command is not to run."""

    ending: Ending


class Save(msgspec.Struct, frozen=True):
    """Begin the operation that saves its outputs and lets its host go."""

    ending: Ending
    exit_status: int | None = None


class RunAgain(msgspec.Struct, frozen=True):
    """Its host died before its outputs were saved: the command goes on from the last snapshot."""


class LetGo(msgspec.Struct, frozen=True):
    """Its command was never given to a host: take the machine down."""


class Conclude(msgspec.Struct, frozen=True):
    """It has ended: `kept` is whether its machine is left as it is."""

    problem: Problem | None = None
    kept: bool = False


JobAction = Rest | Stop | Save | RunAgain | LetGo | Conclude

_GIVES_WAY = (OperationKind.SNAPSHOT, OperationKind.VERIFY, OperationKind.DIFF)
GONE = Problem(code="machine_gone", detail="its machine is not there any more")
DESTROYED = Problem(
    code="machine_destroyed",
    detail="its machine was destroyed before its command had ended",
    hint="its snapshots are kept",
)
ASLEEP = Problem(
    code="put_to_sleep",
    detail="its machine was put to sleep, by a budget or by hand, before its command had ended",
    hint="its files were saved then: go on from them with --from",
)


BUDGET = Problem(
    code="budget_reached",
    detail="it was stopped: a budget was reached before its command had ended",
    safe="What it had written was saved then.",
    hint="go on from its outputs with --from, and a larger budget",
)


def decide(job: Job, machine: Machine | None, held: Operation | None, beat: Heartbeat | None, now: float) -> JobAction:
    """The next action. `held` is the open operation that holds the machine, `beat` its host's last heartbeat."""
    if machine is None or machine.job_id != job.id:
        return Conclude(GONE)
    if machine.state is MachineState.DESTROYED:
        return Conclude(DESTROYED)
    if machine.state is MachineState.FAILED:
        return Conclude(machine.failure or GONE)
    if job.ending is Ending.NONE and machine.state is MachineState.RUNNING:
        status = final_exit(job, machine, beat)
        if status is not None:  # also where its time was up just then
            return _save(Save(Ending.EXITED, status), held, now)
    if job.ending is Ending.NONE and now >= job.time_up_at:
        return Stop(Ending.TIMED_OUT)
    if machine.state in (MachineState.REQUESTED, MachineState.PROVISIONING) and job.ending is not Ending.NONE:
        return LetGo() if held is None or held.kind is OperationKind.PROVISION else Rest(now + SOON_SECONDS)
    if machine.state is MachineState.HIBERNATED:
        return Save(job.ending if job.ending is not Ending.NONE else Ending.ASLEEP, job.exit_status)
    saving = held is not None and held.id == job.operation_id
    moving = machine.state in (MachineState.DESTROYING, MachineState.HIBERNATING, MachineState.WAKING)
    if job.ending is Ending.NONE or saving or moving:
        until = now + LOOK_SECONDS
        return Rest(min(until, max(now + SOON_SECONDS, job.time_up_at)) if job.ending is Ending.NONE else until)
    return _go_on_ending(job, machine, held, now)


def _go_on_ending(job: Job, machine: Machine, held: Operation | None, now: float) -> JobAction:
    if job.ending_since is not None and now >= job.ending_since + PATIENCE_SECONDS:
        return Conclude(not_saved(job), kept=True)
    if machine.state is not MachineState.RUNNING:
        return Rest(now + LOOK_SECONDS)
    if job.ending is Ending.EXITED and machine.epoch != job.epoch:
        return RunAgain()
    if now < job.save_after:
        return Rest(job.save_after)
    return _save(Save(job.ending, job.exit_status), held, now)


def _save(action: Save, held: Operation | None, now: float) -> JobAction:
    return action if held is None or held.kind in _GIVES_WAY else Rest(now + SOON_SECONDS)


def save_again_seconds(saves: int) -> float:
    """How long after a save that failed the next one is begun."""
    return float(min(SAVE_AGAIN_SECONDS_MOST, SAVE_AGAIN_SECONDS * 2.0 ** min(saves, 8)))


# --- Its end ------------------------------------------------------------------------------------------------------


def concluded(
    job: Job,
    now: float,
    *,
    problem: Problem | None,
    kept: bool,
    snapshot_id: str | None,
    cost_usd: float | None,
) -> Job:
    """The job at its end. `problem` None: what was to be done at its end was done, and the command's own end counts."""
    said = problem if problem is not None else _of_its_own(job)
    state = JobState.SUCCEEDED if said is None else JobState.FAILED
    unsaved = problem is not None and problem.code == "not_saved"
    if job.ending is Ending.CANCELLED and not unsaved:
        state, said = JobState.CANCELLED, None
    elif job.ending is not Ending.NONE and problem is not None and not unsaved:
        said = _of_its_own(job) or problem
    return replace(
        job,
        state=state,
        problem=said,
        machine_kept=kept,
        result_snapshot_id=snapshot_id,
        cost_usd=cost_usd,
        operation_id=None,
        ended_at=now,
        deadline=None,
    )


def _of_its_own(job: Job) -> Problem | None:
    if job.ending is Ending.TIMED_OUT:
        hours = (job.time_up_at - job.created_at) / 3600
        return Problem(
            code="timed_out",
            detail=f"it was stopped: its time of {hours:g} hours was up",
            hint="go on from its outputs with --from, and give it longer with --timeout-hours",
        )
    if job.ending is Ending.ASLEEP:
        return ASLEEP
    if job.ending is Ending.BUDGET:
        return BUDGET
    if job.exit_status:
        again = f", at the last of {job.attempts} attempts" if job.attempts > 1 else ""
        return Problem(
            code="exit_status",
            detail=f"its command ended with exit status {job.exit_status}{again}",
            hint=f"see what it wrote: dumont job logs {job.id}",
        )
    return None


def not_saved(job: Job) -> Problem:
    """Nothing is destroyed that is not saved: the job gives up, its machine stays."""
    words = {
        Ending.EXITED: f"its command ended with exit status {job.exit_status}",
        Ending.TIMED_OUT: "its time was up",
        Ending.CANCELLED: "it was cancelled",
        Ending.BUDGET: "a budget was reached",
    }
    what = words.get(job.ending, "it was to end")
    return Problem(
        code="not_saved",
        detail=f"{what}, and its outputs could not be saved within {PATIENCE_SECONDS / 60:.0f} minutes",
        safe=f"Its machine {job.machine} is left as it is, with its files. IT STILL BILLS.",
        hint=f"dumont down {job.machine} --snapshot, or --discard; why: dumont operations {job.machine}",
    )
