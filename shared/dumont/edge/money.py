"""What callers send about money, and how budgets and credit are shown."""

from __future__ import annotations

import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from dumont.domain.accounts import By
from dumont.domain.budgets import Budget, BudgetAction, Credit, Usd, WarnAt
from dumont.domain.errors import InvalidInput
from dumont.edge.requests import MachineName
from dumont.operations.budget_settings import BudgetSeen
from dumont.operations.spending import zone_of

_When = Annotated[str, Meta(max_length=40, examples=["2026-11-22"])]


class SpanRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """From when to when (a day, a time as ISO has it, or seconds since the epoch), and in which time zone."""

    from_: _When | None = None
    to: _When | None = None
    zone: Annotated[str, Meta(max_length=64)] = "UTC"

    def times(self) -> tuple[float | None, float | None]:
        """From when to when, in seconds since the epoch. Raises `InvalidInput`."""
        return _moment(self.from_, "from", self.zone), _moment(self.to, "to", self.zone)


class SavingsRequest(SpanRequest, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """Besides: of which machine (None: all)."""

    machine: MachineName | None = None


class CostsRequest(SavingsRequest, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """Besides: by what."""

    by: By = "machine"


class BudgetRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A budget as it is to be: of one machine, or of all together. What is left out has no limit."""

    machine: Annotated[str, Meta(examples=["trainer"])] = ""
    usd_per_hour: Usd | None = None
    usd_per_day: Usd | None = None
    usd_total: Usd | None = None
    action: BudgetAction = BudgetAction.HIBERNATE
    warn_at: Annotated[tuple[WarnAt, ...], Meta(max_length=10)] = (0.5, 0.8, 1.0)

    def wanted(self) -> Budget:
        """As a record. Raises `InvalidInput` for one without any limit."""
        if self.usd_per_hour is None and self.usd_per_day is None and self.usd_total is None:
            raise InvalidInput(
                "a budget needs a limit: usd_per_hour, usd_per_day or usd_total",
                hint="to have none, remove it: dumont budget rm",
            )
        return Budget(
            id="",
            machine=self.machine,
            usd_per_hour=self.usd_per_hour,
            usd_per_day=self.usd_per_day,
            usd_total=self.usd_total,
            action=self.action,
            warn_at=tuple(sorted(set(self.warn_at))),
        )


def _moment(text: str | None, field: str, zone: str) -> float | None:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        read = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput("is neither a day, nor a time, nor seconds", field=field, hint="2026-11-22") from None
    return (read if read.tzinfo is not None else read.replace(tzinfo=zone_of(zone))).timestamp()


def budget(seen: BudgetSeen) -> dict[str, Any]:
    """One budget: its limits, what is spent of each at most, what happens when one is reached."""
    record = seen.budget
    windows = {
        window: {
            "limit_usd": limit,
            "spent_usd": round(seen.spent_usd.get(window, 0.0), 6),
            "share": round(seen.spent_usd.get(window, 0.0) / limit, 4),
        }
        for window, limit in record.limits.items()
    }
    return {
        "machine": record.machine,
        "windows": windows,
        "reached": list(seen.verdict.reached),
        "action": record.action.value,
        "warn_at": list(record.warn_at),
        "is_default": record.is_default,
        "set_by": record.set_by,
    }


def credit(record: Credit) -> dict[str, Any]:
    """What an account at a provider can still spend, and for how long that lasts."""
    view: dict[str, Any] = {
        "provider": record.id,
        "usd_per_hour": round(record.usd_per_hour, 6),
        "seen_at": record.seen_at,
    }
    if record.credit_usd is not None:
        view["credit_usd"] = round(record.credit_usd, 4)
    if record.hours_left is not None:
        view["hours_left"] = round(record.hours_left, 2)
    return view | {"low": record.low_since is not None}
