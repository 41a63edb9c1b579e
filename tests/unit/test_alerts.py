"""What happens is told once, whatever the chat does; and what happens does not wait for it."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from msgspec.structs import replace

from dumont.adapters.slack import SlackNotifier, WebhookNotifier
from dumont.domain import provisioning
from dumont.domain.alerts import (
    GIVE_UP_SECONDS,
    HINT_SECONDS,
    Alert,
    AlertKind,
    Told,
    of_operation,
)
from dumont.domain.errors import NotTellable, NotTold
from dumont.domain.messages import Message
from dumont.domain.records import (
    Instance,
    Machine,
    MachineState,
    Operation,
    OperationKind,
    OperationState,
)
from dumont.operations import alerts, rest
from dumont.operations.invocation import Invocation
from dumont.ports import Query
from tests.block_kit import check, words
from tests.slack_server import CHANNEL, TOKEN, Fault, Slack
from tests.unit import alert_support
from tests.unit.alert_support import ENDED, bot, change, hibernated, operation, step, sweep, tell
from tests.unit.slack_support import NOW, Desk

server, slack, desk = alert_support.server, alert_support.slack, alert_support.desk


# --- What is worth telling ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "before", "after", "told"),
    [
        (OperationKind.FAILOVER, {}, {"steps": (step("detect", 0),)}, False),
        (OperationKind.FAILOVER, {}, {"state": OperationState.SUPERSEDED}, False),
        (OperationKind.FAILOVER, {}, {"state": OperationState.FAILED}, True),
        (OperationKind.FAILOVER, {}, {"phase": provisioning.RACE}, True),
        (OperationKind.FAILOVER, {"phase": provisioning.RACE}, {"steps": (step("search", 1),)}, True),
        (OperationKind.FAILOVER, {"phase": provisioning.RACE}, {"tries": 3}, False),
        (OperationKind.FAILOVER, {"phase": provisioning.RELEASE}, {"state": ENDED}, True),
        (OperationKind.HIBERNATE, {}, {"phase": "verify"}, False),
        (OperationKind.HIBERNATE, {}, {"state": ENDED}, True),
        (OperationKind.WAKE, {"phase": provisioning.RACE}, {"steps": (step("search", 1),)}, False),
        (OperationKind.WAKE, {"phase": provisioning.RACE}, {"phase": provisioning.RELEASE}, True),
        (OperationKind.REAP, {}, {"tries": 1}, True),
        (OperationKind.REAP, {}, {"state": ENDED}, True),
        (OperationKind.SNAPSHOT, {}, {"state": ENDED}, False),
        (OperationKind.PROVISION, {}, {"state": ENDED}, False),
    ],
)
def test_what_of_an_operation_is_worth_telling(
    kind: OperationKind, before: dict[str, Any], after: dict[str, Any], told: bool
) -> None:
    first = operation(kind, **before)
    found = of_operation(first, replace(first, **after), NOW)
    assert [alert.kind for alert in found] == ([AlertKind.OPERATION] if told else [])


def test_who_asked_in_slack_is_told_the_end_and_nobody_else() -> None:
    asked = operation(OperationKind.SNAPSHOT, requested_by="slack:ada", request_id="slack-1")
    (alert,) = of_operation(asked, replace(asked, state=ENDED), NOW)
    assert (alert.kind, alert.request_id) == (AlertKind.REPLY, "slack-1")
    by_key = replace(asked, requested_by="ci")
    assert of_operation(by_key, replace(by_key, state=ENDED), NOW) == []


def test_where_nobody_is_to_be_told_nothing_is_written(desk: Desk) -> None:
    desk.put(operation(OperationKind.HIBERNATE))
    grip = Invocation(ports=dataclasses.replace(desk.ports, alerts=False), operation_id="op-12345678", owner="inv-1")
    assert grip.claim()
    grip.apply(lambda _tx, op, _machine: replace(op, state=ENDED))
    assert desk.store.find(Alert, Query()) == []
    assert desk.bus.sent == []


# --- A failover: one message, that changes ------------------------------------------------------------------------


def fail_over(desk: Desk, say: Callable[[str], object]) -> None:
    """A failover as its worker writes it down, each change told by `say`."""
    desk.put(operation(OperationKind.FAILOVER, steps=(step("detect", -12, ok=False, detail="silent for 12.0 s"),)))
    fenced = {"phase": provisioning.RACE, "epoch": 2}
    for changes in (
        fenced,
        {"steps": (step("detect", -12), step("confirm", -1, detail="SSH did not answer"), step("search", 1))},
        {"steps": (step("detect", -12), step("confirm", -1), step("search", 1), step("rent", 3), step("boot", 4))},
    ):
        for alert_id in change(desk, **changes):
            say(alert_id)
    machine = desk.store.get(Machine, "trainer")
    assert machine is not None
    desk.put(replace(machine, epoch=2, running_since=NOW + 30))
    for alert_id in [*change(desk, phase=provisioning.RELEASE), *change(desk, state=ENDED)]:
        say(alert_id)


def test_a_failover_is_one_message_edited_as_it_goes(desk: Desk, slack: Slack) -> None:
    seen: list[str] = []

    def say(alert_id: str) -> bool:
        done = tell(desk, bot(slack), alert_id)
        (message,) = slack.messages()
        check(message["blocks"])
        seen.append(message["text"])
        return done

    fail_over(desk, say)
    assert seen[0] == "🚨 Host lost: *trainer* moves to another host"
    assert seen[-1].startswith("✅ *trainer* serves again")
    assert "42 s after its host's last word" in seen[-1]
    assert slack.calls.count("chat.postMessage") == 1
    assert "SSH did not answer" not in words(slack.messages()[0]["blocks"])
    assert "boot" in words(slack.messages()[0]["blocks"])
    assert all(alert.deadline is None for alert in desk.store.find(Alert, Query()))


def test_a_webhook_cannot_edit_so_it_tells_the_beginning_and_the_end(desk: Desk, slack: Slack) -> None:
    hook = WebhookNotifier(f"{slack.url}/services/T/B/x")
    fail_over(desk, lambda alert_id: tell(desk, hook, alert_id))
    texts = [reply["text"] for reply in slack.replies]
    assert texts[0].startswith("🚨 Host lost")
    assert texts[1].startswith("✅ *trainer* serves again")
    assert len(texts) <= 3, "what its end cost is told too"


def test_hints_that_come_late_twice_and_out_of_order_are_one_message(desk: Desk, slack: Slack) -> None:
    hinted: list[str] = []
    fail_over(desk, hinted.append)
    for alert_id in [*reversed(hinted), *hinted]:
        tell(desk, bot(slack), alert_id)
    assert slack.calls == ["chat.postMessage"]
    assert slack.messages()[0]["text"].startswith("✅")


def test_a_bid_that_was_lost_is_called_so(desk: Desk, slack: Slack) -> None:
    desk.machine(state=MachineState.FAILING_OVER)
    desk.put(operation(OperationKind.FAILOVER, path="outbid", requested_by="outbid"))
    for alert_id in change(desk, phase=provisioning.RACE):
        tell(desk, bot(slack), alert_id)
    assert slack.messages()[0]["text"] == "💸 Bid lost: *trainer* moves to another host"


# --- A chat that fails --------------------------------------------------------------------------------------------


def test_too_many_for_a_moment_is_waited_for(desk: Desk, slack: Slack) -> None:
    slack.faults.append(Fault("chat.postMessage", 429, {"Retry-After": "3"}, '{"ok": false, "error": "ratelimited"}'))
    before = desk.clock.now()
    assert tell(desk, bot(slack), hibernated(desk))
    assert desk.clock.now() >= before + 3
    assert len(slack.messages()) == 1


def test_too_many_for_long_is_told_when_slack_said(desk: Desk, slack: Slack) -> None:
    slack.faults.append(Fault("chat.postMessage", 429, {"Retry-After": "120"}, '{"ok": false, "error": "ratelimited"}'))
    alert_id = hibernated(desk)
    assert not tell(desk, bot(slack), alert_id)
    desk.clock.moment += 60
    assert sweep(desk, bot(slack)) == 0
    desk.clock.moment += 61
    assert sweep(desk, bot(slack)) == 1
    assert len(slack.messages()) == 1
    assert sweep(desk, bot(slack)) == 0


@pytest.mark.parametrize(
    "how", [{"status": 500}, {"status": 503}, {"body": "<html>", "status": 200}, {"hang_up": True}]
)
def test_an_outage_harms_no_operation_and_is_made_good(desk: Desk, slack: Slack, how: dict[str, Any]) -> None:
    slack.faults.append(Fault("chat.postMessage", count=3, **how))
    alert_id = hibernated(desk)
    assert not tell(desk, bot(slack), alert_id)
    ended = desk.store.get(Operation, "op-12345678")
    assert ended is not None
    assert ended.state is ENDED
    for _ in range(6):
        desk.clock.moment += 100
        sweep(desk, bot(slack))
    assert [message["text"] for message in slack.messages()] == [
        "🌙 *trainer* sleeps, hibernated: no GPU, no disk (by idleness)"
    ]


@pytest.mark.parametrize("how", [{"status": 500}, {"hang_up": True}])
def test_what_was_posted_though_its_answer_was_lost_is_found_and_not_told_twice(
    desk: Desk, slack: Slack, how: dict[str, Any]
) -> None:
    slack.faults.append(Fault("chat.postMessage", done=True, **how))
    assert not tell(desk, bot(slack), hibernated(desk))
    desk.clock.moment += 100
    sweep(desk, bot(slack))
    assert len(slack.messages()) == 1
    assert slack.calls.count("chat.postMessage") == 1
    assert "conversations.history" in slack.calls


def test_a_teller_that_died_as_it_posted_is_followed_by_one_that_looks(desk: Desk, slack: Slack) -> None:
    alert_id = hibernated(desk)

    class Dies(SlackNotifier):
        def post(self, message: Any, *, key: str) -> str:
            super().post(message, key=key)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tell(desk, Dies(TOKEN, CHANNEL, api_url=slack.api_url), alert_id)
    assert not tell(desk, bot(slack), alert_id), "it may be at it still"
    desk.clock.moment += 100
    assert sweep(desk, bot(slack)) == 1
    assert len(slack.messages()) == 1
    assert all(alert.deadline is None for alert in desk.store.find(Alert, Query()))


@pytest.mark.parametrize(
    "outcome", ["first", NotTold("no answer", may_be_there=True), NotTold("not now"), NotTellable("refused")]
)
def test_one_that_was_held_up_leaves_to_its_successor_what_is_noted(desk: Desk, outcome: str | Exception) -> None:
    """The first teller is frozen as it posts, for longer than its lease; it goes on while the second one posts. Nobody
    else may begin then: the third would tell it again."""
    alert_id = hibernated(desk)
    posting, go_on = threading.Event(), threading.Event()
    first: list[Future[bool]] = []
    third: list[bool] = []

    class Chat:
        edits = True
        posts = 0
        seen: tuple[str, ...] = ()  # what is posted shows in its history only later

        def post(self, message: Message, *, key: str) -> str:
            del message, key
            self.posts += 1
            if self.posts == 1:
                posting.set()
                assert go_on.wait(30)
                if isinstance(outcome, Exception):
                    raise outcome
                return outcome
            go_on.set()
            first[0].result(30)
            third.append(tell(desk, self, alert_id))
            return "second"

        def edit(self, reference: str, message: Message) -> None:
            raise AssertionError(f"{reference} says already what is to be said: {message}")

        def find(self, key: str, since: float) -> str | None:
            return next((seen for seen in self.seen if seen == f"{key} since {since}"), None)

    chat = Chat()
    with ThreadPoolExecutor(1) as pool:
        first.append(pool.submit(tell, desk, chat, alert_id))
        assert posting.wait(30)
        desk.clock.moment += alerts.LEASE_SECONDS + 1
        assert tell(desk, chat, alert_id)
    assert (chat.posts, first[0].result(), third) == (2, False, [False])
    told, alert = desk.store.get(Told, alert_id), desk.store.get(Alert, alert_id)
    assert told is not None
    assert alert is not None
    assert (told.reference, told.sending, told.lease_owner, alert.deadline) == ("second", False, None, None)


def test_a_message_that_somebody_deleted_is_told_anew(desk: Desk, slack: Slack) -> None:
    fail_over(desk, lambda alert_id: tell(desk, bot(slack), alert_id))
    slack.posted.clear()
    alert = desk.store.find(Alert, Query())[0]
    told = desk.store.get(Told, alert.id)
    assert told is not None
    desk.put(replace(alert, deadline=NOW, written_at=NOW + 99), replace(told, digest=0))
    assert tell(desk, bot(slack), alert.id)
    assert len(slack.messages()) == 1


@pytest.mark.parametrize(("token", "channel"), [("xoxb-revoked", CHANNEL), (TOKEN, "nowhere"), (TOKEN, "")])
def test_what_slack_refuses_is_logged_and_not_tried_for_ever(
    desk: Desk, slack: Slack, token: str, channel: str, caplog: pytest.LogCaptureFixture
) -> None:
    refused = SlackNotifier(token, channel, api_url=slack.api_url)
    with caplog.at_level("WARNING"):
        assert not tell(desk, refused, hibernated(desk))
    assert "refused" in caplog.text
    assert token not in caplog.text
    desk.clock.moment += 1000
    assert sweep(desk, refused) == 0


def test_after_half_a_day_nothing_keeps_the_sweeps_awake(desk: Desk, slack: Slack) -> None:
    slack.faults.append(Fault("chat.postMessage", count=10_000))
    tell(desk, bot(slack), hibernated(desk))
    desk.machine(state=MachineState.HIBERNATED)
    desk.store.transact(lambda tx: tx.delete(Instance, "dumont.main.trainer.1.aa"))
    assert rest.look(desk.ports).any, "it is still to be told"
    until = desk.clock.now() + GIVE_UP_SECONDS + 3 * 3600  # a digest fell due meanwhile
    while desk.clock.now() < until:
        desk.clock.moment += 300
        sweep(desk, bot(slack))
    assert not rest.look(desk.ports).any
    assert slack.calls.count("chat.postMessage") < 150


def test_a_bus_that_is_down_delays_and_loses_nothing(desk: Desk, slack: Slack) -> None:
    desk.put(operation(OperationKind.HIBERNATE))
    change(desk, state=ENDED)
    desk.bus.sent.clear()
    assert sweep(desk, bot(slack)) == 0, "a hint may be on its way"
    desk.clock.moment += HINT_SECONDS
    assert sweep(desk, bot(slack)) == 1
    assert len(slack.messages()) == 1
