"""HTTP with a bound on the whole exchange, and without redirects: a token goes nowhere but where it was sent."""

from __future__ import annotations

import http.client
import threading
import urllib.error
import urllib.request
from typing import Any

TIMEOUT_SECONDS = 4.0
BODY_BYTES_MOST = 65536
LATE_MOST = 4
"""Exchanges past their time that may still hang, in a resolver that has no timeout of its own."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


class Transport:
    """Sends requests; honours http_proxy, https_proxy and no_proxy."""

    def __init__(self, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._timeout = timeout_seconds
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._slots = threading.BoundedSemaphore(LATE_MOST)

    def send(self, method: str, url: str, token: str, body: bytes) -> tuple[int, bytes] | str:
        """The answer's status and body (cut at 64 KiB), or what kept it away, in a word or two without any secret."""
        if not self._slots.acquire(timeout=self._timeout):
            return "earlier requests still hang"
        outcome: list[tuple[int, bytes] | str] = []

        def exchange() -> None:
            try:
                outcome.append(self._exchange(method, url, token, body))
            finally:
                self._slots.release()

        # The timeout of sockets bounds each of their waits, and not the resolver's: this bounds the whole.
        worker = threading.Thread(target=exchange, daemon=True)
        worker.start()
        worker.join(self._timeout)
        return outcome[0] if outcome else f"no answer within {self._timeout:g} s"

    def _exchange(self, method: str, url: str, token: str, body: bytes) -> tuple[int, bytes] | str:
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": "dumont-agent/1",
        }
        try:
            request = urllib.request.Request(url, data=body, headers=headers, method=method)  # noqa: S310 - checked
            with self._opener.open(request, timeout=self._timeout) as response:
                return int(response.status), bytes(response.read(BODY_BYTES_MOST))
        except urllib.error.HTTPError as refused:
            with refused:
                try:
                    return int(refused.code), bytes(refused.read(BODY_BYTES_MOST))
                except (OSError, http.client.HTTPException):
                    return int(refused.code), b""
        except urllib.error.URLError as failure:
            # A reason's text may hold anything; its type tells enough.
            return type(failure.reason).__name__ if isinstance(failure.reason, OSError) else "URLError"
        except (OSError, http.client.HTTPException, ValueError) as failure:
            return type(failure).__name__
