"""Following a job to its end, and showing what came of it."""

from __future__ import annotations

import sys
import time

from dumont.cli.client import Client
from dumont.cli.errors import FAILED, INTERRUPTED, OK, CliError, Json
from dumont.cli.follow import SILENCE_SECONDS_MAX, lines_on_stderr
from dumont.cli.joblog import JobOutput
from dumont.cli.output import Cli, duration, moment, money, size, text_of
from dumont.cli.views import seconds_between

POLL_SECONDS = 0.5
ENDS = ("succeeded", "failed", "cancelled")
JOB_COLUMNS = ("job", "state", ">exit", ">attempts", "asked", ">took", ">cost", "machine", "command")


def job_row(job: Json, now: float) -> list[str]:
    """A job, as JOB_COLUMNS."""
    state = str(job.get("state"))
    if state == "running" and job.get("machine_state") not in (None, "running"):
        state = f"running ({str(job['machine_state']).replace('_', ' ')})"
    return [
        text_of(job.get("id")),
        state,
        text_of(job.get("exit_status")),
        text_of(job.get("attempts")),
        moment(job.get("created_at")),
        duration(seconds_between(job.get("created_at"), job.get("ended_at") or now)),
        money(job.get("cost_usd")),
        text_of(job.get("machine")),
        short(job.get("command")),
    ]


def short(command: object, most: int = 60) -> str:
    """A command on one line, cut where it is long."""
    text = " ".join(str(command or "").split())
    return text if len(text) <= most else text[: most - 1] + "…"


def follow_job(cli: Cli, client: Client, job: Json, *, operation_id: str | None = None) -> Json:
    """Follow a job until it has ended: its output on stdout, how it goes on stderr; silently with --json. Answers with
    its last view, and its log's end.

    Raises `CliError` if the API stays away, or on Ctrl-C: the job goes on then.
    """
    identifier = str(job.get("id"))
    watch = _Watch(cli, client, job, operation_id)
    try:
        return watch.until_ended()
    except KeyboardInterrupt:
        raise CliError(
            f"you stopped watching; job {identifier} goes on",
            exit_code=INTERRUPTED,
            code="interrupted",
            hint=f"watch it: dumont job logs {identifier} -f; end it: dumont job cancel {identifier}",
        ) from None
    finally:
        watch.output.close()


class _Watch:
    def __init__(self, cli: Cli, client: Client, job: Json, operation_id: str | None) -> None:
        self._cli = cli
        self._client = client
        self._job = job
        self._operation_id = operation_id
        self._shown = {"": lines_on_stderr()}
        self._attempts = int(job.get("attempts") or 0)
        self._state = str(job.get("state"))
        self._told_trouble = ""
        self._saving: str | None = None
        self.output = JobOutput(client, str(job.get("machine")), sys.stdout.buffer)

    def until_ended(self) -> Json:
        heard_at = time.monotonic()
        while True:
            try:
                seen = self._client.get("jobs", str(self._job.get("id")))
                heard_at = time.monotonic()
            except CliError as error:
                if not error.may_pass or time.monotonic() - heard_at > SILENCE_SECONDS_MAX:
                    raise
                time.sleep(POLL_SECONDS)
                continue
            self._job = seen.get("job") or {}
            if self._job.get("state") in ENDS:
                if not self._cli.as_json and not self.output.finish(seen.get("log")):
                    self._cli.note("(the beginning of what it wrote was not kept, or none of it)")
                if not self._cli.as_json:
                    self._show_operation(self._saving)  # its last steps
                return seen
            if not self._cli.as_json:
                self._show()
            time.sleep(POLL_SECONDS)

    def _show(self) -> None:
        state, attempts = str(self._job.get("state")), int(self._job.get("attempts") or 0)
        if attempts > self._attempts:
            self._cli.note("the command starts" if attempts == 1 else f"the command starts: attempt {attempts}")
            self._attempts = attempts
        if state != self._state and state == "saving":
            why = self._job.get("ending")
            said = {"exited": f"the command ended with exit status {self._job.get('exit_status')}",
                    "timed_out": "its time is up", "cancelled": "it is cancelled",
                    "budget": "a budget is reached"}.get(str(why), "it ends")  # fmt: skip
            self._cli.note(f"{said}: saving what it wrote, then its machine goes")
        self._state = state
        moving = self._job.get("machine_state")
        if moving == "running":
            while self.output.read():
                pass
            if self.output.trouble and not self._told_trouble:
                self._cli.note(f"(its output cannot be read now: {self.output.trouble})")
            self._told_trouble = self.output.trouble
        self._show_operation(self._of_interest(str(moving)))

    def _of_interest(self, machine_state: str) -> str | None:
        if self._job.get("operation_id"):
            self._saving = str(self._job["operation_id"])
            return self._saving
        if machine_state in ("requested", "provisioning"):
            return self._operation_id
        if machine_state == "failing_over":
            operation_id = self._client.machine(str(self._job.get("machine"))).get("operation_id")
            return str(operation_id) if operation_id else None
        return None

    def _show_operation(self, operation_id: str | None) -> None:
        if operation_id is None:
            return
        show = self._shown.setdefault(operation_id, lines_on_stderr())
        try:
            show(self._client.operation(operation_id))
        except CliError as error:
            if not error.may_pass:  # the job's own view says whether the API is there
                raise


# --- Its end ------------------------------------------------------------------------------------------------------


def status_of(job: Json) -> int:
    """How the command line ends for a job: as its command did; 1 where something else went wrong."""
    if job.get("state") == "succeeded":
        return OK
    exit_status = job.get("exit_status")
    return exit_status if isinstance(exit_status, int) and 0 < exit_status < 256 else FAILED


def summary(job: Json, snapshot: Json | None) -> list[tuple[str, str]]:
    """What came of a job: names and values."""
    rows = [("state", str(job.get("state"))), ("exit status", text_of(job.get("exit_status")))]
    rows.append(("attempts", text_of(job.get("attempts") or 0)))
    took = duration(seconds_between(job.get("created_at"), job.get("ended_at")))
    ran = duration(seconds_between(job.get("started_at"), job.get("exited_at")))
    rows.append(("time", f"{took} in all" + (f", {ran} from the command's first start to its end" if "exited_at" in job
                                             else "")))  # fmt: skip
    rows.append(("cost", money(job.get("cost_usd"))))
    rows.append(("outputs", outputs(job, snapshot)))
    if job.get("machine_kept"):
        rows.append(("machine", f"{job.get('machine')} is kept: it bills until `dumont down {job.get('machine')}`"))
    return rows


def outputs(job: Json, snapshot: Json | None) -> str:
    """Where a job's outputs are."""
    if not job.get("result_snapshot_id"):
        return "none were saved" + (" (--discard-outputs)" if job.get("discard_outputs") else "")
    which = str(job["result_snapshot_id"])
    if snapshot is None:
        return f"snapshot {which}"
    what = "" if snapshot.get("reason") == "end of job" else ", as of its last checkpoint"
    files = snapshot.get("files")
    many = "1 file" if files == 1 else f"{files} files"
    return f"snapshot {which}: {many}, {size(snapshot.get('bytes_total'))}{what}"


def show_end(cli: Cli, client: Client, seen: Json) -> None:
    """Tell how a job ended, on stderr: stdout has its output."""
    job: Json = seen.get("job") or {}
    snapshot = snapshot_of(client, job)
    cli.note(f"\njob {job.get('id')}: {short(job.get('command'))}")
    for name, value in summary(job, snapshot):
        cli.note(f"  {name:<12} {value}")
    problem: Json = job.get("problem") or {}
    for name, text in (("why", "detail"), ("kept safe", "safe"), ("next", "hint")):
        if problem.get(text):
            cli.note(f"  {name:<12} {problem[text]}")
    if job.get("result_snapshot_id") and not problem:
        cli.note(f"  {'next':<12} begin another with them: dumont job run --from {job['result_snapshot_id']} … -- …")


def snapshot_of(client: Client, job: Json) -> Json | None:
    """The snapshot with a job's outputs, if there is one that is known."""
    if not job.get("result_snapshot_id"):
        return None
    try:
        found: Json | None = client.get("snapshot", str(job["result_snapshot_id"])).get("snapshot")
    except CliError:
        return None  # it may have been removed since: its id is shown all the same
    return found
