"""A `SweepSchedule` that is never paused: the local cloud's own sweeps cost nothing."""

from __future__ import annotations

from dumont.optional_ports import ScheduleState


class AlwaysRunning:
    """Pausing it has no effect."""

    def pause(self) -> None:
        """Do nothing."""

    def resume(self) -> None:
        """Do nothing."""

    def state(self) -> ScheduleState:
        """Running."""
        return ScheduleState.RUNNING
