"""What a hibernation does next: stop the workload → snapshot, verified → pause or release → asleep. Pure.

Until the snapshot is verified nothing is given up: whatever fails before leaves the machine as it was, awake.
"""

from __future__ import annotations

from collections.abc import Sequence

from dumont.domain import snapshots
from dumont.domain.actions import Abandon, Action, AwaitStop, FallAsleep, Finish, Pause, Wait
from dumont.domain.destruction import CHECKED, RELEASE
from dumont.domain.records import Instance, Machine, MachineState, Operation
from dumont.domain.tending import clear

STOPPING = "start"
PAUSING = "pausing"
STOP_SECONDS = 30.0
"""How long the workload may take to stop before the snapshot is taken all the same."""
PAUSE_SECONDS = 120.0
"""How long a provider may take to stop an instance before it is released instead: the snapshot has all that it has."""
PAUSE, HIBERNATE = "pause", "hibernate"


def decide(op: Operation, machine: Machine | None, instances: Sequence[Instance], now: float) -> Action:
    """The next action. `instances` are those that this operation answers for: none before the machine sleeps."""
    if op.phase == RELEASE:
        return clear(instances, now)
    if machine is None or machine.operation_id != op.id or machine.epoch != op.epoch:
        return Abandon()
    if op.problem is not None or machine.state is not MachineState.HIBERNATING or machine.instance_id is None:
        return Finish()
    if op.phase == STOPPING:
        return AwaitStop() if now >= op.not_before else Wait(op.not_before)
    if op.phase == CHECKED:
        return FallAsleep() if op.tier == HIBERNATE else Pause(machine.instance_id)
    if op.phase == PAUSING:
        if now >= op.tried_since + PAUSE_SECONDS:
            return FallAsleep()
        return Pause(machine.instance_id) if now >= op.not_before else Wait(op.not_before)
    return snapshots.run_engine(op, machine.instance_id, now)
