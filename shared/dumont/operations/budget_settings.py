"""Budgets, set, removed and shown; and the prepaid credit at each provider, watched."""

from __future__ import annotations

import logging

import msgspec
from msgspec.structs import replace

from dumont import queries
from dumont.domain import budgets as domain
from dumont.domain import costs
from dumont.domain.budgets import ALL, Budget, Credit, Verdict, budget_id
from dumont.domain.errors import ProviderError, Unknown
from dumont.domain.names import check_machine_name, shard_of
from dumont.domain.records import Instance, Machine
from dumont.operations.budgets import open_of, standing
from dumont.ports import Ports, Transaction

log = logging.getLogger(__name__)

CREDIT_EVERY_SECONDS = 3600.0


class BudgetSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A budget, how it stands, and what can have been spent at most by window."""

    budget: Budget
    verdict: Verdict
    spent_usd: dict[domain.Window, float]


def put(ports: Ports, wanted: Budget, *, set_by: str) -> Budget:
    """Set a budget in place of the one before. A total goes on counting from where it began, unless `wanted.since`
    says otherwise. Raises `Unknown` for a machine that is not there."""

    def work(tx: Transaction) -> Budget:
        now = ports.clock.now()
        if wanted.machine and tx.get(Machine, check_machine_name(wanted.machine)) is None:
            raise Unknown(f"there is no machine named {wanted.machine}", field="machine", hint="see `dumont ls`")
        before = tx.get(Budget, budget_id(wanted.machine))
        since = wanted.since or (before.since if before is not None else now)
        made = replace(
            wanted,
            id=budget_id(wanted.machine),
            since=since,
            is_default=False,
            set_by=set_by,
            updated_at=now,
            warned={},
            reached_at=None,
            deadline=now if wanted.limits else None,
            shard=shard_of(budget_id(wanted.machine)),
        )
        tx.put(made)
        return made

    return ports.store.transact(work)


def remove(ports: Ports, machine: str, *, set_by: str) -> None:
    """Remove a budget; that of all together is left without limits, since one that is absent means the default.
    Raises `Unknown`."""

    def work(tx: Transaction) -> None:
        known = tx.get(Budget, budget_id(machine))
        if not machine:
            now = ports.clock.now()
            tx.put(Budget(id=ALL, set_by=set_by, since=now, updated_at=now))
        elif known is None:
            raise Unknown(f"{machine} has no budget of its own", field="machine", hint="`dumont budget` shows them")
        else:
            tx.delete(Budget, known.id)

    ports.store.transact(work)


def every(ports: Ports) -> list[BudgetSeen]:
    """The budgets, that of all together first. Where nobody has set it, that is the default."""
    now = ports.clock.now()
    known = {b.id: b for b in ports.store.find(Budget, queries.all_budgets())}
    if ALL not in known:
        known[ALL] = domain.default_budget(now)
    shown = []
    for budget in sorted(known.values(), key=lambda b: (b.id != ALL, b.id)):
        verdict, spent_usd = standing(ports, budget, open_of(ports, budget), now)
        shown.append(BudgetSeen(budget=budget, verdict=verdict, spent_usd=spent_usd))
    return shown


def default_limit(ports: Ports) -> float | None:
    """What all machines together may spend a day as long as nobody has said otherwise; None where somebody has."""
    known = ports.store.get(Budget, ALL)
    return known.usd_per_day if known is not None and known.is_default else None


# --- Prepaid credit -----------------------------------------------------------------------------------------------


def watch_credit(ports: Ports) -> list[Credit]:
    """Ask each provider, once an hour, what can still be spent there; one that will not last long is an error in the
    log, on which alerts are made. Answers with those that were asked now."""
    now = ports.clock.now()
    asked = []
    for name, provider in ports.providers.items():
        before = ports.store.get(Credit, name)
        if before is not None and now < before.seen_at + CREDIT_EVERY_SECONDS:
            continue
        try:
            credit_usd = provider.credit_usd()
        except ProviderError as error:
            log.info("the provider does not say its credit", extra={"provider": name, "error": str(error)})
            continue
        mine = [i for i in ports.store.find(Instance, queries.open_instances()) if i.provider == name]
        seen = domain.credit_seen(before, name, credit_usd, costs.rate_usd_per_hour(mine), now)
        ports.store.transact(lambda tx, seen=seen: _write_over(tx, seen))  # type: ignore[misc]
        if seen.low_since is not None:
            log.error(
                "credit low: at zero the provider stops everything",
                extra={"provider": name, "credit_usd": seen.credit_usd, "hours_left": seen.hours_left},
            )
        asked.append(seen)
    return asked


def _write_over(tx: Transaction, seen: Credit) -> None:
    tx.get(Credit, seen.id)  # so that what a later version of us keeps there stays
    tx.put(seen)


def credits_seen(ports: Ports) -> list[Credit]:
    """What each provider last said."""
    return ports.store.find(Credit, queries.all_credits())
