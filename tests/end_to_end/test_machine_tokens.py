"""A machine's token speaks for that machine, in its epoch, and for nobody else: not for another machine, not for a
person; and no other proof speaks for a machine."""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from dumont.adapters.clock import SystemClock, SystemIds
from dumont.agent import tokens as agent_tokens
from dumont.domain.heartbeats import Heartbeat
from dumont.domain.records import InstanceState, Machine, MachineSpec, MachineState, Role, SshEndpoint
from dumont.edge import keys
from dumont.edge.gateway import tokens as gateway_tokens
from dumont.ports import Query
from tests.contract.stores import instance, machine, put
from tests.end_to_end.every_function import TOKEN_KEY, Served, serving

SECRET = hmac.new(TOKEN_KEY.encode(), b"dumont agent tokens", "sha256").digest()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("tokens")) as running:
        for name in ("ada", "bob"):
            put(
                running.store,
                machine(
                    name,
                    state=MachineState.RUNNING,
                    epoch=3,
                    instance_id=f"i.{name}",
                    spec=MachineSpec(models=(f"model-of-{name}",)),
                    ssh=SshEndpoint(host="127.0.0.1", port=9),
                    created_at=time.time(),
                ),
                instance(f"i.{name}", machine=name, epoch=3, state=InstanceState.PROVEN),
            )
        yield running


def agent_token(name: str, epoch: int = 3) -> str:
    return agent_tokens.make(SECRET, name, epoch, f"i.{name}")


def beat(served: Served, token: str, **report: Any) -> httpx.Response:
    return served.client.post("/heartbeat", headers={"Authorization": f"Bearer {token}"}, json=report)


def state_of(served: Served, name: str) -> tuple[bytes, ...]:
    """All that is stored of one machine and what is heard of it."""
    kept = [served.store.get(Machine, name), served.store.get(Heartbeat, f"i.{name}")]
    return tuple(msgspec.json.encode(record) for record in kept)


def test_a_machines_token_is_heard_as_that_machine_whatever_its_report_says(served: Served) -> None:
    before = state_of(served, "bob")
    answer = beat(served, agent_token("ada"), machine="bob", instance="i.bob", epoch=3, sequence=1)
    assert answer.status_code == 200, served.log.read_text()
    heard = served.store.get(Heartbeat, "i.ada")
    assert heard is not None
    assert heard.machine == "ada"
    assert state_of(served, "bob") == before, "nothing was heard of bob"


def test_a_token_that_names_another_machine_under_the_same_signature_is_refused(served: Served) -> None:
    before = state_of(served, "bob")
    token = agent_token("ada")
    words, _, signature = token.removeprefix(agent_tokens.PREFIX).rpartition("_")
    assert base64.urlsafe_b64decode(words + "=" * (-len(words) % 4)) == b"ada\n3\ni.ada"
    for said in (b"bob\n3\ni.bob", b"ada\n4\ni.ada", b"ada\n3\ni.bob"):
        forged = base64.urlsafe_b64encode(said).rstrip(b"=").decode()
        assert beat(served, f"{agent_tokens.PREFIX}{forged}_{signature}").status_code == 401
    assert state_of(served, "bob") == before


def test_an_instance_that_is_not_a_machines_is_told_to_stop_in_its_name(served: Served) -> None:
    """Signed for bob, but of an epoch that is over, or on an instance that bob has not."""
    before = served.store.get(Machine, "bob")
    for token in (agent_tokens.make(SECRET, "bob", 2, "i.old"), agent_tokens.make(SECRET, "bob", 3, "i.ada")):
        answer = beat(served, token, sequence=1)
        assert answer.status_code == 200
        assert answer.json()["state"] != "serve"
    assert served.store.get(Machine, "bob") == before


def test_a_machines_gateway_token_opens_no_other_machine_and_makes_no_token(served: Served) -> None:
    record = served.store.get(Machine, "ada")
    assert record is not None
    proof = {"Authorization": f"Bearer {gateway_tokens.make(SECRET, record)}"}
    for method in ("GET", "POST", "DELETE"):
        assert served.client.request(method, "/gateway/bob/8000/", headers=proof).status_code == 401
    for name in ("ada", "bob"):
        assert served.client.post(f"/gateway/{name}/token", headers=proof, json={}).status_code == 401
    listed = served.client.get("/v1/models", headers=proof)
    assert [row["id"] for row in listed.json()["data"]] == ["model-of-ada"]
    other = served.client.post("/v1/chat/completions", headers=proof, json={"model": "model-of-bob"})
    assert (other.status_code, other.json()["error"]["code"]) == (404, "model_not_found")
    assert "bob" not in other.json()["error"]["message"].replace("model-of-bob", "")


def test_no_kind_of_token_passes_for_another(served: Served) -> None:
    record = served.store.get(Machine, "ada")
    assert record is not None
    key = keys.make(served.store, SystemIds(), SystemClock(), name="test", role=Role.ADMIN)
    jwt = served.client.post("/token", headers={"Authorization": f"Bearer {key}"}).json()["token"]
    agent, gateway = agent_token("ada"), gateway_tokens.make(SECRET, record)
    for text in (key, jwt, gateway, agent.replace(agent_tokens.PREFIX, gateway_tokens.PREFIX)):
        assert beat(served, text).status_code == 401
    as_gateway = agent.replace(agent_tokens.PREFIX, gateway_tokens.PREFIX)
    for text in (agent, gateway, gateway.replace(gateway_tokens.PREFIX, agent_tokens.PREFIX), as_gateway):
        for method, path in (("GET", "/machines"), ("POST", "/destroy"), ("GET", "/keys"), ("POST", "/token")):
            answer = served.client.request(method, path, headers={"Authorization": f"Bearer {text}"})
            assert answer.status_code == 401, (path, answer.text)
    for text in (agent, as_gateway):
        for path in ("/gateway/ada/8000/", "/v1/models"):
            assert served.client.get(path, headers={"X-Dumont-Token": text}).status_code == 401
    assert len(served.store.find(Machine, Query())) == 2
