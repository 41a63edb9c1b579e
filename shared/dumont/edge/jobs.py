"""Jobs at the edge: what callers send, and how jobs are shown."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from dumont.adapters.shapes import ready
from dumont.domain.errors import InvalidInput
from dumont.domain.jobs import HOURS_MOST, Job, JobLog
from dumont.domain.records import Machine, MachineSpec
from dumont.edge.http import Call, decode, invalid
from dumont.edge.requests import MachineName
from dumont.edge.views import usd
from dumont.operations import job_facts, jobs
from dumont.ports import Ports

SET_BY_THE_JOB = (
    "run", "restart", "max_restarts", "stateless", "idle_after_minutes", "wake_at", "sleep_at", "models",
)  # fmt: skip
HIDDEN = (
    "schema_version", "shard", "deadline", "epoch", "earlier_attempts", "saves", "save_after", "ending_since",
)  # fmt: skip


class JobRequest(msgspec.Struct, frozen=True, kw_only=True, rename={"inputs": "from"}):
    """A job; the fields of `MachineSpec` come beside these."""

    command: Annotated[str, Meta(max_length=4096, examples=["true"])]
    name: MachineName | None = None
    inputs: Annotated[str, Meta(max_length=64)] | None = None
    retries: Annotated[int, Meta(ge=0, le=100)] = 0
    timeout_hours: Annotated[float, Meta(gt=0, le=8760)] = HOURS_MOST
    keep_machine: bool = False
    discard_outputs: bool = False


class CancelRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`discard`: what it has written since its last snapshot may be lost."""

    discard: bool = False


class ListJobs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many of the newest."""

    limit: Annotated[int, Meta(ge=1, le=500)] = 50


def read_request(call: Call) -> tuple[JobRequest, MachineSpec]:
    """The job and the machine that a body asks for. Raises `InvalidInput` naming the field."""
    body = {
        name: decode(bytes(value), object) for name, value in decode(call.raw_body(), dict[str, msgspec.Raw]).items()
    }
    if "command" not in body:
        raise InvalidInput("a job needs a command", field="command", hint="for example: python train.py")
    taken = [name for name in SET_BY_THE_JOB if name in body]
    if taken:
        raise InvalidInput("a job sets this itself: what it runs is its `command`", field=taken[0])
    own = {field.encode_name for field in msgspec.structs.fields(JobRequest)}
    try:
        wish = msgspec.convert({k: v for k, v in body.items() if k in own}, ready(JobRequest))
        spec = msgspec.convert({k: v for k, v in body.items() if k not in own}, ready(MachineSpec))
    except msgspec.ValidationError as error:
        raise invalid(error) from error
    return wish, spec


def accept(call: Call) -> dict[str, Any]:
    """Accept the job that a body asks for; the answer, with the operation that rents its machine."""
    wish, spec = read_request(call)
    job, op = jobs.request(
        call.ports,
        wish.command,
        spec,
        requested_by=call.caller,
        request_id=call.request_id,
        name=wish.name,
        inputs=wish.inputs,
        retries=wish.retries,
        timeout_hours=wish.timeout_hours,
        keep_machine=wish.keep_machine,
        discard_outputs=wish.discard_outputs,
    )
    return {"job": view(call.ports, job), "operation": {"id": op.id, "kind": op.kind.value, "state": op.state.value}}


def view(ports: Ports, job: Job) -> dict[str, Any]:
    """One job; what it has cost so far, and of one that goes on how its machine is."""
    fields = msgspec.to_builtins(job)
    shown = {k: v for k, v in fields.items() if v not in (None, "") and k not in HIDDEN}
    shown["cost_usd"] = usd(job.cost_usd if job.cost_usd is not None else job_facts.cost_of(ports, job))
    machine = ports.store.get(Machine, job.machine)
    if machine is not None and machine.job_id == job.id:
        shown["machine_state"] = machine.state.value
    if not job.ended:
        shown["now"] = ports.clock.now()
    return shown


def with_log(ports: Ports, job: Job) -> dict[str, Any]:
    """One job with the end of what its command wrote, if that was kept."""
    kept = jobs.log_of(ports, job)
    return {"job": view(ports, job)} | ({"log": _log(kept)} if kept is not None else {})


def _log(kept: JobLog) -> dict[str, Any]:
    return {name: getattr(kept, name) for name in ("text", "read_at", "instance_id", "file_bytes")}
