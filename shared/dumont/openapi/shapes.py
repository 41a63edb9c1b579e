"""What functions answer, as types: the records and structs that the views show, less what they hide, and what they add.

The edge builds its answers as dicts, from records: `shown` takes a record's fields from the record itself, so that a
field that joins it is in the document by itself. What a view adds is said here; tests hold both to the views.
"""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from msgspec import NODEFAULT, UNSET

from dumont.domain import advisor
from dumont.domain.audit import AuditEntry
from dumont.domain.budgets import BudgetAction
from dumont.domain.heartbeats import AgentSeen, Readings, WorkloadSeen
from dumont.domain.idle import Signal
from dumont.domain.jobs import Job
from dumont.domain.offers import Offer
from dumont.domain.records import (
    Instance,
    Machine,
    MachineState,
    Operation,
    OperationKind,
    OperationState,
    Proof,
    SshEndpoint,
    Step,
)
from dumont.domain.snapshots import Snapshot
from dumont.domain.tariffs import Row
from dumont.domain.timetable import Due
from dumont.edge import audit, jobs, views
from dumont.operations.advising import Fit

Shape = Any
"""A type that msgspec can describe; made here at run time, so that mypy has no name for it."""


def shape(name: str, doc: str, /, **fields: Any) -> Shape:
    """A struct. A field given as a pair (type, default) may be absent."""
    return msgspec.defstruct(name, _fields(fields), kw_only=True, namespace={"__doc__": doc})


def shown(name: str, of: type[msgspec.Struct], doc: str, /, hidden: Iterable[str] = (), **added: Any) -> Shape:
    """What a view shows of a record: its fields less the hidden ones. Those that it leaves out where they are None, or
    by default, may be absent."""
    left_out = {*hidden, *added}
    fields: dict[str, Any] = {}
    for field in msgspec.structs.fields(of):
        if field.name not in left_out:
            fields[field.encode_name] = field.type if field.required else maybe(_without_none(field.type))
    return shape(name, doc, **fields, **added)


def maybe(kind: Any) -> tuple[Any, Any]:
    """A field that may be absent."""
    return kind, UNSET


def many(kind: Any) -> Any:
    """A list of them."""
    return types.GenericAlias(list, (kind,))


def _fields(fields: dict[str, Any]) -> list[Any]:
    made = []
    for name, kind in fields.items():
        annotated, default = kind if isinstance(kind, tuple) else (kind, NODEFAULT)
        # Absence is msgspec's own UNSET: unlike a default, the schema then names no value.
        made.append((name, annotated | msgspec.UnsetType, default) if default is UNSET else (name, annotated))
    return made


def _without_none(kind: Any) -> Any:
    """`X | None` as X: views leave a None out."""
    arguments = getattr(kind, "__args__", ())
    if type(None) not in arguments:
        return kind
    kept = [argument for argument in arguments if argument is not type(None)]
    made = kept[0]
    for argument in kept[1:]:
        made = made | argument
    return made


# --- Machines and what is done to them ----------------------------------------------------------------------------

Route = shape(
    "Route",
    "Where a machine's name leads now; without `ssh` nowhere, and `state` says whether that will change.",
    machine=str,
    epoch=int,
    state=MachineState,
    ssh=maybe(SshEndpoint),
    host_key=maybe(str),
    instance_id=maybe(str),
    paused_instance_id=maybe(str),
    slept_at=maybe(float),
    updated_at=float,
)
Spare = shape(
    "Spare",
    "A machine's second host: where it is, whether it runs, what it has, what it costs now.",
    instance_id=str,
    state=Literal["stopped", "running", "starting"],
    region=maybe(str),
    host_id=maybe(str),
    snapshot_id=maybe(str),
    price_usd_per_hour=float,
)
HeartbeatView = shape(
    "Heartbeat",
    "What an agent last said of itself and its host, and how long ago. What it does not know is left out.",
    received_at=float,
    age_seconds=float,
    sequence=int,
    workload=WorkloadSeen,
    readings=Readings,
    agent=AgentSeen,
)
MachineView = shown(
    "Machine",
    Machine,
    "What a user names and keeps; `name` is its id. Times are seconds since the epoch, UTC; money is USD.",
    hidden=("id", *views.HIDDEN),
    name=str,
    offer=maybe(Offer),
    price_usd_per_hour=maybe(float),
    proof=maybe(Proof),
    spare=maybe(Spare),
    route=maybe(Route),
    heartbeat=maybe(HeartbeatView),
    cost_usd=float,
)
InstanceView = shown(
    "Instance",
    Instance,
    "One rental at a provider, with what it has cost.",
    hidden=("next_check_at", "open", "outcome_unknown", "keys_attached", *views.HIDDEN),
    cost_usd=float,
    gpu_usd=float,
    storage_usd=float,
    price_usd_per_hour=float,
)
StepView = shown(
    "Step",
    Step,
    "One step of an operation. Its cost is what all its rentals accrued while it went on.",
    ok=bool,
    seconds=float,
    cost_usd=float,
)
OperationView = shown(
    "Operation",
    Operation,
    "One long action on a machine: its steps, its rentals, what it has cost.",
    hidden=views.HIDDEN,
    progress=maybe(dict[str, float]),
    steps=many(StepView),
    instances=many(InstanceView),
    cost_usd=float,
    rehearsal=maybe(dict[str, float | bool]),
)
SnapshotView = shown(
    "Snapshot",
    Snapshot,
    "A copy of a workspace: what it holds and whether it counts; `packs` as a number.",
    hidden=("manifest", "manifest_sha256", *views.HIDDEN),
    packs=int,
    stored_bytes=int,
)
Signed = shown(
    "IdleSignal",
    Signal,
    "One sign of use: what was seen of it, and the most that is not use, in `unit`.",
    words=str,
)
Sleep = shape(
    "Sleep",
    "How it would sleep, or sleeps, with the arithmetic.",
    tier=str,
    next_tier=maybe(str),
    next_at_seconds=maybe(float),
    learned=bool,
    rows=many(Row),
)
Idle = shape(
    "Idle",
    "Whether a machine is idle, and why or why not; `idle` null: it does not serve.",
    name=str,
    state=MachineState,
    idle=bool | None,
    words=list[str],
    idle_at=maybe(float),
    sleep_after_seconds=maybe(float),
    proven_idle_seconds=maybe(float),
    keep_until=maybe(float),
    next_due=maybe(Due),
    signals=many(Signed),
    sleep=maybe(Sleep),
    now=float,
)
JobView = shown(
    "Job",
    Job,
    "A command and the machine that is rented for it.",
    hidden=jobs.HIDDEN,
    cost_usd=float,
    machine_state=maybe(MachineState),
    now=maybe(float),
)
Begun = shape("Begun", "An operation that a job began with.", id=str, kind=OperationKind, state=OperationState)
Log = shape(
    "JobLog",
    "The end of what a job's command wrote.",
    text=str,
    read_at=float,
    instance_id=str | None,
    file_bytes=int,
)

# --- Money, and who did what --------------------------------------------------------------------------------------

Spent = shape(
    "BudgetWindow", "A limit, and what is spent of it at most.", limit_usd=float, spent_usd=float, share=float
)
BudgetView = shape(
    "Budget",
    'What may be spent: on `machine`, or ("") on all together; `windows` by hour, day and total.',
    machine=str,
    windows=types.GenericAlias(dict, (str, Spent)),
    reached=list[str],
    action=BudgetAction,
    warn_at=list[float],
    is_default=bool,
    set_by=str,
)
CreditView = shape(
    "Credit",
    "What an account at a provider can still spend, and for how long that lasts.",
    provider=str,
    usd_per_hour=float,
    seen_at=float,
    credit_usd=maybe(float),
    hours_left=maybe(float),
    low=bool,
)
AuditView = shown("AuditEntry", AuditEntry, "One change that was asked for, and how it ended.", hidden=audit.HIDDEN)

# --- Models -------------------------------------------------------------------------------------------------------

Need = shown("Need", advisor.Need, "What a model needs at one quantisation.")
FitView = shown(
    "Fit",
    Fit,
    "A kind of GPU and a count that hold a model: the cheapest such offer, and how many there are.",
    usd_per_day=float,
)
Advice = shape(
    "Advice",
    "How much GPU memory a model needs, at each quantisation, and the offers that hold it.",
    model=str,
    repository=maybe(str),
    kind=str,
    parameters_billions=float,
    known=bool,
    gated=bool,
    assumed=list[str],
    template=str,
    requests=int,
    download_gb=float,
    disk_gb=float,
    needs=many(Need),
    offers=many(FitView),
    context=maybe(int),
    max_context=maybe(int),
    unsearched_gpu_counts=maybe(list[int]),
    unanswered=maybe(list[str]),
)
Model = shape(
    "Model",
    "A model that a machine declares, in OpenAI's shape; `machine` and `state` are ours.",
    id=str,
    object=Literal["model"],
    created=int,
    owned_by=str,
    machine=str,
    state=MachineState,
)
OpenAiFault = shape("OpenAiFault", "What went wrong.", message=str, type=str, param=str | None, code=str)
OpenAiError = shape("OpenAiError", "An error in OpenAI's shape.", error=OpenAiFault)
GatewayToken = shape(
    "GatewayToken", "A token for one machine's ports.", machine=str, token=str, generation=int, expires_at=maybe(int)
)
