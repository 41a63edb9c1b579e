"""What people are told by themselves, and what of an operation is worth telling. Pure.

Two records, so that no operation waits for whoever is told: an `Alert` is written by what has something to say, blindly
and in its own transaction (an outbox); a `Told` is the teller's alone. An alert that is written again is told again,
as a change of the message that was sent before.
"""

from __future__ import annotations

import enum
from typing import Any, ClassVar

import msgspec

from dumont.domain.budgets import Budget, BudgetAction, Verdict
from dumont.domain.enforcement import InVain
from dumont.domain.hibernation import BY_BUDGET
from dumont.domain.moving import is_fenced
from dumont.domain.names import shard_of
from dumont.domain.provisioning import RELEASE
from dumont.domain.records import Machine, Operation, OperationKind, OperationState, Record
from dumont.domain.snapshots import Snapshot, newest_good

KEPT_SECONDS = 30 * 86_400.0
"""How long it is remembered that something was told: longer than anything can say it again."""
GIVE_UP_SECONDS = 43_200.0
"""What could not be told in half a day is not told: it would keep the sweeps awake, and tomorrow's digest after it."""
HINT_SECONDS = 30.0
"""If the hint at an alert is lost, the sweep finds it after this."""
CHAT = "slack:"
"""How `requested_by` begins where somebody asked in a chat, and waits there for the end."""


class AlertKind(enum.StrEnum):
    """What an alert is about."""

    OPERATION = "operation"
    REPLY = "reply"
    """The end of what somebody asked for in a chat, told to them."""
    BUDGET = "budget"
    OVERDUE = "overdue"
    DIGEST = "digest"
    UNENFORCED = "unenforced"
    """A reached budget cannot stop a machine without losing what is in it."""
    WEBHOOK = "webhook"
    """A program is not told any more: it wants no more, or nothing has reached it for days."""


class Alert(Record, frozen=True, kw_only=True):
    """Something to be told, once; `id` says what, so that it is the same however often it is noticed. With a
    `deadline` it is not told yet, or not as it is now: then `written_at` differs from what was told."""

    collection: ClassVar[str] = "alerts"

    kind: AlertKind
    written_at: float
    machine: str = ""
    operation_id: str = ""
    request_id: str = ""
    """The chat request that is answered."""
    words: dict[str, str] = msgspec.field(default_factory=dict)
    figures: dict[str, float] = msgspec.field(default_factory=dict)
    deadline: float | None = None
    shard: int = 0
    expires_at: float = 0.0


class Told(Record, frozen=True, kw_only=True):
    """What was told of an alert (same id): where that message is, and what it says."""

    collection: ClassVar[str] = "told"

    reference: str = ""
    """The message, as the chat names it; "" while there is none."""
    digest: int = 0
    """Of its content: what says the same is not sent again."""
    sending: bool = False
    """A message was being sent, and nobody has read the answer: it may be there."""
    tries: int = 0
    first_tried_at: float = 0.0
    lease_owner: str | None = None
    lease_until: float = 0.0
    expires_at: float = 0.0


def made(identifier: str, kind: AlertKind, now: float, **fields: Any) -> Alert:
    """An alert that is to be told now."""
    return Alert(
        id=identifier, kind=kind, written_at=now, deadline=now + HINT_SECONDS, shard=shard_of(identifier),
        expires_at=now + KEPT_SECONDS, **fields,
    )  # fmt: skip


# --- Operations ---------------------------------------------------------------------------------------------------


def of_operation(before: Operation, after: Operation, now: float) -> list[Alert]:
    """What a change of an operation gives to tell: to everybody, and to whoever asked for it."""
    alerts = []
    if _concerns_all(before, after):
        fields = {"machine": after.machine, "operation_id": after.id}
        alerts.append(made(f"operation.{after.id}", AlertKind.OPERATION, now, **fields))
    if after.requested_by.startswith(CHAT) and after.request_id and _reached_its_end(before, after):
        fields = {"machine": after.machine, "operation_id": after.id, "request_id": after.request_id}
        alerts.append(made(f"reply.{after.id}", AlertKind.REPLY, now, **fields))
    return alerts


def _concerns_all(before: Operation, after: Operation) -> bool:
    ended = before.open and not after.open
    match after.kind:
        case OperationKind.FAILOVER:
            # One that finds its host alive, or gives way, has moved nothing; one that cannot begin leaves it dead.
            moved = (before.phase, before.state, len(before.steps)) != (after.phase, after.state, len(after.steps))
            return (is_fenced(after) and moved) or (ended and after.state is OperationState.FAILED)
        case OperationKind.REAP:
            return ended or len(before.steps) != len(after.steps) or not before.steps
        case OperationKind.WAKE:
            return _reached_its_end(before, after)
        case OperationKind.HIBERNATE:
            # A budget tries again and again: what it cannot stop is told by `of_tries_in_vain`, once.
            tries_again = after.requested_by == BY_BUDGET and after.state is OperationState.FAILED
            return ended and after.state is not OperationState.SUPERSEDED and not tries_again
    return False


def _reached_its_end(before: Operation, after: Operation) -> bool:
    """Ended; or the machine serves, and only the losers of its race are still to be released."""
    serves = after.kind in (OperationKind.PROVISION, OperationKind.WAKE, OperationKind.FAILOVER)
    if serves and after.phase == RELEASE and before.phase != RELEASE:
        return True
    return before.open and not after.open


# --- Money, snapshots, days ---------------------------------------------------------------------------------------


def of_budget(budget: Budget, verdict: Verdict, now: float) -> list[Alert]:
    """The shares of a budget that were passed now: each is told once in its window (an hour, a day, for ever)."""
    alerts = []
    for passed in verdict.warnings:
        key = next((key for key in verdict.warned if key.startswith(f"{passed.window}:")), passed.window)
        identifier = f"budget.{budget.id}.{key}.{passed.share:g}"
        figures = {"share": passed.share, "spent_usd": passed.spent_usd, "limit_usd": passed.limit_usd}
        words = {"window": passed.window, "action": budget.action.value}
        alerts.append(made(identifier, AlertKind.BUDGET, now, machine=budget.machine, words=words, figures=figures))
    return alerts


def of_tries_in_vain(budget: Budget, found: InVain, now: float) -> Alert:
    """A budget is reached, and a machine that it should stop bills on: once for each time that it is reached."""
    problem, machine = found.last.problem, found.last.machine
    words = {"budget": budget.id, "action": budget.action.value, "code": problem.code if problem else "",
             "detail": problem.detail if problem else ""}  # fmt: skip
    identifier = f"unenforced.{budget.id}.{machine}.{budget.reached_at or now:.0f}"
    return made(identifier, AlertKind.UNENFORCED, now, machine=machine, words=words, figures={"tries": found.tries})


def of_cap(machine: Machine, spent_usd: float, cap_usd: float, now: float) -> Alert:
    """A machine has reached its own cap, and goes: once in its life."""
    figures = {"share": spent_usd / cap_usd, "spent_usd": spent_usd, "limit_usd": cap_usd}
    words = {"window": "total", "action": BudgetAction.DESTROY.value}
    identifier = f"cap.{machine.id}.{machine.created_at:.0f}"
    return made(identifier, AlertKind.BUDGET, now, machine=machine.id, words=words, figures=figures)


def of_webhook(subscription_id: str, why: str, now: float) -> Alert:
    """A webhook was disabled. It names no URL: that may be a key."""
    words = {"subscription": subscription_id, "why": why}
    return made(f"webhook.{subscription_id}.{now:.0f}", AlertKind.WEBHOOK, now, words=words)


OVERDUE_GRACE_SECONDS = 600.0


def overdue(machine: Machine, taken: list[Snapshot], now: float) -> Alert | None:
    """Its policy wants snapshots, and the last good one is older than two of its intervals, and then some: whatever it
    is that keeps them from being taken, somebody should know. Once for each snapshot that got so old."""
    every_minutes = machine.spec.snapshot_every_minutes
    if every_minutes is None or machine.running_since is None:
        return None
    good = newest_good(taken)
    since = max(machine.running_since, good.created_at if good is not None else 0.0)
    if now <= since + 2 * every_minutes * 60.0 + OVERDUE_GRACE_SECONDS:
        return None
    figures = {"seconds": now - since, "every_minutes": every_minutes}
    words = {"last": good.id if good is not None else ""}
    return made(f"overdue.{machine.id}.{since:.0f}", AlertKind.OVERDUE, now, machine=machine.id, words=words,
                figures=figures)  # fmt: skip


DIGEST_HOUR_UTC = 7.0


def digest_of(now: float, last_at: float) -> Alert | None:
    """The digest that is due: of the UTC day before, once it is `DIGEST_HOUR_UTC`, if none was made since."""
    due_at = now - now % 86_400.0 + DIGEST_HOUR_UTC * 3600.0
    if not last_at < due_at <= now:
        return None
    start = now - now % 86_400.0 - 86_400.0
    return made(f"digest.{start:.0f}", AlertKind.DIGEST, now, figures={"from_time": start, "to_time": start + 86_400.0})
