"""Requests under way: each keeps its machine awake, the long ones as long as they last."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Callable

from dumont.domain.errors import StoreError

log = logging.getLogger(__name__)

EVERY_SECONDS = 20.0


class Traffic:
    """The requests under way in this process. `touch` notes that a machine is used; it may raise `StoreError`."""

    def __init__(
        self, touch: Callable[[str], None], now: Callable[[], float], *, every_seconds: float = EVERY_SECONDS
    ) -> None:
        self._touch = touch
        self._now = now
        self._every_seconds = every_seconds
        self._changed = threading.Condition()
        self._under_way: Counter[str] = Counter()
        self._touched_at: dict[str, float] = {}
        self._keeper: threading.Thread | None = None

    def begin(self, machine: str) -> None:
        """A request begins. At most one write a machine in `every_seconds`."""
        with self._changed:
            self._under_way[machine] += 1
            due = self._now() - self._touched_at.get(machine, 0.0) >= self._every_seconds
            if self._keeper is None:
                self._keeper = threading.Thread(target=self._keep, name="gateway-traffic", daemon=True)
                self._keeper.start()
        if due:
            self._note(machine)

    def end(self, machine: str) -> None:
        """A request has ended."""
        with self._changed:
            self._under_way[machine] -= 1
            if self._under_way[machine] <= 0:
                del self._under_way[machine]
                self._changed.notify_all()

    @property
    def under_way(self) -> int:
        """How many requests there are now."""
        with self._changed:
            return self._under_way.total()

    def _keep(self) -> None:
        """While there are requests, note so now and then; ends when there are none."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: not self._under_way, self._every_seconds / 2)
                if not self._under_way:
                    self._keeper = None
                    return
                now = self._now()
                due = [m for m in self._under_way if now - self._touched_at.get(m, 0.0) >= self._every_seconds]
            for machine in due:
                self._note(machine)

    def _note(self, machine: str) -> None:
        with self._changed:
            self._touched_at[machine] = self._now()
        # A request is not refused because it cannot be counted; the next one, or the keeper, tries again.
        try:
            self._touch(machine)
        except StoreError as error:
            log.warning("a request was not noted", extra={"machine": machine, "error": str(error)[:200]})
            with self._changed, contextlib.suppress(KeyError):
                del self._touched_at[machine]
