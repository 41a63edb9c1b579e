"""The simulated market's paged list of instances."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from dumont.local.market import listing
from dumont.local.market.refusals import Refused


def rows(count: int) -> list[dict[str, Any]]:
    return [
        {"id": 100 + n, "label": f"l{n % 3}" if n % 4 else None, "actual_status": "running", "start_date": float(-n)}
        for n in range(count)
    ]


def all_pages(found: list[dict[str, Any]], **query: str) -> list[list[int]]:
    pages: list[list[int]] = []
    token: str | None = ""
    while token is not None:
        page = listing.page(found, {**query, "after_token": token})
        pages.append([row["id"] for row in page["instances"]])
        token = page["next_token"]
    return pages


def test_a_page_has_at_most_25_rows_and_a_token_for_the_next() -> None:
    pages = all_pages(rows(60), limit="100")
    assert [len(page) for page in pages] == [25, 25, 10]
    assert list(itertools.chain(*pages)) == [100 + n for n in range(60)]


def test_pages_follow_the_order_asked_for() -> None:
    order = json.dumps([{"col": "start_date", "dir": "asc"}])
    pages = all_pages(rows(30), order_by=order, limit="7")
    assert list(itertools.chain(*pages)) == [129 - n for n in range(30)]


def test_rows_that_vanish_between_pages_hide_no_others() -> None:
    found = rows(50)
    first = listing.page(found, {})
    rest = listing.page(found[20:], {"after_token": first["next_token"]})
    assert [row["id"] for row in rest["instances"]] == [125 + n for n in range(25)]


def test_the_answer_counts_what_matches_and_not_what_is_shown() -> None:
    page = listing.page(rows(30), {"limit": "5"})
    assert (page["instances_found"], page["total_instances"]) == (5, 30)
    assert page["label_counts"] == {"": 8, "l0": 7, "l1": 7, "l2": 8}


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({"label": {"eq": "l1"}}, 7),
        ({"label": {"in": [None]}}, 8),
        ({"actual_status": {"in": ["running", "loading"]}}, 30),
        ({"id": {"gte": "120"}}, 10),
    ],
)
def test_filters_choose_among_what_the_contract_holds(filters: dict[str, Any], count: int) -> None:
    assert listing.page(rows(30), {"select_filters": json.dumps(filters)})["total_instances"] == count


def test_only_the_columns_asked_for_are_shown() -> None:
    page = listing.page(rows(1), {"select_cols": '["id", "nonsense"]'})
    assert page["instances"] == [{"id": 100, "nonsense": None}]


@pytest.mark.parametrize(
    "query",
    [
        {"select_filters": '{"dph_total": {"lt": 1}}'},
        {"select_filters": "{"},
        {"select_filters": "[]"},
        {"order_by": '[{"col": "nonsense"}]'},
        {"order_by": "[5]"},
        {"limit": "x"},
        {"after_token": "eyJ2"},
        {"after_token": "bm9uc2Vuc2U="},
    ],
)
def test_what_cannot_be_read_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(Refused) as refused:
        listing.page(rows(3), query)
    assert refused.value.status == 400
