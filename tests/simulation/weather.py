"""How bad the world is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Weather:
    """How bad the world is: probabilities of one case each."""

    message_lost: float = 0.0
    message_twice: float = 0.0
    message_late: float = 0.0
    dies: float = 0.0
    """Of an invocation: it ends at one of its first port calls."""
    answer_lost: float = 0.0
    request_lost: float = 0.0
    server_error: float = 0.0
    too_frequent: float = 0.0
    list_lags: float = 0.0
    list_garbage: float = 0.0
    commit_unknown: float = 0.0
    store_away: float = 0.0
    object_lost: float = 0.0
    """Of an object that a host sends: the store has taken it, and it is not there."""
    object_late: float = 0.0
    """It is there, and listings do not show it for a while."""
    object_damaged: float = 0.0
    agent_dies: float = 0.0
    """At each heartbeat, of the agent's process alone."""


class Outages:
    """Stretches of time in which something is away."""

    def __init__(self) -> None:
        self._spans: dict[str, list[tuple[float, float]]] = {}

    def add(self, what: str, start: float, seconds: float) -> None:
        """Let it be away from `start` on."""
        self._spans.setdefault(what, []).append((start, start + seconds))

    def all(self) -> list[tuple[str, float, float]]:
        """Each stretch: what is away, from when on, for how many seconds."""
        return [(what, start, end - start) for what, spans in self._spans.items() for start, end in spans]

    def away(self, what: str, now: float) -> bool:
        """Whether it is away now."""
        return any(start <= now < end for start, end in self._spans.get(what, ()))

    def of(self, what: str) -> list[tuple[float, float]]:
        """From when to when something is away: a list that grows as stretches are added."""
        return self._spans.setdefault(what, [])

    def seconds(self, start: float, end: float) -> float:
        """How long anything was away in a stretch of time."""
        spans = [span for spans in self._spans.values() for span in spans]
        return sum(max(0.0, min(end, e) - max(start, s)) for s, e in spans)
