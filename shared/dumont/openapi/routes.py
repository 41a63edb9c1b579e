"""What a route is: a method and a path of a function, with what is sent to it and what it answers.

The roles come from the functions themselves (`edge.doors.Door`), what is sent from the structs that they decode with;
`tests/unit/test_openapi.py` holds that each function answers its routes and no other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

Proof = Literal["key", "agent", "market", "slack", "gateway", "google", "none"]
"""What a caller shows: one of Dumont's API keys, an agent's token, a signature, a gateway token, or nothing."""


@dataclass(frozen=True)
class Raw:
    """Something that is not JSON: its media type, and what it is."""

    media_type: str
    description: str


Content = Any
"""A type that msgspec can describe, a `Raw`, or a tuple of types, any of which it may be."""


@dataclass(frozen=True)
class Route:
    """One method of one path. `path` is below the function's own: "", or "/{name}/logs"; `answers` are by status."""

    method: str
    path: str
    summary: str
    answers: Mapping[int, Content]
    _: KW_ONLY
    arguments: Any = None
    """The struct that the query string is read as."""
    body: Content = None
    body_may_be_absent: bool = False
    located: bool = False
    """Whether the answer's `Location` leads to what it made or began."""
    proof: Proof = "key"
    refusals: tuple[int, ...] = ()
    """Statuses of refusals beyond those that any such route has (`document.refusals`)."""
    fault: Any = None
    """The shape of its errors, where that is not a problem document."""
    says: str = ""
    """What more there is to know."""

    @property
    def parameters(self) -> list[str]:
        """The names in its path."""
        return re.findall(r"{(\w+)}", self.path)

    def filled(self, **values: str) -> str:
        """Its path with values in it; for a name that has none, "x"."""
        return re.sub(r"{(\w+)}", lambda found: values.get(found[1], "x"), self.path)
