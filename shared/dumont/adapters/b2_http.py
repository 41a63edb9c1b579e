"""HTTP for b2sdk: bounded in time, retried here rather than there.

b2sdk waits up to 64 s between tries and tries a download 20 times, which no call of a port has time for. It takes
the session to use from its caller; this one tries again by itself, within a deadline, and then raises what b2sdk does
not retry.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import requests
from b2sdk.v3.exception import B2Error

from dumont.ports import CALL_SECONDS_MAX

BUDGET_SECONDS = CALL_SECONDS_MAX - 1.0
"""For one call of the port, however many requests it takes."""

ATTEMPTS_MAX = 5
BACKOFF_SECONDS = 0.25
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_UPLOADS = ("/b2_upload_file/", "/b2_upload_part/")
_CONNECT_SHARE, _READ_SHARE = 1 / 8, 1 / 3  # of the time left: an attempt without an answer leaves time for another


class GaveUp(B2Error):  # type: ignore[misc]  # b2sdk has no types
    """No usable answer within the deadline or the attempts. Nothing in b2sdk tries again after it."""


class Budget:
    """The deadline of the call that this thread is in."""

    def __init__(self) -> None:
        self._local = threading.local()

    @contextmanager
    def call(self, seconds: float = BUDGET_SECONDS) -> Iterator[None]:
        """All within must end in so many seconds from now."""
        self._local.ends = time.monotonic() + seconds
        try:
            yield
        finally:
            del self._local.ends

    def left(self) -> float:
        """Seconds; outside of a call, all that a call has."""
        ends: float | None = getattr(self._local, "ends", None)
        return BUDGET_SECONDS if ends is None else ends - time.monotonic()

    def spend(self, seconds: float) -> bool:
        """Wait so long, unless that is past the deadline: then at once False."""
        if seconds >= self.left():
            return False
        time.sleep(seconds)  # real time, as the deadline's and the sockets': a `Clock` that a test turns moves neither
        return True


class BoundedSession(requests.Session):
    """A session whose requests end in time."""

    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self._budget = budget

    def request(self, method: str, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        """As `requests.Session`, with retries; raises `GaveUp`.

        Not again: an upload, which after a failure belongs to another URL.
        """
        attempts = 1 if any(part in str(url) for part in _UPLOADS) else ATTEMPTS_MAX
        return self._again(lambda: self._once(method, url, *args, **kwargs), attempts)

    def _once(self, method: str, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        left = self._budget.left()
        if left <= 0:
            raise GaveUp("no time is left for another request")
        kwargs["timeout"] = (left * _CONNECT_SHARE, left * _READ_SHARE)
        return super().request(method, url, *args, **kwargs)

    def _again(self, attempt: Callable[[], requests.Response], attempts: int) -> requests.Response:
        for number in range(1, attempts + 1):
            wait = BACKOFF_SECONDS * 2 ** (number - 1)
            try:
                response = attempt()
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as problem:
                reason = type(problem).__name__
            else:
                if response.status_code not in _TRANSIENT:
                    return response
                reason = f"status {response.status_code}"
                wait = max(wait, _seconds(response.headers.get("Retry-After")))
                response.close()
            if number == attempts or not self._budget.spend(wait):
                break
        raise GaveUp(reason)


def _seconds(header: str | None) -> float:
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        return 0.0  # a date: the usual wait will do
