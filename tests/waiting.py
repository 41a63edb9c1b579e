"""Waiting for what comes about by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PAUSE_SECONDS_MOST = 0.25


def wait_for(condition: Callable[[], T | None], why: str, *, seconds: float = 30.0, every_seconds: float = 0.01) -> T:
    """The condition's first answer that holds; fails after so many seconds.

    It is asked less and less often, down to every twentieth of the time that has passed: asking takes its time from
    what is waited for, on a computer with two processors.
    """
    began = time.monotonic()
    while not (answer := condition()):
        waited = time.monotonic() - began
        assert waited < seconds, f"after {seconds} s still not: {why}"
        time.sleep(max(every_seconds, min(PAUSE_SECONDS_MOST, waited / 20)))
    return answer
