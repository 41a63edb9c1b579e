"""When the schedule of sweeps may be paused: nothing that could fall due is left. Pure."""

from __future__ import annotations

import enum
from typing import ClassVar

import msgspec

from dumont.domain.records import Record

QUIET_SECONDS = 600.0
"""How long nothing must have been open before the sweeps rest: strays are to be gone within ten minutes (invariant 2),
and the reaper that finds them is one of the sweeps' duties. Ten minutes of idle sweeps cost ten invocations."""

PAUSE_SECONDS_MAX = 60.0
"""After this a pause that was announced and never confirmed was either carried out or never will be: its call is
bounded to less."""


class RestPhase(enum.StrEnum):
    """PAUSING: a sweeper announced that it pauses the schedule and has not said yet that it did: either may be so."""

    AWAKE = "awake"
    PAUSING = "pausing"
    PAUSED = "paused"


class SweepRest(Record, frozen=True, kw_only=True):
    """Whether the schedule of sweeps rests; one document. `turn` grows with each announced pause."""

    collection: ClassVar[str] = "rests"

    phase: RestPhase = RestPhase.AWAKE
    turn: int = 0
    announced_at: float = 0.0
    quiet_since: float | None = None


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What a look found. `deadlines`: records with any deadline at all, however far: a paused schedule cannot wake
    itself for it."""

    machines_open: int = 0
    operations_open: int = 0
    instances_open: int = 0
    deadlines: int = 0

    @property
    def any(self) -> bool:
        """Whether there is something that a sweep could have to do."""
        return self.machines_open + self.operations_open + self.instances_open + self.deadlines > 0


def may_rest(work: Work, quiet_since: float | None, now: float) -> bool:
    """Whether nothing is open, and nothing was for `QUIET_SECONDS`."""
    return not work.any and quiet_since is not None and now >= quiet_since + QUIET_SECONDS
