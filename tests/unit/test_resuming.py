"""What was wished while the sweeps rest is swept for, even if whoever wished it could not resume them: who works on it
does, and its message comes again until somebody has."""

from __future__ import annotations

from dataclasses import replace as with_ports

import pytest
from msgspec.structs import replace

from dumont.domain.actions import Action, Release, Wait
from dumont.domain.errors import ScheduleUnavailable
from dumont.domain.records import Operation, OperationKind, OperationState
from dumont.domain.rest import RestPhase
from dumont.operations.invocation import Invocation
from dumont.operations.rest import rest, wake_if_possible
from dumont.operations.runner import Outcome, Workflow, run_operation
from dumont.optional_ports import ScheduleState
from dumont.ports import Ports
from tests.unit.test_rest import NOW, Job, operation, phase, put, quiet_world


def waits(*_: object) -> Action:
    return Wait(until=NOW + 10_000.0)


def does_nothing(*_: object) -> None:
    raise AssertionError("it only waits")


WORKFLOWS = {OperationKind.PROVISION: Workflow(decide=waits, perform=does_nothing)}


def wished_in_vain() -> tuple[Ports, Job]:
    """The sweeps rest; an operation was committed, and its wish could not resume them."""
    ports, _ = quiet_world()
    job = Job()
    assert rest(ports, job)
    job.reachable = False
    put(ports, operation())
    assert not wake_if_possible(ports, job)
    return with_ports(ports, make_schedule=lambda: job), job


def test_who_works_on_a_wish_resumes_the_sweeps_that_it_could_not() -> None:
    ports, job = wished_in_vain()
    job.reachable = True
    assert run_operation(ports, "op-1", WORKFLOWS) is Outcome.WAITING
    assert (job.state_now, phase(ports)) == (ScheduleState.RUNNING, RestPhase.AWAKE)
    assert run_operation(ports, "op-1", WORKFLOWS) is Outcome.WAITING
    assert job.told == ["pause", "resume"], "who finds them awake asks the scheduler nothing"


def test_work_is_done_whether_or_not_the_scheduler_answers_and_its_message_comes_again_until_it_does() -> None:
    ports, job = wished_in_vain()
    done: list[str] = []

    def step(_: Operation, *__: object) -> Action:
        return Wait(until=NOW + 10_000.0) if done else Release(instance_id="i-1")

    def perform(invocation: Invocation, op: Operation, *_: object) -> None:
        done.append(op.id)
        invocation.apply(lambda _tx, o, _machine: replace(o, state=OperationState.SUCCEEDED, ended_at=NOW))

    workflows = {OperationKind.PROVISION: Workflow(decide=step, perform=perform)}
    with pytest.raises(ScheduleUnavailable):
        run_operation(ports, "op-1", workflows)
    assert done == ["op-1"]
    op = ports.store.get(Operation, "op-1")
    assert op is not None
    assert op.lease_owner is None, "whoever it comes to next is not held off"
    with pytest.raises(ScheduleUnavailable):
        run_operation(ports, "op-1", workflows)
    job.reachable = True
    assert run_operation(ports, "op-1", workflows) is Outcome.NOT_OURS
    assert done == ["op-1"]
    assert job.state_now is ScheduleState.RUNNING
