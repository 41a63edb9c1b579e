"""What tends a machine's spare, and what a rehearsal does next. Pure.

A spare is a second host, kept restored to the last snapshot. It never serves while it is one: when its machine fails
over it is handed to that operation, and races there as any other. Neither operation holds the machine, so that
snapshots and failovers go on beside them; `Machine.spare_operation_id` holds off a second one.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from dumont.domain import provisioning
from dumont.domain.actions import Action, Conclude, Finish, GiveUp, HandOver, Look, Settle, Start, Stop, Wait, Win
from dumont.domain.records import Instance, InstanceState, Machine, MachineSpec, MachineState, Operation, Problem
from dumont.domain.snapshots import Snapshot
from dumont.domain.tending import clear

PARK = "park"
"""The spare is being stopped."""
LOOK_STOPPED_SECONDS = 1800.0
"""A stopped spare sends no heartbeat: its provider is asked so often whether it is still there."""
LOOKS_MOST = 4
LOOK_AGAIN_SECONDS = 5.0
AGAIN_FIRST_SECONDS, AGAIN_MOST_SECONDS = 60.0, 3600.0
NOT_WANTED = Problem(code="spare_not_wanted", detail="its machine has no spare any more")
_ALIVE = (
    InstanceState.INTENDED, InstanceState.CREATED, InstanceState.BOOTED, InstanceState.PROVEN, InstanceState.STOPPED,
)  # fmt: skip


def holds(op: Operation, machine: Machine | None) -> bool:
    """Whether this operation may rent beside the machine that runs. Whatever epoch: a spare is of none."""
    return machine is not None and machine.spare_operation_id == op.id and machine.state is MachineState.RUNNING


def is_alive(instance: Instance) -> bool:
    """Whether an instance is neither to go nor gone."""
    return instance.state in _ALIVE


def spec_of(machine: Machine) -> MachineSpec:
    """A spare is in no hurry: one host at a time."""
    return replace(machine.spec, race_width=1)


def decide(op: Operation, machine: Machine | None, instances: Sequence[Instance], now: float) -> Action:
    """The next action for a machine's spare. `instances` are those that this operation answers for, gone ones too."""
    ours = _ours(op, machine, instances, now)
    if ours is not None or machine is None:
        return ours if ours is not None else Finish()
    if machine.spec.spare == "none":
        return GiveUp(NOT_WANTED)
    if op.unrestorable:
        return GiveUp(Problem(code="unrestorable", detail="every snapshot is damaged: a spare would be empty"))
    spare = next((i for i in instances if i.id == machine.spare_instance_id and is_alive(i)), None)
    if spare is not None and spare.problem is not None:
        return GiveUp(spare.problem)  # it could not be brought up to date; it is kept as it is
    if spare is not None and op.suspect_instance_id == spare.id:
        return Look(spare.id) if now >= op.not_before else Wait(op.not_before)
    for instance in instances:
        if instance.state is InstanceState.STOPPED:
            return _stopped(op, machine.spec, instance, now)
    action = provisioning.race(op, spec_of(machine), instances, now, rents=spare is None)
    return Settle(action.instance_id) if isinstance(action, Win) else action


def _stopped(op: Operation, spec: MachineSpec, instance: Instance, now: float) -> Action:
    if spec.spare == "stopped" and (op.snapshot_id is None or instance.restored_snapshot_id == op.snapshot_id):
        return Settle(instance.id)
    return Start(instance.id) if now >= instance.next_check_at else Wait(instance.next_check_at)


def decide_drill(op: Operation, machine: Machine | None, instances: Sequence[Instance], now: float) -> Action:
    """The next action of a rehearsal: as a cold failover, up to the moment from which its winner would serve."""
    ours = _ours(op, machine, instances, now)
    if ours is not None or machine is None:
        return ours if ours is not None else Finish()
    if op.unrestorable:
        return GiveUp(
            Problem(
                code="unrestorable",
                detail="no snapshot could be restored: each one is damaged",
                safe="The machine runs on, untouched.",
                hint=f"take a new snapshot now: dumont snapshot {op.machine}",
            )
        )
    action = provisioning.race(op, machine.spec, instances, now)
    return Conclude(action.instance_id) if isinstance(action, Win) else action


def _ours(op: Operation, machine: Machine | None, instances: Sequence[Instance], now: float) -> Action | None:
    """What comes before all else: to hand over, to give way, to clear up; None where there is work to go on with."""
    failing_over = machine is not None and machine.state is MachineState.FAILING_OVER
    if failing_over and machine is not None and machine.spare_operation_id == op.id:
        return HandOver()
    kept = () if machine is None else (machine.spare_instance_id, machine.instance_id)
    if op.phase == PARK and machine is not None and holds(op, machine):
        return _park(machine, instances, now)
    if op.phase in (provisioning.RELEASE, provisioning.GIVE_UP, PARK):
        return clear([i for i in instances if i.id not in kept], now)
    if not holds(op, machine):
        return GiveUp(Problem(code="superseded", detail="its machine does not run any more, or not with this"))
    return None


def _park(machine: Machine, instances: Sequence[Instance], now: float) -> Action:
    spare = next((i for i in instances if i.id == machine.spare_instance_id and is_alive(i)), None)
    left = clear([i for i in instances if i is not spare and i.id != machine.instance_id], now)
    if spare is None or (spare.state is InstanceState.STOPPED and spare.stopped_at is not None):
        return left
    if now >= spare.next_check_at:
        return Stop(spare.id)
    if isinstance(left, Finish):
        return Wait(spare.next_check_at)
    return Wait(min(left.until, spare.next_check_at)) if isinstance(left, Wait) else left


# --- When a spare needs tending -----------------------------------------------------------------------------------


class Need(msgspec.Struct, frozen=True):
    """Why the spare needs an operation, or None; and when to look next (None: only when something happens)."""

    why: str | None = None
    look_at: float | None = None


def need(
    machine: Machine, spare: Instance | None, newest: Snapshot | None, known: Sequence[Snapshot], now: float
) -> Need:
    """What a machine's spare needs now. `newest` is the snapshot that it should have, `known` all of the machine's."""
    spec = machine.spec
    alive = spare is not None and is_alive(spare)
    if spec.spare == "none" or machine.state is not MachineState.RUNNING:
        if machine.spare_instance_id is not None:
            return Need("it is not wanted any more" if machine.state is MachineState.RUNNING else None, now + 60.0)
        asleep = machine.state is MachineState.HIBERNATED
        return Need(None, now + 60.0 if spec.spare != "none" and not asleep else None)
    if machine.spare_after is not None and now < machine.spare_after:
        return Need(None, machine.spare_after)
    if newest is None and not spec.stateless:
        return Need(None, None)  # a spare without files is of no use: the first snapshot brings the look forward
    if spare is None or not alive:
        return Need("there is none", None)
    stopped = spare.state is InstanceState.STOPPED
    if (spec.spare == "running") == stopped:
        return Need(f"it is to be {spec.spare}", None)
    if newest is not None and spare.restored_snapshot_id != newest.id and _is_too_old(spec, spare, newest, known):
        return Need("there is a newer snapshot", None)
    return Need(None, spare.next_check_at if stopped else None)


def _is_too_old(spec: MachineSpec, spare: Instance, newest: Snapshot, known: Sequence[Snapshot]) -> bool:
    has = next((s for s in known if s.id == spare.restored_snapshot_id), None)
    if spec.spare == "running" or has is None:
        return True
    return newest.created_at - has.created_at >= spec.spare_refresh_minutes * 60.0


def again_after_seconds(failures: int) -> float:
    """How long after the n-th failure in a row the next try is made."""
    return min(AGAIN_MOST_SECONDS, AGAIN_FIRST_SECONDS * 2.0 ** min(failures, 10))
