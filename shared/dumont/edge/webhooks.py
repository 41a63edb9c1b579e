"""The edge for markets' webhooks: a notice counts only with the market's own signature, and only while it is fresh."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from typing import Any

from dumont.domain import notices
from dumont.domain.errors import InvalidInput, Unauthenticated
from dumont.domain.notices import Notice
from dumont.edge import wiring
from dumont.edge.http import Call

AGE_SECONDS_MAX = 300.0
"""Vast.ai's guide: reject what is older. What comes from as far in the future is no better."""
PROVIDER = "vast"
_EVENT_ID = re.compile(r"^[A-Za-z0-9._:-]{1,128}$")


def notice_of(call: Call) -> Notice:
    """The notice that a request brings. Raises `Unauthenticated`, `TooLarge`, or `InvalidInput`."""
    secret = wiring.settings().vast_webhook_secret
    headers = {name.lower(): value for name, value in call.request.headers.items()}
    return read(secret, headers, call.raw_body(), call.ports.clock.now())


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """What Vast.ai signs: the timestamp as it is sent, a dot, and the body's bytes."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def read(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> Notice:
    """A notice from a request's headers (names in lower case) and raw body.

    Raises `Unauthenticated` for one that is not signed with the secret, or not now (or where there is no secret),
    `InvalidInput` for one that cannot be read.
    """
    timestamp = headers.get("x-vast-timestamp", "")
    presented = headers.get("x-vast-signature-256", "")
    expected = signature(secret, timestamp, body)
    # Compared in any case, in constant time: how long it takes must not tell what is wrong.
    holds = hmac.compare_digest(presented.encode("utf-8", "replace"), expected.encode())
    if not secret or not holds:
        raise Unauthenticated("this needs the market's signature, and there is none that holds")
    try:
        age_seconds = now - float(timestamp)
    except ValueError:
        raise Unauthenticated("the signature's timestamp is none") from None
    if not abs(age_seconds) <= AGE_SECONDS_MAX:
        raise Unauthenticated("the signature is not of now")
    said = _body(body)
    # The header is not signed; what is signed comes first.
    event_id = _text(said.get("event_id")) or headers.get("x-vast-event-id", "")
    if not _EVENT_ID.fullmatch(event_id):
        raise InvalidInput("a notice has an event's id", field="event_id")
    subject, message = _text(said.get("subject")), _text(said.get("message"))
    ids = [_text(said.get(field)) for field in ("instance_id", "contract_id")]
    return Notice(
        provider=PROVIDER,
        event_id=event_id,
        kind=_text(said.get("notif_type")).rpartition(":")[2][:64],
        subject=subject[:500],
        message=message[:2000],
        ids=tuple(dict.fromkeys([*(i for i in ids if i), *notices.numbers_in(subject, message)])),
    )


def _body(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidInput("the body is not JSON", code="malformed_json") from None
    if not isinstance(said, dict):
        raise InvalidInput("the body is not a notice")
    return said


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return str(value)
