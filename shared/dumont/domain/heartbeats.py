"""Heartbeats: what an agent reports, what it is answered, and when its silence is to be looked into. Pure."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from dumont.domain.idle import Activity
from dumont.domain.records import Instance, InstanceState, Machine, MachineSpec, MachineState, Record
from dumont.domain.turns import Traffic

MISSED_GRACE_SECONDS = 2.5
"""How late a heartbeat may be: 2.5 s hold a slow function's cold start and a lost packet's retransmission."""
WAITING_INTERVAL_SECONDS = 1.0
"""A host that may soon serve reports so often: it learns within a second that it does."""

Text = Annotated[str, Meta(max_length=512)]
Whole = Annotated[int, Meta(ge=-(10**15), le=10**15)]
"""No store holds any whole number there is: Firestore's have 64 bits."""
Number = Annotated[float, Meta(ge=-1e15, le=1e15)]


class GpuUse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One GPU now; None is unknown."""

    utilization_percent: Number | None = None
    memory_used_mib: Number | None = None
    memory_total_mib: Number | None = None
    temperature_c: Number | None = None
    power_w: Number | None = None


class Readings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the agent read; None is unknown, and unknown is not idle (invariant 6)."""

    gpus: Annotated[tuple[GpuUse, ...], Meta(max_length=32)] | None = None
    cpu_percent: Number | None = None
    memory_used_mib: Number | None = None
    memory_total_mib: Number | None = None
    disk_free_gib: Number | None = None
    disk_write_bytes_per_second: Number | None = None
    network_receive_bytes_per_second: Number | None = None
    network_send_bytes_per_second: Number | None = None
    ssh_sessions: Number | None = None
    user_processes: Number | None = None
    load_1m: Number | None = None


class WorkloadSeen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the workload is."""

    state: Text = "none"
    restarts: Whole = 0
    exit_status: Whole | None = None
    since: Number | None = None
    detail: Text = ""


class EngineSeen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run of the snapshot engine on the host: its name, and whether it has ended."""

    run: Text = ""
    ended: bool = False


class AgentSeen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The agent itself."""

    sha256: Text = ""
    python: Text = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A heartbeat's body, as a host sends it: hostile until checked; who it is from is in its token, not here."""

    version: Whole = 1
    machine: Text = ""
    instance: Text = ""
    epoch: Whole = 0
    boot_id: Text = ""
    sequence: Annotated[int, Meta(ge=0, le=10**15)] = 0
    sent_at: Number = 0.0
    uptime_seconds: Number | None = None
    readings: Readings = Readings()
    workload: WorkloadSeen = WorkloadSeen()
    engine: EngineSeen | None = None
    agent: AgentSeen = AgentSeen()


class Heartbeat(Record, frozen=True, kw_only=True):
    """The last heartbeat of an instance (`id`). Written over with each one, by the heartbeat function alone but for
    `deadline`, which the sweep moves on when it has passed."""

    collection: ClassVar[str] = "heartbeats"

    machine: str
    epoch: int
    received_at: float
    sequence: int
    boot_id: str = ""
    readings: Readings = Readings()
    workload: WorkloadSeen = WorkloadSeen()
    agent: AgentSeen = AgentSeen()
    traffic: Traffic = Traffic()
    """What went over its network since its agent was first heard, by its readings."""
    activity: Activity | None = None
    """What its heartbeats have proven of its use."""
    waits_since: float | None = None
    """When it was first answered that it is not to serve; None while it is. What it reports later it knows that."""
    deadline: float | None = None
    """When its silence must be looked into; None for a host that does not serve."""
    suspect_operation_id: str = ""
    """The failover that looks into its silence; "" again with the next heartbeat."""
    shard: int = 0
    expires_at: float | None = None
    """When the store may forget it (TTL)."""


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent is to keep running."""

    run: str
    restart: str = "always"
    health: str = ""
    stop_seconds: float = 10.0
    max_restarts: int | None = None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What a heartbeat is answered: the desired state."""

    state: Literal["serve", "wait", "fenced"]
    epoch: int
    interval_seconds: float
    lease_seconds: float
    workload: Workload | None = None
    destroy: bool = False


_SERVING = (MachineState.RUNNING,)


def missed_after_seconds(interval_seconds: float) -> float:
    """How long after a heartbeat the next one counts as missed."""
    return interval_seconds + MISSED_GRACE_SECONDS


def serves(machine: Machine | None, instance_id: str) -> bool:
    """Whether this instance serves: of all that ever call, one, since a machine has one (invariant 1)."""
    return machine is not None and machine.instance_id == instance_id and machine.state in _SERVING


def may_yet_serve(machine: Machine | None, instance_id: str, epoch: int) -> bool:
    """Whether an instance is one of those that race for the machine now, or its own, which is being put to sleep."""
    if machine is None or machine.state is MachineState.DESTROYING:
        return False
    return machine.instance_id == instance_id or (machine.instance_id is None and machine.epoch == epoch)


def stands_by(machine: Machine | None, record: Instance | None) -> bool:
    """Whether an instance is kept beside the one that serves: its spare, one that becomes it, or a rehearsal's."""
    out = (InstanceState.LOST, InstanceState.RELEASING, InstanceState.GONE)
    return machine is not None and record is not None and record.standby and record.open and record.state not in out


def races(machine: Machine | None, record: Instance | None) -> bool:
    """Whether an instance, of whatever epoch, is of the operation that looks for the machine's next host."""
    if machine is None or record is None or machine.instance_id is not None:
        return False
    return record.open and machine.operation_id == record.operation_id


def reply(machine: Machine | None, record: Instance | None, *, instance_id: str, epoch: int) -> Reply:
    """The desired state of the instance that calls. `record` is needed, and read, only where it is not to serve."""
    if machine is not None and serves(machine, instance_id):
        spec = machine.spec
        return Reply(
            state="serve",
            epoch=machine.epoch,
            interval_seconds=spec.heartbeat_seconds,
            lease_seconds=spec.fence_after_seconds,
            workload=workload_of(spec) if not machine.workload_held else None,
        )
    spec = machine.spec if machine is not None else MachineSpec()
    lease_seconds = spec.fence_after_seconds
    if stands_by(machine, record):
        interval = spec.heartbeat_seconds
        return Reply(state="wait", epoch=epoch, interval_seconds=interval, lease_seconds=lease_seconds)
    may = may_yet_serve(machine, instance_id, epoch) or (
        races(machine, record) and record is not None and record.state is not InstanceState.RELEASING
    )
    if may and record is not None and record.state is not InstanceState.LOST:
        interval = min(WAITING_INTERVAL_SECONDS, spec.heartbeat_seconds)
        return Reply(state="wait", epoch=epoch, interval_seconds=interval, lease_seconds=lease_seconds)
    gone = record is not None and record.state in (InstanceState.RELEASING, InstanceState.GONE)
    interval = spec.heartbeat_seconds
    return Reply(state="fenced", epoch=epoch, interval_seconds=interval, lease_seconds=lease_seconds, destroy=gone)


def workload_of(spec: MachineSpec) -> Workload | None:
    """The machine's workload; None where none was named."""
    if not spec.run:
        return None
    return Workload(run=spec.run, restart=spec.restart, health=spec.health, max_restarts=spec.max_restarts)
