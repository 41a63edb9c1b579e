"""Slack's requests: believed only with its signature, taken once, and done only for whom they may be done."""

from __future__ import annotations

import json
from urllib.parse import quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dumont.domain.audit import AuditEntry
from dumont.domain.chats import AGAIN_SECONDS, Chat
from dumont.domain.errors import Forbidden, InvalidInput, Unauthenticated, Unknown, UserError
from dumont.domain.records import Machine, MachineState, Operation, Role
from dumont.edge.slack import door
from dumont.operations import alerts
from dumont.ports import Query
from tests.block_kit import button, check, words
from tests.slack_server import Fault, slack_server
from tests.unit.slack_support import (
    NOW,
    OPERATOR,
    SETTINGS,
    TEAM,
    VIEWER,
    Desk,
    action_body,
    call,
    command_body,
    signature,
)


@pytest.fixture
def desk() -> Desk:
    return Desk()


# --- Proof --------------------------------------------------------------------------------------------------------


def test_a_signed_command_is_answered(desk: Desk) -> None:
    answer = desk.command("help")
    assert (answer.status, answer.body["response_type"]) == (200, "ephemeral")
    check(answer.body["blocks"])


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Slack-Signature": "v0=" + "0" * 64},
        {"X-Slack-Signature": ""},
        {"X-Slack-Signature": "é"},
        {"X-Slack-Request-Timestamp": ""},
        {"X-Slack-Request-Timestamp": "now"},
        {"X-Slack-Request-Timestamp": "-1"},
        {"X-Slack-Request-Timestamp": "٣"},
        {"X-Slack-Request-Timestamp": str(int(NOW) + 1)},
    ],
)
def test_another_signature_is_refused(desk: Desk, headers: dict[str, str]) -> None:
    with pytest.raises(Unauthenticated):
        desk.command("help", headers=headers)
    assert desk.chats() == []


@pytest.mark.parametrize("age", [301, -301, 86_400])
def test_an_old_request_and_one_from_the_future_are_refused_though_signed(desk: Desk, age: float) -> None:
    with pytest.raises(Unauthenticated):
        desk.command("up trainer --gpu RTX 4090", at=NOW - age)
    assert desk.bus.sent == []


def test_a_body_that_was_changed_is_refused(desk: Desk) -> None:
    body = command_body("ls", OPERATOR, "1.1")
    with pytest.raises(Unauthenticated):
        door.answer(
            desk.ports, SETTINGS, ["commands"], signature(body, NOW), body.replace("ls", "up").encode(), call("x")
        )


def test_without_a_secret_nothing_is_believed(desk: Desk) -> None:
    desk.settings = replace(SETTINGS, slack_signing_secret="")
    with pytest.raises(Unauthenticated):
        desk.command("help")


@given(body=st.binary(max_size=200), path=st.sampled_from(["commands", "actions", "events"]))
def test_whatever_is_signed_is_answered_or_refused(body: bytes, path: str) -> None:
    desk = Desk()
    try:
        text = body.decode()
    except UnicodeDecodeError:
        with pytest.raises(Unauthenticated):
            door.answer(desk.ports, SETTINGS, [path], signature("", NOW), body, call(path))
        return
    try:
        assert desk.send(path, text).status == 200
    except UserError:
        assert desk.bus.sent == []


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.text(max_size=9) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "actions", "user", "id", "value", "action_id"]), inner)
    ),
)


@given(_ANYTHING, st.booleans())
def test_whatever_a_payload_holds_is_no_error(payload: object, pressed: bool) -> None:
    desk = Desk(settings=replace(SETTINGS, slack_team=""))
    if pressed:
        payload = {"type": "block_actions", "actions": [payload], "user": payload}
    try:
        desk.send("actions", urlencode({"payload": json.dumps(payload)}))
    except InvalidInput:
        return
    desk.work()


def test_another_workspace_is_refused(desk: Desk) -> None:
    with pytest.raises(Forbidden):
        desk.command("ls", team="T0OTHER1")
    with pytest.raises(Forbidden):
        desk.send("actions", action_body({"action_id": "machine.wake", "value": "{}"}, OPERATOR, "1", "T0OTHER1"))


def test_slack_s_question_whether_we_are_there_is_answered(desk: Desk) -> None:
    answer = desk.send("events", json.dumps({"type": "url_verification", "challenge": "3eZbrw1aB"}))
    assert answer.body == {"challenge": "3eZbrw1aB"}
    event = {"type": "event_callback", "team_id": TEAM, "event": {"type": "app_mention"}}
    assert desk.send("events", json.dumps(event)).body == b""


def test_no_other_path_is_served(desk: Desk) -> None:
    with pytest.raises(Unknown):
        desk.send("admin", "")


# --- Once ---------------------------------------------------------------------------------------------------------


def test_a_replay_and_a_retry_do_nothing_more(desk: Desk) -> None:
    body = command_body("up trainer --gpu RTX 4090", OPERATOR, "7.7")
    desk.send("commands", body)
    assert len(desk.work()) == 1
    assert desk.send("commands", body).body == b""
    retried = desk.send(
        "commands", body, at=NOW + 10, headers={"X-Slack-Retry-Num": "1", "X-Slack-Retry-Reason": "timeout"}
    )
    assert (retried.status, retried.body) == (200, b""), "signed anew, and the same request all the same"
    assert desk.work() == []
    assert len(desk.chats()) == 1


def test_a_press_that_comes_twice_acts_once(desk: Desk) -> None:
    desk.machine()
    pressed = action_body(button(desk.asked("status trainer"), "machine.destroy"), OPERATOR, "8.8")
    for _ in range(3):
        desk.send("actions", pressed)
    assert len(desk.work()) == 1
    assert len([m for m in desk.bus.sent if m[0] == "dumont-destroy"]) == 1


def test_the_same_words_said_again_are_another_request(desk: Desk) -> None:
    desk.machine()
    assert desk.asked("status trainer") == desk.asked("status trainer")
    assert len(desk.chats()) == 2


def test_a_message_to_the_worker_that_comes_twice_is_worked_off_once(desk: Desk) -> None:
    desk.command("up trainer --gpu RTX 4090")
    desk.bus.sent *= 2
    assert len(desk.work()) == 1


def test_a_message_that_is_lost_is_sent_again_by_the_sweep(desk: Desk) -> None:
    desk.command("search RTX 4090")
    desk.bus.sent.clear()
    desk.clock.moment += AGAIN_SECONDS - 1
    assert alerts.look(desk.ports) == 0
    desk.clock.moment += 2
    assert alerts.look(desk.ports) == 1
    assert "RTX 4090" in words(desk.work()[0].blocks)
    desk.clock.moment += 1000
    assert alerts.look(desk.ports) == 0


def test_a_worker_that_died_before_it_answered_does_not_begin_again(desk: Desk) -> None:
    desk.command("up trainer --gpu RTX 4090")
    desk.work()
    (chat,) = desk.chats()
    desk.put(replace(chat, done=False))
    desk.bus.sent.append(("dumont-slack", {"chat_id": chat.id}))
    (said,) = desk.work()
    assert "is under way" in words(said.blocks)
    assert len([m for m in desk.bus.sent if m[0] == "dumont-provision"]) == 1


# --- In time ------------------------------------------------------------------------------------------------------


def test_what_asks_others_or_changes_something_is_left_to_the_worker(desk: Desk) -> None:
    desk.machine()
    for text in ("search RTX 4090", "cost", "savings", "budget", "hibernate trainer", "up other --gpu RTX 4090"):
        assert desk.command(text).body == b"", text
        assert len(desk.work()) == 1, text
    desk.market.down = True
    for text in ("ls", "status trainer", "ssh trainer", "down trainer", "failover trainer", "help", "what?"):
        assert desk.command(text).body["blocks"], text
        assert desk.work() == [], text


@pytest.mark.parametrize(("late", "refused"), [(1.0, False), (2.8, False), (2.8, True)])
def test_an_answer_that_may_come_too_late_goes_to_the_request_s_url(desk: Desk, late: float, refused: bool) -> None:
    with slack_server() as slack:
        desk.settings = replace(SETTINGS, slack_api_url=slack.api_url)
        if refused:
            slack.faults.append(Fault("commands", 404))
        body = command_body("help", OPERATOR, "1.1").replace(
            quote_plus("https://hooks.slack.com"), quote_plus(slack.url)
        )
        signed = signature(body, NOW - int(late))
        desk.clock.moment += late % 1
        answer = door.answer(desk.ports, desk.settings, ["commands"], signed, body.encode(), call("commands"))
        by_url = late > 2.5 and not refused
        assert (answer.body == b"") is by_url
        assert len(slack.replies) == by_url


def test_an_answer_goes_to_slack_s_url_and_nowhere_else() -> None:
    hooks = "https://hooks.slack.com/commands/T1/2/x"
    assert door.reply_url(SETTINGS, hooks) == hooks
    for url in ("http://169.254.169.254/x", "https://hooks.slack.com.evil.example/", "https://evil.example/hooks.slack.com/",
                "http://hooks.slack.com/x", "https://hooks.slack.com@evil.example/", ""):  # fmt: skip
        assert door.reply_url(SETTINGS, url) == ""


# --- Roles --------------------------------------------------------------------------------------------------------

CHANGES = [
    "up other --gpu RTX 4090", "snapshot trainer", "failover trainer", "failover trainer --drill", "hibernate trainer",
    "wake trainer", "keep trainer 2h", "down trainer", "down trainer --discard",
]  # fmt: skip


@pytest.mark.parametrize("text", CHANGES)
@pytest.mark.parametrize("user", [VIEWER, "U0STRANGER", ""])
def test_who_may_only_look_touches_nothing(desk: Desk, text: str, user: str) -> None:
    desk.machine()
    before = desk.store.get(Machine, "trainer")
    blocks = desk.asked(text, user)
    assert "You may look, but not touch" in words(blocks)
    check(blocks)
    assert desk.store.get(Machine, "trainer") == before
    assert desk.bus.sent == []


def test_who_may_only_look_may_press_and_nothing_comes_of_it(desk: Desk) -> None:
    machine = desk.machine()
    sleeping = desk.machine("asleep", MachineState.HIBERNATED)
    found = desk.asked("search RTX 4090", VIEWER)
    cards = [*desk.asked("status trainer", VIEWER), *desk.asked("status asleep", VIEWER), *found]
    for action in ("wake", "sleep", "keep", "snapshot", "destroy"):
        desk.press(button(cards, f"machine.{action}"), VIEWER)
    for action in (
        "machine.destroy_lost",
        "machine.destroy_saved",
        "machine.move",
        "machine.move_lost",
        "machine.drill",
    ):
        desk.press({"action_id": action, "value": json.dumps({"m": "trainer", "e": 1})}, VIEWER)
    desk.press(button(found, "offer.rent"), VIEWER)
    said = desk.work()
    assert len(said) == 11
    assert all("You may look, but not touch" in words(message.blocks) for message in said)
    assert (desk.store.get(Machine, "trainer"), desk.store.get(Machine, "asleep")) == (machine, sleeping)
    assert desk.bus.sent == []


@pytest.mark.parametrize(
    "text", ["ls", "status trainer", "ssh trainer", "search 4090", "cost", "savings", "budget", "help"]
)
def test_everybody_may_look(desk: Desk, text: str) -> None:
    desk.machine()
    assert "not touch" not in words(desk.asked(text, VIEWER))


def test_an_admin_may_what_an_operator_may(desk: Desk) -> None:
    desk.settings = replace(SETTINGS, slack_roles={VIEWER: Role.ADMIN})
    assert "rents" in words(desk.asked("up trainer --gpu RTX 4090", VIEWER))


def test_who_asked_is_in_the_operation(desk: Desk) -> None:
    desk.asked("up trainer --gpu RTX 4090 --max-price 0.4")
    machine = desk.store.get(Machine, "trainer")
    assert machine is not None
    op = desk.store.get(Operation, machine.operation_id or "")
    assert op is not None
    assert (op.requested_by, op.request_id) == ("slack:ada", desk.chats()[0].id)
    assert desk.store.get(Chat, op.request_id) is not None


def test_what_was_asked_to_be_changed_is_in_the_audit_log_also_what_was_refused(desk: Desk) -> None:
    desk.machine()
    card = desk.asked("status trainer")
    desk.asked("up other --gpu RTX 4090")
    desk.asked("wake trainer", VIEWER)
    desk.press(button(card, "machine.destroy"))
    desk.press(button(card, "machine.refresh"))
    desk.press({"action_id": "machine.sleep", "value": '{"m": "trainer", "e": 7}'})
    desk.work()
    entries = sorted(desk.store.find(AuditEntry, Query()), key=lambda entry: (entry.what, entry.status))
    assert [(e.what, e.about, e.who, e.status, e.code, bool(e.made)) for e in entries] == [
        ("/dumont up", "other", f"slack:{OPERATOR}", 202, "", True),
        ("/dumont wake", "trainer", f"slack:{VIEWER}", 403, "forbidden", False),
        ("button machine.destroy", "trainer", f"slack:{OPERATOR}", 202, "", True),
        ("button machine.sleep", "trainer", f"slack:{OPERATOR}", 409, "moved_on", False),
    ]
