"""A viewer looks at everything and changes nothing: on every changing path of every function, with a viewer's key, with
a token of it, and with a token for looking that was made with an operator's."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import msgspec
import pytest

from dumont.adapters.clock import SystemClock, SystemIds
from dumont.domain.audit import AuditEntry
from dumont.domain.collections import RECORDS
from dumont.domain.keys import ApiKey, TokenKey
from dumont.domain.quotas import Spent
from dumont.domain.records import MachineState, Role
from dumont.edge import keys
from dumont.ports import Query
from tests.contract.stores import instance, machine, operation, put
from tests.end_to_end.every_function import FUNCTIONS, MACHINE, Served, door_of, paths_of, serving
from tests.unit.test_infra_calls import doors

NOT_STATE = (Spent, AuditEntry, ApiKey, TokenKey)
"""Counts, what was tried, when keys were used: said by itself below."""
BODY = {"name": MACHINE, "machine": MACHINE, "usd_per_day": 1.0, "discard": True, "gpu": "RTX 4090", "seconds": 60,
        "keep": True, "role": "admin", "command": "true"}  # fmt: skip
GATEWAY = {"gateway": ("GET", "POST", "DELETE"), "v1": ("POST",)}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("viewers")) as running:
        now = time.time()
        put(
            running.store,
            machine(MACHINE, state=MachineState.RUNNING, instance_id="i.1", created_at=now, updated_at=now),
            machine("asleep", state=MachineState.HIBERNATED, created_at=now, updated_at=now),
            instance("i.1", machine=MACHINE),
            operation("op-12345678", machine=MACHINE),
        )
        yield running


def made_key(served: Served, role: Role) -> str:
    return keys.make(served.store, SystemIds(), SystemClock(), name=f"a {role.value}", role=role)


def token(served: Served, key: str, **wish: object) -> httpx.Response:
    return served.client.post("/token", headers={"Authorization": f"Bearer {key}"}, json=wish)


@pytest.fixture(scope="module", params=["a viewer's key", "a token of it", "an operator's token for looking"])
def viewer(request: pytest.FixtureRequest, served: Served) -> dict[str, str]:
    secret = made_key(served, Role.OPERATOR if "operator" in request.param else Role.VIEWER)
    if "token" in request.param:
        answer = token(served, secret, role="viewer")
        assert answer.status_code == 200, served.log.read_text()
        secret = answer.json()["token"]
    return {"Authorization": f"Bearer {secret}"}


def state(served: Served) -> dict[str, bytes]:
    """All that is stored, but for what is counted."""
    kept = [record for kind in RECORDS if kind not in NOT_STATE for record in served.store.find(kind, Query())]
    return {f"{record.collection}/{record.id}": msgspec.json.encode(record) for record in kept}


def changing() -> Iterator[tuple[str, str, str]]:
    """Each function, method and path by which a key may change something."""
    known = doors()
    for declaration in FUNCTIONS:
        door = known.get(declaration.name)
        methods = GATEWAY.get(declaration.name, ())
        if door is not None and not door.open_to_the_world:
            methods = tuple(method for method in door.methods if door.methods[method] is not Role.VIEWER)
        for path in paths_of(declaration) if methods else []:
            if declaration.name == "v1" and path.startswith("/models"):
                continue
            yield from ((declaration.name, method, f"{door_of(declaration)}{path}") for method in methods)


def test_there_is_something_to_change() -> None:
    found = list(changing())
    assert {"provision", "destroy", "budgets", "keys", "jobs", "gateway", "v1", "audit"} <= {
        name for name, _, _ in found
    }
    assert ("keys", "POST", f"/keys/{MACHINE}/revoke") in found


def test_nothing_changes_for_a_viewer(served: Served, viewer: dict[str, str]) -> None:
    before = state(served)
    known = {key.id for key in served.store.find(ApiKey, Query())}
    for name, method, path in changing():
        body = None if method == "GET" else BODY
        answer = served.client.request(method, path, headers=viewer, json=body)
        assert answer.status_code == 403, (name, method, path, answer.text)
    assert state(served) == before
    after = served.store.find(ApiKey, Query())
    assert {key.id for key in after} == known
    assert [key.id for key in after if key.revoked_at is not None or key.generation] == []


def test_a_viewer_looks(served: Served, viewer: dict[str, str]) -> None:
    for path in ("/machines", f"/machines/{MACHINE}", "/operations", "/budgets", "/costs", "/jobs", "/v1/models"):
        assert served.client.get(path, headers=viewer).status_code == 200, path


def test_an_operator_manages_no_keys_and_reaches_for_no_more_than_he_has(served: Served) -> None:
    operator = made_key(served, Role.OPERATOR)
    proof = {"Authorization": f"Bearer {operator}"}
    mine = operator.split("_")[1]
    for method, path in (("GET", "/keys"), ("POST", "/keys"), ("POST", f"/keys/{mine}/rotate")):
        answer = served.client.request(method, path, headers=proof, json=None if method == "GET" else {})
        assert answer.status_code == 403
    assert token(served, operator, role="admin").status_code == 403
    assert token(served, operator, seconds=3601).json()["field"] == "seconds"
    made = token(served, operator).json()
    assert made["role"] == "operator"
    assert token(served, made["token"]).status_code == 403, "a token makes no other"


def test_what_was_tried_is_written_down(served: Served) -> None:
    viewer = made_key(served, Role.VIEWER)
    served.client.post("/destroy", headers={"Authorization": f"Bearer {viewer}"}, json=BODY)
    (entry,) = [e for e in served.store.find(AuditEntry, Query()) if e.who == viewer.split("_")[1]]
    assert (entry.what, entry.name, entry.status, entry.code) == ("POST /destroy", "a viewer", 403, "forbidden")
