"""`dumont webhook`."""

from __future__ import annotations

import json

from tests.unit.cli_world import NOW, World, output, problem

HOOK = {
    "id": "sub-1", "url": "https://hook.example.com/x", "events": ["*"], "enabled": True, "created_at": NOW,
    "updated_at": NOW, "created_by": "ada",
}  # fmt: skip
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TRIED = {"at": NOW, "seconds": 0.21, "status": 204}
SENT = {"id": "msg_1", "subscription": "sub-1", "type": "failover.done", "state": "delivered", "created_at": NOW}


def test_add_prints_the_secret_alone_on_stdout(api: World) -> None:
    api.says("POST /subscriptions", {"subscription": HOOK, "secret": SECRET})
    result = api.run("webhook", "add", "https://hook.example.com/x", "--event", "job.ended", "--event", "bid.lost")
    assert result.exit_code == 0
    assert result.stdout == f"{SECRET}\n"
    assert "not shown again" in result.stderr
    sent = json.loads(api.last("POST /subscriptions").body)
    assert sent == {"url": "https://hook.example.com/x", "events": ["job.ended", "bid.lost"]}


def test_what_the_api_refuses_is_said(api: World) -> None:
    api.says("POST /subscriptions", problem(400, "invalid_input", "is not https", field="url"))
    result = api.run("webhook", "add", "http://hook.example.com/x")
    assert result.exit_code != 0
    assert "url: is not https" in result.stderr


def test_ls_shows_who_is_told_of_what(api: World) -> None:
    failing = {**HOOK, "id": "sub-2", "events": ["a.b", "c.d", "e.f", "g.h"], "enabled": False, "why_disabled": "gone"}
    api.says("GET /subscriptions", {"subscriptions": [HOOK, failing], "events": {"job.ended": "it ended"}})
    _, first, second = api.run("webhook", "ls").stdout.splitlines()
    assert "enabled" in first
    assert "all" in first
    assert "disabled (gone)" in second
    assert "a.b, c.d, e.f and 1 more" in second
    assert "job.ended" in api.run("webhook", "events").stdout
    api.says("GET /subscriptions", {"subscriptions": []})
    assert "nobody is told" in api.run("webhook", "ls").stderr


def test_show_has_its_last_deliveries(api: World) -> None:
    waiting = {**SENT, "state": "pending", "attempts_made": 2, "next_attempt_at": NOW + 300,
               "last_attempt": {"at": NOW, "seconds": 15.0, "error": "no answer in time"}}  # fmt: skip
    api.says("GET /subscriptions/sub-1", {"subscription": {**HOOK, "old_secret_until": NOW, "description": "pager"}})
    api.says("GET /subscriptions/sub-1/deliveries", {"deliveries": [waiting]})
    shown = api.run("webhook", "show", "sub-1")
    for words in ("failover.done", "pending", "no answer in time", "msg_1", "pager"):
        assert words in shown.stdout
    assert "two secrets" in shown.stderr
    both = output(api.run("webhook", "show", "sub-1", "--json"))
    assert both.keys() == {"subscription", "deliveries"}


def test_set_changes_what_is_given_and_nothing_else(api: World) -> None:
    api.says("POST /subscriptions/sub-1", {"subscription": HOOK})
    assert api.run("webhook", "set", "sub-1", "--disable", "--event", "job.ended").exit_code == 0
    assert json.loads(api.last("POST /subscriptions/sub-1").body) == {"enabled": False, "events": ["job.ended"]}
    assert api.run("webhook", "set", "sub-1", "--to", "https://b.example.com/").exit_code == 0
    assert json.loads(api.last("POST /subscriptions/sub-1").body) == {"url": "https://b.example.com/"}
    assert api.run("webhook", "set", "sub-1").exit_code == 2


def test_rm_and_rotate(api: World) -> None:
    api.says("DELETE /subscriptions/sub-1", {"subscription": HOOK})
    assert "not told any more" in api.run("webhook", "rm", "sub-1").stdout
    api.says("POST /subscriptions/sub-1/rotate", {"subscription": {**HOOK, "old_secret_until": NOW}, "secret": SECRET})
    rotated = api.run("webhook", "rotate", "sub-1")
    assert rotated.stdout == f"{SECRET}\n"
    assert "the secret before it signs until" in rotated.stderr


def test_a_test_waits_for_its_first_answer(api: World) -> None:
    begun = {"delivery": {**SENT, "type": "dumont.test", "state": "pending"}}
    api.says("POST /subscriptions/sub-1/test", begun)
    arrived = {"delivery": {**SENT, "type": "dumont.test", "attempts": [TRIED]}}
    api.says("GET /subscriptions/sub-1/deliveries/msg_1", begun, arrived)
    result = api.run("webhook", "test", "sub-1")
    assert result.exit_code == 0
    assert "204" in result.stdout
    refused = {"at": NOW, "seconds": 0.2, "status": 500}
    failed = {**SENT, "state": "pending", "attempts": [refused], "next_attempt_at": NOW + 5}
    api.says("GET /subscriptions/sub-1/deliveries/msg_1", {"delivery": failed})
    result = api.run("webhook", "test", "sub-1")
    assert result.exit_code == 1
    assert "tried again at" in result.stdout
    begun_only = api.run("webhook", "test", "sub-1", "--no-wait")
    assert begun_only.exit_code == 0
    assert "look again: dumont webhook deliveries sub-1 msg_1" in begun_only.stderr


def test_deliveries_and_one_of_them(api: World) -> None:
    api.says(
        "GET /subscriptions/sub-1/deliveries", {"deliveries": [{**SENT, "attempts_made": 1, "last_attempt": TRIED}]}
    )
    assert "204" in api.run("webhook", "deliveries", "sub-1", "--state", "delivered", "--limit", "3").stdout
    assert api.query("GET /subscriptions/sub-1/deliveries") == {"state": "delivered", "limit": "3"}
    api.says("GET /subscriptions/sub-1/deliveries/msg_1", {"delivery": {**SENT, "attempts": [TRIED], "body": {"x": 1}}})
    assert "0.21 s" in api.run("webhook", "deliveries", "sub-1", "msg_1").stdout
    assert output(api.run("webhook", "deliveries", "sub-1", "msg_1", "--json"))["delivery"]["body"] == {"x": 1}
    api.says("GET /subscriptions/sub-1/deliveries", {"deliveries": []})
    assert "nothing was sent" in api.run("webhook", "deliveries", "sub-1").stderr


def test_replay_one_or_all_since(api: World) -> None:
    api.says("POST /subscriptions/sub-1/deliveries/msg_1/replay", {"delivery": SENT})
    assert "1 is on its way again" in api.run("webhook", "replay", "sub-1", "msg_1").stdout
    api.says("POST /subscriptions/sub-1/replay", {"replayed": 3})
    assert "3 are on their way again" in api.run("webhook", "replay", "sub-1").stdout
    assert json.loads(api.last("POST /subscriptions/sub-1/replay").body) == {"since": 0.0}
    assert api.run("webhook", "replay", "sub-1", "--since", "6h").exit_code == 0
    assert json.loads(api.last("POST /subscriptions/sub-1/replay").body)["since"] > 0
    assert api.run("webhook", "replay", "sub-1", "--since", "soon").exit_code == 2
    assert api.run("webhook", "replay", "sub-1", "msg_1", "--since", "6h").exit_code == 2
