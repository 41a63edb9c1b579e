"""What the gateway needs of machines: that they serve, that requests to them count, and tokens that can be ended."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from dumont import queries
from dumont.domain.errors import Conflict, DumontError, Unknown, UserError
from dumont.domain.names import check_machine_name
from dumont.domain.records import Machine, MachineState, Operation, OperationKind, OperationState
from dumont.operations import wake
from dumont.ports import Ports, Transaction

TOUCH_SECONDS = 15.0
"""Requests are noted so often at most: their count is not kept, only that there are some."""
NOT_WOKEN_SECONDS = 60.0
"""A wake that failed is not tried again by the next request: each try may rent."""
EXPECTED_SECONDS = 120.0
"""Where no operation of its kind has succeeded yet."""
_BROUGHT_UP_BY = (OperationKind.WAKE, OperationKind.FAILOVER, OperationKind.PROVISION)


class Progress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a machine is that does not serve yet."""

    state: str
    phase: str = ""
    operation_id: str = ""
    elapsed_seconds: float = 0.0
    expected_seconds: float = 0.0
    steps: tuple[dict[str, str | float | bool], ...] = ()


class NotServing(DumontError):
    """The machine does not serve now; `retry_after_seconds` is when to ask again."""

    def __init__(self, message: str, *, code: str, retry_after_seconds: float, progress: Progress) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after_seconds = retry_after_seconds
        self.progress = progress


def find(ports: Ports, name: str) -> Machine:
    """A machine that is, or will be again. Raises `Unknown`."""
    machine = ports.store.get(Machine, check_machine_name(name))
    if machine is None or machine.state in (MachineState.DESTROYED, MachineState.DESTROYING):
        raise Unknown(f"there is no machine named {name}", field="name", hint="`dumont ls` shows those there are")
    return machine


Woken = Callable[[Operation], None]


def unheard(_op: Operation) -> None:
    """For who need not know that a request began a wake."""


def serving(ports: Ports, name: str, *, wait_seconds: float, request_id: str = "", woken: Woken = unheard) -> Machine:
    """The machine, once it serves. One that sleeps is woken; requests at once make one wake, and `woken` is called for
    the one, told apart by its `request_id`, that began it.

    Raises `Unknown`; `NotServing` where it does not within `wait_seconds`, or cannot.
    """
    ends = ports.clock.now() + wait_seconds
    pause_seconds = 0.1
    while True:
        machine = find(ports, name)
        if machine.state is MachineState.RUNNING and machine.ssh is not None and machine.host_key is not None:
            return machine
        if machine.state is MachineState.FAILED:
            raise _failed(machine)
        if machine.state is MachineState.HIBERNATED:
            _wake(ports, machine, request_id, woken)
            machine = find(ports, name)
        left_seconds = ends - ports.clock.now()
        if left_seconds <= 0:
            raise not_yet(ports, machine)
        ports.clock.sleep(min(pause_seconds, left_seconds))
        pause_seconds = min(1.0, pause_seconds * 1.5)


def _failed(machine: Machine) -> NotServing:
    why = f": {machine.failure.detail}" if machine.failure is not None else ""
    return NotServing(
        f"{machine.id} has failed{why}",
        code="machine_failed",
        retry_after_seconds=300.0,
        progress=Progress(state=machine.state.value),
    )


def _wake(ports: Ports, machine: Machine, request_id: str, woken: Woken) -> None:
    """Ask for a wake. Raises `NotServing` where it is not to be had."""
    failed_seconds_ago = ports.clock.now() - machine.updated_at
    if machine.failure is not None and failed_seconds_ago < NOT_WOKEN_SECONDS:
        raise NotServing(
            f"{machine.id} could not be woken: {machine.failure.detail}",
            code="wake_failed",
            retry_after_seconds=max(1.0, NOT_WOKEN_SECONDS - failed_seconds_ago),
            progress=Progress(state=machine.state.value),
        )
    try:
        op = wake.request(ports, machine.id, requested_by="gateway", request_id=request_id)
    except Conflict as error:
        if error.code != "not_asleep":  # it changed meanwhile: the next look shows how
            raise _refused(machine, error) from error
    except Unknown:
        raise
    except UserError as error:
        raise _refused(machine, error) from error
    else:
        if op is not None and request_id and op.request_id == request_id:
            woken(op)


def _refused(machine: Machine, error: UserError) -> NotServing:
    return NotServing(
        str(error), code=error.code, retry_after_seconds=60.0, progress=Progress(state=machine.state.value)
    )


def not_yet(ports: Ports, machine: Machine, *, what: str = "") -> NotServing:
    """That a machine does not serve yet, how far it is, and when it may be worth while to ask again."""
    now = ports.clock.now()
    op = ports.store.get(Operation, machine.operation_id) if machine.operation_id is not None else None
    if op is None or not op.open:
        progress, left_seconds = Progress(state=machine.state.value), 5.0
    else:
        expected = _expected_seconds(ports, op)
        elapsed = now - op.created_at
        left_seconds = expected - elapsed
        progress = Progress(
            state=machine.state.value,
            phase=op.phase,
            operation_id=op.id,
            elapsed_seconds=round(elapsed, 3),
            expected_seconds=round(expected, 1),
            steps=tuple(
                {"name": step.name, "ok": step.ok, "seconds": round(step.ended_at - step.started_at, 3)}
                for step in op.steps
            ),
        )
    return NotServing(
        what or f"{machine.id} is {machine.state.value.replace('_', ' ')} and does not serve yet",
        code="not_serving_yet",
        retry_after_seconds=min(60.0, max(2.0, left_seconds)),
        progress=progress,
    )


def _expected_seconds(ports: Ports, op: Operation) -> float:
    """What operations of this kind took on this machine lately; else what any that brought it up took."""
    done = [
        past
        for past in ports.store.find(Operation, queries.history_of_machine(op.machine, limit=30))
        if past.state is OperationState.SUCCEEDED and past.ended_at is not None
    ]
    alike = [past for past in done if past.kind is op.kind] or [past for past in done if past.kind in _BROUGHT_UP_BY]
    return statistics.median((past.ended_at or 0.0) - past.created_at for past in alike) if alike else EXPECTED_SECONDS


def touch(ports: Ports, name: str) -> None:
    """Note that a request came, unless one was noted lately."""

    def work(tx: Transaction) -> None:
        machine = tx.get(Machine, name)
        now = ports.clock.now()
        if machine is not None and now - machine.last_request_at >= TOUCH_SECONDS:
            tx.put(replace(machine, last_request_at=now))

    ports.store.transact(work)


def rotate(ports: Ports, name: str) -> Machine:
    """End all gateway tokens of a machine; answers with it as it is then. Raises `Unknown`."""
    find(ports, name)

    def work(tx: Transaction) -> Machine:
        machine = tx.get(Machine, name)
        if machine is None:
            raise Unknown(f"there is no machine named {name}", field="name")
        machine = replace(machine, gateway_generation=machine.gateway_generation + 1)
        tx.put(machine)
        return machine

    return ports.store.transact(work)


def declaring(ports: Ports) -> list[Machine]:
    """The machines that declare models, oldest first."""
    gone = (MachineState.DESTROYED, MachineState.DESTROYING)
    return [m for m in ports.store.find(Machine, queries.all_machines()) if m.spec.models and m.state not in gone]
