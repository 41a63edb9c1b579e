"""Bad input through HTTP: a problem document that names the field, and nothing rented by any of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.end_to_end.cloud import Cloud, local_cloud, wait_for


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with local_cloud(tmp_path_factory.mktemp("errors")) as running:
        yield running
        assert running.market.get("/bill").json()["instances"] == [], "something was rented"


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem document of an answer, with what each must have."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == status
    assert {"type", "title", "detail", "code", "request_id"} <= set(document)
    assert document["request_id"] == answer.headers["X-Request-Id"]
    assert "Traceback" not in answer.text
    return document


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"gpu": "RTX 4900"}, "gpu"),
        ({"gpu": "RTX 4090", "max_price_usd_per_hour": -1}, "max_price_usd_per_hour"),
        ({"gpu": "RTX 4090", "max_price_usd_per_hour": "cheap"}, "max_price_usd_per_hour"),
        ({"gpu": "RTX 4090", "gpu_count": 0}, "gpu_count"),
        ({"gpu": "RTX 4090", "disk_gb": 1}, "disk_gb"),
        ({"gpu": "RTX 4090", "race_width": 99}, "race_width"),
        ({"gpu": "RTX 4090", "budget_usd": 0}, "budget_usd"),
        ({"gpu": "RTX 4090", "workspace": "../../etc"}, "workspace"),
        ({"gpu": "RTX 4090", "workspace": "a b; rm -rf /"}, "workspace"),
        ({"gpu": "RTX 4090", "no_such_field": 1}, "no_such_field"),
        ({"gpu": "RTX 4090", "name": "Not A Name"}, "name"),
        ({"gpu": "RTX 4090", "name": 7}, "name"),
        ({}, "gpu"),
    ],
)
def test_a_bad_spec_is_refused_by_its_field(cloud: Cloud, body: dict[str, Any], field: str) -> None:
    document = problem(cloud.http.post("/provision", json={"name": "never"} | body), 400)
    assert document["field"] == field
    assert cloud.http.get("/machines/never").status_code == 404


def test_an_unknown_gpu_gets_a_suggestion(cloud: Cloud) -> None:
    assert "RTX 4090" in problem(cloud.http.get("/search", params={"gpu": "RTX 4900"}), 400)["hint"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"name":', b"{} {}", b'{"name": NaN}']
)
def test_a_malformed_body_is_refused(cloud: Cloud, body: bytes) -> None:
    for path in ("/provision", "/destroy", "/search"):
        problem(cloud.http.post(path, content=body, headers={"Content-Type": "application/json"}), 400)


def test_a_huge_body_is_refused(cloud: Cloud) -> None:
    huge = json.dumps({"name": "a", "image": "x" * 2_000_000}).encode()
    assert problem(cloud.http.post("/provision", content=huge), 413)["code"] == "too_large"


@pytest.mark.parametrize("key", [None, "wrong", "dmt_0123456789abcdef_" + "0" * 64, "dmt_x", "é"])
def test_no_function_answers_without_its_key(cloud: Cloud, key: str | None) -> None:
    anonymous = httpx.Client(base_url=str(cloud.http.base_url))
    headers = httpx.Headers({} if key is None else {"Authorization": f"Bearer {key}"}, encoding="utf-8")
    calls = [("GET", "/search"), ("POST", "/provision"), ("GET", "/machines"), ("POST", "/destroy"),
             ("GET", "/operations"), ("POST", "/heartbeat-check")]  # fmt: skip
    for method, path in calls:
        answer = anonymous.request(method, path, headers=headers)
        problem(answer, 401)
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_viewer_may_look_and_not_touch(cloud: Cloud) -> None:
    from dumont.adapters.clock import SystemClock, SystemIds
    from dumont.adapters.sqlite_store import SqliteStore
    from dumont.domain.records import Role
    from dumont.edge import keys

    store = SqliteStore(cloud.folder / "data/store.sqlite3")
    viewer = keys.make(store, SystemIds(), SystemClock(), name="looker", role=Role.VIEWER)
    store.close()
    http = httpx.Client(base_url=str(cloud.http.base_url), headers={"X-Api-Key": viewer})
    assert http.get("/machines").status_code == 200
    assert http.get("/search", params={"gpu": "RTX 4090"}).status_code == 200
    for path in ("/provision", "/destroy", "/heartbeat-check"):
        problem(http.post(path, json={"name": "x", "gpu": "RTX 4090"}), 403)


def test_wrong_paths_methods_and_arguments_are_said(cloud: Cloud) -> None:
    problem(cloud.http.get("/machines/nobody"), 404)
    problem(cloud.http.get("/machines/nobody/logs"), 404)
    problem(cloud.http.get("/machines/a/b/c"), 404)
    problem(cloud.http.get("/operations/op-nothing"), 404)
    assert problem(cloud.http.delete("/machines"), 405)["hint"]
    assert problem(cloud.http.get("/machines", params={"all": "perhaps"}), 400)["field"] == "all"
    assert problem(cloud.http.get("/search", params={"limit": "0"}), 400)["field"] == "limit"
    assert problem(cloud.http.get("/search", params={"nonsense": "1"}), 400)["field"] == "nonsense"
    assert cloud.http.get("/nothing-here").status_code == 404
    problem(cloud.http.post("/destroy", json={"name": "nobody", "discard": True}), 404)


def test_a_path_that_no_framework_reads_is_refused_in_our_words(cloud: Cloud) -> None:
    assert problem(cloud.http.get("/machines/a%0Ab"), 404)["code"] == "no_such_path"


def test_no_offer_under_the_price_says_what_the_cheapest_costs(cloud: Cloud) -> None:
    up = cloud.ended(cloud.up("penniless", max_price_usd_per_hour=0.01))
    assert up["state"] == "failed"
    assert up["problem"]["code"] == "no_offers"
    assert "$0.17" in up["problem"]["detail"]
    assert up["problem"]["safe"] == "Nothing was rented."
    assert cloud.machine("penniless")["state"] == "failed"


def test_a_name_that_is_taken_is_refused(cloud: Cloud) -> None:
    cloud.fault("server_error", count=None, endpoint="search", status=500)
    try:
        first = cloud.up("taken")
        document = problem(cloud.http.post("/provision", json={"name": "taken", "gpu": "RTX 4090"}), 409)
        assert document["code"] == "name_taken"
        assert document["field"] == "name"
        assert cloud.ended(cloud.down("taken", discard=False))["state"] == "succeeded"
        wait_for(lambda: cloud.ended(first)["state"] == "superseded", seconds=60, why="the provision gave way")
    finally:
        cloud.mend()


def test_cors_is_off_unless_configured(cloud: Cloud) -> None:
    answer = cloud.http.get("/machines", headers={"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_request_id_goes_through(cloud: Cloud) -> None:
    assert cloud.http.get("/machines", headers={"X-Request-Id": "trace-12345678"}).headers["X-Request-Id"] == (
        "trace-12345678"
    )
    assert cloud.http.get("/machines", headers={"X-Request-Id": "x\ty"}).headers["X-Request-Id"].startswith("req-")
