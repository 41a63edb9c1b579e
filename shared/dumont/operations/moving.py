"""A move by hand, up to its fence: the workspace is looked at, and saved if it holds anything."""

from __future__ import annotations

from msgspec.structs import replace

from dumont.domain import unsaved
from dumont.domain.actions import (
    Abandon,
    Action,
    Finish,
    GiveUp,
    InspectWorkspace,
    PollEngine,
    StartEngine,
    VerifySnapshot,
)
from dumont.domain.records import Machine, Operation, OperationState
from dumont.operations import engine_runs, unsaved_work
from dumont.operations.invocation import Invocation
from dumont.operations.verification import verify
from dumont.ports import Transaction


def perform(invocation: Invocation, op: Operation, machine: Machine | None, action: Action) -> None:
    """Carry out one action before the fence."""
    match action:
        case InspectWorkspace():
            unsaved_work.inspect(invocation, op, action.instance_id)
        case StartEngine() if machine is not None:
            engine_runs.start(invocation, op, machine)
        case PollEngine() if machine is not None:
            engine_runs.poll(invocation, op, machine)
        case VerifySnapshot():
            verify(invocation, op)
        case GiveUp():
            problem = replace(action.problem, safe=unsaved.SAFE)
            invocation.apply(lambda _tx, o, _machine: replace(o, problem=o.problem or problem))
        case Finish() | Abandon():
            _end(invocation, op, abandoned=isinstance(action, Abandon))
        case _:
            raise TypeError(f"a move cannot {action}")


def _end(invocation: Invocation, op: Operation, *, abandoned: bool) -> None:
    """It is not moved: the machine runs on as it was, and is free again."""
    engine_runs.end_keys(invocation.ports, op)

    def change(tx: Transaction, o: Operation, machine: Machine | None) -> Operation:
        engine_runs.give_up_taking(tx, o)
        if machine is not None and machine.operation_id == o.id:
            tx.put(replace(machine, operation_id=None, updated_at=invocation.now()))
        state = OperationState.SUPERSEDED if abandoned and o.problem is None else OperationState.FAILED
        return replace(o, state=state, store_key_id="")

    invocation.apply(change)
