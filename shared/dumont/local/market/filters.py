"""Vast.ai's filters: `{"field": {"operator": operand}}` over a row of named values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dumont.local.market.refusals import Refused

Row = Mapping[str, Any]


def _eq(value: Any, operand: Any) -> bool:
    return bool(value == operand)


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "gt": lambda value, operand: bool(value > operand),
    "gte": lambda value, operand: bool(value >= operand),
    "lt": lambda value, operand: bool(value < operand),
    "lte": lambda value, operand: bool(value <= operand),
}

OPERATORS = frozenset({"eq", "neq", "in", "notin", *_COMPARISONS})


def coerced(value: Any, operand: Any) -> Any:
    """The operand in the type of the row's value: the official CLI sends numbers as strings, and "_" for a space.

    Raises `ValueError` if it is no such thing.
    """
    if operand is None or value is None:
        return operand
    if isinstance(value, bool):
        return operand.strip().lower() in ("true", "1") if isinstance(operand, str) else bool(operand)
    if isinstance(value, int | float):
        return float(operand)
    return str(operand).replace("_", " ")


def passes(value: Any, operator: str, operand: Any) -> bool:
    """Whether a value passes one condition. An absent value passes only `neq`, `notin` and being compared to null."""
    if operator in ("in", "notin"):
        operands = operand if isinstance(operand, list | tuple) else [operand]
        return any(_eq(value, coerced(value, each)) for each in operands) == (operator == "in")
    if operator in ("eq", "neq"):
        return _eq(value, coerced(value, operand)) == (operator == "eq")
    if value is None or operand is None:
        return False
    return _COMPARISONS[operator](value, coerced(value, operand))


def conditions(filters: Mapping[str, Any], known: Callable[[str], bool]) -> list[tuple[str, str, Any]]:
    """The filters as (field, operator, operand). Raises `Refused` (400) for a field or an operator that is not known.

    A bare value is the short form of `eq`.
    """
    found: list[tuple[str, str, Any]] = []
    for field, wanted in filters.items():
        if not known(field):
            raise Refused(400, "invalid_request", f"Error in query parameters: {field} is not a valid search key")
        for operator, operand in (wanted if isinstance(wanted, Mapping) else {"eq": wanted}).items():
            if operator not in OPERATORS:
                raise Refused(400, "invalid_request", f"Error in query parameters: {operator} is not an operator")
            found.append((field, operator, operand))
    return found


def select(value_of: Callable[[str], Any], wanted: Iterable[tuple[str, str, Any]]) -> bool:
    """Whether a row, given by its values' reader, passes every condition. Raises `Refused` for an unreadable one."""
    for field, operator, operand in wanted:
        try:
            if not passes(value_of(field), operator, operand):
                return False
        except (TypeError, ValueError):
            raise Refused(400, "invalid_request", f"Error in query parameters: bad value for {field}") from None
    return True


def ordered(rows: list[dict[str, Any]], order: Iterable[tuple[str, bool]]) -> list[dict[str, Any]]:
    """The rows by several fields, each with whether it descends, the first one weighing most; absent values last."""
    for field, descending in reversed(list(order)):
        present = [row for row in rows if row.get(field) is not None]
        absent = [row for row in rows if row.get(field) is None]
        present.sort(key=lambda row, field=field: row[field], reverse=descending)  # type: ignore[misc]
        rows = present + absent
    return rows
