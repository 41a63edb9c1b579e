"""A machine that lives and is moved because its user wants it: what no snapshot has is saved before the fence. Pure.

The old host goes in the end, and nobody has said that its files may go with it (invariant 4): so the move begins like a
destroy that takes a snapshot first. Whatever keeps it from being saved ends the move, with the machine as it was.
"""

from __future__ import annotations

from dumont.domain import snapshots
from dumont.domain.actions import Abandon, Action, Fence, Finish, GiveUp, InspectWorkspace, Wait
from dumont.domain.destruction import CHECKED
from dumont.domain.records import Machine, MachineState, Operation, Problem

CONFIRM = "start"
"""The first phase of every failover: nothing is changed yet."""
_SAVING = frozenset({*snapshots.RUNS, *snapshots.START_OF, snapshots.VERIFYING, CHECKED})
LOOK = "check workspace"
"""The step of a look at the workspace."""
EMPTY_FOR_SECONDS = 5.0
"""For how long after a look that found no file there is taken to be none; a fence comes at once after it."""
SAVE_TRIES = 5
"""A host, or a store, that does not answer so many times is not waited for: a death must not wait behind the move."""


def is_fenced(op: Operation) -> bool:
    """Whether a failover has raised its machine's epoch: before that, nothing is changed."""
    return op.phase != CONFIRM and op.phase not in _SAVING


def is_suspect(op: Operation, machine: Machine | None) -> bool:
    """Whether the machine still runs on the instance that this operation is about."""
    return (
        machine is not None
        and machine.state is MachineState.RUNNING
        and machine.epoch == op.epoch
        and machine.instance_id == op.suspect_instance_id
    )


def may_lose(op: Operation) -> bool:
    """Whether its user said that nothing in its workspace need be saved, or nothing can be: its host was silent when
    they wished to be rid of it, and what it loses is what any death loses. That a machine counts as stateless is for
    deaths: nobody said that a living one may lose its files."""
    return op.discard or not op.snapshot_first


def _looked_at(op: Operation) -> float:
    return max((step.ended_at for step in op.steps if step.name == LOOK), default=0.0)


def decide(op: Operation, machine: Machine | None, now: float) -> Action:
    """The next action of a move by hand, up to its fence."""
    if machine is None or not is_suspect(op, machine):
        return Abandon()
    if op.found_empty and not may_lose(op) and op.problem is None and now > _looked_at(op) + EMPTY_FOR_SECONDS:
        # Whoever looked died before the fence: somebody may have put files there since.
        return Wait(op.not_before) if now < op.not_before else InspectWorkspace(machine.instance_id or "")
    if may_lose(op) or op.phase == CHECKED:
        return Finish() if op.problem is not None and not op.discard else Fence(f"{op.requested_by} wants it")
    if machine.operation_id != op.id:
        return Abandon()
    if op.problem is not None:
        return Finish()
    if op.phase == CONFIRM:
        return Wait(op.not_before) if now < op.not_before else InspectWorkspace(machine.instance_id or "")
    if op.tries >= SAVE_TRIES:
        return GiveUp(
            Problem(
                code="unreachable",
                detail="what its workspace holds could not be saved: its host, or the object store, does not answer",
                hint=f"look why (dumont events {op.machine}); `dumont failover {op.machine} --discard` moves it with "
                "what its last snapshot has",
            )
        )
    return snapshots.run_engine(op, machine.instance_id or "", now)
