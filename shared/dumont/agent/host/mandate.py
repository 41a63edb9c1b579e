"""What the control plane last said, and for how long that holds."""

from __future__ import annotations

from typing import NamedTuple

from dumont.agent.host.answers import Answer, WorkloadSpec

STOP_SHARE_MOST = 1 / 3
"""The part of a lease, at its end, that may be set aside for the workload to end by itself."""
DESTROY_SECONDS_MOST = 60.0
"""An order to destroy is followed for so long without being repeated: it cannot be taken back from who is deaf."""


class _Heard(NamedTuple):
    answer: Answer
    sent_at: float


class Mandate:
    """The latest answer and its lease. All times are of one clock that only goes forward, suspended or not.

    A lease counts from when the heartbeat was *sent*: the control plane counts from when it came, which is later, so
    that it never believes a host stopped that still runs.
    """

    def __init__(self) -> None:
        self._heard: _Heard | None = None  # replaced whole: the heartbeat's thread writes, others read

    def hear(self, answer: Answer, sent_at: float) -> None:
        """Take an answer in. One to an earlier heartbeat that comes late does not undo a later one."""
        if self._heard is None or sent_at >= self._heard.sent_at:
            self._heard = _Heard(answer, sent_at)

    @property
    def answer(self) -> Answer | None:
        """The latest answer, holding or not."""
        return self._heard.answer if self._heard else None

    def ends_at(self) -> float | None:
        """When all of the workload must be gone unless another answer comes; None: never."""
        heard = self._heard
        if heard is None or heard.answer.lease_seconds == 0:
            return None
        return heard.sent_at + heard.answer.lease_seconds

    def wanted(self, now: float) -> WorkloadSpec | None:
        """What should run now. The time to stop in is part of the lease, so that at its end nothing runs."""
        heard = self._heard
        if heard is None or heard.answer.state != "serve" or heard.answer.workload is None:
            return None
        ends_at = self.ends_at()
        if ends_at is not None:
            spec, lease = heard.answer.workload, heard.answer.lease_seconds
            if now >= ends_at - min(spec.stop_seconds, lease * STOP_SHARE_MOST):
                return None
        return heard.answer.workload

    def destroys(self, now: float) -> bool:
        """Whether the instance is to be destroyed now."""
        heard = self._heard
        return heard is not None and heard.answer.destroy and now < heard.sent_at + DESTROY_SECONDS_MOST
