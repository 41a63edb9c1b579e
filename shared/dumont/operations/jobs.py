"""Jobs: accepted with their machine in one transaction, then moved on by what heartbeats and deadlines show.

`step` is the only mover: one transaction that looks at the records and does one thing. Called for each hint, however
often and late, and by the sweep, it comes out the same (invariant 7).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from msgspec.structs import replace

from dumont import queries
from dumont.domain import jobs as domain
from dumont.domain.errors import BlobError, Conflict, InvalidInput, Unknown
from dumont.domain.happenings import of_job
from dumont.domain.heartbeats import Heartbeat
from dumont.domain.hibernation import BY_BUDGET
from dumont.domain.jobs import Ending, Job, JobLog, JobState
from dumont.domain.names import check_machine_name, shard_of
from dumont.domain.records import Machine, MachineSpec, Operation, OperationKind, Problem
from dumont.domain.snapshots import Snapshot, by_preference
from dumont.domain.subscriptions import Delivery
from dumont.operations import destroy, finish, job_facts, provision, subscribers
from dumont.operations.job_facts import BY, stop
from dumont.operations.runner import Guard, publish
from dumont.ports import Ports, Transaction

log = logging.getLogger(__name__)


# --- Wishes -------------------------------------------------------------------------------------------------------


def request(
    ports: Ports,
    command: str,
    spec: MachineSpec,
    *,
    requested_by: str,
    request_id: str = "",
    name: str | None = None,
    inputs: str | None = None,
    retries: int = 0,
    timeout_hours: float = domain.HOURS_MOST,
    keep_machine: bool = False,
    discard_outputs: bool = False,
) -> tuple[Job, Operation]:
    """Accept a job: its record, its machine and the operation that rents it, in one transaction.

    `inputs` is a snapshot's id, or a machine's name, whose newest good snapshot is taken; it is in the workspace before
    the command starts. Raises `InvalidInput`, `Unknown` inputs, or `Conflict`.
    """
    if not command.strip() or "\0" in command:
        raise InvalidInput("a job needs a command", field="command", hint="for example: python train.py")
    _check_deployment(ports, discard_outputs=discard_outputs)
    source = _inputs(ports, inputs) if inputs is not None else None
    job_id = ports.ids.new("job")
    machine_name = check_machine_name(name if name is not None else job_id)

    def furnish(tx: Transaction, machine: Machine, op: Operation) -> tuple[Machine, Operation]:
        now = ports.clock.now()
        taken = tx.get(Snapshot, source.id) if source is not None else None
        if source is not None and (taken is None or not taken.good):
            raise Conflict(f"snapshot {source.id} is not whole any more", code="not_restorable", field="from")
        if taken is not None and not taken.keep:
            tx.put(replace(taken, keep=True))  # a host that dies before the first checkpoint is replaced from it
        job = Job(
            id=job_id,
            machine=machine_name,
            command=command,
            created_at=now,
            created_by=requested_by,
            time_up_at=now + timeout_hours * 3600.0,
            retries=retries,
            inputs_snapshot_id=taken.id if taken is not None else None,
            keep_machine=keep_machine,
            discard_outputs=discard_outputs,
            deadline=now + domain.LOOK_SECONDS,
            shard=shard_of(job_id),
        )
        tx.put(job)
        filled_from = taken.id if taken is not None else None
        return replace(machine, job_id=job_id, filled_from=filled_from), replace(op, snapshot_id=filled_from)

    wanted = domain.spec_of(spec, command, retries)
    _, op = provision.request(
        ports, machine_name, wanted, requested_by=requested_by, request_id=request_id, furnish=furnish
    )
    job = ports.store.get(Job, job_id)
    if job is None:
        raise Unknown(f"job {job_id} is not there any more")
    return job, op


def _check_deployment(ports: Ports, *, discard_outputs: bool) -> None:
    """A job without an agent would never be known to have ended, and one without an object store could not be saved:
    said before anything is rented."""
    if not ports.public_url:
        raise Conflict(
            "hosts cannot report to this deployment, so that nobody would know when a job has ended",
            code="no_agents",
            hint="set DUMONT_PUBLIC_URL to an address of the functions that the internet reaches",
        )
    if discard_outputs:
        return
    try:
        ports.make_blobs()
    except (BlobError, InvalidInput) as error:
        raise Conflict(
            f"a job's outputs are kept in the object store, and there is none: {error}",
            code="no_object_store",
            hint="configure one (B2_APPLICATION_KEY_ID, B2_APPLICATION_KEY, DUMONT_BUCKET), or let what it writes to "
            "its workspace be lost: --discard-outputs",
        ) from error


def _inputs(ports: Ports, wanted: str) -> Snapshot:
    found = ports.store.get(Snapshot, wanted)
    if found is None:
        known = ports.store.find(Snapshot, queries.snapshots_of_machine(wanted))
        found = next(iter(by_preference(known)), None)
    if found is None or not found.good:
        what = "is not whole: its files cannot be a job's inputs" if found is not None else "names no snapshot"
        raise Unknown(
            f"{wanted[:64]!r} {what}", field="from", hint="a snapshot's id, or a machine that has one: dumont snapshots"
        )
    return found


def find(ports: Ports, which: str) -> Job:
    """A job by its id, or by the name of the machine that was last rented for one. Raises `Unknown`."""
    found = ports.store.get(Job, which)
    if found is None:
        machine = ports.store.get(Machine, which)
        found = ports.store.get(Job, machine.job_id) if machine is not None and machine.job_id is not None else None
    if found is None:
        raise Unknown(f"there is no job {which[:64]}", hint="`dumont job ls` shows those there are")
    return found


def cancel(ports: Ports, which: str, *, discard: bool, requested_by: str) -> Job:
    """Bring a job to its end: what it has written is saved first, unless `discard` is said. Asked for again, only
    `discard` makes a difference; a job that has ended is answered with as it is. Raises `Unknown`, `Conflict`."""
    known = find(ports, which)

    def work(tx: Transaction) -> Job:
        job = tx.get(Job, known.id)
        if job is None or job.ended or job.ending is not Ending.NONE:
            return job if job is not None else known
        return stop(tx, job, Ending.CANCELLED, requested_by, ports.clock.now())

    job = ports.store.transact(work)
    machine = ports.store.get(Machine, job.machine)
    if discard and not job.ended and machine is not None and machine.job_id == job.id:
        try:
            destroy.request(ports, job.machine, discard=True, requested_by=requested_by, guard=_is_for(job))
        except Conflict as error:
            if error.code != ANOTHERS:
                raise
    step(ports, job.id)
    return find(ports, job.id)


ANOTHERS = "anothers_machine"

# --- The mover ----------------------------------------------------------------------------------------------------


def step(ports: Ports, job_id: str) -> domain.JobAction | None:
    """Do what is next for a job, if anything is; answers with what that was. Raises `StoreError`."""
    job = ports.store.get(Job, job_id)
    if job is None or job.ended:
        return None
    known = job_facts.facts(ports, job)
    operation_id = ports.ids.new("op")

    def work(tx: Transaction) -> tuple[domain.JobAction, Operation | None, list[Delivery]]:
        before = tx.get(Job, job_id)
        if before is None or before.ended:
            return domain.Rest(0.0), None, []
        action, op = move(tx, before)
        return action, op, subscribers.write(ports, tx, of_job(before, tx.get(Job, job_id), ports.clock.now()))

    def move(tx: Transaction, fresh: Job) -> tuple[domain.JobAction, Operation | None]:
        now = ports.clock.now()
        machine = tx.get(Machine, fresh.machine)
        mine = machine if machine is not None and machine.job_id == job_id else None
        held = tx.get(Operation, mine.operation_id) if mine is not None and mine.operation_id is not None else None
        held = held if held is not None and held.open else None
        beat = tx.get(Heartbeat, mine.instance_id) if mine is not None and mine.instance_id is not None else None
        fresh = domain.observed(fresh, mine, beat, now)
        action = domain.decide(fresh, mine, held, beat, now)
        match action:
            case domain.Rest():
                tx.put(replace(fresh, deadline=action.until))
            case domain.Stop():
                stop(tx, fresh, action.ending, BY, now)
            case domain.RunAgain() if mine is not None:
                tx.put(replace(mine, workload_held=False, updated_at=now))
                running = replace(fresh, state=JobState.RUNNING, ending=Ending.NONE, ending_since=None, saves=0)
                running = replace(running, exit_status=None, exited_at=None, operation_id=None, save_after=0.0)
                tx.put(replace(running, deadline=now + domain.SOON_SECONDS))
            case domain.Save() if mine is not None:
                return action, finish.begin(tx, fresh, mine, action, operation_id, known, now)
            case domain.LetGo():
                tx.put(replace(fresh, deadline=now + domain.SOON_SECONDS))
            case domain.Conclude():
                problem = action.problem
                if problem is not None and problem.code == "not_saved":
                    log.error("a job's outputs are not saved; its machine is left", extra={"job": job_id})
                saved_id = known.saved.id if known.saved is not None else None
                tx.put(
                    domain.concluded(
                        fresh, now, problem=problem, kept=action.kept, snapshot_id=saved_id, cost_usd=known.cost_usd
                    )
                )
        return action, None

    action, op, deliveries = ports.store.transact(work)
    subscribers.publish(ports, deliveries)
    if op is not None:
        publish(ports, op)
    if isinstance(action, domain.LetGo):
        _try(job, lambda: destroy.request(ports, job.machine, discard=False, requested_by=BY, guard=_is_for(job)))
    if isinstance(action, domain.Conclude) and action.problem is domain.DESTROYED:
        _say_who(ports, job)
    return action


def _say_who(ports: Ports, job: Job) -> None:
    """Of a machine that was destroyed under a job: that a budget did it, if one did."""
    for op in ports.store.find(Operation, queries.history_of_machine(job.machine, limit=5)):
        if op.kind is OperationKind.DESTROY and op.requested_by == BY_BUDGET and op.created_at >= job.created_at:
            why = Problem(
                code="budget_reached",
                detail="its machine was destroyed: its budget was reached before its command had ended",
                safe="Its last checkpoint is kept, if it had one.",
                hint="go on from it with --from, and a larger budget",
            )

            def work(tx: Transaction, why: Problem = why) -> None:
                ended = tx.get(Job, job.id)
                if ended is not None and ended.problem == domain.DESTROYED:
                    tx.put(replace(ended, problem=why))

            ports.store.transact(work)
            return


def _is_for(job: Job) -> Guard:
    """Whoever lets a job's machine go may have been frozen since it looked: its name may be another machine's."""

    def guard(_: Transaction, fresh: Machine) -> None:
        if fresh.job_id != job.id:
            raise Conflict(f"{fresh.id} is another machine by now, and not {job.id}'s", code=ANOTHERS)

    return guard


def _try(job: Job, act: Callable[[], object]) -> None:
    try:
        act()
    except (Conflict, Unknown) as error:
        log.info("not begun now", extra={"job": job.id, "error": str(error)})


# --- What it leaves -----------------------------------------------------------------------------------------------


def log_of(ports: Ports, job: Job) -> JobLog | None:
    """The end of what its command wrote, once that was kept."""
    return ports.store.get(JobLog, job.id)


def latest(ports: Ports, *, limit: int) -> list[Job]:
    """The jobs, newest first."""
    return ports.store.find(Job, queries.latest_jobs(limit=limit))
