"""Finish: a job's command is over, or is stopped; its log's end and its workspace are saved, verified, and only then
its host goes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from msgspec.structs import replace

from dumont.domain import finishing, hibernation
from dumont.domain import jobs as domain
from dumont.domain import snapshots as snapshot_domain
from dumont.domain.actions import (
    Abandon,
    Action,
    AwaitStop,
    BeginDestroy,
    Dismiss,
    Finish,
    GiveUp,
    PollEngine,
    ReadLog,
    Release,
    StartEngine,
    Survey,
    VerifySnapshot,
)
from dumont.domain.destruction import CHECKED, RELEASE
from dumont.domain.errors import ShellError
from dumont.domain.happenings import of_job
from dumont.domain.heartbeats import Heartbeat
from dumont.domain.jobs import Ending, Job, JobLog, JobState
from dumont.domain.records import (
    Instance,
    Machine,
    MachineSpec,
    MachineState,
    Operation,
    OperationKind,
    OperationState,
    Problem,
    Step,
)
from dumont.domain.snapshots import Snapshot, SnapshotState
from dumont.domain.subscriptions import Delivery
from dumont.operations import destroy, engine_runs, subscribers, tend
from dumont.operations.invocation import Invocation
from dumont.operations.job_facts import BY, Facts, cost_of
from dumont.operations.runner import Workflow, new_operation
from dumont.operations.verification import verify
from dumont.ports import CommandResult, Transaction

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
LOG_TRIES = 3
REASON = "end of job"
"""The reason of the snapshots that are jobs' outputs."""
SAFE = "Its machine keeps its files, and saving them is tried again."

_LOG_COMMAND = (
    'cd "$HOME/.dumont" 2>/dev/null || exit 0; wc -c < workload.log 2>/dev/null || echo 0; '
    f"{{ cat workload.log.1 2>/dev/null; cat workload.log 2>/dev/null; }} | tail -c {domain.LOG_BYTES_MOST}"
)


def begin(
    tx: Transaction,
    job: Job,
    machine: Machine,
    action: domain.Save,
    operation_id: str,
    known: Facts,
    now: float,
) -> Operation | None:
    """Begin to finish a job, in the transaction in which that was decided: from its commit on the workload is held, and
    what worked on the machine gives way. None where there is nothing to do but to end it: it sleeps, and stays so."""
    asleep, saved = machine.state is MachineState.HIBERNATED, known.saved
    ending = replace(
        job,
        state=JobState.SAVING,
        ending=action.ending,
        ending_since=job.ending_since if job.ending_since is not None else now,
        exit_status=action.exit_status,
        exited_at=now if action.ending is Ending.EXITED and job.exited_at is None else job.exited_at,
        operation_id=operation_id,
        deadline=now + domain.LOOK_SECONDS,
    )
    if asleep and (saved is None or job.keep_machine):
        saved_id = saved.id if saved is not None else None
        tx.put(domain.concluded(ending, now, problem=None, kept=True, snapshot_id=saved_id, cost_usd=known.cost_usd))
        return None
    op = new_operation(operation_id, OperationKind.FINISH, machine.id, machine.epoch, now, requested_by=BY)
    op = replace(op, discard=job.discard_outputs)
    if action.ending is Ending.EXITED:
        op = replace(op, phase=finishing.LOG)  # its agent said so, and it is not run again
    if asleep and saved is not None:
        op = replace(op, phase=CHECKED, snapshot_id=saved.id)
    tx.put(op)
    tx.put(replace(machine, operation_id=op.id, workload_held=True, updated_at=now))
    tx.put(ending)
    return op


def perform(
    invocation: Invocation, op: Operation, machine: Machine | None, instances: Sequence[Instance], action: Action
) -> None:
    """Carry out one action of a finish."""
    by_id = {i.id: i for i in instances}
    match action:
        case AwaitStop() if machine is not None:
            _await_stop(invocation, machine)
        case ReadLog() if machine is not None:
            _read_log(invocation, op, machine)
        case StartEngine() if machine is not None:
            engine_runs.start(invocation, op, machine)
        case PollEngine() if machine is not None:
            engine_runs.poll(invocation, op, machine)
        case VerifySnapshot():
            verify(invocation, op)
        case GiveUp():
            problem = replace(action.problem, safe=SAFE)
            invocation.apply(lambda _tx, o, _machine: replace(o, problem=o.problem or problem))
        case BeginDestroy() if machine is not None:
            _let_go(invocation, op, machine)
        case Survey():
            spec = machine.spec if machine is not None else MachineSpec()
            tend.survey(invocation, op.machine, spec, instances, action)
        case Dismiss():
            tend.dismiss(invocation, op, action)
        case Release():
            tend.release(invocation, by_id[action.instance_id], action)
        case Finish() | Abandon():
            _end(invocation, op, abandoned=isinstance(action, Abandon))
        case _:
            raise TypeError(f"a finish cannot {action}")


WORKFLOW = Workflow(decide=finishing.decide, perform=perform)


def _await_stop(invocation: Invocation, machine: Machine) -> None:
    """Whether the agent has reported, since the workload is held, that nothing of it runs. Its report wakes us."""
    now = invocation.now()
    beat = invocation.ports.store.get(Heartbeat, machine.instance_id or "")

    def change(_tx: Transaction, o: Operation, _machine: Machine | None) -> Operation:
        until = o.created_at + hibernation.stop_seconds(machine.spec)
        at_rest = domain.at_rest(o, machine, beat)
        if not at_rest and now < until:
            return replace(o, not_before=min(now + LOOK_SECONDS, until))
        step = Step(name="stop workload", started_at=o.created_at, ended_at=now, ok=at_rest)
        if not at_rest:
            problem = replace(hibernation.NOT_STOPPED, safe=SAFE)
            problem = replace(problem, hint=problem.hint.replace("NAME", o.machine))
            return replace(o, problem=o.problem or problem, steps=(*o.steps, step))
        return replace(o, phase=finishing.LOG, not_before=0.0, tries=0, steps=(*o.steps, step))

    invocation.apply(change)


def _read_log(invocation: Invocation, op: Operation, machine: Machine) -> None:
    """The log is a courtesy: if it cannot be read, that is said in the timeline, and the outputs are saved all the
    same."""
    ports, began = invocation.ports, invocation.now()
    result: CommandResult | None = None
    said = "it has no address"
    if machine.ssh is not None:
        try:
            session = ports.make_shell().connect(machine.ssh, host_key=machine.host_key, timeout_seconds=8.0)
            try:
                result = session.run(_LOG_COMMAND)
            finally:
                session.close()
        except ShellError as error:
            said = str(error)
    size, _, text = (result.stdout if result is not None else b"").partition(b"\n")
    snapshot_id = ports.ids.new("snap")

    def change(tx: Transaction, o: Operation, fresh: Machine | None) -> Operation:
        now = invocation.now()
        if result is None and o.tries + 1 < LOG_TRIES:
            return replace(o, tries=o.tries + 1, not_before=now + 2.0)
        if result is not None and fresh is not None and fresh.job_id is not None:
            kept = text[-domain.LOG_BYTES_MOST :].decode("utf-8", "replace").replace("\0", "")
            tx.get(JobLog, fresh.job_id)  # of a command before: what a later version of us keeps there stays
            read = JobLog(
                id=fresh.job_id,
                text=kept,
                read_at=now,
                instance_id=fresh.instance_id,
                file_bytes=int(size) if size.strip().isdigit() else len(text),
            )
            tx.put(read)
        step = Step(name="read log", started_at=began, ended_at=now, ok=result is not None,
                    detail=f"{len(text)} bytes" if result is not None else said[:300])  # fmt: skip
        o = replace(o, tries=0, not_before=0.0, steps=(*o.steps, step))
        if o.discard:
            return replace(o, phase=CHECKED)
        tx.put(
            Snapshot(
                id=snapshot_id,
                machine=o.machine,
                epoch=o.epoch,
                operation_id=o.id,
                state=SnapshotState.TAKING,
                created_at=now,
                reason=REASON,
            )
        )
        return replace(o, snapshot_id=snapshot_id, phase=snapshot_domain.COPY)

    del op
    invocation.apply(change)


def _let_go(invocation: Invocation, op: Operation, machine: Machine) -> None:
    job = invocation.ports.store.get(Job, machine.job_id or "")
    if job is not None and job.keep_machine:
        invocation.apply(lambda _tx, o, _machine: replace(o, phase=snapshot_domain.DONE))
        return
    destroy.begin(invocation, op, unless=_not_saved)


def _not_saved(tx: Transaction, op: Operation) -> Problem | None:
    """Invariant 4, looked at once more in the transaction that lets the host go."""
    snapshot = tx.get(Snapshot, op.snapshot_id or "")
    if op.discard or (snapshot is not None and snapshot.good):
        return None
    return Problem(code="not_saved", detail="its snapshot is not there any more", safe=SAFE)


def _end(invocation: Invocation, op: Operation, *, abandoned: bool) -> None:
    """The machine is gone (or kept, as its user wished), and the job has ended; or its outputs are not saved yet, and
    it is tried again."""
    engine_runs.end_keys(invocation.ports, op)
    machine = invocation.ports.store.get(Machine, op.machine)
    known = invocation.ports.store.get(Job, machine.job_id or "") if machine is not None else None
    cost_usd = cost_of(invocation.ports, known) if known is not None else None
    done = not abandoned and op.problem is None and op.phase in (RELEASE, snapshot_domain.DONE)

    told: list[Delivery] = []

    def change(tx: Transaction, o: Operation, machine: Machine | None) -> Operation:
        now = invocation.now()
        told.clear()
        if not (done and o.phase == snapshot_domain.DONE):
            engine_runs.give_up_taking(tx, o)
        if machine is not None and machine.operation_id == o.id:
            gone = o.phase == RELEASE
            tx.put(destroy.ended(o, machine, now) if gone else replace(machine, operation_id=None, updated_at=now))
        job = tx.get(Job, machine.job_id or "") if machine is not None else None
        if job is not None and not job.ended and job.operation_id == o.id:
            after = _after(job, o, now, done=done, cost_usd=cost_usd)
            tx.put(after)
            told.extend(subscribers.write(invocation.ports, tx, of_job(job, after, now)))
        if abandoned:
            return replace(o, state=OperationState.SUPERSEDED)
        return replace(o, state=OperationState.FAILED if o.problem is not None else OperationState.SUCCEEDED)

    invocation.apply(change)
    subscribers.publish(invocation.ports, told)


def _after(job: Job, op: Operation, now: float, *, done: bool, cost_usd: float | None) -> Job:
    if done:
        kept = op.phase == snapshot_domain.DONE
        return domain.concluded(job, now, problem=None, kept=kept, snapshot_id=op.snapshot_id, cost_usd=cost_usd)
    again_at = now + domain.save_again_seconds(job.saves)
    return replace(job, operation_id=None, saves=job.saves + 1, save_after=again_at, deadline=now)
