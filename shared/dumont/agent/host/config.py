"""Who this agent is and whom it reports to: the file that it is started with."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class BadConfig(Exception):
    """The configuration cannot be used; the message quotes none of its values."""


@dataclass(frozen=True)
class Config:
    """`workspace` is absolute, or below the home. `lease_seconds` counts until the first answer says another."""

    url: str
    token: str = field(repr=False)
    machine: str
    instance: str
    epoch: int
    workspace: Path
    interval_seconds: float
    lease_seconds: float


def read_config(content: bytes, home: Path) -> Config:
    """Raises `BadConfig`, naming the field at fault."""
    try:
        given = json.loads(content)
    except ValueError:
        raise BadConfig("it is not JSON") from None
    if not isinstance(given, dict):
        raise BadConfig("it is not an object")
    url = _text(given, "url").rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise BadConfig("url is not http or https")
    token = _text(given, "token")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise BadConfig("token is not one word of ASCII")
    epoch = given.get("epoch")
    if not isinstance(epoch, int) or isinstance(epoch, bool):
        raise BadConfig("epoch is not a whole number")
    return Config(
        url=url,
        token=token,
        machine=_text(given, "machine"),
        instance=_text(given, "instance"),
        epoch=epoch,
        workspace=home / _text({"workspace": "workspace", **given}, "workspace"),
        interval_seconds=_seconds(given, "interval_seconds", 5.0),
        lease_seconds=_seconds(given, "lease_seconds", 45.0),
    )


def _text(given: dict[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not value:
        raise BadConfig(f"{name} is not a text")
    return value


def _seconds(given: dict[str, Any], name: str, default: float) -> float:
    value = given.get(name, default)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 86400:
        raise BadConfig(f"{name} is not a number of seconds up to a day")
    return float(value)
