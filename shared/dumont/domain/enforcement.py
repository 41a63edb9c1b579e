"""A reached budget that cannot stop a machine: when it tries again, and when that is told. Pure.

What a budget does must lose nothing: a machine whose workspace cannot be saved, since its SSH is dead, bills on. Each
try holds the machine, and is a record: so tries come ever more seldom, and somebody who can decide is told.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from dumont.domain.hibernation import BY_BUDGET
from dumont.domain.records import Operation, OperationKind, OperationState

FIRST_WAIT_SECONDS = 30.0
MOST_WAIT_SECONDS = 900.0
LOOKED_AT = 12
"""So many of a machine's latest operations say how often it was tried: the longest wait comes after six tries."""
TOLD_AFTER = 2
"""One try in vain may be bad luck, and the next is half a minute away."""
_SAY_NOTHING_OF_THE_HOST = (OperationKind.VERIFY, OperationKind.DIFF)
"""They succeed whatever state the host is in."""


class InVain(msgspec.Struct, frozen=True, kw_only=True):
    """A budget's latest tries at a machine, all of which failed: how many, the last one, and when to try again."""

    tries: int
    last: Operation
    again_at: float

    @property
    def to_be_told(self) -> bool:
        """Whether it does not look like bad luck any more."""
        return self.tries >= TOLD_AFTER


def in_vain(latest: Sequence[Operation]) -> InVain | None:
    """What became of a budget's tries, from a machine's latest operations, newest first; None where the last one did
    not fail, or something else has gone well since: then nothing speaks against a try now."""
    failed: list[Operation] = []
    for op in latest:
        if op.requested_by == BY_BUDGET and op.state is OperationState.FAILED:
            failed.append(op)
        elif op.requested_by == BY_BUDGET or op.open or _went_well(op):
            break
    if not failed:
        return None
    last = failed[0]
    wait_seconds = min(MOST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** (len(failed) - 1))
    ended_at = last.ended_at if last.ended_at is not None else last.updated_at
    return InVain(tries=len(failed), last=last, again_at=ended_at + wait_seconds)


def _went_well(op: Operation) -> bool:
    return op.state is OperationState.SUCCEEDED and op.kind not in _SAY_NOTHING_OF_THE_HOST
