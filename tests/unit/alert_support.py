"""Alerts told to a Slack of this machine's own, by operations that change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from dumont.adapters.slack import SlackNotifier
from dumont.domain.records import Operation, OperationKind, OperationState, Step
from dumont.edge.slack import stories
from dumont.operations import alerts
from dumont.operations.invocation import Invocation
from dumont.optional_ports import Notifier
from tests.slack_server import CHANNEL, TOKEN, Slack, slack_server
from tests.unit.slack_support import NOW, Desk

ENDED = OperationState.SUCCEEDED


@pytest.fixture(scope="module")
def server() -> Iterator[Slack]:
    with slack_server() as running:
        yield running


@pytest.fixture
def slack(server: Slack) -> Slack:
    server.posted.clear()
    server.replies.clear()
    server.calls.clear()
    server.faults.clear()
    return server


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    made.machine()
    return made


def bot(slack: Slack, channel: str = CHANNEL) -> Notifier:
    return SlackNotifier(TOKEN, channel, api_url=slack.api_url)


def operation(kind: OperationKind, **changes: Any) -> Operation:
    made = Operation(id="op-12345678", kind=kind, machine="trainer", epoch=1, created_at=NOW, updated_at=NOW)
    return replace(made, **changes)


def change(desk: Desk, **changes: Any) -> list[str]:
    """A worker changes the operation; the alerts that it hints at."""
    desk.bus.sent.clear()
    grip = Invocation(ports=desk.ports, operation_id="op-12345678", owner="inv-1")
    assert grip.claim()
    desk.clock.moment += 1
    grip.apply(lambda _tx, op, _machine: replace(op, **changes))
    return [message["alert_id"] for topic, message in desk.bus.sent if topic == alerts.TOPIC]


def tell(desk: Desk, notifier: Notifier, alert_id: str) -> bool:
    return alerts.tell(desk.ports, notifier, lambda alert: stories.compose(desk.ports, alert), alert_id)


def step(name: str, at: float, **more: Any) -> Step:
    return Step(name=name, started_at=NOW + at, ended_at=NOW + at + 1.5, **more)


def hibernated(desk: Desk) -> str:
    """Something to tell."""
    desk.put(operation(OperationKind.HIBERNATE, requested_by="idleness"))
    (alert_id,) = change(desk, state=ENDED)
    return alert_id


def sweep(desk: Desk, notifier: Notifier) -> int:
    """The slow look, and the worker behind it; how much was handed out."""
    desk.bus.sent.clear()
    alerts.look(desk.ports)
    hinted = [message["alert_id"] for _, message in desk.bus.sent]
    for alert_id in hinted:
        tell(desk, notifier, alert_id)
    return len(hinted)
