"""The workload's course: what to do next with its processes. It touches none, and knows no clock."""

from __future__ import annotations

from enum import Enum

from dumont.agent.host.answers import WorkloadSpec
from dumont.agent.host.health import Health, read_check

BACKOFF_SECONDS_FIRST, BACKOFF_SECONDS_MOST = 1.0, 60.0
WELL_SECONDS = 600.0
"""A workload that was well for so long has earned a fresh start: its next restart waits as the first did."""
LEFTOVER_SECONDS = 5.0
"""How long what an earlier agent left running has to end by itself."""


class Do(Enum):
    """What is to be done. `TERM` and `KILL`: to all processes of the workload, wherever they have gone."""

    NOTHING = "nothing"
    START = "start"
    TERM = "term"
    KILL = "kill"


class Backoff:
    """How long to wait before the next restart."""

    def __init__(self) -> None:
        self._next = BACKOFF_SECONDS_FIRST

    def after(self, well_seconds: float) -> float:
        """The wait after a run that was well for so long at its end."""
        if well_seconds >= WELL_SECONDS:
            self._next = BACKOFF_SECONDS_FIRST
        wait, self._next = self._next, min(BACKOFF_SECONDS_MOST, self._next * 2)
        return wait


def restarts(policy: str, exit_status: int) -> bool:
    """Whether a run that ended so is followed by another."""
    return policy == "always" or (policy == "on-failure" and exit_status != 0)


def _health(now: float, spec: WorkloadSpec) -> Health | None:
    """A new verdict; None without a check, or with one that only a later agent knows."""
    return Health(now) if read_check(spec.health) is not None else None


class Course:
    """Fed with what is wanted and what is seen, `step` says what to do. `state` and `detail` go into heartbeats."""

    def __init__(self, now: float, *, leftovers: bool = False) -> None:
        """With `leftovers`, an earlier agent's workload still runs; it goes before anything starts."""
        self.state = "none"
        self.detail = ""
        self.restarts = 0
        self.exit_status: int | None = None
        self.since = now
        self.spec: WorkloadSpec | None = None
        self.health: Health | None = None
        self._backoff = Backoff()
        self._started_at = now
        self._start_at = now
        self._stop_by: float | None = now + LEFTOVER_SECONDS if leftovers else None
        self._told = not leftovers
        self._runs = False

    @property
    def stopping(self) -> bool:
        """Whether processes are still to go before anything else."""
        return self._stop_by is not None

    def step(
        self,
        now: float,
        wanted: WorkloadSpec | None,
        *,
        exit_status: int | None = None,
        left: bool = False,
        kill_by: float | None = None,
    ) -> Do:
        """What to do next.

        `exit_status` is that of the run which ended since the last step. `left`: some process of the workload lives
        (asked for only while `stopping`). At `kill_by`, the lease's end, a stop waits no longer.
        """
        if exit_status is not None and self._runs:
            self._ended(now, exit_status)
            if self._stop_by is None:
                return Do.TERM  # what it left behind would be in the next run's way
        if self._stop_by is not None:
            return self._stop_on(now, left, kill_by)
        if self._runs:
            if wanted is None or self.spec is None or wanted.run != self.spec.run:
                return self._begin_stop(now)
            self._adopt(now, wanted)
            self._judge(now)
            return Do.NOTHING
        return self._idle(now, wanted)

    def started(self, now: float, failure: str | None) -> None:
        """What came of `START`: it runs, or why it does not."""
        self._started_at, self._runs, self.exit_status = now, True, None
        self._judge(now)
        if failure is not None:
            self._ended(now, 127)
            self._say(now, "exited", failure)

    def checked(self, now: float, failure: str | None) -> None:
        """What a health check found; None is well."""
        if self._runs and self.health is not None:
            self.health.saw(now, failure)

    def _ended(self, now: float, exit_status: int) -> None:
        self._runs, self.exit_status = False, exit_status
        well_since = self.health.well_since if self.health else self._started_at
        self._start_at = now + self._backoff.after(now - well_since if well_since is not None else 0.0)
        if self._stop_by is None:
            self._say(now, "exited", f"exit status {exit_status}")

    def _begin_stop(self, now: float) -> Do:
        self._stop_by = now + (self.spec.stop_seconds if self.spec else 0.0)
        self._told = True
        self.detail = "stopping"
        return Do.TERM

    def _stop_on(self, now: float, left: bool, kill_by: float | None) -> Do:
        assert self._stop_by is not None  # noqa: S101 - the caller looked
        if not left and not self._runs:
            self._stop_by = None
            self._start_at = now
            self._say(now, "none" if self.spec is None else "stopped", "")
            return Do.NOTHING
        if now >= (self._stop_by if kill_by is None else min(self._stop_by, kill_by)):
            return Do.KILL  # at each step again, until they are gone
        if not self._told:
            self._told = True
            return Do.TERM
        return Do.NOTHING

    def _idle(self, now: float, wanted: WorkloadSpec | None) -> Do:
        if wanted is None:
            return Do.NOTHING  # what has ended by itself stays so: a lapse of contact is no reason to run it again
        if self.spec is None or wanted.run != self.spec.run:
            self.restarts, self._backoff = 0, Backoff()
        elif self.state == "exited":
            used_up = wanted.max_restarts is not None and self.restarts >= wanted.max_restarts
            if used_up or self.exit_status is None or not restarts(wanted.restart, self.exit_status):
                self.spec = wanted
                return Do.NOTHING
            if now < self._start_at:
                return Do.NOTHING
            self.restarts += 1
        self.spec = wanted
        self.health = _health(now, wanted)
        return Do.START

    def _adopt(self, now: float, wanted: WorkloadSpec) -> None:
        """Another policy or health check is taken up without disturbing what runs."""
        if self.spec is not None and wanted.health != self.spec.health:
            self.health = _health(now, wanted)
        self.spec = wanted

    def _judge(self, now: float) -> None:
        state, detail = self.health.judge() if self.health else ("running", "")
        self._say(now, state, detail)

    def _say(self, now: float, state: str, detail: str) -> None:
        if state != self.state:
            self.state, self.since = state, now
        self.detail = detail
