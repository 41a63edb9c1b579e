"""Defects of budgets and of the ledger: see `defects`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dumont.domain import budgets as budget_rules
from dumont.domain import costs
from dumont.domain.hibernation import BY_BUDGET
from dumont.domain.ledger import entries_between
from dumont.domain.records import Instance
from dumont.operations import budgets, hibernate, ledger
from tests.simulation.patches import Made, Patch, answering, wrapped


def cap_not_looked_at() -> Made:
    """A machine's own cap is never held against what it has spent."""
    return ["8"], [answering(budgets, "enforce_cap", None)]


def budget_not_looked_at() -> Made:
    """A budget that is due is not looked at."""
    return ["8"], [answering(budgets, "look_at", False)]


def only_the_seen_counted() -> Made:
    """A budget counts what was seen of an instance, and not what it may have spent unseen."""

    def seen(instances: Sequence[Instance], now: float, *, from_time: float = 0.0) -> float:
        return sum(costs.accrued(i, now, from_time=from_time).total_usd for i in instances)

    return ["8"], [Patch(costs, "total_at_most_usd", seen), answering(costs, "margins_usd", 0.0)]


def losers_not_counted() -> Made:
    """A budget counts the instances that are open now: what losers and earlier hosts have spent is forgotten."""

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def at_most(instances: Sequence[Instance], now: float, *, from_time: float = 0.0) -> float:
            return float(real([i for i in instances if i.open], now, from_time=from_time))

        return at_most

    return ["8"], [wrapped(costs, "total_at_most_usd", around)]


def nothing_entered_at_the_end() -> Made:
    """What an instance has cost is not entered when it is gone."""

    def put(tx: Any, before: Instance | None, after: Instance, now: float) -> Instance:
        for entry in [] if after.gone_at is not None else entries_between(before, after, now):
            tx.create(entry)
        tx.put(after)
        return after

    return ["ledger"], [Patch(ledger, "put", put)]


def entered_twice() -> Made:
    """Entries have names of their own each time: what is entered again counts again."""

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def put(tx: Any, before: Instance | None, after: Instance, now: float) -> Instance:
            from msgspec.structs import replace

            class Renaming:
                def create(self, entry: Any) -> None:
                    tx.create(replace(entry, id=f"{entry.id}.{now}"))

                def __getattr__(self, name: str) -> Any:
                    return getattr(tx, name)

            return real(Renaming(), before, after, now)  # type: ignore[no-any-return]

        return put

    return ["ledger"], [wrapped(ledger, "put", around)]


def no_look_soon() -> Made:
    """A new rental does not bring a budget's next look forward."""
    return ["8"], [answering(budgets, "look_soon", None)]


def paused_disk_forgotten() -> Made:
    """A cap that is reached while a machine sleeps on its kept disk lets the disk bill on."""

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def request(ports: Any, name: str, *, requested_by: str, **more: Any) -> Any:
            from dumont.domain.errors import Conflict

            if requested_by == BY_BUDGET:
                raise Conflict(f"{name} sleeps already")
            return real(ports, name, requested_by=requested_by, **more)

        return request

    return ["8"], [wrapped(hibernate, "request", around)]


def warnings_taken_for_limits() -> Made:
    """A budget that is reached only warns."""
    return ["8"], [answering(budgets, "_act", None), answering(budget_rules, "refuses", False)]


DEFECTS: tuple[Callable[[], Made], ...] = (
    cap_not_looked_at, budget_not_looked_at, only_the_seen_counted, losers_not_counted, nothing_entered_at_the_end,
    entered_twice, no_look_soon, paused_disk_forgotten, warnings_taken_for_limits,
)  # fmt: skip
"""In the order of the table."""
