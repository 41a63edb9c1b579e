"""What happens that is worth telling to programs, by type, and what each is told with. Pure.

A happening's `id` says what it is, so that it is the same however often it is noticed. Its data name records; how those
are by then, `GET` on them says.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from dumont.domain.alerts import Alert, AlertKind
from dumont.domain.destruction import RELEASE as GOES
from dumont.domain.jobs import Job
from dumont.domain.moving import is_fenced
from dumont.domain.provisioning import RELEASE as SERVES
from dumont.domain.records import Operation, OperationKind, OperationState

TYPES: dict[str, str] = {
    "machine.running": "a machine was rented, proved itself, and serves",
    "machine.hibernated": "a machine sleeps",
    "machine.woken": "a machine that slept serves again",
    "machine.destroyed": "a machine is gone, as its provider confirms",
    "failover.begun": "a machine's host is lost, or is to be left: the machine moves",
    "failover.done": "a machine that moved serves again",
    "failover.failed": "a machine could not be moved",
    "bid.lost": "an interruptible host was outbid; failover.begun comes beside it",
    "operation.failed": "anything else that was asked for, or done by itself, failed",
    "snapshot.complete": "a workspace is saved and verified",
    "snapshot.restored": "a snapshot was put into a machine's workspace",
    "snapshot.overdue": "a machine has no good snapshot of late, although its policy wants them",
    "job.ended": "a job's command ended, or its job failed or was cancelled",
    "budget.warning": "a share of a budget is spent",
    "budget.reached": "a budget is spent, and is enforced",
    "budget.unenforced": "a budget is spent, and a machine that it should stop cannot be saved: it bills on",
    "orphan.found": "something is rented that no operation answers for",
    "orphan.destroyed": "it is gone",
}
"""Every type that can be subscribed to → what it says."""
TEST = "dumont.test"
"""What a test sends, to one subscription alone, whatever types that is for."""


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened, at a time, with data that JSON can say."""

    id: str
    type: str
    at: float
    data: dict[str, Any]


def body_of(happening: Happening) -> str:
    """What is sent of it: JSON with `type`, `timestamp` and `data`, as Standard Webhooks advises
    (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md)."""
    said = {"type": happening.type, "timestamp": _iso(happening.at), "data": happening.data}
    return msgspec.json.encode(said).decode()


# --- Operations ---------------------------------------------------------------------------------------------------


def of_operation(before: Operation, after: Operation, now: float) -> list[Happening]:
    """What a change of an operation tells: one thing or more, and the same again by the same id."""
    return [
        Happening(id=f"{kind}.{after.id}", type=kind, at=now, data=_about(after, kind, now))
        for kind in _types(before, after)
    ]


def _types(before: Operation, after: Operation) -> list[str]:
    ended = before.open and not after.open
    done = ended and after.state is OperationState.SUCCEEDED
    failed = ended and after.state is OperationState.FAILED
    serves = after.phase == SERVES and (before.phase != SERVES or done)
    match after.kind:
        case OperationKind.FAILOVER:
            found = []
            if is_fenced(after) and not is_fenced(before):
                found += ["failover.begun"] + (["bid.lost"] if reason_of(after) == "bid_lost" else [])
            if serves or (done and is_fenced(after)):
                found.append("failover.done")
            return found + (["failover.failed"] if failed else [])
        case OperationKind.REAP:
            found = ["orphan.found"] if not before.steps else []
            found += ["orphan.destroyed"] if done else []
        case OperationKind.PROVISION:
            found = ["machine.running"] if serves else []
        case OperationKind.WAKE:
            found = ["machine.woken"] if serves else []
        case OperationKind.DESTROY | OperationKind.FINISH:
            found = ["machine.destroyed"] if done and after.phase == GOES else []
        case _:
            found = [_WHEN_DONE[after.kind]] if done and after.kind in _WHEN_DONE else []
    return found + (["operation.failed"] if failed else [])


_WHEN_DONE = {
    OperationKind.HIBERNATE: "machine.hibernated",
    OperationKind.SNAPSHOT: "snapshot.complete",
    OperationKind.RESTORE: "snapshot.restored",
}


def reason_of(op: Operation) -> str:
    """Why a failover moves its machine: somebody asked, its bid was lost, or its host."""
    if op.forced:
        return "asked"
    last = op.evidence[-1] if op.evidence else None
    if "outbid" in (op.path, op.requested_by) or (last is not None and last.provider == "stopped"):
        return "bid_lost"
    return "host_lost"


def _about(op: Operation, kind: str, now: float) -> dict[str, Any]:
    data: dict[str, Any] = {
        "machine": op.machine,
        "operation_id": op.id,
        "operation_kind": op.kind.value,
        "epoch": op.epoch,
        "requested_by": op.requested_by,
        "seconds": round(now - min([op.created_at, *(step.started_at for step in op.steps)]), 3),
    }
    if op.kind is OperationKind.FAILOVER:
        data["reason"] = reason_of(op)
    if op.snapshot_id is not None:
        data["snapshot_id"] = op.snapshot_id
    if op.tier:
        data["tier"] = op.tier
    if kind.endswith(".failed") and op.problem is not None:
        data["problem"] = msgspec.to_builtins(op.problem)
    return data


# --- Jobs, money, snapshots ---------------------------------------------------------------------------------------


def of_job(before: Job, after: Job | None, now: float) -> list[Happening]:
    """What a change of a job tells: its end."""
    if after is None or before.ended or not after.ended:
        return []
    data = {
        "job_id": after.id,
        "machine": after.machine,
        "state": after.state.value,
        "exit_status": after.exit_status,
        "snapshot_id": after.result_snapshot_id,
        "cost_usd": round(after.cost_usd, 6) if after.cost_usd is not None else None,
        "problem": msgspec.to_builtins(after.problem) if after.problem is not None else None,
    }
    known = {name: value for name, value in data.items() if value is not None}
    return [Happening(id=f"job.ended.{after.id}", type="job.ended", at=now, data=known)]


def of_alert(alert: Alert | None) -> list[Happening]:
    """What people are told of and programs are, too."""
    if alert is None or alert.kind not in (AlertKind.BUDGET, AlertKind.OVERDUE, AlertKind.UNENFORCED):
        return []
    data: dict[str, Any] = {"machine": alert.machine} if alert.machine else {}
    kind = "budget.unenforced" if alert.kind is AlertKind.UNENFORCED else "snapshot.overdue"
    if alert.kind is AlertKind.BUDGET:
        full = alert.figures.get("share", 0.0) >= 1.0 - 1e-9
        kind = "budget.reached" if full else "budget.warning"
    data |= {name: word for name, word in alert.words.items() if word}
    data |= {name: round(figure, 6) for name, figure in alert.figures.items()}
    return [Happening(id=f"{kind}.{alert.id}", type=kind, at=alert.written_at, data=data)]


def trial_of(unique: str, subscription_id: str, now: float) -> Happening:
    """What a test sends; `unique`: each is another."""
    data = {"subscription": subscription_id, "note": "a test: nothing happened"}
    return Happening(id=f"{TEST}.{unique}", type=TEST, at=now, data=data)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
