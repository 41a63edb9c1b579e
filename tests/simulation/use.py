"""Whether people use a machine, in truth; and what its agent can read of that. Drawn apart from everything else."""

from __future__ import annotations

import bisect
import random

from dumont.domain.heartbeats import GpuUse, Readings

STRETCHES = 60
BUSY_SECONDS = (90.0, 900.0)
"""Longer than any gap between heartbeats that the rule bridges: use as short as that may pass unseen."""
IDLE_SECONDS = (90.0, 1200.0)
BLIND_SECONDS = (30.0, 600.0)

_QUIET = {
    "cpu_percent": 1.0, "disk_write_bytes_per_second": 0.0, "network_receive_bytes_per_second": 100.0,
    "network_send_bytes_per_second": 100.0, "ssh_sessions": 0.0, "user_processes": 0.0,
}  # fmt: skip


class _Turns:
    """Two states that take turns, the first from `start` on."""

    def __init__(self, rng: random.Random, start: float, first: tuple[float, float], second: tuple[float, float]):
        self._ends: list[float] = []
        at = start
        for number in range(STRETCHES):
            at += rng.uniform(*(second if number % 2 else first))
            self._ends.append(at)

    def is_first(self, at: float) -> bool:
        return bisect.bisect_right(self._ends, at) % 2 == 0

    def first_all_through(self, start: float, end: float) -> bool:
        """Whether the first state lasted all that time."""
        first, last = bisect.bisect_right(self._ends, start), bisect.bisect_right(self._ends, end)
        return first == last and first % 2 == 0


class Use:
    """One instance's: first it is used, since somebody wanted it, then not, and so on; now its gauges can be read, now
    not."""

    def __init__(self, seed: int, instance_id: int, start: float) -> None:
        rng = random.Random(f"use/{seed}/{instance_id}")
        self._busy = _Turns(rng, start, BUSY_SECONDS, IDLE_SECONDS)
        self._blind = _Turns(rng, start, BLIND_SECONDS if rng.random() < 0.5 else (0.0, 0.0), BLIND_SECONDS)

    def busy_all_through(self, start: float, end: float) -> bool:
        """Whether it was in use without a break."""
        return self._busy.first_all_through(start, end)

    def readings(self, now: float) -> Readings:
        """What its agent reads now. Where it cannot read the GPU it says so, used or not."""
        if self._blind.is_first(now):
            return Readings(**_QUIET)  # type: ignore[arg-type]
        percent = 95.0 if self._busy.is_first(now) else 0.0
        gpus = (GpuUse(utilization_percent=percent, memory_used_mib=1000.0, memory_total_mib=24000.0),)
        return Readings(gpus=gpus, **_QUIET)
