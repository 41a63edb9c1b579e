"""No function, on any of its paths, by any method, answers who brings no proof or a wrong one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from dumont.adapters.clock import SystemClock, SystemIds
from dumont.agent import tokens as agent_tokens
from dumont.domain.audit import AuditEntry
from dumont.domain.collections import RECORDS
from dumont.domain.keys import ApiKey
from dumont.domain.records import Role
from dumont.edge import jws, keys
from dumont.ports import Query
from tests.contract.stores import machine, put
from tests.end_to_end.every_function import (
    FUNCTIONS,
    MACHINE,
    Served,
    door_of,
    paths_of,
    serving,
    tells_paths_apart,
    workers,
)

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
FOR_ANYBODY = {("agent", "GET"), ("agent", "HEAD")}
"""The agent's program, which is no secret: hosts check its SHA-256, and have no token yet when they fetch it."""
DOORS = [declaration for declaration in FUNCTIONS if door_of(declaration) is not None]
FORGED_SECRET = b"somebody else's secret, 32 bytes"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("no-proof")) as running:
        put(running.store, machine(MACHINE))
        yield running


@pytest.fixture(scope="module")
def proofs(served: Served) -> dict[str, dict[str, str]]:
    """What strangers bring, by its name."""
    key = keys.make(served.store, SystemIds(), SystemClock(), name="right", role=Role.ADMIN)
    ended = keys.make(served.store, SystemIds(), SystemClock(), name="ended", role=Role.ADMIN)
    record = served.store.get(ApiKey, ended.split("_")[1])
    assert record is not None
    put(served.store, ApiKey(**{f: getattr(record, f) for f in record.__struct_fields__} | {"revoked_at": 1.0}))
    return {
        "nothing": {},
        "an empty one": {"X-Api-Key": ""},
        "a word": bearer("wrong"),
        "another scheme": {"Authorization": f"Digest {key}"},
        "a key's wrong secret": bearer(f"dmt_{key.split('_')[1]}_{'0' * 64}"),
        "a key of nobody": bearer(f"dmt_0123456789abcdef_{'0' * 64}"),
        "a revoked key": bearer(ended),
        "a wrong key in its own header": {"X-Api-Key": f"dmt_0123456789abcdef_{'0' * 64}"},
        "a wrong one beside a right one": {"X-Api-Key": "wrong"} | bearer("wrong"),
        "an unsigned token": bearer(token_of("none", key, "")),
        "a token with a wrong signature": bearer(token_of("EdDSA", key, jws.encoded(bytes(64)))),
        "an agent's forged token": bearer(agent_tokens.make(FORGED_SECRET, MACHINE, 1, "i.1")),
        "a gateway token of no secret": {"X-Dumont-Token": f"dgw_{jws.encoded(b'trainer')}_{'0' * 64}"},
        "a browser's password": {"Authorization": "Basic YW55Ym9keTp3cm9uZw=="},
    }


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def token_of(algorithm: str, key: str, signature: str) -> str:
    now = int(time.time())
    header = {"alg": algorithm, "typ": "dumont+jwt", "kid": "0" * 32}
    claims = {
        "iss": "dumont:main", "aud": "dumont-api:main", "sub": key.split("_")[1], "role": "admin", "gen": 0,
        "iat": now, "nbf": now, "exp": now + 600, "jti": "x",
    }  # fmt: skip
    return ".".join([*(jws.encoded(json.dumps(part).encode()) for part in (header, claims)), signature])


def test_the_paths_of_each_function_are_known() -> None:
    assert {"keys", "token", "provision", "gateway", "v1", "slack"} <= {one.name for one in DOORS}
    assert [one.name for one in DOORS if not tells_paths_apart(one)] == [], "say its paths in NOT_IN_MAIN"
    by_name = {one.name: paths_of(one) for one in DOORS}
    assert by_name["keys"] == ["", *(f"/{MACHINE}{rest}" for rest in ("", "/revoke", "/rotate"))]
    assert by_name["snapshot"] == ["", *(f"/{MACHINE}{rest}" for rest in ("", "/diff", "/keep", "/verify"))]
    assert by_name["machines"] == ["", f"/{MACHINE}", f"/{MACHINE}/logs"]


@pytest.mark.parametrize("name", [one.name for one in DOORS])
def test_a_door_answers_nobody_without_a_proof(served: Served, proofs: dict[str, dict[str, str]], name: str) -> None:
    declaration = next(one for one in DOORS if one.name == name)
    seen = set()
    for path in paths_of(declaration):
        for method in METHODS:
            if (name, method) in FOR_ANYBODY:
                continue
            for said, headers in proofs.items():
                # A right body, as far as most want one: what is refused is the caller, and not what he says.
                body: Any = None if method in ("GET", "HEAD") else {"name": MACHINE}
                answer = served.client.request(method, f"{door_of(declaration)}{path}", headers=headers, json=body)
                # 405: the method is answered to nobody.
                assert answer.status_code in (401, 403, 405), (method, path, said, answer.status_code, answer.text)
                seen.add(answer.status_code)
                assert MACHINE not in answer.headers.get("Location", "")
    assert 401 in seen or name == "agent"


@pytest.mark.parametrize("path", workers())
def test_a_worker_takes_no_message_without_googles_token(
    served: Served, proofs: dict[str, dict[str, str]], path: str
) -> None:
    event = {"ce-id": "1", "ce-source": "//pubsub", "ce-type": "google.cloud.pubsub.topic.v1.messagePublished",
             "ce-specversion": "1.0"}  # fmt: skip
    for said, headers in proofs.items():
        answer = served.client.post(path, headers=headers | event, json={"message": {"data": "e30="}})
        assert answer.status_code == 401, (said, answer.status_code, answer.text)


def test_nothing_was_done_and_what_was_tried_is_one_entry(served: Served) -> None:
    """After all of the above, whatever the order: what is stored is what the tests themselves have put there."""
    served.client.get("/budgets", headers=bearer("wrong"))
    kept = {kind.collection for kind in RECORDS if served.store.find(kind, Query(limit=1))}
    assert kept <= {"machines", "keys", "audit"}
    assert [m.id for m in served.store.find(type(machine(MACHINE)), Query())] == [MACHINE]
    entries = served.store.find(AuditEntry, Query())
    assert 1 <= len(entries) <= 2, "one an hour, and the tests may see the hour turn"
    assert {entry.name for entry in entries} == {"nobody"}
