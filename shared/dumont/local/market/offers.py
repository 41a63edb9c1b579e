"""The offers of a market: which there are, which can be rented now, and the search among them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from dumont.local.market import filters
from dumont.local.market.catalogue import Ask, by_id
from dumont.local.market.refusals import Refused
from dumont.local.market.rows import OFFER_ALIASES, OFFER_FIELDS_COMPUTED, offer_row, offer_value

OFFERS_MOST = 64
"""No answer to a search has more, whatever its limit."""

DEFAULT_STORAGE_GB = 5.0
SEARCH_TYPES = {"on-demand": False, "ondemand": False, "reserved": False, "bid": True, "interruptible": True}
NOT_FILTERS = frozenset({"order", "type", "limit", "allocated_storage", "disable_bundling", "select_cols"})


class Offers:
    """The listings. Which of them are rented by the account is told by each call."""

    def __init__(self, asks: Iterable[Ask], opened_at: float) -> None:
        self._asks = by_id(asks)
        self._opened_at = opened_at
        self._withdrawn_until: dict[int, float] = {}
        first = next(iter(self._asks.values()), None)
        self._fields = frozenset(first.fields if first else ()) | OFFER_FIELDS_COMPUTED | frozenset(OFFER_ALIASES)

    def get(self, ask_id: int) -> Ask | None:
        """A listing, if there is one of this id."""
        return self._asks.get(ask_id)

    def withdraw(self, ask_id: int, until: float) -> None:
        """Let somebody else have an offer for a while."""
        self._withdrawn_until[ask_id] = until

    def ends_at(self, ask: Ask) -> float:
        """When its host takes the machine back."""
        return self._opened_at + ask.offered_for_seconds

    def rentable(self, ask: Ask, rented: Collection[int], now: float) -> bool:
        """Whether an offer can be rented now."""
        return (
            not ask.taken
            and ask.id not in rented
            and now >= self._withdrawn_until.get(ask.id, 0.0)
            and now < self.ends_at(ask)
        )

    def search(self, query: Mapping[str, Any], rented: Collection[int], now: float) -> list[dict[str, Any]]:
        """Offers by Vast.ai's filters, `type`, `order`, `limit` and `allocated_storage`; at most 64.

        Raises `Refused` (400) for a field, operator or type that is not known.
        """
        kind = str(query.get("type") or "on-demand")
        if kind not in SEARCH_TYPES:
            raise Refused(400, "invalid_request", f"Error in query parameters: {kind} is not a type")
        wanted = filters.conditions(
            {field: value for field, value in query.items() if field not in NOT_FILTERS and value is not None},
            self._fields.__contains__,
        )
        # What never changes is looked at first: most offers need no row then.
        fixed = [w for w in wanted if OFFER_ALIASES.get(w[0], w[0]) not in OFFER_FIELDS_COMPUTED]
        computed = [w for w in wanted if OFFER_ALIASES.get(w[0], w[0]) in OFFER_FIELDS_COMPUTED]
        storage_gb = _number_or(query.get("allocated_storage"), DEFAULT_STORAGE_GB)
        rows = []
        for ask in self._asks.values():
            if not filters.select(lambda field, ask=ask: offer_value(ask.fields, field), fixed):  # type: ignore[misc]
                continue
            row = offer_row(
                ask,
                storage_gb=storage_gb,
                bid=SEARCH_TYPES[kind],
                rentable=self.rentable(ask, rented, now),
                opened_at=self._opened_at,
                now=now,
            )
            if filters.select(lambda field, row=row: offer_value(row, field), computed):  # type: ignore[misc]
                rows.append(row)
        limit = int(_number_or(query.get("limit"), OFFERS_MOST))
        return filters.ordered(rows, self._order(query))[: limit if 0 < limit < OFFERS_MOST else OFFERS_MOST]

    def _order(self, query: Mapping[str, Any]) -> list[tuple[str, bool]]:
        order = []
        for entry in query.get("order") or [["score", "desc"]]:
            field, direction = (entry, "asc") if isinstance(entry, str) else (entry[0], entry[1])
            if field not in self._fields:
                raise Refused(400, "invalid_request", f"Error in query parameters: {field} is not a valid order")
            order.append((OFFER_ALIASES.get(field, field), str(direction).lower() == "desc"))
        return order


def _number_or(value: Any, otherwise: float) -> float:
    if value is None:
        return otherwise
    try:
        return float(value)
    except (TypeError, ValueError):
        raise Refused(400, "invalid_request", f"Error in query parameters: {value!r} is not a number") from None
