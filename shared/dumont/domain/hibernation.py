"""What a hibernation does next: stop the workload → snapshot, verified → pause or release → asleep. Pure.

Until the snapshot is verified nothing is given up: whatever fails before leaves the machine as it was, awake.
"""

from __future__ import annotations

from collections.abc import Sequence

from dumont.domain import snapshots
from dumont.domain.actions import Abandon, Action, AwaitStop, FallAsleep, Finish, GiveUp, Pause, Wait
from dumont.domain.destruction import CHECKED, RELEASE
from dumont.domain.records import Instance, Machine, MachineSpec, MachineState, Operation, Problem
from dumont.domain.tending import clear

STOPPING = "start"
PAUSING = "pausing"
STOP_SECONDS = 30.0
"""How long the workload may take to stop, beside the two heartbeats by which it is told and tells."""
COPY_SECONDS = 30.0
COPY_TRIES = 4
"""How long and how often the copy is tried to be begun: all that time the workload is stopped for nothing."""
SILENT_TRIES = 2
SILENT_SECONDS = 10.0
"""A host that answers no shell, and has not been heard for so long after a heartbeat was due, is not waited for: the
machine is awake again, and its silence is looked into."""
PAUSE_SECONDS = 120.0
"""How long a provider may take to stop an instance before it is released instead: the snapshot has all that it has."""
PAUSE, HIBERNATE = "pause", "hibernate"
BY_BUDGET = "budget"
"""Who asks where a budget is spent: then a machine sleeps that may be in the middle of its work."""


def decide(op: Operation, machine: Machine | None, instances: Sequence[Instance], now: float) -> Action:
    """The next action. `instances` are those that this operation answers for: none before the machine sleeps."""
    if op.phase == RELEASE:
        return clear([i for i in instances if machine is None or i.id != machine.paused_instance_id], now)
    if machine is None or machine.operation_id != op.id or machine.epoch != op.epoch:
        return Abandon()
    if op.problem is not None or machine.state is not MachineState.HIBERNATING or machine.instance_id is None:
        return Finish()
    if op.phase == STOPPING:
        return AwaitStop() if now >= op.not_before else Wait(op.not_before)
    if op.phase in (CHECKED, PAUSING):
        if op.tier == HIBERNATE or (op.tried_since and now >= op.tried_since + PAUSE_SECONDS):
            return FallAsleep()
        return Pause(machine.instance_id) if now >= op.not_before else Wait(op.not_before)
    if op.phase == snapshots.COPY and op.tries >= COPY_TRIES and now >= copy_since(op) + COPY_SECONDS:
        return GiveUp(
            Problem(
                code="unreachable",
                detail=f"the copy could not be begun within {now - copy_since(op):.0f} s: its host, or the object "
                "store, does not answer",
                hint="try again when both do",
            )
        )
    return snapshots.run_engine(op, machine.instance_id, now)


def stop_seconds(spec: MachineSpec) -> float:
    """How long the workload may take to have stopped: its agent hears of it, and tells of it, with heartbeats."""
    return STOP_SECONDS + 2.0 * spec.heartbeat_seconds


def copy_since(op: Operation) -> float:
    """Since when the copy is tried."""
    return op.steps[-1].ended_at if op.steps else op.created_at


def is_silent(op: Operation, spec: MachineSpec, heard_at: float, now: float) -> bool:
    """Whether neither a shell nor an agent answers on its host; `heard_at` is when its agent was last heard."""
    return op.tries >= SILENT_TRIES and unheard(spec, heard_at, now)


def unheard(spec: MachineSpec, heard_at: float, now: float) -> bool:
    """Whether its agent has been silent for too long to begin, or to wait on."""
    return now > heard_at + spec.heartbeat_seconds + SILENT_SECONDS


NOT_STOPPED = Problem(
    code="not_stopped",
    detail="its workload did not stop in its time; a copy would miss what it goes on writing",
    hint="stop it yourself, or see why it does not end: dumont run NAME -- cat .dumont/workload.log",
)
SILENT = Problem(
    code="host_silent",
    detail="its host stopped answering before its workspace was saved",
    hint="if it is dead, a failover begins by itself: dumont events NAME",
)
