"""Invariant 7, as operations are written: while one invocation's lease runs, no other writes as if it were its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dumont.domain.records import Operation
from tests.simulation.broken import Broken

if TYPE_CHECKING:
    from tests.simulation.hub import Task


def taken_from_its_holder(before: object, after: object, writer: Task | None, now: float) -> Broken | None:
    """What is broken if an operation that one invocation holds is written by another, which goes on with it or ends it.

    Requests may end what is under way, and messages nudge it: neither writes a lease.
    """
    if not isinstance(before, Operation) or not isinstance(after, Operation) or writer is None:
        return None
    holder = before.lease_owner
    if not before.open or holder is None or before.lease_until <= now or holder in writer.claims_as:
        return None
    goes_on = after.lease_owner is not None and after.lease_owner != holder
    ends = not after.open and writer.name == f"work {after.id}"
    if not goes_on and not ends:
        return None
    return Broken(f"invariant 7: {before.kind} {before.id} was taken from {holder}, whose lease runs, by {writer.name}")
