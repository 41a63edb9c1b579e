"""What a deliberate defect changes: a name in a module or class, and what stands there instead."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Made = tuple[Iterable[str], Iterable["Patch"]]
"""What a defect's function answers: the invariants that may catch it, and its patches."""


@dataclass(frozen=True)
class Patch:
    """`where.name` is `instead` while the defect is there."""

    where: Any
    name: str
    instead: Any


def wrapped(where: Any, name: str, around: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Patch:
    """A patch that goes on calling what it replaces: `around` is given that, and answers with what to call instead."""
    return Patch(where, name, around(getattr(where, name)))


def answering(where: Any, name: str, value: Any) -> Patch:
    """A function that always answers the same."""
    return Patch(where, name, lambda *_args, **_kwargs: value)
