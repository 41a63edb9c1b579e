"""What Vast.ai's refusals mean, as typed errors. Pure: an answer goes in, an error comes out.

Vast refuses with `{success: false, error, msg}` under any status, 200 included; any of the keys may be missing, and
a proxy before it may answer with HTML or with nothing.
"""

from __future__ import annotations

import email.utils
import json
import math
import re
from typing import Any

import msgspec

from dumont.domain.errors import (
    AuthError,
    BidTooLow,
    InvalidRequest,
    NotFound,
    OfferGone,
    OutOfCredit,
    ProviderDown,
    ProviderError,
    RateLimited,
    StartRefused,
)

PROVIDER = "vast"

RATE_LIMIT_SECONDS: dict[str, float] = {
    "bundles": 6.0,
    "create": 4.5,
    "show": 2.0,
    "list": 1.0,
    "instance": 1.0,
    "destroy": 3.0,
    "bid": 5.5,
}
"""Seconds between two calls of an endpoint, where a refusal does not say (thresholds in Vast's OpenAPI; bundles: 10 a
minute)."""

_DEFAULT_RATE_LIMIT_SECONDS = 2.0
_SECONDS_PER_DAY = 86_400.0
_QUOTED_CHARACTERS = 300

_CREDIT = re.compile(r"insufficient[_ ]credit|spend[_ ]rate[_ ]limit|lacks credit|out of credit")
_TOO_FREQUENT = re.compile(r"too frequent|rate_limit_exceeded|too many requests")
_THRESHOLD = re.compile(r"threshold\s*=\s*(\d+(?:\.\d+)?)")
_QUOTA = re.compile(r"search_quota_exceeded")
_BID = re.compile(r"\bbid\b.{0,40}\b(too low|lower than|below)|bid_too_low|minimum bid")
_NO_ASK = re.compile(r"no_such_ask|instance type .{0,60}\b(not|no longer) available")
_NO_INSTANCE = re.compile(
    r"no_such_instance|no such instance|instance not found|instance with that id does not exist|invalid instance id"
)
_QUEUED = re.compile(r"required resources are currently unavailable|state change queued")
_AUTH = re.compile(r"auth_error|invalid user key|invalid api key")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP answer, as far as its meaning depends on it. `body` is None where it is no JSON object."""

    status: int
    text: str
    body: dict[str, Any] | None
    retry_after: str | None = None


def read_answer(status: int, content: bytes, retry_after: str | None = None) -> Answer:
    """Read a body, whatever it is."""
    text = content.decode("utf-8-sig", errors="replace")
    try:
        body = msgspec.json.decode(content)
    except (ValueError, RecursionError):
        body = _leniently(text)
    return Answer(status=status, text=text, body=body if isinstance(body, dict) else None, retry_after=retry_after)


def _leniently(text: str) -> Any:
    """What only Python's own parser takes: NaN, which Vast's servers may write; a byte order mark; a broken letter."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def is_success(answer: Answer) -> bool:
    """Whether Vast says that it did what was asked: a status of 2xx alone does not say so."""
    if answer.body is None or not 200 <= answer.status < 300:
        return False
    success = answer.body.get("success")
    if success is None:
        return not answer.body.get("error")
    return success is True or success == 1 or (isinstance(success, str) and success.casefold() == "true")


def is_queued(body: dict[str, Any]) -> bool:
    """Whether Vast says that a start was queued for want of a GPU."""
    return _QUEUED.search(_words(body).casefold()) is not None


def error_of(
    answer: Answer,
    endpoint: str,
    now: float,
    *,
    missing: type[ProviderError] = InvalidRequest,
) -> ProviderError:
    """The typed error for an answer that is no success.

    `missing` is what a readable 404 or 410 means that names no reason: it depends on what was asked for.
    """
    quoted = _words(answer.body) if answer.body is not None else f"HTTP {answer.status} with an unreadable body"
    message = f"{endpoint}: {_plain(quoted) or f'HTTP {answer.status} without a reason'}"
    if answer.body is None:
        return _error_of_unreadable(answer, endpoint, message, now)
    words = quoted.casefold()
    contract = whole_number(answer.body.get("new_contract"))
    # First of all: a refusal that names a contract has rented something, whatever else it says, and it bills.
    if contract is not None:
        return BidTooLow(message, provider=PROVIDER, provider_instance_id=str(contract))
    # Before the rate limit: "spend_rate_limit" is about money.
    if _CREDIT.search(words):
        return OutOfCredit(message, provider=PROVIDER)
    if answer.status == 429 or _TOO_FREQUENT.search(words):
        return _rate_limited(answer, endpoint, message, now)
    kind = _kind_of_words(words)
    if kind is None:
        kind = _kind_of_status(answer.status, words, missing)
    return kind(message, provider=PROVIDER)


def _kind_of_words(words: str) -> type[ProviderError] | None:
    for pattern, kind in (
        (_AUTH, AuthError),
        (_NO_ASK, OfferGone),
        (_NO_INSTANCE, NotFound),
        (_QUEUED, StartRefused),
        (_BID, BidTooLow),
    ):
        if pattern.search(words):
            return kind
    return None


def _kind_of_status(status: int, words: str, missing: type[ProviderError]) -> type[ProviderError]:
    # A 403 for "invalid_args" is about the offer (a host's own), not about our key.
    if status == 401 or (status == 403 and "invalid_args" not in words):
        return AuthError
    if status in (404, 410):
        return missing if "deprecated" not in words else InvalidRequest
    if 200 <= status < 300 or (400 <= status < 500 and status != 408):
        return InvalidRequest
    return ProviderDown


def _error_of_unreadable(answer: Answer, endpoint: str, message: str, now: float) -> ProviderError:
    if answer.status == 429:
        return _rate_limited(answer, endpoint, message, now)
    if answer.status in (401, 403):
        return AuthError(message, provider=PROVIDER)
    return ProviderDown(message, provider=PROVIDER)


def _rate_limited(answer: Answer, endpoint: str, message: str, now: float) -> RateLimited:
    return RateLimited(message, provider=PROVIDER, retry_after_seconds=_wait_seconds(answer, endpoint, now))


def _wait_seconds(answer: Answer, endpoint: str, now: float) -> float:
    text = answer.text.casefold()
    # The daily quota ends at midnight UTC: trying again before then only burns requests.
    if _QUOTA.search(text):
        return _SECONDS_PER_DAY - now % _SECONDS_PER_DAY
    stated = _retry_after_seconds(answer.retry_after, now)
    if stated is not None:
        return stated
    threshold = _THRESHOLD.search(text)
    if threshold:
        return min(float(threshold.group(1)), _SECONDS_PER_DAY)
    return RATE_LIMIT_SECONDS.get(endpoint, _DEFAULT_RATE_LIMIT_SECONDS)


def _retry_after_seconds(header: str | None, now: float) -> float | None:
    """Both forms of RFC 9110: a number of seconds, or a date."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - now
        except (ValueError, OverflowError):
            return None
    if not math.isfinite(seconds):
        return None
    return min(max(seconds, 0.0), _SECONDS_PER_DAY)


def _words(body: dict[str, Any] | None) -> str:
    """What an answer says in words, wherever it says it."""
    parts = []
    for key in ("error", "msg", "message", "detail"):
        value = (body or {}).get(key)
        if isinstance(value, str) and value:
            parts.append(value)
        elif isinstance(value, dict | list) and value:
            parts.append(json.dumps(value))
    return ": ".join(parts)


def _plain(text: str) -> str:
    """One short line: a provider's text must not forge lines of a log, nor fill it."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:_QUOTED_CHARACTERS]


def whole_number(value: object) -> int | None:
    """A positive whole number, sent as a number or as a string; None for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
        value = int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e18:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        return None
    return value
