"""Which machine serves a model: the one that declares it; of several the one that is nearest to serving."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import Any

from dumont.domain.records import Machine, MachineState
from dumont.edge import wiring
from dumont.operations import gateway
from dumont.ports import Clock, Ports

KNOWN_SECONDS = 5.0
"""So long a list of the machines that declare models is good for; the chosen machine itself is always read anew."""
_NEARNESS = (
    MachineState.RUNNING,
    MachineState.FAILING_OVER,
    MachineState.WAKING,
    MachineState.PROVISIONING,
    MachineState.REQUESTED,
    MachineState.HIBERNATED,
    MachineState.HIBERNATING,
    MachineState.FAILED,
)


class Declared:
    """The machines that declare models, read seldom."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._machines: list[Machine] = []

    def all(self, ports: Ports, *, fresh: bool = False) -> list[Machine]:
        """Oldest first."""
        with self._lock:
            if fresh or self._clock.now() - self._read_at > KNOWN_SECONDS:
                self._machines = gateway.declaring(ports)
                self._read_at = self._clock.now()
            return self._machines


@functools.cache
def declared() -> Declared:
    """What this process knows."""
    return Declared(wiring.ports().clock)


def machine_of(machines: Sequence[Machine], model: str) -> Machine | None:
    """The machine to ask for a model. None: nobody declares it."""
    offering = [m for m in machines if model in m.spec.models]
    return min(offering, key=lambda m: (nearness(m.state), m.created_at), default=None)


def nearness(state: MachineState) -> int:
    """How far from serving: 0 serves."""
    return _NEARNESS.index(state) if state in _NEARNESS else len(_NEARNESS)


def listed(machines: Sequence[Machine]) -> list[dict[str, Any]]:
    """The models in OpenAI's shape; `state` and `machine` are ours."""
    names = dict.fromkeys(model for machine in machines for model in machine.spec.models)
    rows = []
    for name in names:
        machine = machine_of(machines, name)
        if machine is not None:
            rows.append(
                {
                    "id": name,
                    "object": "model",
                    "created": int(machine.created_at),
                    "owned_by": "dumont",
                    "machine": machine.id,
                    "state": machine.state.value,
                }
            )
    return rows
