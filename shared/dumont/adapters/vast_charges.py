"""What Vast.ai has charged: `GET /api/v0/charges/`, per contract, with a line for each kind (OpenAPI, 2026-08)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dumont.adapters import vast_read
from dumont.adapters.vast_errors import PROVIDER
from dumont.adapters.vast_http import VastHttp
from dumont.domain.errors import ProviderDown
from dumont.domain.ledger import DAY_SECONDS, Kind, midnight_before
from dumont.domain.reconciling import Charged

PAGE = 500  # the most that Vast puts on a page
PAGES_MAX = 200
_KINDS: Mapping[str, str] = {
    "gpu": Kind.GPU.value,
    "disk": Kind.STORAGE.value,
    "bwd": Kind.BANDWIDTH_IN.value,
    "bwu": Kind.BANDWIDTH_OUT.value,
}
OTHER = "other"
_ROUNDED_USD = 0.0016
"""A contract's amount is rounded to three decimals; its lines may be, each."""


def charges(http: VastHttp, from_time: float, to_time: float) -> list[Charged]:
    """What was charged, in all, for each instance that existed within these days. A page that cannot be read raises
    `ProviderDown`: half a bill would make half of what we paid look unowed."""
    deadline = http.deadline()
    days = {"gte": int(midnight_before(from_time)), "lte": int(midnight_before(to_time) + DAY_SECONDS)}
    found: list[Charged] = []
    token: str | None = None
    seen: set[str] = set()
    for _ in range(PAGES_MAX):
        params = {
            "select_filters": json.dumps({"day": days, "type": {"in": ["instance"]}}),
            "latest_first": "false",
            "limit": str(PAGE),
        }
        if token is not None:
            params["after_token"] = token
        answer = http.call("GET", "/api/v0/charges/", "charges", deadline=deadline, params=params, repeatable=True)
        rows = answer.get("results")
        if not isinstance(rows, list):
            raise ProviderDown("charges: no list of results in the answer", provider=PROVIDER)
        found += [charged for charged in map(read_charged, rows) if charged is not None]
        following = answer.get("next_token")
        if following in (None, ""):
            return found
        if not isinstance(following, str) or following in seen:
            raise ProviderDown("charges: the next page's token cannot be read", provider=PROVIDER)
        token = following
        seen.add(following)
    raise ProviderDown(f"charges: more than {PAGES_MAX} pages", provider=PROVIDER)


def read_charged(row: Any) -> Charged | None:
    """One contract's charges; None for what is no instance's. Raises `ProviderDown` for what cannot be read."""
    if not isinstance(row, Mapping):
        raise ProviderDown("charges: a line that cannot be read", provider=PROVIDER)
    source = row.get("source")
    if not isinstance(source, str) or not source.startswith("instance-"):
        return None
    amount = vast_read.number(row.get("amount"))
    if amount is None:
        raise ProviderDown("charges: an instance's line without an amount", provider=PROVIDER)
    metadata = row.get("metadata")
    label = metadata.get("label") if isinstance(metadata, Mapping) else None
    return Charged(
        instance_id=source.removeprefix("instance-"),
        label=label if isinstance(label, str) else None,
        started_at=vast_read.number(row.get("start")),
        ended_at=vast_read.number(row.get("end")),
        usd=_by_kind(row.get("items"), amount),
    )


def _by_kind(items: Any, amount: float) -> dict[str, float]:
    by_kind: dict[str, float] = {}
    for item in items if isinstance(items, list) else ():
        usd = vast_read.number(item.get("amount")) if isinstance(item, Mapping) else None
        if usd is not None:
            kind = _KINDS.get(str(item.get("type")), OTHER)
            by_kind[kind] = by_kind.get(kind, 0.0) + usd
    # The total is what is paid: what its lines do not explain is kept, under its own name.
    rest = amount - sum(by_kind.values())
    if abs(rest) > _ROUNDED_USD:
        by_kind[OTHER] = by_kind.get(OTHER, 0.0) + rest
    return by_kind
