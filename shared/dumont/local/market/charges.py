"""What the market has charged, as Vast.ai's `GET /api/v0/charges/` shows it: per contract, a line for each kind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dumont.local.market.billing import Line
from dumont.local.market.refusals import Refused

PAGE_MOST = 500
PAGE_USUAL = 100
NO_RANGE = "Must provide both 'day' gte and lte filters for instance charges"


def page(lines: tuple[Line, ...], query: Mapping[str, str], now: float) -> dict[str, Any]:
    """One page of the charges of contracts that existed within the days asked for. Raises `Refused` (400)."""
    start, end, types = _range(query.get("select_filters", ""))
    shown = [x for x in lines if x.created_at <= end and (x.destroyed_at is None or x.destroyed_at >= start)]
    if types is not None and "instance" not in types:
        shown = []
    shown.sort(key=lambda x: x.created_at, reverse=query.get("latest_first", "true").casefold() != "false")
    try:
        limit = min(PAGE_MOST, max(1, int(query.get("limit", PAGE_USUAL))))
        after = int(query.get("after_token") or 0)
    except ValueError:
        raise Refused(400, "invalid_token", "Invalid pagination token") from None
    rows = [_row(line, now) for line in shown[after : after + limit]]
    following = after + limit if after + limit < len(shown) else None
    return {
        "success": True,
        "count": len(rows),
        "total": len(shown),
        "results": rows,
        "next_token": None if following is None else str(following),
    }


def _range(filters: str) -> tuple[float, float, list[str] | None]:
    try:
        read = json.loads(filters or "{}")
        day = read["day"]
        types = (read.get("type") or {}).get("in")
        return float(day["gte"]), float(day["lte"]), types if isinstance(types, list) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Refused(400, "invalid_args", NO_RANGE) from None


def _row(line: Line, now: float) -> dict[str, Any]:
    start, end = int(line.created_at), int(line.destroyed_at if line.destroyed_at is not None else now)
    items: list[dict[str, Any]] = [
        {"start": start, "end": end, "type": kind, "source": None, "description": text, "amount": round(usd, 6),
         "metadata": {}, "items": []}
        for kind, usd, text in (
            ("gpu", line.gpu_usd, f"{line.gpu_seconds / 3600:.3f} hours"),
            ("disk", line.storage_usd, f"{(end - start) / 3600:.3f} hours"),
        )
        if usd > 0
    ]  # fmt: skip
    return {
        "start": start,
        "end": end,
        "type": "instance",
        "source": f"instance-{line.instance_id}",
        "description": f"Instance {line.instance_id} Charges",
        "amount": round(line.gpu_usd + line.storage_usd, 3),
        "metadata": {} if line.label is None else {"label": line.label},
        "items": items,
    }
