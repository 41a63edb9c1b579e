"""The paged list of instances, `/api/v1/instances/`: filters, order, columns, and paging that survives changes."""

from __future__ import annotations

import base64
import binascii
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dumont.local.market import filters
from dumont.local.market.refusals import Refused

PAGE_MOST = 25
FILTERABLE = frozenset(
    {
        "id",
        "label",
        "actual_status",
        "intended_status",
        "cur_state",
        "next_state",
        "gpu_name",
        "verification",
        "image_uuid",
        "machine_id",
        "host_id",
        "start_date",
        "end_date",
        "geolocation",
        "is_bid",
    }
)
"""What is stored on the contract itself. Computed fields, such as dph_total, are refused, as by Vast.ai."""


def page(rows: list[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """One page of the rows, by the request's parameters. Raises `Refused` (400) for a bad filter, column or token."""
    wanted = filters.conditions(_json(query, "select_filters", {}), FILTERABLE.__contains__)
    matching = [row for row in rows if filters.select(row.get, wanted)]
    order = _order(_json(query, "order_by", []), rows)
    sorted_rows = filters.ordered(matching, order)
    limit = _limit(query.get("limit"))
    rest = _after(sorted_rows, order, query["after_token"]) if query.get("after_token") else sorted_rows
    shown = rest[:limit]
    return {
        "success": True,
        "instances_found": len(shown),
        "total_instances": len(matching),
        "label_counts": dict(Counter(row["label"] or "" for row in matching)),
        "next_token": _token(shown[-1], order) if len(rest) > limit else None,
        "instances": _columns(shown, _json(query, "select_cols", ["*"])),
    }


def _json(query: Mapping[str, str], name: str, otherwise: Any) -> Any:
    text = query.get(name)
    if not text:
        return otherwise
    try:
        value = json.loads(text)
    except ValueError:
        raise Refused(400, "invalid_request", f"Error in query parameters: {name} is not JSON") from None
    if not isinstance(value, type(otherwise)):
        raise Refused(400, "invalid_request", f"Error in query parameters: {name} has a wrong form")
    return value


def _order(order_by: Sequence[Any], rows: list[dict[str, Any]]) -> list[tuple[str, bool]]:
    order = []
    for entry in order_by:
        column = entry.get("col") if isinstance(entry, Mapping) else None
        if not isinstance(column, str) or (rows and column not in rows[0]):
            raise Refused(400, "invalid_request", f"Error in query parameters: {column} is not a valid order_by column")
        order.append((column, entry.get("dir") == "desc"))
    if all(column != "id" for column, _ in order):
        order.append(("id", False))
    return order


def _limit(text: str | None) -> int:
    try:
        limit = int(text) if text else PAGE_MOST
    except ValueError:
        raise Refused(400, "invalid_request", "Error in query parameters: limit is not a number") from None
    return min(limit, PAGE_MOST) if limit > 0 else 5


def _token(row: Mapping[str, Any], order: list[tuple[str, bool]]) -> str:
    values = {"values": {column: row.get(column) for column, _ in order}}
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode()


def _after(rows: list[dict[str, Any]], order: list[tuple[str, bool]], token: str) -> list[dict[str, Any]]:
    """The rows after the token's. By that row's values, so that rows that go meanwhile shift nothing."""
    try:
        values = json.loads(base64.urlsafe_b64decode(token))["values"]
        last = {column: values[column] for column, _ in order}
    except (binascii.Error, UnicodeDecodeError, ValueError, KeyError, TypeError):
        raise Refused(400, "invalid_token", "Invalid after_token.") from None
    marked = filters.ordered([*(row for row in rows if row["id"] != last["id"]), last], order)
    return marked[next(index for index, row in enumerate(marked) if row is last) + 1 :]


def _columns(rows: list[dict[str, Any]], columns: list[Any]) -> list[dict[str, Any]]:
    if "*" in columns:
        return rows
    return [{column: row.get(column) for column in columns} for row in rows]
