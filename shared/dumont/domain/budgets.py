"""Budgets: what may be spent in an hour, a day and in all, of one machine or of all together. Pure.

A budget is held against the most that can have been spent, and looked at when it can next reach a share that matters,
at the highest rate that what is open can bill: so it is passed by one sweep's worth at most (invariant 8).
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from dumont.domain import accounts, costs, ledger
from dumont.domain.ledger import LedgerEntry
from dumont.domain.records import Instance, Record

ALL = "all"
"""The id of the budget for all machines together."""
FULL = 1 - 1e-9
LOOK_SECONDS = 60.0
"""While anything bills it is looked at so often at least: what is rented meanwhile bills at once."""
QUIET_SECONDS = 600.0

Usd = Annotated[float, Meta(ge=1e-6, le=1e7)]
"""From a millionth, which is what the ledger counts in: what is spent of less is a share beyond all numbers."""
WarnAt = Annotated[float, Meta(gt=0, le=1)]
Window = Literal["hour", "day", "total"]


class BudgetAction(enum.StrEnum):
    """What happens when a budget is reached. All but WARN also refuse new rentals for as long as it is."""

    WARN = "warn"
    STOP_NEW = "stop_new"
    HIBERNATE = "hibernate"
    DESTROY_AFTER_SNAPSHOT = "destroy_after_snapshot"
    DESTROY = "destroy"  # workspace included


class Budget(Record, frozen=True, kw_only=True):
    """The limits of one machine (`machine`), or of all together ("", with the id `ALL`). A day is a UTC day; an hour
    is the last sixty minutes; the total counts from `since`."""

    collection: ClassVar[str] = "budgets"

    machine: str = ""
    usd_per_hour: Usd | None = None
    usd_per_day: Usd | None = None
    usd_total: Usd | None = None
    action: BudgetAction = BudgetAction.HIBERNATE
    warn_at: tuple[WarnAt, ...] = (0.5, 0.8, 1.0)
    since: float = 0.0
    is_default: bool = False
    """Nobody set it: a fresh deployment begins with it, so that a first user cannot be ruined."""
    set_by: str = ""
    updated_at: float = 0.0
    warned: dict[str, float] = msgspec.field(default_factory=dict)
    """The highest share that was warned of, by window and which one ("day:2026-11-22")."""
    reached_at: float | None = None
    """Since when it is reached; None while it is not."""
    deadline: float | None = None
    shard: int = 0

    @property
    def limits(self) -> dict[Window, float]:
        """The limits that are set, in USD."""
        every: dict[Window, float | None] = {
            "hour": self.usd_per_hour, "day": self.usd_per_day, "total": self.usd_total,
        }  # fmt: skip
        return {window: usd for window, usd in every.items() if usd is not None}


DEFAULT_USD_PER_DAY = 25.0
"""About what one of the dearest single GPUs on the market costs in eight hours; a 4090 runs three days for it."""


def budget_id(machine: str) -> str:
    """The id of a machine's budget; of all together for ""."""
    return f"machine.{machine}" if machine else ALL


def default_budget(now: float) -> Budget:
    """What a fresh deployment begins with."""
    return Budget(
        id=ALL, usd_per_day=DEFAULT_USD_PER_DAY, is_default=True, set_by="default", since=now, updated_at=now,
        deadline=now + LOOK_SECONDS,
    )  # fmt: skip


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What can have been spent at most, by window, and what all that is open can bill each hour."""

    usd: dict[Window, float]
    usd_per_hour: float


def starts_at(budget: Budget, window: Window, now: float) -> float:
    """When a window began."""
    match window:
        case "hour":
            return now - ledger.SECONDS_PER_HOUR
        case "day":
            return ledger.midnight_before(now)
        case "total":
            return budget.since


def spent(budget: Budget, open_instances: Sequence[Instance], entries: Sequence[LedgerEntry], now: float) -> Spent:
    """`entries` are the ledger's of each window that has a limit; what is open is counted from its own record."""
    still_open = {i.id for i in open_instances}
    entered = [e for e in entries if not (e.source == "metered" and e.instance_id in still_open)]
    usd: dict[Window, float] = {}
    for window in budget.limits:
        start = starts_at(budget, window, now)
        over = accounts.total(entered, from_time=start, to_time=now + 1.0).usd
        over += costs.margins_usd(entered, from_time=start)
        usd[window] = over + costs.total_at_most_usd(open_instances, now, from_time=start)
    return Spent(usd=usd, usd_per_hour=costs.rate_usd_per_hour(open_instances))


class Passed(msgspec.Struct, frozen=True, kw_only=True):
    """A share that was passed for the first time."""

    window: Window
    share: float
    spent_usd: float
    limit_usd: float


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How a budget stands. `reached` names the windows whose limit is; `due` is when to look again at the latest."""

    reached: tuple[Window, ...]
    warnings: tuple[Passed, ...]
    warned: dict[str, float]
    due: float


def judge(budget: Budget, so_far: Spent, now: float) -> Verdict:
    """What is reached, what to warn of, and when the next share can be passed."""
    reached: list[Window] = []
    warnings: list[Passed] = []
    warned: dict[str, float] = {}
    due = now + (LOOK_SECONDS if so_far.usd_per_hour > 0 else QUIET_SECONDS)
    for window, limit_usd in budget.limits.items():
        spent_usd = so_far.usd.get(window, 0.0)
        share = spent_usd / limit_usd
        key = _key(budget, window, now)
        before = budget.warned.get(key, 0.0)
        passed = max((w for w in budget.warn_at if share >= w * FULL), default=0.0)
        warned[key] = max(before, passed)
        if passed > before:
            warnings.append(Passed(window=window, share=passed, spent_usd=spent_usd, limit_usd=limit_usd))
        if share >= FULL:
            reached.append(window)
        if so_far.usd_per_hour > 0:
            for ahead in {*budget.warn_at, 1.0}:
                if share < ahead * FULL:
                    hours = (ahead * limit_usd - spent_usd) / so_far.usd_per_hour
                    due = min(due, now + hours * ledger.SECONDS_PER_HOUR)
    return Verdict(reached=tuple(reached), warnings=tuple(warnings), warned=warned, due=due)


def _key(budget: Budget, window: Window, now: float) -> str:
    match window:
        case "hour":
            return f"hour:{int(now // ledger.SECONDS_PER_HOUR)}"
        case "day":
            return f"day:{ledger.day_of(now)}"
        case "total":
            return f"total:{budget.since:.0f}"


def refuses(budget: Budget, verdict: Verdict) -> bool:
    """Whether nothing new may be rented now."""
    return bool(verdict.reached) and budget.action is not BudgetAction.WARN


def days_needed(budget: Budget, now: float) -> list[str]:
    """The UTC days whose entries `spent` must be given."""
    starts: Collection[float] = [starts_at(budget, window, now) for window in budget.limits]
    return accounts.days_between(min(starts), now) if starts else []


# --- Prepaid credit -----------------------------------------------------------------------------------------------

LOW_HOURS = 24.0
"""Credit that lasts for less than this at the present rate is warned of."""


class Credit(Record, frozen=True, kw_only=True):
    """What an account at a provider (`id`) can still spend, as it last said; without credit it stops everything."""

    collection: ClassVar[str] = "credits"

    credit_usd: float | None = None
    usd_per_hour: float = 0.0
    """What all that is open there could bill each hour at most, then."""
    seen_at: float = 0.0
    low_since: float | None = None

    @property
    def hours_left(self) -> float | None:
        """How long it lasts at that rate; None where nothing bills, or the provider does not say."""
        if self.credit_usd is None or self.usd_per_hour <= 0:
            return None
        return max(0.0, self.credit_usd) / self.usd_per_hour


def credit_seen(before: Credit | None, provider: str, credit_usd: float | None, rate: float, now: float) -> Credit:
    """The record after one more answer."""
    seen = Credit(id=provider, credit_usd=credit_usd, usd_per_hour=rate, seen_at=now)
    low = seen.hours_left is not None and seen.hours_left < LOW_HOURS
    since = before.low_since if before is not None and before.low_since is not None else now
    return msgspec.structs.replace(seen, low_since=since if low else None)
