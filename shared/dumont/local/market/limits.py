"""Vast.ai's rate limits: the least time between two calls of one endpoint by one key."""

from __future__ import annotations

from collections.abc import Mapping

LEAST_SECONDS: Mapping[str, float] = {
    "create": 4.5,
    "show": 2.0,
    "list": 1.0,
    "update": 1.0,
    "destroy": 3.0,
    "bid": 5.5,
    "command": 1.5,
    "search": 6.0,
}
"""Inferred from the thresholds in Vast.ai's error messages; searches are 10 a minute."""


class RateLimits:
    """Counts calls in time. Off until `least_seconds` says what holds."""

    def __init__(self, least_seconds: Mapping[str, float] | None = None) -> None:
        self.least_seconds: dict[str, float] = dict(least_seconds or {})
        self._last: dict[tuple[str, str], float] = {}

    def threshold_passed(self, key: str, endpoint: str, now: float) -> float | None:
        """The threshold, if this call comes too soon after the last that was let through; otherwise None."""
        least = self.least_seconds.get(endpoint)
        if least is None:
            return None
        last = self._last.get((key, endpoint))
        if last is not None and now - last < least:
            return least
        self._last[key, endpoint] = now
        return None
