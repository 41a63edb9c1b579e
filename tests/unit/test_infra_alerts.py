"""What alerts listen for is what the code says, and it says so when it should."""

from __future__ import annotations

import ast
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from dumont.adapters.memory_store import MemoryStore
from dumont.cli.main import cli
from dumont.domain.actions import GiveUp
from dumont.domain.records import OperationKind, OperationState, Problem
from dumont.edge import logs
from dumont.operations.invocation import Invocation
from dumont.operations.runner import Workflow, new_operation, run_operation
from tests.unit.infra_support import INFRA, ROOT, instances, of_kind, resource, unquoted
from tests.unit.rest_support import ManualClock, make_ports

DECLARED: dict[str, Any] = json.loads((INFRA / "declared.json").read_text(encoding="utf-8"))

ALERTS_NOBODY = {
    "failover": "a machine is being moved: that is Dumont at work",
}


def errors_logged() -> Iterator[str]:
    """What the code says in its log as an error."""
    for folder in ("operations", "edge"):
        for file in (ROOT / "shared" / "dumont" / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and node.func.attr in ("error", "exception", "critical")
                    and isinstance(node.func.value, ast.Name)
                    and node.func.value.id in ("log", "_log", "logger")
                ):
                    said = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
                    assert isinstance(said, str), f"{file}: an alert cannot listen for what varies"
                    yield said


def test_each_error_in_the_log_alerts_and_each_alert_listens_for_one() -> None:
    alerts = next(b.body["log_alerts"] for b in of_kind("locals") if "log_alerts" in b.body)
    heard = [unquoted(message) for alert in alerts.values() for message in alert["messages"]]
    heard += [unquoted(message) for alert in alerts.values() for message in alert.get("of_kinds", {})]
    assert len(heard) == len(set(heard))
    assert set(heard) == set(errors_logged()) - set(ALERTS_NOBODY), "put it into infra/alerts.tf, or say why not"


def test_a_filter_is_what_a_logged_error_looks_like(planned: dict[str, dict[str, Any]]) -> None:
    record = logging.LogRecord("dumont.x", logging.ERROR, "x.py", 1, "orphan found", None, None)
    assert json.loads(logs.JsonFormatter().format(record))["message"] == "orphan found"
    filters = {name: plan["filter"] for name, plan in instances(planned, "google_logging_metric.said").items()}
    assert filters["many-died-at-once"] == (
        'resource.type="cloud_run_revision" AND jsonPayload.message=("many machines fell silent at once")'
    )
    assert not [written for written in filters.values() if "\\" in written], "a sentence that the filter would escape"


def give_up(invocation: Invocation, *state: object) -> None:
    """End it as failed, as its decision says."""
    *_, action = state
    assert isinstance(action, GiveUp)
    invocation.apply(lambda _tx, op, _machine: replace(op, state=OperationState.FAILED, problem=action.problem))


def test_a_failover_that_failed_alerts_and_other_failures_do_not(
    planned: dict[str, dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    written = instances(planned, "google_logging_metric.said")["failover-failed"]["filter"]
    assert written.endswith(' OR (jsonPayload.message="operation failed" AND jsonPayload.kind=("failover")))'), (
        "in one pair of brackets with the others: AND binds as tightly as OR there"
    )
    ports = make_ports(MemoryStore(), ManualClock(1000.0))
    failing = Workflow(decide=lambda *_: GiveUp(Problem(code="no_offers", detail="secret-of-a-host")), perform=give_up)
    for kind in OperationKind:
        op = new_operation(f"op-{kind.value}", kind, "ada", 1, 1000.0, requested_by="test")
        ports.store.transact(lambda tx, op=op: tx.put(op))  # type: ignore[misc]
        with caplog.at_level(logging.ERROR):
            run_operation(ports, op.id, {kind: failing})
    said = [json.loads(logs.JsonFormatter().format(record)) for record in caplog.records]
    entries = [entry for entry in said if entry["message"] == "operation failed"]
    assert {entry["kind"] for entry in entries} == {str(kind) for kind in OperationKind}
    assert len(entries) == len(OperationKind), "each once"
    assert {(entry["machine"], entry["code"], entry["severity"]) for entry in entries} == {
        ("ada", "no_offers", "ERROR")
    }
    assert "secret-of-a-host" not in caplog.text + str(said)


def test_the_commands_that_people_are_told_of_are_there() -> None:
    told = "".join((INFRA / file).read_text(encoding="utf-8") for file in ("alerts.tf", "README.md"))
    names = set(re.findall(r"`dumont ([a-z-]+)", told))
    assert names
    assert names <= set(cli.commands)


def test_what_is_watched_by_name_has_that_name() -> None:
    assert {"heartbeat", "heartbeat-check", "agent"} <= set(DECLARED["functions"])
    assert DECLARED["functions"]["heartbeat-check"]["schedule"]
    assert resource("google_cloud_scheduler_job", "job")["lifecycle"][0]["ignore_changes"] == ["paused"]
