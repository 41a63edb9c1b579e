"""What the control plane answers to a heartbeat, read strictly: what cannot be read is no contact, not an order."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

STATES = ("serve", "wait", "fenced")
POLICIES = ("always", "on-failure", "never")
INTERVAL_SECONDS_LEAST, INTERVAL_SECONDS_MOST = 0.05, 300.0
SECONDS_MOST = 86400.0


@dataclass(frozen=True)
class WorkloadSpec:
    """The user's command, when (and how often at most, None: without end) to run it anew, how to see that it is well,
    and how long it has to end by itself.
    """

    run: str
    restart: str = "always"
    health: str = ""
    stop_seconds: float = 10.0
    max_restarts: int | None = None


@dataclass(frozen=True)
class Answer:
    """`lease_seconds` 0: the workload outlives any silence."""

    state: str
    epoch: int
    interval_seconds: float
    lease_seconds: float
    workload: WorkloadSpec | None
    destroy: bool


class _Unreadable(Exception):
    pass


def read_answer(status: int, body: bytes) -> Answer | None:
    """The answer; None where there was none that can be followed. Unknown fields are left alone."""
    if status != 200:
        return None
    try:
        given = json.loads(body)
        if not isinstance(given, dict) or given["state"] not in STATES:
            return None
        state = str(given["state"])
        return Answer(
            state=state,
            epoch=_whole(given["epoch"]),
            interval_seconds=max(INTERVAL_SECONDS_LEAST, _number(given["interval_seconds"], INTERVAL_SECONDS_MOST)),
            lease_seconds=_number(given["lease_seconds"], SECONDS_MOST),
            workload=_workload(given["workload"]),
            destroy=state == "fenced" and given.get("destroy") is True,
        )
    except (ValueError, KeyError, TypeError, RecursionError, _Unreadable):
        return None


def _workload(given: Any) -> WorkloadSpec | None:
    if given is None:
        return None
    if not isinstance(given, dict):
        raise _Unreadable
    run, restart, health = given["run"], given.get("restart", "always"), given.get("health", "")
    if not isinstance(run, str) or not run.strip() or "\0" in run:
        raise _Unreadable
    if restart not in POLICIES or not isinstance(health, str):
        raise _Unreadable
    most = given.get("max_restarts")
    stop_seconds = _number(given.get("stop_seconds", 10.0), SECONDS_MOST)
    return WorkloadSpec(run, restart, health, stop_seconds, _whole(most) if most is not None else None)


def _number(value: Any, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise _Unreadable
    return min(float(value), most)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Unreadable
    return value
