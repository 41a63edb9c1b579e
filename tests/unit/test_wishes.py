"""Whoever begins an operation sees to it that somebody sweeps: else a lost message on a resting deployment sticks."""

from __future__ import annotations

import ast
import logging
from collections.abc import Callable
from dataclasses import replace as with_ports
from pathlib import Path

import pytest

from dumont import queries
from dumont.adapters.memory_store import MemoryStore
from dumont.domain.errors import StoreUnavailable
from dumont.domain.records import MachineSpec, MachineState, Operation, OperationKind, OperationState
from dumont.domain.rest import QUIET_SECONDS, RestPhase, SweepRest
from dumont.operations import destroy, provision, runner, wake
from dumont.operations.rest import SWEEPS, rest
from dumont.optional_ports import ScheduleState
from dumont.ports import Ports
from tests.unit.rest_support import ManualClock, make_ports
from tests.unit.test_rest import Job, machine, operation, put

NOW = 1_800_000_000.0
OPERATIONS = Path(runner.__file__).parent


class Calls(list[str]):
    """What the store was asked for."""

    def since(self, mark: int) -> list[str]:
        return list(self[mark:])


def resting(calls: Calls | None = None) -> tuple[Ports, Job]:
    """A deployment where a machine sleeps, nothing runs, and the schedule is paused. Messages are lost."""
    job = Job()
    pause = calls.append if calls is not None else lambda _call: None
    clock = ManualClock(NOW)
    ports = with_ports(make_ports(MemoryStore(pause=pause), clock), make_schedule=lambda: job)
    put(ports, machine(state=MachineState.HIBERNATED))
    for _ in range(2):
        rest(ports, job)
        clock.moment += QUIET_SECONDS
    assert job.state_now is ScheduleState.PAUSED
    return ports, job


WISHES: dict[str, Callable[[Ports], object]] = {
    "provision": lambda ports: provision.request(ports, "bob", MachineSpec(gpu="RTX 4090"), requested_by="test"),
    "wake": lambda ports: wake.request(ports, "ada", requested_by="test"),
    "destroy": lambda ports: destroy.request(ports, "ada", discard=True, requested_by="test"),
}


@pytest.mark.parametrize("wish", WISHES)
def test_a_wish_on_a_resting_deployment_resumes_the_sweeps(wish: str) -> None:
    ports, job = resting()
    WISHES[wish](ports)
    assert job.state_now is ScheduleState.RUNNING
    state = ports.store.get(SweepRest, SWEEPS)
    assert state is not None
    assert (state.phase, state.quiet_since) == (RestPhase.AWAKE, None)
    assert not rest(ports, job), "the operation is there to be swept"


@pytest.mark.parametrize("kind", OperationKind)
def test_whatever_is_published_is_swept_if_its_message_is_lost(kind: OperationKind) -> None:
    ports, job = resting()
    op = operation("op-1", kind=kind)
    put(ports, op)
    runner.publish(ports, op)
    assert job.state_now is ScheduleState.RUNNING


def test_while_the_sweeps_are_awake_it_costs_one_read() -> None:
    calls = Calls()
    ports, job = resting(calls)
    op = operation("op-1")
    put(ports, op)
    runner.publish(ports, op)
    told, mark = list(job.told), len(calls)
    runner.publish(ports, op)
    assert calls.since(mark) == ["get"]
    assert job.told == told


def test_where_nothing_can_rest_it_costs_nothing() -> None:
    calls = Calls()
    ports = make_ports(MemoryStore(pause=calls.append), ManualClock(NOW))
    runner.publish(ports, operation("op-1"))
    assert calls == []


def test_a_store_that_does_not_answer_fails_no_wish_that_is_committed(caplog: pytest.LogCaptureFixture) -> None:
    ports, _ = resting()
    op = operation("op-1")
    put(ports, op)

    def away(call: str) -> None:
        raise StoreUnavailable(f"no {call} now")

    with caplog.at_level(logging.ERROR):
        runner.publish(with_ports(ports, store=MemoryStore(pause=away)), op)
    assert "the sweeps' schedule was not resumed" in caplog.text


def test_an_operation_that_has_ended_is_forgotten_and_the_sweeps_rest_again() -> None:
    ports, job = resting()
    WISHES["destroy"](ports)
    (op,) = ports.store.find(Operation, queries.any_operation_open())
    put(ports, operation(op.id, state=OperationState.SUCCEEDED))
    put(ports, machine(state=MachineState.DESTROYED))
    rest(ports, job)
    ports.clock.sleep(QUIET_SECONDS)
    assert rest(ports, job)


def test_only_the_sweep_publishes_without_it() -> None:
    """Everybody else goes through `publish`: who used the bus, or `send`, would leave the schedule asleep."""
    used: dict[str, set[str]] = {}
    for file in OPERATIONS.glob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.Name) and node.id == "TOPICS" for node in ast.walk(tree)):
            used.setdefault("TOPICS", set()).add(file.stem)
        imported = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "dumont.operations.runner"
            for alias in node.names
        }
        if "send" in imported:
            used.setdefault("send", set()).add(file.stem)
        if "new_operation" in imported and "publish" not in imported:
            used.setdefault("new_operation without publish", set()).add(file.stem)
    assert used == {
        "TOPICS": {"runner"},
        "send": {"sweep"},
        "new_operation without publish": {"finish"},  # `jobs.step` publishes it once it is committed
    }
