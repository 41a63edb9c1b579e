"""Webhooks out of the local cloud, to real receivers that verify them with the official library."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from dumont.adapters.clock import SystemClock, SystemIds
from dumont.adapters.sqlite_store import SqliteStore
from dumont.domain.records import Role
from dumont.edge import keys
from tests.contract.webhook_receiver import Got, Receiver, receiver
from tests.end_to_end.cloud import Cloud, local_cloud, wait_for

Json = dict[str, Any]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with local_cloud(tmp_path_factory.mktemp("webhooks"), environment={"DUMONT_SWEEP_SECONDS": "1"}) as running:
        yield running


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


def added(cloud: Cloud, hook: Receiver, *options: str, path: str = "/hook?key=abc") -> tuple[str, str]:
    """A webhook's id and its secret, as the command line tells them."""
    made = cloud.cli("webhook", "add", f"http://127.0.0.1:{hook.port}{path}", "--json", *options)
    assert made.returncode == 0, made.stdout
    said = json.loads(made.stdout)
    return said["subscription"]["id"], said["secret"]


def verified(got: Got, secret: str) -> Json:
    """What a message says, as the official library verifies it, the wall clock included."""
    said: Json = Webhook(secret).verify(got.body, got.headers)
    return said


def types_of(got: list[Got], secret: str) -> list[str]:
    return [verified(one, secret)["type"] for one in got]


def test_a_machines_life_is_told_and_signed(cloud: Cloud, hook: Receiver) -> None:
    which, secret = added(cloud, hook)
    cloud.ended(cloud.up("told"))
    cloud.ended(cloud.down("told"))
    got = hook.wait_for(2)
    assert types_of(got, secret) == ["machine.running", "machine.destroyed"]
    running = verified(got[0], secret)
    assert running["data"]["machine"] == "told"
    assert running["data"]["operation_kind"] == "provision"
    assert got[0].path == "/hook?key=abc"
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(got[0].body + b" ", got[0].headers)
    listed = cloud.cli("webhook", "deliveries", which)
    assert "machine.running" in listed.stdout
    assert "delivered" in listed.stdout
    assert cloud.cli("webhook", "rm", which).returncode == 0
    assert cloud.cli("webhook", "show", which).returncode != 0


def test_only_what_is_wanted_comes(cloud: Cloud, hook: Receiver) -> None:
    which, secret = added(cloud, hook, "--event", "machine.destroyed")
    cloud.ended(cloud.up("brief"))
    cloud.ended(cloud.down("brief"))
    assert types_of(hook.wait_for(1), secret) == ["machine.destroyed"]
    assert cloud.cli("webhook", "rm", which).returncode == 0


def test_a_test_is_answered_on_the_spot(cloud: Cloud, hook: Receiver) -> None:
    which, secret = added(cloud, hook, "--event", "job.ended")
    tried = cloud.cli("webhook", "test", which)
    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert "delivered" in tried.stdout
    assert "204" in tried.stdout
    assert types_of(hook.wait_for(1), secret) == ["dumont.test"]
    hook.answers = [500, 204]
    assert cloud.cli("webhook", "test", which, "--no-wait").returncode == 0
    first, second = hook.wait_for(3)[1:]
    assert first.headers["webhook-id"] == second.headers["webhook-id"], "tried again, under its id"
    assert cloud.cli("webhook", "rm", which).returncode == 0


def test_what_is_dead_is_listed_and_replayed(cloud: Cloud, hook: Receiver) -> None:
    which, secret = added(cloud, hook)
    hook.answers = [410]
    assert cloud.cli("webhook", "test", which).returncode == 1
    assert "disabled (gone)" in cloud.cli("webhook", "ls").stdout
    dead = json.loads(cloud.cli("webhook", "deliveries", which, "--state", "dead", "--json").stdout)["deliveries"]
    assert [one["why_dead"] for one in dead] == ["gone"]
    refused = cloud.cli("webhook", "replay", which)
    assert refused.returncode != 0
    assert "disabled" in refused.stderr
    hook.answers = [200]
    assert cloud.cli("webhook", "set", which, "--enable").returncode == 0
    assert "1 is on its way again" in cloud.cli("webhook", "replay", which, "--since", "1h").stdout
    got = hook.wait_for(2)
    assert got[0].headers["webhook-id"] == got[1].headers["webhook-id"] == dead[0]["id"]
    wait_for(
        lambda: "delivered" in cloud.cli("webhook", "deliveries", which, dead[0]["id"]).stdout, seconds=20, why="noted"
    )
    assert cloud.cli("webhook", "rm", which).returncode == 0
    verified(got[1], secret)


def test_a_new_secret_and_the_old_one_verify_for_a_while(cloud: Cloud, hook: Receiver) -> None:
    which, old = added(cloud, hook)
    new = cloud.cli("webhook", "rotate", which).stdout.strip()
    assert new != old
    assert cloud.cli("webhook", "test", which).returncode == 0
    (got,) = hook.wait_for(1)
    for secret in (old, new):
        assert verified(got, secret)["type"] == "dumont.test"
    assert cloud.cli("webhook", "rm", which).returncode == 0


def test_what_is_not_the_internets_is_refused(cloud: Cloud) -> None:
    before = cloud.http.get("/subscriptions").json()["subscriptions"]
    for url in (
        "https://10.0.0.1/", "https://169.254.169.254/latest", "https://[fd00::1]/", "https://[::ffff:10.0.0.1]/",
        "http://hook.example.com/", "https://user:secret@hook.example.com/", "https://metadata.google.internal/",
        "https://2130706433/", "https://no-such-host.invalid/",
    ):  # fmt: skip
        answer = cloud.http.post("/subscriptions", json={"url": url})
        assert answer.status_code == 400, url
        assert answer.json()["field"] == "url"
    assert cloud.http.get("/subscriptions").json()["subscriptions"] == before


def test_who_may_only_look_sees_no_more_of_a_url_than_its_host_and_changes_nothing(
    cloud: Cloud, hook: Receiver
) -> None:
    which, _ = added(cloud, hook, path="/services/secret-part")
    store = SqliteStore(cloud.folder / "data" / "store.sqlite3")
    viewer = keys.make(store, SystemIds(), SystemClock(), name="eyes", role=Role.VIEWER)
    store.close()
    headers = {"Authorization": f"Bearer {viewer}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{cloud.port}", headers=headers, timeout=20) as eyes:
        seen = eyes.get(f"/subscriptions/{which}")
        assert seen.json()["subscription"]["url"] == f"http://127.0.0.1:{hook.port}/…"
        assert "secret-part" not in eyes.get("/subscriptions").text
        assert eyes.get(f"/subscriptions/{which}/deliveries").status_code == 200
        for path in (which, f"{which}/test", f"{which}/rotate", f"{which}/replay"):
            assert eyes.post(f"/subscriptions/{path}", json={}).status_code == 403
        assert eyes.delete(f"/subscriptions/{which}").status_code == 403
    assert cloud.cli("webhook", "rm", which).returncode == 0
    for path in (which, f"{which}/deliveries", f"{which}/deliveries/msg_x"):
        assert cloud.http.get(f"/subscriptions/{path}").status_code == 404
    assert cloud.http.post("/subscriptions/x/y", json={}).status_code == 404
    assert "secret-part" not in (cloud.folder / "data" / "log.jsonl").read_text()
