"""The sweep and a worker as processes of their own, called as Scheduler and Pub/Sub call them, and as others would."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dumont.adapters.clock import SystemClock, SystemIds
from dumont.adapters.sqlite_store import SqliteStore
from dumont.domain.records import Role
from dumont.edge import keys
from tests.contract.google_tokens import CALLER, PATH, Google
from tests.contract.scripted_http import ScriptedServer, said
from tests.end_to_end.bundle_support import Served
from tests.end_to_end.entry_support import serving

SWEEP = "https://us-central1-pro.cloudfunctions.net/heartbeat-check"
WORKER = "https://us-central1-pro.cloudfunctions.net/wake-worker"
PUSH = "/projects/pro/topics/dumont-wake"


@pytest.fixture(scope="module")
def google() -> Google:
    return Google()


@pytest.fixture(scope="module")
def certificates(google: Google) -> Iterator[str]:
    with ScriptedServer(google) as server:
        yield server.url + PATH


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calls")


@pytest.fixture(scope="module")
def operator(folder: Path) -> str:
    with contextlib.closing(SqliteStore(folder / "store.db")) as store:
        return keys.make(store, SystemIds(), SystemClock(), name="test", role=Role.OPERATOR)


@pytest.fixture(scope="module")
def sweep(folder: Path, certificates: str) -> Iterator[Served]:
    settings = {"DUMONT_CALLER": CALLER, "DUMONT_AUDIENCE": SWEEP, "DUMONT_GOOGLE_KEYS_URL": certificates}
    with serving(folder, "heartbeat-check", "heartbeat_check", "http", **settings) as served:
        yield served


@pytest.fixture(scope="module")
def worker(folder: Path, certificates: str) -> Iterator[Served]:
    settings = {"DUMONT_CALLER": CALLER, "DUMONT_AUDIENCE": WORKER, "DUMONT_GOOGLE_KEYS_URL": certificates}
    with serving(folder, "wake", "wake_worker", "cloudevent", **settings) as served:
        yield served


def call(served: Served, token: str | None) -> httpx.Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return served.client.post("/?seconds=0", headers=headers)


def push(served: Served, token: str | None, *, data: bytes = b'{"operation_id":"op-12345678"}') -> httpx.Response:
    """As a push subscription does it."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    message = {"data": base64.b64encode(data).decode(), "messageId": "1", "publishTime": "2026-11-22T00:00:00Z"}
    return served.client.post(
        PUSH, json={"message": message, "subscription": "projects/pro/subscriptions/s"}, headers=headers
    )


def wrong_tokens(google: Google, audience: str) -> dict[str, str | None]:
    unknown = Google()
    unknown.kid = "unknown"
    return {
        "none": None,
        "another audience": google.token(aud="https://us-central1-pro.cloudfunctions.net/provision"),
        "another issuer": google.token(aud=audience, iss="https://example.org"),
        "another account": google.token(aud=audience, email="someone@pro.iam.gserviceaccount.com"),
        "expired": google.token(aud=audience, exp=1_000_000_000),
        "unsigned": google.unsigned(aud=audience),
        "signed with the public key": google.signed_with_the_public_key(),
        "an unknown key": unknown.token(aud=audience),
        "stripped": google.stripped(aud=audience),
    }


def test_the_schedulers_token_starts_a_sweep(google: Google, sweep: Served) -> None:
    answer = call(sweep, google.token(aud=SWEEP))
    assert answer.status_code == 200, sweep.log.read_text()
    assert answer.json()["operations"] == 0


def test_an_operators_key_starts_one_too(sweep: Served, operator: str) -> None:
    assert call(sweep, operator).status_code == 200
    assert call(sweep, operator[:-4] + "0000").status_code == 401


def test_no_other_token_starts_a_sweep(google: Google, sweep: Served) -> None:
    for name, token in wrong_tokens(google, SWEEP).items():
        answer = call(sweep, token)
        assert (answer.status_code, answer.json()["status"]) == (401, 401), name
        assert token is None or token not in sweep.log.read_text(), name


def test_a_push_with_its_token_reaches_the_worker(google: Google, worker: Served) -> None:
    answer = push(worker, google.token(aud=WORKER))
    assert (answer.status_code, answer.text) == (200, "OK"), worker.log.read_text()
    said_so = [json.loads(line) for line in worker.log.read_text().splitlines() if '"worked"' in line]
    assert said_so[-1]["outcome"] == "not_ours", "there is no such operation; the worker looked"


def test_no_other_push_does(google: Google, worker: Served) -> None:
    before = worker.log.read_text().count('"worked"')
    for name, token in wrong_tokens(google, WORKER).items():
        answer = push(worker, token)
        assert answer.status_code == 401, name
        assert push(worker, token, data=b"junk").status_code == 401, name
        assert token is None or token not in worker.log.read_text() + answer.text, name
    assert worker.log.read_text().count('"worked"') == before


def test_where_googles_door_has_looked_the_stripped_token_is_a_proof(
    google: Google, folder: Path, certificates: str
) -> None:
    settings = {
        "DUMONT_CALLER": CALLER,
        "DUMONT_AUDIENCE": WORKER,
        "DUMONT_GOOGLE_KEYS_URL": certificates,
        "DUMONT_CALLER_CHECKED": "iam",
    }
    with serving(folder, "wake", "wake_worker", "cloudevent", **settings) as worker:
        assert push(worker, google.stripped(aud=WORKER)).status_code == 200, worker.log.read_text()
        assert push(worker, google.stripped(aud=SWEEP)).status_code == 401
        assert push(worker, None).status_code == 401


def test_while_googles_keys_are_away_nothing_runs_and_nobody_is_refused(google: Google, folder: Path) -> None:
    with ScriptedServer(lambda _asked: said(500, {})) as broken:
        settings = {"DUMONT_CALLER": CALLER, "DUMONT_AUDIENCE": SWEEP, "DUMONT_GOOGLE_KEYS_URL": broken.url}
        with serving(folder, "heartbeat-check", "heartbeat_check", "http", **settings) as sweep:
            answer = call(sweep, google.token(aud=SWEEP))
            assert (answer.status_code, answer.json()["code"]) == (503, "keys_unavailable")
        settings["DUMONT_AUDIENCE"] = WORKER
        with serving(folder, "wake", "wake_worker", "cloudevent", **settings) as worker:
            assert push(worker, google.token(aud=WORKER)).status_code == 503


def test_without_a_caller_all_is_as_on_the_local_cloud(google: Google, folder: Path, operator: str) -> None:
    with serving(folder, "heartbeat-check", "heartbeat_check", "http") as sweep:
        assert call(sweep, operator).status_code == 200
        assert call(sweep, google.token(aud=SWEEP)).status_code == 401
        assert call(sweep, google.stripped(aud=SWEEP)).status_code == 401
    with serving(folder, "wake", "wake_worker", "cloudevent") as worker:
        assert push(worker, None).status_code == 200


def test_a_caller_without_an_audience_opens_nothing(google: Google, folder: Path) -> None:
    with serving(folder, "wake", "wake_worker", "cloudevent", DUMONT_CALLER=CALLER) as worker:
        assert push(worker, google.token(aud=WORKER)).status_code == 500
        assert "DUMONT_AUDIENCE" not in worker.client.get("/").text
