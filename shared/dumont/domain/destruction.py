"""What a destroy (and a reap) does next: look at what would be lost → fence → release all → done. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from dumont.domain.actions import Abandon, Action, BeginDestroy, Finish, InspectWorkspace, Wait
from dumont.domain.records import Instance, Machine, MachineState, Operation
from dumont.domain.tending import clear

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
    if has_workspace and not op.discard and op.phase == "start":
        if now < op.not_before:
            return Wait(op.not_before)
        return InspectWorkspace(machine.instance_id or "")
    return BeginDestroy()


def decide_reap(op: Operation, machine: Machine | None, instances: Sequence[Instance], now: float) -> Action:
    """The next action of a reap: it has instances and no say over the machine."""
    del op, machine
    return clear(instances, now)
