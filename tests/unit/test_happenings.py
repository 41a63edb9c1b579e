"""What of all that happens is told to programs, and with which data."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from dumont.domain import provisioning
from dumont.domain.alerts import Alert, AlertKind, made
from dumont.domain.destruction import RELEASE
from dumont.domain.evidence import Evidence
from dumont.domain.happenings import TYPES, body_of, of_alert, of_job, of_operation
from dumont.domain.jobs import Job, JobState
from dumont.domain.records import Operation, OperationKind, OperationState, Problem, Step

NOW = 1_800_000_000.0
ENDED, FAILED = {"state": OperationState.SUCCEEDED}, {"state": OperationState.FAILED}
GAVE_WAY = {"state": OperationState.SUPERSEDED}
RACE, SERVES = {"phase": provisioning.RACE}, {"phase": provisioning.RELEASE}
Kind = OperationKind


def operation(kind: OperationKind, **changes: Any) -> Operation:
    found = Operation(id="op-12345678", kind=kind, machine="ada", epoch=1, created_at=NOW - 60, updated_at=NOW)
    return replace(found, requested_by="user", **changes)


@pytest.mark.parametrize(
    ("kind", "before", "after", "told"),
    [
        (Kind.PROVISION, {}, RACE, []),
        (Kind.PROVISION, RACE, SERVES, ["machine.running"]),
        (Kind.PROVISION, SERVES, SERVES | ENDED, ["machine.running"]),
        (Kind.PROVISION, RACE, RACE | FAILED, ["operation.failed"]),
        (Kind.PROVISION, RACE, RACE | GAVE_WAY, []),
        (Kind.FAILOVER, {}, {"steps": (Step(name="detect", started_at=NOW, ended_at=NOW),)}, []),
        (Kind.FAILOVER, {}, ENDED, []),
        (Kind.FAILOVER, {}, RACE, ["failover.begun"]),
        (Kind.FAILOVER, {"path": "outbid"}, {"path": "outbid"} | RACE, ["failover.begun", "bid.lost"]),
        (Kind.FAILOVER, RACE, SERVES, ["failover.done"]),
        (Kind.FAILOVER, RACE, RACE | FAILED, ["failover.failed"]),
        (Kind.FAILOVER, {}, FAILED, ["failover.failed"]),
        (Kind.FAILOVER, RACE, RACE | GAVE_WAY, []),
        (Kind.HIBERNATE, {}, ENDED, ["machine.hibernated"]),
        (Kind.HIBERNATE, {}, FAILED, ["operation.failed"]),
        (Kind.HIBERNATE, {}, GAVE_WAY, []),
        (Kind.WAKE, RACE, SERVES, ["machine.woken"]),
        (Kind.WAKE, RACE, RACE | FAILED, ["operation.failed"]),
        (Kind.DESTROY, {"phase": RELEASE}, {"phase": RELEASE} | ENDED, ["machine.destroyed"]),
        (Kind.DESTROY, {}, {"phase": RELEASE}, []),
        (Kind.FINISH, {"phase": RELEASE}, {"phase": RELEASE} | ENDED, ["machine.destroyed"]),
        (Kind.FINISH, {}, {"phase": "done"} | ENDED, []),
        (Kind.REAP, {}, {"tries": 1}, ["orphan.found"]),
        (Kind.REAP, {}, ENDED, ["orphan.found", "orphan.destroyed"]),
        (Kind.SNAPSHOT, {}, ENDED, ["snapshot.complete"]),
        (Kind.RESTORE, {}, ENDED, ["snapshot.restored"]),
        (Kind.SPARE, {}, ENDED, []),
        (Kind.DRILL, {}, FAILED, ["operation.failed"]),
    ],
)
def test_what_of_an_operation_is_told(kind: OperationKind, before: Any, after: Any, told: list[str]) -> None:
    found = of_operation(operation(kind, **before), operation(kind, **after), NOW)
    assert [happening.type for happening in found] == told
    assert set(told) <= TYPES.keys()


def test_each_type_that_can_be_wanted_is_told_somewhere() -> None:
    import inspect

    from dumont.domain import happenings

    source = inspect.getsource(happenings).split("TEST = ", 1)[1]
    assert [name for name in TYPES if f'"{name}"' not in source] == []


def test_a_failure_says_why_and_what_next() -> None:
    why = Problem(code="no_offers", detail="none under its price", hint="raise it")
    (told,) = of_operation(operation(Kind.PROVISION), operation(Kind.PROVISION, problem=why, **FAILED), NOW)
    assert told.data["problem"] == {"code": "no_offers", "detail": "none under its price", "hint": "raise it"}
    assert told.data | {"machine": "ada", "operation_id": "op-12345678", "operation_kind": "provision"} == told.data
    assert told.data["seconds"] == 60.0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "host_lost"),
        ({"forced": True}, "asked"),
        ({"requested_by": "outbid"}, "bid_lost"),
        ({"evidence": (Evidence(at=NOW, provider="stopped"),)}, "bid_lost"),
        ({"evidence": (Evidence(at=NOW, provider="gone"),)}, "host_lost"),
    ],
)
def test_a_failover_says_why_it_moves(changes: dict[str, Any], reason: str) -> None:
    before = replace(operation(Kind.FAILOVER), **changes)
    told = of_operation(before, replace(before, phase=provisioning.RACE), NOW)
    assert told[0].data["reason"] == reason
    assert (len(told) == 2) == (reason == "bid_lost")


def test_a_jobs_end_is_told_once() -> None:
    job = Job(id="job-1", machine="ada", command="train", created_at=NOW, time_up_at=NOW + 9)
    ended = replace(job, state=JobState.FAILED, exit_status=3, cost_usd=0.1234567, ended_at=NOW)
    (told,) = of_job(job, ended, NOW)
    assert told.data == {"job_id": "job-1", "machine": "ada", "state": "failed", "exit_status": 3, "cost_usd": 0.123457}
    assert of_job(ended, ended, NOW) == []
    assert of_job(job, job, NOW) == []
    assert of_job(job, None, NOW) == []


def budget(share: float) -> Alert:
    figures = {"share": share, "spent_usd": share * 10, "limit_usd": 10.0}
    return made(f"budget.all.day:1.{share:g}", AlertKind.BUDGET, NOW, words={"window": "day", "action": "hibernate"},
                figures=figures)  # fmt: skip


def test_budgets_and_overdue_snapshots_are_told_and_digests_are_not() -> None:
    assert [of_alert(budget(share))[0].type for share in (0.5, 0.8, 1.0)] == [
        "budget.warning",
        "budget.warning",
        "budget.reached",
    ]
    (told,) = of_alert(budget(0.8))
    assert told.data == {"window": "day", "action": "hibernate", "share": 0.8, "spent_usd": 8.0, "limit_usd": 10.0}
    late = made("overdue.ada.1", AlertKind.OVERDUE, NOW, machine="ada", figures={"seconds": 900.0})
    assert of_alert(late)[0].data == {"machine": "ada", "seconds": 900.0}
    words = {"budget": "all", "action": "hibernate", "code": "workspace_unreadable", "detail": "no SSH"}
    bills_on = made("unenforced.all.ada.1", AlertKind.UNENFORCED, NOW, machine="ada", words=words, figures={"tries": 2})
    (told,) = of_alert(bills_on)
    assert (told.type, told.data) == ("budget.unenforced", {"machine": "ada", **words, "tries": 2})
    assert of_alert(made("digest.1", AlertKind.DIGEST, NOW)) == []
    assert of_alert(None) == []


def test_a_body_has_a_type_a_time_and_data() -> None:
    (told,) = of_alert(budget(1.0))
    said = json.loads(body_of(told))
    assert said.keys() == {"type", "timestamp", "data"}
    assert said["timestamp"] == "2027-01-15T08:00:00.000Z"
