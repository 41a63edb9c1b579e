"""HTTP with a DNS provider's API: bounded in time and size; what failed in passing is told from what was refused."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from dumont.domain.errors import DnsRefused, DnsUnavailable

CALL_SECONDS = 30.0
"""For one call of the port, however many requests it takes."""
REQUEST_SECONDS = 8.0
ATTEMPTS_MAX = 5
BACKOFF_SECONDS = 0.25
ANSWER_BYTES_MAX = 4 << 20

TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})

# httpx logs each URL at INFO: names of machines are nobody's business.
logging.getLogger("httpx").setLevel(logging.WARNING)


class Again(Exception):
    """This attempt came to nothing, and another may do better. The message carries no secret."""

    def __init__(self, reason: str, *, wait_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


def persistently(attempt: Callable[[float], None], *, call_seconds: float = CALL_SECONDS) -> None:
    """Run an attempt, given the time when all must have ended (`time.monotonic`), until it does not raise `Again`.

    Each attempt reads what is there and changes what differs, so that one whose answer was lost does no harm.
    """
    until = time.monotonic() + call_seconds
    for number in range(ATTEMPTS_MAX):
        try:
            attempt(until)
        except Again as again:
            wait = max(again.wait_seconds, BACKOFF_SECONDS * 2**number)
            if number + 1 == ATTEMPTS_MAX or time.monotonic() + wait >= until:
                raise DnsUnavailable(str(again)) from again
            time.sleep(wait)  # bounded by `until`; real time, as that of the request's own timeout
        else:
            return


def ask(
    client: httpx.Client,
    method: str,
    url: str,
    *,
    token: str,
    until: float,
    params: Mapping[str, str] | None = None,
    body: object = None,
) -> tuple[int, dict[str, Any]]:
    """The answer's status and JSON object (empty if it is none). Raises `Again` where there was no usable answer.

    The token goes into a header of this one request. What httpx says of a failure is not repeated: it may quote it.
    """
    left = until - time.monotonic()
    if left <= 0:
        raise Again("no time is left for another request")
    try:
        request = client.build_request(
            method,
            url,
            params=dict(params or {}),
            json=body,
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json", "User-Agent": "dumont"},
            timeout=min(REQUEST_SECONDS, left),
        )
        response = client.send(request, follow_redirects=False)
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeEncodeError, ValueError) as error:
        raise Again(f"no answer: {type(error).__name__}") from None
    if response.status_code in TRANSIENT:
        raise Again(f"status {response.status_code}", wait_seconds=_seconds(response.headers.get("Retry-After")))
    if len(response.content) > ANSWER_BYTES_MAX:
        raise DnsRefused("the answer is longer than is read")
    try:
        read = json.loads(response.content or b"{}")
    except ValueError:
        read = {}
    return response.status_code, read if isinstance(read, dict) else {}


def rows(answer: Mapping[str, Any], field: str) -> list[dict[str, Any]]:
    """The objects in a list of an answer. Raises `Again` if there is no list: unreadable is not empty."""
    found = answer.get(field)
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise Again(f"the answer has no list of {field}")
    return found


def _seconds(header: str | None) -> float:
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        return 0.0  # a date: the usual wait will do


def same_values(kind: str, one: list[str], other: list[str]) -> bool:
    """Whether two lists of values mean the same: order, case and trailing dots of names do not matter."""
    return sorted(plain(kind, v) for v in one) == sorted(plain(kind, v) for v in other)


def plain(kind: str, value: str) -> str:
    """A value as it is compared: single spaces, no trailing dot, lower case."""
    text = " ".join(value.split()).casefold()
    return text.rstrip(".") if kind in ("CNAME", "SRV") else text


__all__ = ["Again", "ask", "persistently", "plain", "rows", "same_values"]
