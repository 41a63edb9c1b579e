"""Keys and tokens through two processes of the functions: made in one, good in the other, ended in both at once; and
what the gateway counts and writes down of who asks it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dumont.adapters.clock import SystemClock, SystemIds
from dumont.domain.audit import AuditEntry
from dumont.domain.keys import ApiKey, hash_of
from dumont.domain.records import Machine, MachineSpec, MachineState, Operation, OperationKind, Role, SshEndpoint
from dumont.edge import keys
from dumont.ports import Query
from tests.contract.stores import machine, put
from tests.end_to_end.entry_support import serving as entry_serving
from tests.end_to_end.every_function import TOKEN_KEY, Served, serving

REQUESTS, CHANGES, WRONG = 12, 6, 4
LIMITS = {
    "DUMONT_REQUESTS_PER_MINUTE": str(REQUESTS),
    "DUMONT_CHANGES_PER_MINUTE": str(CHANGES),
}
BOOTSTRAP_ID, BOOTSTRAP_SECRET = "bootstrap0", "ab" * 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def one(folder: Path) -> Iterator[Served]:
    own = f"{BOOTSTRAP_ID}:{hash_of(BOOTSTRAP_SECRET)}"
    with serving(folder, **LIMITS, DUMONT_BOOTSTRAP_KEY=own) as running:
        put(running.store, machine("ada", state=MachineState.RUNNING, ssh=SshEndpoint(host="127.0.0.1", port=9)))
        put(running.store, machine("asleep", state=MachineState.HIBERNATED, spec=MachineSpec(models=("tiny",))))
        yield running


@pytest.fixture(scope="module")
def two(folder: Path) -> Iterator[Served]:
    with serving(folder, **LIMITS) as running:
        yield running


def bearing(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def admin(one: Served) -> str:
    return keys.make(one.store, SystemIds(), SystemClock(), name="admin", role=Role.ADMIN)


def asked(served: Served, secret: str, method: str, path: str, body: Any = None) -> httpx.Response:
    return served.client.request(method, path, headers=bearing(secret), json=body)


def entries(served: Served, who: str) -> list[AuditEntry]:
    return sorted((e for e in served.store.find(AuditEntry, Query()) if e.who == who), key=lambda entry: entry.at)


def test_a_key_made_in_one_process_is_good_in_the_other_and_ends_in_both_with_the_answer_that_says_so(
    one: Served, two: Served, admin: str
) -> None:
    made = asked(one, admin, "POST", "/keys", {"name": "ci", "role": "viewer", "owner": "ada"})
    assert made.status_code == 201, made.text
    key, secret = made.json()["key"], made.json()["secret"]
    assert made.headers["Location"] == f"/keys/{key['id']}"
    assert asked(two, admin, "GET", made.headers["Location"]).json() == {"key": key}
    token = asked(one, secret, "POST", "/token").json()["token"]
    for served in (one, two):
        assert [asked(served, text, "GET", "/machines").status_code for text in (secret, token)] == [200, 200]
    rotated = asked(one, admin, "POST", f"/keys/{key['id']}/rotate", {"grace_seconds": 3600})
    newer = rotated.json()["secret"]
    assert [asked(two, text, "GET", "/machines").status_code for text in (secret, newer, token)] == [200, 200, 200]
    newest = asked(one, admin, "POST", f"/keys/{key['id']}/rotate", {"grace_seconds": 0}).json()["secret"]
    ended = [asked(two, text, "GET", "/machines").status_code for text in (secret, newer, token, newest)]
    assert ended == [401, 401, 401, 200]
    last = asked(two, newest, "POST", "/token").json()["token"]
    assert asked(one, admin, "POST", f"/keys/{key['id']}/revoke").json()["key"]["state"] == "revoked"
    assert [asked(two, text, "GET", "/machines").status_code for text in (newest, last)] == [401, 401]
    listed = asked(one, admin, "GET", "/keys").json()["keys"]
    assert key["id"] not in [known["id"] for known in listed]
    every = asked(one, admin, "GET", "/keys?all=true")
    assert key["id"] in [known["id"] for known in every.json()["keys"]]
    secrets = [text.split("_")[2] for text in (secret, newer, newest)]
    assert not [s for s in secrets if s in every.text or hash_of(s) in every.text]


def test_an_admins_token_which_is_good_for_minutes_makes_no_key_that_is_good_for_ever(one: Served, admin: str) -> None:
    token = asked(one, admin, "POST", "/token", {"role": "admin"}).json()["token"]
    assert asked(one, token, "GET", "/keys").status_code == 200, "it is an admin's, for all else"
    known = {key["id"]: key.get("rotated_at") for key in asked(one, admin, "GET", "/keys?all=true").json()["keys"]}
    own = next(iter(known))
    for path, body in (("/keys", {"name": "ci", "role": "viewer"}), (f"/keys/{own}/rotate", {}), ("/token", {})):
        refused = asked(one, token, "POST", path, body)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden"), path
        assert "with the API key itself" in refused.json()["hint"]
    after = asked(one, admin, "GET", "/keys?all=true").json()["keys"]
    assert {key["id"]: key.get("rotated_at") for key in after} == known


def test_who_made_rotated_and_revoked_which_key_is_written_down(one: Served, admin: str) -> None:
    made = asked(one, admin, "POST", "/keys", {"name": "ci", "role": "operator"}).json()
    key = made["key"]["id"]
    again = asked(one, admin, "POST", f"/keys/{key}/rotate").json()
    asked(one, admin, "POST", f"/keys/{key}/revoke")
    assert asked(one, admin, "POST", f"/keys/{admin.split('_')[1]}/revoke").json()["code"] == "own_key"
    said = [(entry.what, entry.made, entry.status) for entry in entries(one, admin.split("_")[1])]
    assert said == [
        ("POST /keys", key, 201),
        (f"POST /keys/{key}/rotate", "", 200),
        (f"POST /keys/{key}/revoke", "", 200),
        (f"POST /keys/{admin.split('_')[1]}/revoke", "", 409),
    ]
    kept = str(one.store.find(AuditEntry, Query()))
    assert not [text for text in (made["secret"], again["secret"]) if text.split("_")[2] in kept]


def test_a_token_is_written_down_and_counted_whoever_makes_it(one: Served) -> None:
    viewer = keys.make(one.store, SystemIds(), SystemClock(), name="eyes", role=Role.VIEWER)
    made = asked(one, viewer, "POST", "/token", {"seconds": 60})
    assert f'"changes";r={CHANGES - 1};' in made.headers["RateLimit"]
    assert asked(one, made.json()["token"], "POST", "/token").status_code == 403, "a token makes no other"
    said = [(entry.what, entry.name, entry.status) for entry in entries(one, viewer.split("_")[1])]
    assert said == [("POST /token", "eyes", 200), ("POST /token", "eyes", 403)]
    kept = str(one.store.find(AuditEntry, Query()))
    assert made.json()["token"] not in kept


def test_the_settings_own_key_lets_in_where_it_is_set_and_makes_the_first_other(one: Served, two: Served) -> None:
    bootstrap = f"dmt_{BOOTSTRAP_ID}_{BOOTSTRAP_SECRET}"
    first = asked(one, bootstrap, "POST", "/keys", {"name": "first", "role": "admin"})
    assert first.status_code == 201
    assert asked(two, first.json()["secret"], "GET", "/keys").status_code == 200
    assert asked(two, bootstrap, "GET", "/keys").status_code == 401, "it is only where it is set"
    listed = asked(one, bootstrap, "GET", "/keys").json()["keys"]
    assert (listed[0]["id"], listed[0]["by_setting"]) == (BOOTSTRAP_ID, True)
    assert asked(one, first.json()["secret"], "POST", f"/keys/{BOOTSTRAP_ID}/revoke").status_code == 409


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"role": "viewer"}, "name"),
        ({"name": "", "role": "viewer"}, "name"),
        ({"name": "a\nb", "role": "viewer"}, "name"),
        ({"name": "x" * 65, "role": "viewer"}, "name"),
        ({"name": "ci"}, "role"),
        ({"name": "ci", "role": "root"}, "role"),
        ({"name": "ci", "role": "viewer", "valid_seconds": 1}, "valid_seconds"),
        ({"name": "ci", "role": "viewer", "scope": "all"}, "scope"),
    ],
)
def test_a_key_that_cannot_be_is_refused_by_its_field(one: Served, admin: str, body: Any, field: str) -> None:
    before = len(one.store.find(ApiKey, Query()))
    answer = asked(one, admin, "POST", "/keys", body)
    assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert len(one.store.find(ApiKey, Query())) == before


# --- The gateway --------------------------------------------------------------------------------------------------


def test_one_keys_requests_through_the_gateway_and_v1_are_counted_across_processes(one: Served, two: Served) -> None:
    operator = keys.make(one.store, SystemIds(), SystemClock(), name="ci", role=Role.OPERATOR)
    _wait_for_a_young_minute()
    answers = [asked((one, two)[n % 2], operator, "GET", "/v1/models") for n in range(REQUESTS)]
    assert [answer.status_code for answer in answers] == [200] * REQUESTS
    assert answers[0].headers["RateLimit-Policy"] == f'"requests";q={REQUESTS};w=60'
    left = [int(re.findall(r"r=(\d+)", answer.headers["RateLimit"])[0]) for answer in answers]
    assert left == list(range(REQUESTS - 1, -1, -1))
    refused = asked(one, operator, "POST", "/v1/chat/completions", {"model": "tiny"})
    assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limit_error")
    assert 1 <= int(refused.headers["Retry-After"]) <= 120
    assert "r=0;" in refused.headers["RateLimit"]
    direct = asked(two, operator, "GET", "/gateway/ada/8000/")
    assert (direct.status_code, direct.json()["code"]) == (429, "too_many_requests")
    assert "Retry-After" in direct.headers
    other = keys.make(one.store, SystemIds(), SystemClock(), name="other", role=Role.OPERATOR)
    assert asked(one, other, "GET", "/v1/models").status_code == 200


@pytest.mark.parametrize("name", ["gateway", "v1"])
def test_wrong_proofs_at_the_gateway_are_told_so_a_few_times_and_none_is_not_counted(
    folder: Path, one: Served, name: str
) -> None:
    settings = {"DUMONT_PROXIES": "1", "DUMONT_WRONG_KEYS_PER_MINUTE": str(WRONG), "DUMONT_TOKEN_KEY": TOKEN_KEY}
    wrong, address = f"dmt_0123456789abcdef_{'0' * 64}", {"X-Forwarded-For": f"203.0.113.{len(name)}"}
    operator = keys.make(one.store, SystemIds(), SystemClock(), name="ci", role=Role.OPERATOR)
    path = "/models" if name == "v1" else "/nobody/8000/"
    _wait_for_a_young_minute()
    with entry_serving(folder, name, name, "http", **settings) as served:
        seen = [served.client.get(path, headers=bearing(wrong) | address) for _ in range(WRONG + 2)]
        assert [answer.status_code for answer in seen] == [401] * WRONG + [429] * 2
        assert seen[-1].headers["RateLimit-Policy"] == f'"wrong-keys";q={WRONG};w=60'
        assert wrong not in served.log.read_text()
        for _ in range(WRONG + 2):
            assert served.client.get(path, headers=address).status_code == 401
        right = served.client.get(path, headers=bearing(operator) | address)
        assert right.status_code == (200 if name == "v1" else 404), "neighbours of who tries keys are not refused"


def test_a_method_that_is_not_answered_is_told_which_are(one: Served, admin: str) -> None:
    for method, path, allowed in (("GET", "/gateway/ada/token", "POST"), ("POST", "/v1/models", "GET")):
        refused = asked(one, admin, method, path)
        assert (refused.status_code, refused.headers.get("Allow")) == (405, allowed), refused.text


def test_a_gateway_token_is_a_change_counted_and_written_down(one: Served) -> None:
    operator = keys.make(one.store, SystemIds(), SystemClock(), name="ci", role=Role.OPERATOR)
    assert asked(one, operator, "POST", "/gateway/ada/token", {"rotate": True}).status_code == 200
    assert asked(one, operator, "POST", "/gateway/nobody/token", {}).status_code == 404
    said = [(e.what, e.about, e.status, e.code, e.address) for e in entries(one, operator.split("_")[1])]
    assert said == [
        ("POST /gateway/ada/token", "ada", 200, "", "127.0.0.1"),
        ("POST /gateway/nobody/token", "", 404, "not_found", "127.0.0.1"),
    ]
    answers = [asked(one, operator, "POST", "/gateway/ada/token", {}).status_code for _ in range(CHANGES)]
    assert answers == [200] * (CHANGES - 2) + [429] * 2


def test_a_request_that_begins_a_wake_is_written_down_once_with_who_and_what_it_became(one: Served) -> None:
    operator = keys.make(one.store, SystemIds(), SystemClock(), name="ci", role=Role.OPERATOR)
    proof = bearing(operator) | {"X-Dumont-Wait": "0"}
    for _ in range(3):
        answer = one.client.post("/v1/chat/completions", headers=proof, json={"model": "tiny", "secret": "hunter2"})
        assert answer.status_code == 503, answer.text
    (wake,) = [op for op in one.store.find(Operation, Query()) if op.kind is OperationKind.WAKE]
    (entry,) = entries(one, operator.split("_")[1])
    assert (entry.what, entry.about, entry.status, entry.made) == (
        "POST /v1/chat/completions: wake", "asleep", 202, wake.id,
    )  # fmt: skip
    assert entry.request_id
    record = one.store.get(Machine, "asleep")
    assert record is not None
    assert record.state is MachineState.WAKING


def _wait_for_a_young_minute() -> None:
    """A quota's window must not turn in the midst of a test that counts it out."""
    deadline = time.monotonic() + 20
    while time.time() % 60 > 50:
        assert time.monotonic() < deadline
        time.sleep(0.2)
