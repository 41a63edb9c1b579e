"""The simulated market's listings and the search among them."""

from __future__ import annotations

from typing import Any

import pytest

from dumont.local.market.catalogue import Ask, catalogue, numeric_version
from dumont.local.market.core import Market
from dumont.local.market.refusals import Refused

DEFAULTS: dict[str, Any] = {"verified": {"eq": True}, "external": {"eq": False}, "rentable": {"eq": True}}
SINGLE_4090 = {**DEFAULTS, "gpu_name": {"eq": "RTX 4090"}, "num_gpus": {"eq": "1"}}
SEEDS = range(20)


def search(query: dict[str, Any], market: Market | None = None, now: float = 0.0) -> list[dict[str, Any]]:
    return (market or Market()).search(query, now)


def everything(query: dict[str, Any], market: Market) -> list[dict[str, Any]]:
    """All offers of a search, paged by price as Vast.ai's clients must."""
    found: dict[int, dict[str, Any]] = {}
    floor = 0.0
    while True:
        price = {**query.get("dph_total", {}), "gte": floor}
        page = market.search({**query, "dph_total": price, "order": [["dph_total", "asc"]]}, 0.0)
        fresh = [row for row in page if row["id"] not in found]
        if not fresh:
            return list(found.values())
        found.update({row["id"]: row for row in fresh})
        floor = page[-1]["dph_total"]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_seed_lists_96_offers_and_64_that_can_be_rented_by_default(seed: int) -> None:
    asks = catalogue(seed)
    assert len(asks) >= 96
    assert len({ask.id for ask in asks}) == len({ask.machine_id for ask in asks}) == len(asks)
    assert len(everything(DEFAULTS, Market(seed=seed))) >= 64


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("disk_gb", [8, 20, 100])
def test_the_cheapest_4090_is_in_british_columbia_at_16_89_cents(seed: int, disk_gb: int) -> None:
    query = {"gpu_name": {"eq": "RTX 4090"}, "allocated_storage": disk_gb, "order": [["dph_total", "asc"]]}
    first, second = search(query, Market(seed=seed))[:2]
    assert (first["dph_base"], first["num_gpus"], first["geolocation"]) == (0.1689, 1, "British Columbia, CA")
    assert first["verification"] == "verified"
    assert first["dph_total"] == pytest.approx(0.1689 + disk_gb * first["storage_cost"] / 720)
    assert first["dph_total"] < second["dph_total"]


@pytest.mark.parametrize("seed", SEEDS)
def test_eight_single_4090s_below_forty_cents_are_on_hosts_of_their_own(seed: int) -> None:
    rows = search({**SINGLE_4090, "dph_total": {"lt": "0.40"}, "allocated_storage": 20}, Market(seed=seed))
    assert len(rows) >= 8
    assert len({row["host_id"] for row in rows}) == len({row["machine_id"] for row in rows}) == len(rows)


def test_the_same_seed_gives_the_same_offers_and_another_gives_others() -> None:
    assert [ask.fields for ask in catalogue(3)] == [ask.fields for ask in _made_anew(3)]
    assert [ask.id for ask in catalogue(3)] != [ask.id for ask in catalogue(4)]


def _made_anew(seed: int) -> tuple[Ask, ...]:
    return catalogue.__wrapped__(seed)


@pytest.mark.parametrize(
    ("filters", "holds"),
    [
        ({"gpu_name": {"eq": "RTX_4090"}}, lambda r: r["gpu_name"] == "RTX 4090"),
        ({"gpu_name": {"neq": "RTX 4090"}}, lambda r: r["gpu_name"] != "RTX 4090"),
        ({"gpu_name": {"in": ["RTX_4090", "RTX 3090"]}}, lambda r: r["gpu_name"] in ("RTX 4090", "RTX 3090")),
        ({"geolocation": {"notin": ["US", "CN"]}}, lambda r: r["geolocation"][-2:] not in ("US", "CN")),
        ({"geolocation": {"eq": "CA"}}, lambda r: r["geolocation"].endswith(", CA")),
        ({"num_gpus": {"gte": "2"}}, lambda r: r["num_gpus"] >= 2),
        ({"num_gpus": {"in": ["2", 4]}}, lambda r: r["num_gpus"] in (2, 4)),
        ({"reliability": {"gt": "0.98"}}, lambda r: r["reliability2"] > 0.98),
        ({"dph_total": {"lte": "0.3"}}, lambda r: r["dph_total"] <= 0.3),
        ({"dph": {"lt": 0.3}}, lambda r: r["dph_total"] < 0.3),
        ({"gpu_ram": {"gte": 24000.0, "lt": 40000}}, lambda r: 24000 <= r["gpu_ram"] < 40000),
        ({"driver_version": {"gte": 560035005}}, lambda r: numeric_version(r["driver_version"]) >= 560035005),
        ({"verified": {"eq": "false"}}, lambda r: r["verification"] != "verified"),
        ({"datacenter": {"eq": True}}, lambda r: r["hosting_type"] == 1),
        ({"rented": {"eq": False}}, lambda r: r["rentable"]),
        ({"duration": {"gt": 100 * 86400.0}}, lambda r: r["duration"] > 100 * 86400),
        ({"num_gpus": 8}, lambda r: r["num_gpus"] == 8),
    ],
)
def test_filters_keep_what_passes_them_and_nothing_else(filters: dict[str, Any], holds: Any) -> None:
    market = Market()
    kept, all_rows = everything(filters, market), everything({}, market)
    expected = {row["id"] for row in all_rows if holds(row)}
    assert 0 < len(expected) < len(all_rows)
    assert {row["id"] for row in kept} == expected


@pytest.mark.parametrize(
    "query",
    [
        {"foo": {"eq": "1"}},
        {"num_gpus": {"like": "1"}},
        {"num_gpus": {"eq": "one"}},
        {"type": "free"},
        {"order": [["foo", "asc"]]},
        {"limit": "many"},
    ],
)
def test_a_search_that_cannot_be_read_is_refused(query: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        search(query)
    assert refused.value.status == 400


def test_no_answer_has_more_than_64_offers_whatever_its_limit() -> None:
    assert len(search({})) == len(search({"limit": 1000})) == 64
    assert len(search({"limit": "3"})) == 3


def test_offers_come_in_the_order_asked_for() -> None:
    rows = search({"order": [["num_gpus", "desc"], ["dph_total", "asc"]]})
    assert rows == sorted(rows, key=lambda row: (-row["num_gpus"], row["dph_total"]))


def test_storage_is_priced_by_the_month_of_720_hours() -> None:
    small, large = (search({**SINGLE_4090, "allocated_storage": gb, "order": [["id", "asc"]]})[0] for gb in (10, 730))
    assert large["dph_total"] - small["dph_total"] == pytest.approx(small["storage_cost"])


def test_a_bid_search_prices_offers_at_the_lowest_bid_that_wins() -> None:
    on_demand, bid = (
        search({**SINGLE_4090, "type": kind, "order": [["id", "asc"]]})[0] for kind in ("ondemand", "bid")
    )
    assert bid["dph_base"] == on_demand["min_bid"] < on_demand["dph_base"]
    assert (bid["is_bid"], on_demand["is_bid"]) == (True, False)


def test_a_rented_offer_is_not_rentable_until_its_instance_is_destroyed() -> None:
    market = Market()
    ask_id = market.search(SINGLE_4090, 0.0)[0]["id"]
    wanted = {**DEFAULTS, "id": {"eq": ask_id}}
    instance = market.create(ask_id, {"image": "a", "disk": 8}, 1.0)
    market.stop(instance.id, 500.0)
    assert search(wanted, market, 600.0) == []
    assert search({"id": {"eq": ask_id}}, market, 600.0)[0]["rented"] is True
    market.destroy(instance.id, 700.0)
    assert [row["id"] for row in search(wanted, market, 700.0)] == [ask_id]
