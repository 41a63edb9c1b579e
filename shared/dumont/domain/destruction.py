"""What a destroy (and a reap) does next: look at what would be lost → fence → release all → done. Pure.

What would be lost: nothing if the workspace is empty, or as its last verified snapshot has it, or if a snapshot that is
taken first comes out complete.
"""

from __future__ import annotations

from collections.abc import Sequence

from dumont.domain import snapshots
from dumont.domain.actions import Abandon, Action, BeginDestroy, Finish, InspectWorkspace, Wait
from dumont.domain.records import Instance, Machine, MachineState, Operation
from dumont.domain.tending import clear

LOOK = "start"
CHECKED = "checked"
"""What would be lost has been looked at, and it is nothing."""
RELEASE = "release"


def decide(op: Operation, machine: Machine | None, instances: Sequence[Instance], now: float) -> Action:
    """The next action of a destroy. `instances` are those that this operation answers for, gone ones too."""
    if op.phase == RELEASE:
        return clear(instances, now)
    if machine is None or machine.operation_id != op.id:
        return Abandon()
    if op.problem is not None and not op.discard:  # "--discard" may have been said after the refusal
        return Finish()
    # Only a machine that once ran has a workspace; one that never proved itself holds nothing of the user's.
    has_workspace = machine.state is MachineState.RUNNING and machine.instance_id is not None
    if not has_workspace or op.discard or op.phase == CHECKED:
        return BeginDestroy()
    if op.phase == LOOK:
        return Wait(op.not_before) if now < op.not_before else InspectWorkspace(machine.instance_id or "")
    return snapshots.run_engine(op, machine.instance_id or "", now)


def decide_reap(op: Operation, machine: Machine | None, instances: Sequence[Instance], now: float) -> Action:
    """The next action of a reap: it has instances and no say over the machine."""
    del op, machine
    return clear(instances, now)
