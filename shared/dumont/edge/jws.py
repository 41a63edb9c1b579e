"""Signed tokens as text (JWS, compact serialisation: RFC 7515): taken apart, and nothing believed of them yet."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec

CHARACTERS_MOST = 8192


class Jws(msgspec.Struct, frozen=True, kw_only=True):
    """One token in its parts. `signed` is what the signature is of."""

    header: dict[str, Any]
    claims: dict[str, Any]
    signed: bytes
    signature: str
    """As it was sent, in base64url."""


def read(token: str) -> Jws | None:
    """A token's parts; None for what is none."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > CHARACTERS_MOST or not token.isascii():
        return None
    header, claims = _object(parts[0]), _object(parts[1])
    if header is None or claims is None:
        return None
    return Jws(header=header, claims=claims, signed=f"{parts[0]}.{parts[1]}".encode(), signature=parts[2])


def decoded(text: str) -> bytes | None:
    """Bytes from base64url without its padding; None for what is not written so."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None


def encoded(data: bytes) -> str:
    """Bytes as base64url without its padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _object(text: str) -> dict[str, Any] | None:
    raw = decoded(text)
    if raw is None:
        return None
    try:
        said = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None
