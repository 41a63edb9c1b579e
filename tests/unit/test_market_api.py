"""Vast.ai's HTTP API around the simulated market, without HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dumont.local.market.api import Answer, Api, Request
from dumont.local.market.core import Market
from dumont.local.market.faults import Fault, FaultRate
from dumont.local.market.limits import LEAST_SECONDS, RateLimits

KEY = "account-key"
BODY = {"image": "pytorch/pytorch", "disk": 20, "label": "one"}
RECORDED = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "vast_cli_requests.jsonl").read_text().splitlines()
]


class Client:
    """Calls an API of its own, at a moment that tests set."""

    def __init__(self, market: Market | None = None, limits: RateLimits | None = None) -> None:
        self.market = market or Market()
        self.api = Api(self.market, [KEY], limits=limits)
        self.now = 0.0

    def answer(self, method: str, path: str, body: Any = None, *, key: str = KEY, **query: str) -> Answer:
        raw = b"" if body is None else json.dumps(body).encode()
        return self.api.handle(Request(method=method, path=path, query=query, body=raw, key=key), self.now)

    def call(self, method: str, path: str, body: Any = None, *, key: str = KEY, **query: str) -> tuple[int, Any]:
        answer = self.answer(method, path, body, key=key, **query)
        return answer.status, json.loads(answer.body)

    def offers(self, **query: Any) -> list[Any]:
        status, body = self.call("POST", "/api/v0/bundles/", {"rentable": {"eq": True}, **query})
        assert status == 200
        offers: list[Any] = body["offers"]
        return offers

    def create(self, **body: Any) -> Any:
        status, answer = self.call("PUT", f"/api/v0/asks/{self.offers()[0]['id']}/", {**BODY, **body})
        assert status == 200, answer
        return answer

    def fault(self, kind: str, **details: Any) -> None:
        self.market.inject(Fault(kind=kind, **details), self.now)


# --- Requests as the official CLI sends them ----------------------------------------------------------------------


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded["case"])
def test_every_request_of_the_official_cli_is_answered_in_json_and_never_with_a_5xx(recorded: dict[str, Any]) -> None:
    answer = Client().answer(recorded["method"], recorded["path"], recorded["body"], **recorded["query"])
    assert answer.status < 500
    assert answer.content_type == "application/json"
    json.loads(answer.body)


@pytest.mark.parametrize("recorded", [r for r in RECORDED if "7001" in r["path"]], ids=lambda r: r["case"])
def test_requests_about_an_instance_are_done_if_there_is_one(recorded: dict[str, Any]) -> None:
    client = Client()
    instance_id = client.create(price=0.9)["new_contract"]
    client.now = 500.0
    path = recorded["path"].replace("7001", str(instance_id))
    unsupported = {"prepay", "update_instance", "take_snapshot", "execute", "sdk_execute", "detach_ssh"}
    status, body = client.call(recorded["method"], path, recorded["body"], **recorded["query"])
    if recorded["case"] in unsupported:
        assert 400 <= status < 500
        assert body["success"] is False
    else:
        assert status == 200, body


@pytest.mark.parametrize("path", ["/api/v0/users/current", "/api/v0/volumes", "/api/v0/bundles"])
def test_the_slash_at_the_end_may_be_left_out(path: str) -> None:
    for spelled in (path, f"{path}/"):
        assert Client().answer("GET", spelled).status == 200


def test_a_search_by_get_finds_what_a_search_by_post_does() -> None:
    client = Client()
    query = {"gpu_name": {"eq": "RTX 4090"}, "limit": 3}
    by_post = client.call("POST", "/api/v0/bundles/", query)[1]
    assert client.call("GET", "/api/v0/bundles", q=json.dumps(query))[1] == by_post
    assert client.call("PUT", "/api/v0/search/asks/", {"select_cols": ["*"], "q": query})[1] == by_post


@pytest.mark.parametrize("body", [b"{", b"[]", b"5"])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    request = Request(method="POST", path="/api/v0/bundles/", body=body, key=KEY)
    assert Client().api.handle(request, 0.0).status == 400


def test_the_withdrawn_listing_answers_410_and_never_a_list() -> None:
    status, body = Client().call("GET", "/api/v0/instances/")
    assert (status, body["success"], body["error"]) == (410, False, "deprecated_endpoint")
    assert "instances" not in body


def test_an_instance_goes_from_its_creation_to_null() -> None:
    client = Client()
    instance_id = client.create()["new_contract"]
    path = f"/api/v0/instances/{instance_id}/"
    row = client.call("GET", path, owner="me")[1]["instances"]
    assert row["actual_status"] is None
    assert row["label"] == "one"
    assert "ports" not in row
    assert isinstance(row["extra_env"], list)
    assert isinstance(row["start_date"], float)
    client.now = 900.0
    row = client.call("GET", path)[1]["instances"]
    assert row["actual_status"] == "running"
    assert row["public_ipaddr"] != row["public_ipaddr"].strip()
    assert client.call("DELETE", path, {})[1]["success"] is True
    assert client.call("GET", path) == (200, {"instances": None})
    assert client.call("DELETE", path)[0] == 404
    assert client.call("GET", "/api/v1/instances/")[1]["instances"] == []


def test_logs_are_at_an_absolute_address_that_asks_for_no_key() -> None:
    client = Client()
    instance_id = client.create()["new_contract"]
    client.now = 900.0
    _, body = client.call("PUT", f"/api/v0/instances/request_logs/{instance_id}/", {"tail": "10"})
    assert body["result_url"].startswith("http://127.0.0.1/")
    log = client.answer("GET", body["result_url"].removeprefix("http://127.0.0.1"), key="")
    assert log.status == 200
    assert b"success, running" in log.body


# --- Keys ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", "wrong", KEY + "x"])
def test_without_the_right_key_nothing_is_done(key: str) -> None:
    status, body = Client().call("GET", "/api/v0/users/current", key=key)
    assert (status, body["error"]) == (401, "auth_error")


def test_gpu_names_ask_for_no_key() -> None:
    assert "RTX 4090" in Client().call("GET", "/gpu_names/unique/", key="")[1]["gpu_names"]


def test_an_instance_s_own_key_starts_stops_and_destroys_that_instance_alone() -> None:
    client = Client()
    mine, other = client.create(), client.create()
    key = mine["instance_api_key"]
    client.now = 900.0
    own, others = (f"/api/v0/instances/{each['new_contract']}/" for each in (mine, other))
    refused: list[tuple[str, str, Any]] = [
        ("PUT", others, {"state": "stopped"}),
        ("DELETE", others, {}),
        ("PUT", own, {"label": "stolen"}),
        ("GET", "/api/v1/instances/", None),
        ("GET", "/api/v0/users/current", None),
        ("PUT", f"/api/v0/asks/{client.offers()[0]['id']}/", BODY),
        ("POST", f"{own}ssh/", {"ssh_key": "ssh-ed25519 AAAA"}),
    ]
    for method, path, body in refused:
        assert client.call(method, path, body, key=key)[0] == 403, path
    for method, body in (("PUT", {"state": "stopped"}), ("PUT", {"state": "running"}), ("DELETE", {})):
        assert client.call(method, own, body, key=key)[0] == 200
    assert client.call("DELETE", own, {}, key=key)[0] == 401


def test_a_scoped_key_reaches_as_far_as_its_permissions() -> None:
    client = Client()
    scoped = client.call("POST", "/api/v0/auth/apikeys/", {"name": "ro", "permissions": {"api": {"instance_read": {}}}})
    key = scoped[1]["key"]
    assert client.call("GET", "/api/v1/instances/", key=key)[0] == 200
    assert client.call("POST", "/api/v0/bundles/", {}, key=key)[0] == 403
    assert "key" not in client.call("GET", "/api/v0/auth/apikeys/")[1]["apikeys"][0]
    assert client.call("DELETE", f"/api/v0/auth/apikeys/{scoped[1]['id']}/", {})[0] == 200
    assert client.call("GET", "/api/v1/instances/", key=key)[0] == 401


def test_ssh_keys_of_the_account_reach_new_instances_and_not_those_there_are() -> None:
    client = Client()
    before = client.create()["new_contract"]
    key_id = client.call("POST", "/api/v0/ssh/", {"ssh_key": "ssh-ed25519 AAAA me\n"})[1]["key"]["id"]
    after = client.create()["new_contract"]
    held = {i: json.loads(client.call("GET", f"/api/v0/instances/{i}/ssh/")[1]["ssh_keys"]) for i in (before, after)}
    assert held == {before: [], after: [{"id": key_id, "name": "", "public_key": "ssh-ed25519 AAAA me"}]}
    for _ in range(2):
        assert client.call("POST", f"/api/v0/instances/{before}/ssh/", {"ssh_key": "ssh-ed25519 AAAA me"})[0] == 200
    assert len(client.market.instance(before, 0.0).keys) == 1
    assert client.call("DELETE", f"/api/v0/instances/{before}/ssh/{key_id}/", {})[0] == 200
    assert client.call("DELETE", f"/api/v0/instances/{before}/ssh/{key_id}/", {})[0] == 404
    assert client.call("DELETE", f"/api/v0/ssh/{key_id}/", {})[0] == 200
    assert client.call("GET", "/api/v0/ssh/")[1] == []


# --- Rate limits and faults ---------------------------------------------------------------------------------------


def test_rate_limits_are_off_until_asked_for() -> None:
    client = Client()
    assert {client.answer("GET", "/api/v1/instances/").status for _ in range(20)} == {200}


def test_each_endpoint_has_a_rate_limit_of_its_own() -> None:
    client = Client(limits=RateLimits(LEAST_SECONDS))
    assert client.answer("GET", "/api/v1/instances/").status == 200
    limited = client.answer("GET", "/api/v1/instances/")
    assert limited.status == 429
    assert json.loads(limited.body)["detail"] == "API requests too frequent endpoint threshold=1.0"
    assert "Retry-After" not in limited.headers
    assert client.answer("GET", "/api/v0/instances/5/").status == 200
    client.now = 1.0
    assert client.answer("GET", "/api/v1/instances/").status == 200


def test_a_rate_limited_create_has_no_effect_and_may_say_when_to_come_back() -> None:
    client = Client()
    ask_id = client.offers()[0]["id"]
    client.fault("rate_limited", endpoint="create", retry_after_seconds=7.0)
    answer = client.answer("PUT", f"/api/v0/asks/{ask_id}/", BODY)
    assert (answer.status, answer.headers) == (429, {"Retry-After": "7"})
    assert client.market.ever() == []


def test_a_server_error_has_no_effect() -> None:
    client = Client()
    ask_id = client.offers()[0]["id"]
    client.fault("server_error", endpoint="create", status=503)
    assert client.answer("PUT", f"/api/v0/asks/{ask_id}/", BODY).status == 503
    assert client.market.ever() == []


def test_a_lost_answer_has_its_effect() -> None:
    client = Client()
    ask_id = client.offers()[0]["id"]
    client.fault("lost_answer", endpoint="create", seconds=30.0)
    answer = client.answer("PUT", f"/api/v0/asks/{ask_id}/", BODY)
    assert (answer.lost, answer.delay_seconds) == (True, 30.0)
    assert [i.label for i in client.market.ever()] == ["one"]


def test_a_fault_befalls_as_many_cases_as_it_counts_and_only_those_it_names() -> None:
    client = Client()
    client.fault("server_error", endpoint="user", count=2)
    assert client.answer("GET", "/api/v1/instances/").status == 200
    assert [client.answer("GET", "/api/v0/users/current").status for _ in range(3)] == [500, 500, 200]


def test_a_listing_may_be_cut_short_or_be_an_error_under_200() -> None:
    client = Client()
    for _ in range(3):
        client.create()
    client.fault("list_truncated", keep=1)
    body = client.call("GET", "/api/v1/instances/")[1]
    assert (len(body["instances"]), body["total_instances"], body["next_token"]) == (1, 3, None)
    client.fault("list_error_200")
    status, body = client.call("GET", "/api/v1/instances/")
    assert (status, body["success"], "instances" in body) == (200, False, False)


def test_an_account_without_credit_rents_nothing() -> None:
    client = Client()
    ask_id = client.offers()[0]["id"]
    client.fault("out_of_credit")
    assert client.call("PUT", f"/api/v0/asks/{ask_id}/", BODY)[1]["error"] == "insufficient_credit"
    client.market.set_credit(0.0, 0.0)
    assert client.call("PUT", f"/api/v0/asks/{ask_id}/", BODY)[1]["error"] == "insufficient_credit"
    assert client.call("GET", "/api/v0/users/current")[1]["can_pay"] is False


def test_faults_by_chance_come_as_often_as_their_rate_says_and_the_same_for_a_seed() -> None:
    rates = [FaultRate(kind="server_error", probability=0.2), FaultRate(kind="oci_error", probability=0.3)]

    def statuses(seed: int) -> list[int]:
        client = Client(Market(seed=seed, fault_rates=rates))
        return [client.answer("GET", "/api/v0/users/current").status for _ in range(400)]

    assert statuses(1) == statuses(1) != statuses(2)
    assert 50 < statuses(1).count(500) < 110


def test_an_unknown_fault_is_refused_with_the_names_of_those_there_are() -> None:
    with pytest.raises(ValueError, match="boot_never_ends"):
        Fault(kind="gremlins")


def test_whole_histories_are_the_same_for_a_seed() -> None:
    def history(seed: int) -> list[tuple[int, bytes]]:
        client = Client(Market(seed=seed, opened_at=1000.0, fault_rates=[FaultRate(kind="dies", probability=0.5)]))
        answers = []
        for step in range(30):
            client.now = 1000.0 + 40.0 * step
            offers = json.loads(client.answer("POST", "/api/v0/bundles/", {"rentable": {"eq": True}}).body)["offers"]
            answers.append(client.answer("PUT", f"/api/v0/asks/{offers[step % 5]['id']}/", BODY))
            answers.append(client.answer("GET", "/api/v1/instances/"))
        return [(answer.status, answer.body) for answer in answers]

    assert history(7) == history(7)
    assert history(7) != history(8)
