"""Vast.ai's search: at most 64 offers an answer, so that more are found by going up in price."""

from __future__ import annotations

from typing import Any

from dumont.adapters import vast_read
from dumont.adapters.vast_errors import PROVIDER
from dumont.adapters.vast_http import VastHttp
from dumont.domain import gpus
from dumont.domain.errors import ProviderDown, RateLimited
from dumont.domain.offers import Offer, OfferQuery, matches
from dumont.ports import Clock

PAGE = 64  # the most that Vast answers with, whatever limit is asked for
PAGES_MAX = 10  # as many searches as Vast allows in a minute

_PRICE_STEP = 1e-6  # prices are rounded when they are shown: "at least the last one shown" may leave that one out
_PRICE_MARGIN = 1.02  # its total may count storage by a month of other length, or round


def search(http: VastHttp, query: OfferQuery, clock: Clock) -> list[Offer]:
    """The offers that pass the query, the cheapest `PAGES_MAX` × `PAGE` that Vast's own filters let through.

    Refused for being too frequent after its first page, it answers with the cheaper part that it has; any other
    failure raises.
    """
    deadline = http.deadline()
    rows: dict[str, dict[str, Any]] = {}
    unreadable = 0
    floor: float | None = None
    for page_number in range(PAGES_MAX):
        try:
            page = _page(http, _body(query, floor, rows), deadline)
        except RateLimited:
            if page_number == 0:
                raise
            break
        new = 0
        for row in page:
            row_id = vast_read.offer_id(row) if isinstance(row, dict) else None
            if row_id is None:
                unreadable += 1
            elif row_id not in rows:
                rows[row_id] = row
                new += 1
        if len(page) < PAGE:
            break
        prices = [p for row in page if isinstance(row, dict) and (p := vast_read.price_of(row)) is not None]
        if not prices:
            break
        # A page with nothing new: more offers of one price than a page holds, and `notin` was not honoured. Above
        # that price there may be more; within it there is no way on.
        floor = max(prices) + (_PRICE_STEP if new == 0 else -_PRICE_STEP)
    offers = [offer for row in rows.values() if (offer := _read(row, query, clock.now())) is not None]
    if (rows or unreadable) and not offers:
        # Unreadable is not empty: "nothing on the market" would be another thing.
        raise ProviderDown("bundles: no offer in the answer can be read", provider=PROVIDER)
    return [offer for offer in offers if vast_read.is_open(rows[offer.id]) and matches(offer, query)]


def _read(row: dict[str, Any], query: OfferQuery, now: float) -> Offer | None:
    return vast_read.read_offer(row, interruptible=query.interruptible, disk_gb=query.disk_gb, now=now)


def _page(http: VastHttp, body: dict[str, object], deadline: float) -> list[Any]:
    answer = http.call("POST", "/api/v0/bundles/", "bundles", deadline=deadline, body=body, repeatable=True)
    page = answer.get("offers")
    if not isinstance(page, list):
        raise ProviderDown("bundles: no list of offers in the answer", provider=PROVIDER)
    return page


def _body(query: OfferQuery, floor: float | None, rows: dict[str, dict[str, Any]]) -> dict[str, object]:
    """Only filters that can let through too much, never too little: `matches` decides in the end."""
    body: dict[str, object] = {
        "external": {"eq": False},
        "rentable": {"eq": True},
        "num_gpus": {"eq": query.gpu_count},
        "disk_space": {"gte": query.disk_gb},
        "order": [["dph_total", "asc"]],
        "type": "bid" if query.interruptible else "on-demand",
        "allocated_storage": query.disk_gb,
        "limit": PAGE,
    }
    if query.verified_only:
        body["verified"] = {"eq": True}
    if query.gpu is not None:
        body["gpu_name"] = {"eq": gpus.canonical(query.gpu)}
    if query.min_vram_gib is not None:
        shown = query.min_vram_gib * (1 - vast_read.VRAM_TOLERANCE) * 1000.0
        body["gpu_ram"] = {"gte": shown}
    for field, least in (
        ("reliability", query.min_reliability),
        ("inet_down", query.min_download_mbps),
        ("inet_up", query.min_upload_mbps),
        ("cuda_max_good", query.min_cuda),
    ):
        if least is not None:
            body[field] = {"gte": least}
    price: dict[str, float] = {}
    # What dph_total means for an interruptible offer is not known; its bid is checked here.
    if query.max_price_usd_per_hour is not None and not query.interruptible:
        price["lte"] = query.max_price_usd_per_hour * _PRICE_MARGIN
    if floor is not None:
        price["gte"] = floor
        seen = [int(i) for i, row in rows.items() if (vast_read.price_of(row) or 0.0) >= floor]
        if seen:
            body["ask_contract_id"] = {"notin": seen}
    if price:
        body["dph_total"] = price
    return body
