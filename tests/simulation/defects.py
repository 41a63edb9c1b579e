"""Deliberate defects, each a regression that somebody might bring in one day, and the invariant that has to catch it.

Here, and nowhere else in the tests, our own code is patched: a simulation that no defect can break proves nothing.
`python -m tests.simulation.mutation` (`make mutation-check`) runs seeds with each, until one breaks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from tests.simulation import defects_of_hosts, defects_of_money, defects_of_work
from tests.simulation.patches import Patch


@dataclass(frozen=True)
class Defect:
    """One defect: its name, what was lost, the invariant that should catch it ("2", "6", "ledger", …)."""

    name: str
    says: str
    invariants: tuple[str, ...]
    patches: tuple[Patch, ...]

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """While this lasts, the code has the defect."""
        with contextlib.ExitStack() as stack:
            for each in self.patches:
                stack.enter_context(patch.object(each.where, each.name, each.instead))
            yield


def _of(module: Any) -> list[Defect]:
    made = []
    for function in module.DEFECTS:
        says = " ".join((function.__doc__ or "").split())
        invariants, patches = function()
        made.append(Defect(function.__name__, says, tuple(invariants), tuple(patches)))
    return made


DEFECTS: dict[str, Defect] = {
    d.name: d for module in (defects_of_hosts, defects_of_work, defects_of_money) for d in _of(module)
}
"""All of them, by name."""

HARMLESS: tuple[tuple[str, str], ...] = ()
"""What looks like a defect and loses nothing, since another guard holds; and that guard."""
