"""What the end of a job does next: see the workload at rest → keep its log's end → snapshot, verified → release. Pure.

Until the snapshot is verified nothing is given up. A host that dies meanwhile is the failover's, which takes over.
"""

from __future__ import annotations

from collections.abc import Sequence

from dumont.domain import snapshots
from dumont.domain.actions import Abandon, Action, AwaitStop, BeginDestroy, Finish, GiveUp, ReadLog, Wait
from dumont.domain.destruction import CHECKED, RELEASE
from dumont.domain.records import Instance, Machine, MachineState, Operation, Problem
from dumont.domain.tending import clear

STOPPING = "start"
LOG = "log"


def decide(op: Operation, machine: Machine | None, instances: Sequence[Instance], now: float) -> Action:
    """The next action. `instances` are those that this operation answers for: none before it lets go."""
    if op.phase == RELEASE:
        return clear(instances, now)
    if machine is None or machine.operation_id != op.id or machine.epoch != op.epoch:
        return Abandon()
    if op.problem is not None or op.phase == snapshots.DONE:
        return Finish()
    if op.phase == CHECKED:
        return BeginDestroy()
    if machine.state is not MachineState.RUNNING or machine.instance_id is None:
        return GiveUp(Problem(code="not_running", detail=f"{machine.id} is {machine.state.value}"))
    if op.phase in (STOPPING, LOG) and now < op.not_before:
        return Wait(op.not_before)
    if op.phase == STOPPING:
        return AwaitStop()
    if op.phase == LOG:
        return ReadLog()
    return snapshots.run_engine(op, machine.instance_id, now)
