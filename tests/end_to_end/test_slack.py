"""Slack against the local cloud: signed requests come in by HTTP, and what they lead to is told to our own Slack."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from slack_sdk.signature import SignatureVerifier

from tests.block_kit import button, buttons, check, words
from tests.end_to_end.cloud import Cloud, local_cloud, wait_for
from tests.slack_server import CHANNEL, TOKEN, Fault, Slack, slack_server

Json = dict[str, Any]
SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
TEAM, OPERATOR, VIEWER = "T0TEAM01", "U0OPERATOR", "U0VIEWER"


@dataclass
class Lab:
    """A local cloud with its Slack."""

    cloud: Cloud
    slack: Slack
    _count: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def command(self, text: str, user: str = OPERATOR, **more: Any) -> list[Json]:
        """`/dumont text`; the blocks of its answer, which comes at once or by the request's URL."""
        number = next(self._count)
        form = {
            "team_id": TEAM, "user_id": user, "user_name": "ada", "channel_id": "C0LAB001", "command": "/dumont",
            "text": text, "trigger_id": f"{number}.{time.time()}", "response_url": self.slack.reply_url(str(number)),
        }  # fmt: skip
        began = time.monotonic()
        answer = self.send("commands", urlencode(form), **more)
        assert answer.status_code == 200, answer.text
        assert time.monotonic() - began < 3, "Slack waits no longer"
        if answer.content:
            return list(answer.json()["blocks"])
        return self.reply(number)

    def press(self, found: Json, user: str = OPERATOR) -> list[Json]:
        """A press of a button; what its card becomes."""
        number = next(self._count)
        payload = {
            "type": "block_actions", "team": {"id": TEAM}, "user": {"id": user, "username": "ada"},
            "channel": {"id": "C0LAB001"}, "trigger_id": f"{number}.{time.time()}",
            "response_url": self.slack.reply_url(str(number)),
            "actions": [{"action_id": found["action_id"], "value": found["value"]}],
        }  # fmt: skip
        assert self.send("actions", urlencode({"payload": json.dumps(payload)})).content == b""
        return self.reply(number)

    def send(self, path: str, body: str, *, at: float | None = None, secret: str = SECRET) -> httpx.Response:
        """A request that is signed as Slack signs."""
        stamp = str(int(time.time() if at is None else at))
        signed = SignatureVerifier(secret).generate_signature(timestamp=stamp, body=body) or ""
        headers = {
            "X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": signed,
            "Content-Type": "application/x-www-form-urlencoded",
        }  # fmt: skip
        return httpx.post(f"http://127.0.0.1:{self.cloud.port}/slack/{path}", content=body, headers=headers, timeout=10)

    def reply(self, number: int, nth: int = 1) -> list[Json]:
        """What was sent to a request's own URL, the first or a later time."""

        def found() -> list[Json]:
            return [r for r in self.slack.replies if f"/{number}/" in r["path"]]

        self.slack.wait(lambda: len(found()) >= nth)
        blocks = list(found()[nth - 1]["blocks"])
        check(blocks)
        return blocks

    def last(self) -> int:
        """The number of the last request."""
        return next(self._count) - 1


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with slack_server() as slack:
        environment = {
            "DUMONT_ALERTS": "slack", "DUMONT_SLACK_SIGNING_SECRET": SECRET, "DUMONT_SLACK_BOT_TOKEN": TOKEN,
            "DUMONT_SLACK_CHANNEL": CHANNEL, "DUMONT_SLACK_TEAM": TEAM, "DUMONT_SLACK_API_URL": slack.api_url,
            "DUMONT_SLACK_ROLES": json.dumps({OPERATOR: "operator"}),
        }  # fmt: skip
        with local_cloud(tmp_path_factory.mktemp("slack"), environment=environment) as cloud:
            yield Lab(cloud, slack)


def test_a_machine_is_rented_shown_and_destroyed_from_a_phone(lab: Lab) -> None:
    offers = lab.command("search RTX 4090 —max-price $0.40")
    assert button(offers, "offer.rent")["confirm"]

    begun = lab.command("up trainer --gpu “RTX 4090” --max-price 0.40")
    asked = lab.last()
    assert f"<@{OPERATOR}> rents *trainer*" in words(begun)
    card = lab.reply(asked, nth=2)
    assert "*trainer* runs, proven after" in words(card)
    assert lab.cloud.machine("trainer")["state"] == "running"
    assert "dumont ssh trainer" in words(lab.command("ssh trainer"))

    refused = lab.press(button(card, "machine.destroy"), VIEWER)
    assert "You may look, but not touch" in words(refused)

    going = lab.press(button(card, "machine.destroy"))
    pressed = lab.last()
    assert f"<@{OPERATOR}> destroys *trainer*" in words(going)
    gone = lab.reply(pressed, nth=2)
    assert "*trainer* is gone, as its provider confirms" in words(gone)
    assert buttons(gone) == []
    assert lab.cloud.machine("trainer")["state"] == "destroyed"
    assert lab.cloud.live() == []
    by = {op["requested_by"] for op in lab.cloud.http.get("/operations?machine=trainer").json()["operations"]}
    assert by == {"slack:ada"}

    again = lab.press(button(card, "machine.destroy"))
    assert "That card was old" in words(again)


def test_sleep_and_wake_are_told_to_all_also_while_slack_fails(lab: Lab) -> None:
    assert lab.cloud.ended(lab.cloud.up("sleeper", race_width=1))["state"] == "succeeded"
    wait_for(lambda: "heartbeat" in lab.cloud.machine("sleeper"), seconds=30, why="its agent is heard")
    lab.slack.faults.append(
        Fault("chat.postMessage", 429, {"Retry-After": "1"}, '{"ok": false, "error": "ratelimited"}')
    )
    lab.press(button(lab.command("status sleeper"), "machine.sleep"))
    told = lab.slack.wait(lambda: [m for m in lab.slack.messages() if "*sleeper* sleeps" in m["text"]], seconds=60)
    check(told[0]["blocks"])

    lab.press(button(told[0]["blocks"], "machine.wake"))
    lab.slack.wait(lambda: [m for m in lab.slack.messages() if "*sleeper* is awake" in m["text"]], seconds=60)
    assert lab.cloud.machine("sleeper")["state"] == "running"
    assert len([m for m in lab.slack.messages() if "sleeper" in m["text"]]) == 2, "each was told once"
    down = lab.command("down sleeper")
    lab.press(button(down, "machine.destroy_lost"))
    wait_for(lambda: lab.cloud.live() == [], seconds=60, why="it is gone")


def test_a_lost_host_is_one_message_that_ends_well(lab: Lab) -> None:
    spec = {"race_width": 1, "heartbeat_seconds": 0.5, "fence_after_seconds": 2.0, "stateless": True}
    assert lab.cloud.ended(lab.cloud.up("mover", **spec))["state"] == "succeeded"
    wait_for(lambda: "heartbeat" in lab.cloud.machine("mover"), seconds=30, why="its agent is heard")
    lab.cloud.fault("hung", label=lab.cloud.machine("mover")["instance_id"])

    def moved() -> list[Json]:
        return [m for m in lab.slack.messages() if "mover" in m["text"]]

    lab.slack.wait(lambda: any(m["text"].startswith("✅ *mover* serves again") for m in moved()), seconds=90)
    (message,) = moved()
    check(message["blocks"])
    assert "confirm" in words(message["blocks"])
    assert lab.cloud.ended(lab.cloud.down("mover"))["state"] == "succeeded"


def test_a_forged_an_old_and_a_replayed_request_do_nothing(lab: Lab) -> None:
    form = urlencode({"team_id": TEAM, "user_id": OPERATOR, "text": "up forged --gpu RTX 4090", "trigger_id": "f.1"})
    forged = lab.send("commands", form, secret="another")
    assert (forged.status_code, forged.json()["code"]) == (401, "unauthenticated")
    assert lab.send("commands", form, at=time.time() - 301).status_code == 401
    assert lab.send("commands", form.replace(TEAM, "T0OTHER1")).status_code == 403
    assert lab.send("nowhere", form).status_code == 404
    assert lab.cloud.http.get("/machines/forged").status_code == 404
    card = lab.command("ls")
    assert card
    challenge = lab.send("events", '{"type": "url_verification", "challenge": "abc"}')
    assert challenge.json() == {"challenge": "abc"}


def test_no_secret_of_slack_s_is_in_the_log(lab: Lab) -> None:
    log = (lab.cloud.folder / "data/log.jsonl").read_text()
    assert log
    assert not [secret for secret in (SECRET, TOKEN, "/commands/T1/") if secret in log]
    assert "work failed" not in log
