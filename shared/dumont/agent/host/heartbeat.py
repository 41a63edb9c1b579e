"""Heartbeats: in a thread of their own, so that nothing that hangs on this machine delays them."""

from __future__ import annotations

import json
import random
import threading
from typing import TYPE_CHECKING, Any

from dumont.agent.host.answers import Answer, read_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from dumont.agent.host.transport import Transport

JITTER = 0.05
HURRY_SECONDS = 0.5
"""News are told before the next heartbeat is due, but no more often than this (or the interval, if that is shorter)."""


class Pace:
    """When the next heartbeat is due: by the clock, not by how long the last one took. It never catches up on those
    that were missed.
    """

    def __init__(self, interval_seconds: float, jitter: Callable[[], float]) -> None:
        """`jitter` gives a number from −1 to 1."""
        self.interval_seconds = interval_seconds
        self._jitter = jitter
        self._due = float("-inf")
        self._sent_at = float("-inf")

    def wait_seconds(self, now: float, *, news: bool = False) -> float:
        """How long to wait; 0 is now."""
        due = min(self._due, self._sent_at + self.interval_seconds * (1 + JITTER))  # an answer may have shortened it
        if news:
            due = min(due, self._sent_at + min(HURRY_SECONDS, self.interval_seconds))
        return max(0.0, due - now)

    def sent(self, now: float) -> None:
        """A heartbeat goes out now."""
        step = self.interval_seconds * (1 + JITTER * self._jitter())
        on_time = now - self._due < step  # also false for the first one
        self._due = (self._due if on_time else now) + step
        self._sent_at = now


class Heartbeats:
    """Sends them until closed. `hear` is called with each answer and the moment its heartbeat was sent."""

    def __init__(
        self,
        url: str,
        token: str,
        interval_seconds: float,
        transport: Transport,
        *,
        body: Callable[[int], dict[str, Any]],
        hear: Callable[[Answer, float], None],
        say: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        """`body` makes the content of heartbeat number n; `now` is the clock of leases."""
        self._url = f"{url}/heartbeat"
        self._token = token
        self._transport = transport
        self._body = body
        self._hear = hear
        self._say = say
        self._now = now
        self._pace = Pace(interval_seconds, lambda: random.uniform(-1, 1))
        self._wake = threading.Event()
        self._news = False
        self._closed = False
        self._trouble: str | None = ""
        self._sequence = 0

    def run(self) -> None:
        """Send the first one at once, and then at the pace that the answers set."""
        while not self._closed:
            wait = self._pace.wait_seconds(self._now(), news=self._news)
            if wait > 0:
                self._wake.wait(wait)
                self._wake.clear()
                continue
            self._beat()

    def tell_news(self) -> None:
        """Something changed that the control plane waits for."""
        self._news = True
        self._wake.set()

    def close(self) -> None:
        """Send no more."""
        self._closed = True
        self._wake.set()

    def _beat(self) -> None:
        self._news = False
        content = json.dumps(self._body(self._sequence), separators=(",", ":")).encode()
        self._sequence += 1
        sent_at = self._now()
        self._pace.sent(sent_at)
        got = self._transport.send("POST", self._url, self._token, content)
        answer = None if isinstance(got, str) else read_answer(*got)
        if answer is not None:
            self._pace.interval_seconds = answer.interval_seconds
            self._hear(answer, sent_at)
            self._note(None)
        elif isinstance(got, str):
            self._note(got)
        else:
            self._note(f"HTTP status {got[0]}" if got[0] != 200 else "an answer that cannot be read")

    def _note(self, trouble: str | None) -> None:
        if trouble != self._trouble:
            self._say("contact" if trouble is None else f"no contact: {trouble}")
        self._trouble = trouble
