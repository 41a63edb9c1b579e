"""What calls of B2's native API are given and give back, in JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from dumont.local.object_store.http import Answer, Request
from dumont.local.object_store.keys import Key
from dumont.local.object_store.refusals import bad_request

LIST_MAX, LIST_DEFAULT = 10_000, 100

Parameters = dict[str, Any]

Call = tuple[str, Callable[[Request, Key, Parameters, int], Parameters]]
"""A call's name for faults and counts, and what answers it: request, key, parameters and the API's version."""


def text(asked: Parameters, name: str) -> str:
    """A parameter that must be there."""
    value = asked.get(name)
    if not isinstance(value, str) or not value:
        raise bad_request(f"{name} is missing or no text")
    return value


def limit_of(asked: Parameters, name: str, most: int = LIST_MAX) -> int:
    """How many rows are asked for."""
    count = asked.get(name, LIST_DEFAULT)
    if not isinstance(count, int) or not 1 <= count <= most:
        raise bad_request(f"{name} must be from 1 to {most}")
    return count


def as_json(body: Parameters) -> Answer:
    """An answer of status 200."""
    return Answer(body=json.dumps(body).encode())
