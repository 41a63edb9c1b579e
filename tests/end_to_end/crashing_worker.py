"""A worker that dies at the n-th call of its ports, as a process: `os._exit`, with nothing said to anybody.

Run as `python -m tests.end_to_end.crashing_worker OPERATION_ID CALL before|after`; prints the name of each call to its
standard error before it is made, so that a test knows where it died.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import Any

from dumont.edge import wiring
from dumont.operations.runner import run_operation
from dumont.operations.workflows import WORKFLOWS

EXIT_STATUS = 137
LEASE_SECONDS = 0.4
"""Short, so that the redelivery need not wait for a dead process's lease."""


class Dying:
    """Stands before a port and counts its calls."""

    counted = 0

    def __init__(self, port: Any, name: str, die_at: int, after: bool) -> None:
        self._port, self._name, self._die_at, self._after = port, name, die_at, after

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._port, name)
        if not callable(attribute):
            return attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            Dying.counted += 1
            mine = Dying.counted
            print(f"{self._name}.{name}", file=sys.stderr, flush=True)
            if mine == self._die_at and not self._after:
                os._exit(EXIT_STATUS)
            try:
                return attribute(*args, **kwargs)
            finally:
                if mine == self._die_at and self._after:
                    os._exit(EXIT_STATUS)

        return call


def main() -> None:
    operation_id, die_at, moment = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    ports = wiring.build(wiring.settings())

    def dying(port: Any, name: str) -> Any:
        return Dying(port, name, die_at, moment == "after")

    shell = dying(ports.make_shell(), "shell")
    wrapped = replace(
        ports,
        store=dying(ports.store, "store"),
        bus=dying(ports.bus, "bus"),
        providers={name: dying(provider, "market") for name, provider in ports.providers.items()},
        make_shell=lambda: shell,
    )
    run_operation(wrapped, operation_id, WORKFLOWS, lease_seconds=LEASE_SECONDS)


if __name__ == "__main__":
    main()
