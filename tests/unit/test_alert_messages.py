"""What people are told: which words, which buttons, to whom; and the answers to what they asked for."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from dumont.domain import provisioning
from dumont.domain.alerts import (
    Alert,
    AlertKind,
    digest_of,
    made,
    of_tries_in_vain,
    overdue,
)
from dumont.domain.budgets import Budget
from dumont.domain.chats import Chat
from dumont.domain.enforcement import InVain
from dumont.domain.ledger import LedgerEntry
from dumont.domain.records import (
    MachineState,
    OperationKind,
    OperationState,
    Problem,
)
from dumont.domain.snapshots import Snapshot, SnapshotState
from dumont.operations import alerts, budgets
from tests.block_kit import button, check, words
from tests.slack_server import Fault, Slack
from tests.unit import alert_support
from tests.unit.alert_support import ENDED, bot, change, hibernated, operation, sweep, tell
from tests.unit.slack_support import NOW, OPERATOR, Desk

server, slack, desk = alert_support.server, alert_support.slack, alert_support.desk


# --- What else is told --------------------------------------------------------------------------------------------


def test_a_machine_that_sleeps_can_be_woken_from_where_it_is_told(desk: Desk, slack: Slack) -> None:
    alert_id = hibernated(desk)
    desk.machine(state=MachineState.HIBERNATED)
    tell(desk, bot(slack), alert_id)
    (message,) = slack.messages()
    assert button(message["blocks"], "machine.wake")
    check(message["blocks"])


def test_an_orphan_is_told_when_found_and_when_gone(desk: Desk, slack: Slack) -> None:
    desk.put(operation(OperationKind.REAP, machine="unknown"))
    for alert_id in change(desk, tries=1):
        tell(desk, bot(slack), alert_id)
    assert slack.messages()[0]["text"].startswith("👻 An orphan was found, and is being destroyed")
    for alert_id in change(desk, state=ENDED):
        tell(desk, bot(slack), alert_id)
    (message,) = slack.messages()
    assert message["text"].startswith("🧹 An orphan was found and destroyed")
    check(message["blocks"])


@pytest.mark.parametrize("failed", [False, True])
def test_a_wake_is_told(desk: Desk, slack: Slack, failed: bool) -> None:
    desk.put(operation(OperationKind.WAKE, phase=provisioning.RACE, requested_by="request"))
    problem = Problem(code="x", detail="no offer", hint="raise `max_price`")
    if failed:
        desk.machine(state=MachineState.HIBERNATED)
        (alert_id,) = change(desk, state=OperationState.FAILED, problem=problem)
    else:
        (alert_id,) = change(desk, phase=provisioning.RELEASE)
    tell(desk, bot(slack), alert_id)
    (message,) = slack.messages()
    assert ("could not be woken" if failed else "is awake on RTX 4090 in Sweden, SE") in message["text"] or not failed
    check(message["blocks"])


def test_each_share_of_a_budget_is_told_once(desk: Desk, slack: Slack) -> None:
    def spend(usd: float) -> None:
        entry = LedgerEntry(
            id=f"e{usd}", machine="x", instance_id="x", operation_id="o", provider="vast", gpu="RTX 4090", kind="gpu",
            amount_micro_usd=int(usd * 1e6), usd_per_hour=0.3, from_time=NOW - 2000, to_time=NOW - 1000, written_at=NOW,
            day="2027-01-15", state="running", source="metered",
        )  # fmt: skip
        desk.put(entry)

    desk = Desk()
    desk.put(Budget(id="all", usd_per_day=10.0, action="warn", deadline=NOW))  # type: ignore[arg-type]
    for usd in (4.0, 1.5, 3.0, 0.1, 2.0, 1.0):
        spend(usd)
        budgets.look_at(desk.ports, "all")
        desk.clock.moment += 1
    for alert_id in [message["alert_id"] for _, message in desk.bus.sent]:
        assert tell(desk, bot(slack), alert_id)
    texts = [message["text"] for message in slack.messages()]
    assert [text.split(" of the")[0] for text in texts] == ["💰 50 %", "💰 80 %", "🛑 100 %"]
    for message in slack.messages():
        check(message["blocks"])


def test_a_machine_that_reaches_its_own_cap_is_told_once(desk: Desk, slack: Slack) -> None:
    machine = desk.machine()
    machine = replace(machine, spec=replace(machine.spec, budget_usd=0.05))
    desk.put(machine)
    for _ in range(2):
        budgets.enforce_cap(desk.ports, machine, NOW)
    for alert_id in [message["alert_id"] for _, message in desk.bus.sent if "alert_id" in message]:
        tell(desk, bot(slack), alert_id)
    (message,) = slack.messages()
    assert "of the budget of *trainer* is spent" in message["text"]
    check(message["blocks"])


def test_a_machine_that_a_budget_cannot_stop_is_told_with_what_to_do(desk: Desk, slack: Slack) -> None:
    desk.machine()
    problem = Problem(code="workspace_unreadable", detail="its workspace cannot be read: <timed out>")
    last = replace(operation(OperationKind.HIBERNATE), problem=problem)
    budget = Budget(id="all", usd_per_day=10.0, reached_at=NOW - 60)
    alerts.write(desk.ports, of_tries_in_vain(budget, InVain(tries=2, last=last, again_at=NOW + 60), NOW))
    alerts.write(desk.ports, of_tries_in_vain(budget, InVain(tries=3, last=last, again_at=NOW + 90), NOW + 30))
    (alert_id,) = [message["alert_id"] for _, message in desk.bus.sent]
    tell(desk, bot(slack), alert_id)
    (message,) = slack.messages()
    assert "*trainer* bills on" in message["text"]
    said = str(message["blocks"])
    assert "cannot be read: &lt;timed out&gt;" in said
    assert "dumont down trainer --discard" in said
    check(message["blocks"])


@pytest.mark.parametrize(("requested_by", "told"), [("budget", 0), ("sam", 1)])
def test_what_a_budget_tries_in_vain_is_not_told_each_time(desk: Desk, requested_by: str, told: int) -> None:
    desk.put(operation(OperationKind.HIBERNATE, requested_by=requested_by))
    problem = Problem(code="workspace_unreadable", detail="no answer")
    assert len(change(desk, state=OperationState.FAILED, problem=problem)) == told


def test_a_snapshot_that_is_overdue_is_told_once_for_each_that_got_so_old(desk: Desk, slack: Slack) -> None:
    machine = desk.machine(running_since=NOW - 5000)
    machine = replace(machine, spec=replace(machine.spec, snapshot_every_minutes=30))
    assert overdue(machine, [], NOW - 5000 + 4200) is None
    first = overdue(machine, [], NOW)
    assert first is not None
    for _ in range(2):
        alerts.write(desk.ports, first)
    assert [message["alert_id"] for _, message in desk.bus.sent] == [first.id]
    tell(desk, bot(slack), first.id)
    (message,) = slack.messages()
    assert "has no good snapshot of the last 1 h 23 min" in message["text"]
    check(message["blocks"])
    taken = Snapshot(
        id="s", machine="trainer", epoch=1, operation_id="o", state=SnapshotState.COMPLETE, created_at=NOW - 4900
    )
    again = overdue(machine, [taken], NOW)
    assert again is not None
    assert again.id != first.id
    assert overdue(machine, [replace(taken, created_at=NOW - 1000)], NOW) is None


def test_the_day_s_digest_comes_once_a_day_at_its_hour(desk: Desk, slack: Slack) -> None:
    midnight = NOW - NOW % 86_400
    assert digest_of(midnight + 6.9 * 3600, 0.0) is None
    desk.clock.moment = midnight + 7.5 * 3600
    for _ in range(3):
        sweep(desk, bot(slack))
        desk.clock.moment += 60
    (message,) = slack.messages()
    check(message["blocks"])
    assert message["text"] == "Yesterday: $0.00 spent"
    desk.clock.moment += 86_400
    sweep(desk, bot(slack))
    assert len(slack.messages()) == 2


def test_an_empty_dumont_has_no_digest(slack: Slack) -> None:
    desk = Desk()
    desk.clock.moment = NOW - NOW % 86_400 + 8 * 3600
    assert sweep(desk, bot(slack)) == 1
    assert slack.calls == []


# --- Answers ------------------------------------------------------------------------------------------------------


def asked(desk: Desk, slack: Slack, kind: OperationKind, **changes: Any) -> str:
    """What somebody asked for in Slack, at its end."""
    chat = Chat(
        id="slack-1", kind="command", user=OPERATOR, text="x", reply_url=slack.reply_url(), received_at=NOW,
        expires_at=NOW + 86_400,
    )  # fmt: skip
    desk.put(chat, operation(kind, requested_by="slack:ada", request_id="slack-1"))
    found = change(desk, **({"state": ENDED} | changes))
    return next(alert_id for alert_id in found if alert_id.startswith("reply."))


@pytest.mark.parametrize("kind", list(OperationKind))
@pytest.mark.parametrize("state", [ENDED, OperationState.FAILED, OperationState.SUPERSEDED])
def test_the_end_of_each_kind_is_told_where_it_was_asked_for(
    desk: Desk, slack: Slack, kind: OperationKind, state: OperationState
) -> None:
    problem = (
        Problem(code="x", detail="it did not work", hint="`dumont ls`") if state is OperationState.FAILED else None
    )
    assert tell(desk, bot(slack), asked(desk, slack, kind, state=state, problem=problem))
    (reply,) = slack.replies
    assert reply["response_type"] == "in_channel"
    assert ("did not work" in words(reply["blocks"])) is (problem is not None)
    check(reply["blocks"])
    assert slack.messages() == []


def test_a_destroy_that_was_refused_asks_how_it_is_meant(desk: Desk, slack: Slack) -> None:
    problem = Problem(code="workspace_not_empty", detail="the workspace has files")
    tell(desk, bot(slack), asked(desk, slack, OperationKind.DESTROY, state=OperationState.FAILED, problem=problem))
    (reply,) = slack.replies
    assert button(reply["blocks"], "machine.destroy_saved")
    assert button(reply["blocks"], "machine.destroy_lost")["confirm"]


@pytest.mark.parametrize("late", [False, True])
def test_once_slack_takes_no_answer_there_whoever_asked_is_told_directly(desk: Desk, slack: Slack, late: bool) -> None:
    alert_id = asked(desk, slack, OperationKind.SNAPSHOT)
    if late:
        desk.clock.moment += 3600
    else:
        slack.faults.append(Fault("commands", 404, body="used_url"))
    assert tell(desk, bot(slack), alert_id)
    assert len(slack.messages(OPERATOR)) == 1
    assert slack.replies == []


def test_a_made_alert_is_stored_as_it_is(desk: Desk) -> None:
    alert = made("x.y", AlertKind.BUDGET, NOW, words={"a": "b"}, figures={"c": 1.5})
    desk.put(alert)
    assert desk.store.get(Alert, "x.y") == alert
