"""Budgets, enforced: looked at when due, warned of, and when one is reached, what it says is done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from dumont import queries
from dumont.domain import alerts as to_tell
from dumont.domain import budgets as domain
from dumont.domain import costs
from dumont.domain.alerts import Alert
from dumont.domain.budgets import ALL, Budget, BudgetAction, Verdict, budget_id
from dumont.domain.enforcement import LOOKED_AT, in_vain
from dumont.domain.errors import BudgetReached, Conflict, Unknown
from dumont.domain.happenings import of_alert
from dumont.domain.hibernation import BY_BUDGET, HIBERNATE
from dumont.domain.ledger import Kind, LedgerEntry
from dumont.domain.names import shard_of
from dumont.domain.records import Instance, Machine, MachineState, Operation
from dumont.domain.states import is_as_judged
from dumont.domain.subscriptions import Delivery
from dumont.operations import alerts, destroy, hibernate, subscribers
from dumont.operations.job_facts import end_for_budget
from dumont.operations.runner import Guard
from dumont.ports import Ports, Transaction

log = logging.getLogger(__name__)

AGAIN_SECONDS = 5.0
_SPENDS = (MachineState.RUNNING, MachineState.FAILING_OVER, MachineState.HIBERNATING, MachineState.WAKING)
_NOTHING_TO_LOSE = (MachineState.REQUESTED, MachineState.PROVISIONING)


# --- A machine's own cap: `spec.budget_usd` -----------------------------------------------------------------------


def enforce_cap(ports: Ports, machine: Machine, now: float) -> float | None:
    """Destroy a machine whose own cap is reached, workspace included, as its user said when they set it. Answers with
    when it is reached if all goes on as it is; None where there is no cap, or nothing bills."""
    cap_usd = machine.spec.budget_usd
    if cap_usd is None:
        return None
    ever = ports.store.find(Instance, queries.instances_ever_of_machine(machine.id))
    instances = [i for i in ever if i.intended_at >= machine.created_at]
    traffic_usd = _traffic_usd(ports, machine)
    spent_usd = costs.total_at_most_usd(instances, now) + traffic_usd
    guard = _as_judged(machine)
    if spent_usd >= cap_usd * domain.FULL and machine.state in _SPENDS:
        log.error("budget reached", extra={"machine": machine.id, "spent_usd": spent_usd, "budget_usd": cap_usd})
        alerts.write(ports, to_tell.of_cap(machine, spent_usd, cap_usd, now))
        _try(machine.id, lambda: destroy.request(ports, machine.id, discard=True, requested_by=BY_BUDGET, guard=guard))
    elif spent_usd >= cap_usd * domain.FULL and machine.paused_instance_id is not None:
        # Its disk alone bills, and what is on it is saved.
        _try(
            machine.id,
            lambda: hibernate.request(ports, machine.id, tier=HIBERNATE, requested_by=BY_BUDGET, guard=guard),
        )
    return costs.budget_deadline(instances, cap_usd - traffic_usd, now)


def _traffic_usd(ports: Ports, machine: Machine) -> float:
    entries = ports.store.find(LedgerEntry, queries.ledger_of_machine(machine.id))
    kinds = (Kind.BANDWIDTH_IN, Kind.BANDWIDTH_OUT)
    return sum(e.amount_micro_usd for e in entries if e.kind in kinds and e.to_time >= machine.created_at) / 1e6


# --- Budgets ------------------------------------------------------------------------------------------------------


def look_at(ports: Ports, identifier: str) -> bool:
    """A budget's deadline: warn, act, and say when to look again. True if it is reached."""
    budget = ports.store.get(Budget, identifier)
    if budget is None or budget.deadline is None:
        return False
    now = ports.clock.now()
    still_open = open_of(ports, budget)
    verdict = judge(ports, budget, still_open, now)
    for warning in verdict.warnings:
        log.error(
            "budget: a share is spent",
            extra={"budget": budget.id, "window": warning.window, "share": warning.share,
                   "spent_usd": warning.spent_usd, "limit_usd": warning.limit_usd},
        )  # fmt: skip
    if verdict.reached:
        for name in sorted({i.machine for i in still_open}):
            _act(ports, budget, name)

    def work(tx: Transaction) -> list[Delivery]:
        fresh = tx.get(Budget, identifier)
        if fresh is None or fresh.updated_at != budget.updated_at:
            return []  # it was set anew meanwhile, and is due at once
        reached_at = (fresh.reached_at or now) if verdict.reached else None
        due = max(verdict.due, now + AGAIN_SECONDS)
        if fresh.deadline is not None and fresh.deadline != budget.deadline:
            due = min(due, fresh.deadline)  # something began to bill since we read the books (`look_soon`)
        tx.put(replace(fresh, warned=verdict.warned, reached_at=reached_at, deadline=due))
        for alert in told if ports.alerts else []:
            tx.get(Alert, alert.id)  # one that is told again is written over: what a later version keeps in it stays
            tx.put(alert)
        return subscribers.write(ports, tx, [news for alert in told for news in of_alert(alert)])

    told = to_tell.of_budget(budget, verdict, now)
    subscribers.publish(ports, ports.store.transact(work))
    alerts.publish(ports, told if ports.alerts else [])
    return bool(verdict.reached)


def judge(ports: Ports, budget: Budget, still_open: Sequence[Instance], now: float) -> Verdict:
    """How a budget stands, from the books."""
    return standing(ports, budget, still_open, now)[0]


def standing(
    ports: Ports, budget: Budget, still_open: Sequence[Instance], now: float
) -> tuple[Verdict, dict[domain.Window, float]]:
    """How a budget stands, and what can have been spent at most by window."""
    so_far = domain.spent(budget, still_open, _entries(ports, budget, now), now)
    return domain.judge(budget, so_far, now), so_far.usd


def _entries(ports: Ports, budget: Budget, now: float) -> list[LedgerEntry]:
    entries: list[LedgerEntry] = []
    days = domain.days_needed(budget, now)
    for start in range(0, len(days), queries.IN_MOST):
        batch = tuple(days[start : start + queries.IN_MOST])
        query = (
            queries.ledger_of_machine_in_days(budget.machine, batch)
            if budget.machine
            else queries.ledger_of_days(batch)
        )
        entries += ports.store.find(LedgerEntry, query)
    return entries


def open_of(ports: Ports, budget: Budget) -> list[Instance]:
    """The open instances that a budget is about."""
    query = queries.instances_of_machine(budget.machine) if budget.machine else queries.open_instances()
    return ports.store.find(Instance, query)


def _act(ports: Ports, budget: Budget, name: str) -> None:
    """What a reached budget does to one machine that bills. Tried again at each look, until it bills no more."""
    machine = ports.store.get(Machine, name)
    if machine is None or budget.action in (BudgetAction.WARN, BudgetAction.STOP_NEW):
        return
    guard = _as_judged(machine, budget)
    if machine.state in _NOTHING_TO_LOSE or (budget.action is BudgetAction.DESTROY and machine.state in _SPENDS):
        # One that never ran has nothing in it: to give it up loses nothing.
        _try(name, lambda: destroy.request(ports, name, discard=True, requested_by=BY_BUDGET, guard=guard))
    elif machine.job_id is not None and machine.state is MachineState.RUNNING and _ends_job(ports, machine, guard):
        log.info("budget: a job is ended", extra={"machine": name})
    elif budget.action is BudgetAction.HIBERNATE:
        sleeps_on_disk = machine.state is MachineState.HIBERNATED and machine.paused_instance_id is not None
        if (machine.state is MachineState.RUNNING or sleeps_on_disk) and _may_try(ports, budget, name):
            _try(name, lambda: hibernate.request(ports, name, tier=HIBERNATE, requested_by=BY_BUDGET, guard=guard))
    elif budget.action is BudgetAction.DESTROY:
        if machine.state is MachineState.HIBERNATED:
            _try(name, lambda: destroy.request(ports, name, discard=True, requested_by=BY_BUDGET, guard=guard))
    elif machine.state in (MachineState.RUNNING, MachineState.HIBERNATED) and _may_try(ports, budget, name):
        _try(
            name,
            lambda: destroy.request(
                ports, name, discard=False, snapshot_first=True, requested_by=BY_BUDGET, guard=guard
            ),
        )


def _as_judged(machine: Machine, budget: Budget | None = None) -> Guard:
    """Held against the records as a budget's word is written down. A sweep may have been frozen for minutes since it
    judged: then a budget may have been raised, a boot have ended and its user have written files, or the machine be
    another of the same name; what is lost by a word that holds no more is lost for ever (invariant 4)."""

    def guard(tx: Transaction, fresh: Machine) -> None:
        known = tx.get(Budget, budget.id) if budget is not None else None
        same_budget = budget is None or (known is not None and known.updated_at == budget.updated_at)
        if not (same_budget and is_as_judged(machine, fresh) and fresh.spec.budget_usd == machine.spec.budget_usd):
            raise Conflict(f"{machine.id}, or its budget, has changed since it was judged", code="judged_anew")

    return guard


def _ends_job(ports: Ports, machine: Machine, guard: Guard) -> bool:
    """Whether its job is ended, or is not to be now: whatever else would end the machine waits for the next look."""
    try:
        return end_for_budget(ports, machine, guard)
    except Conflict as error:
        log.info("budget: a job is not ended now", extra={"machine": machine.id, "error": str(error)})
        return True


def _may_try(ports: Ports, budget: Budget, name: str) -> bool:
    """Whether to try now what loses nothing, and can therefore fail: see `domain.enforcement`."""
    found = in_vain(ports.store.find(Operation, queries.history_of_machine(name, limit=LOOKED_AT)))
    if found is None:
        return True
    if found.to_be_told and budget.reached_at is not None:
        alerts.write(ports, to_tell.of_tries_in_vain(budget, found, ports.clock.now()))
    if ports.clock.now() < found.again_at:
        return False
    if found.to_be_told:
        problem = found.last.problem
        log.error(
            "budget: a machine cannot be stopped",
            extra={"budget": budget.id, "machine": name, "tries": found.tries,
                   "code": problem.code if problem is not None else ""},
        )  # fmt: skip
    return True


def _try(name: str, act: Callable[[], object]) -> None:
    try:
        act()
    except (Conflict, Unknown) as error:
        log.warning("budget: not enforced now", extra={"machine": name, "error": str(error)})


def admit(ports: Ports, name: str) -> None:
    """Refuse a new rental for a machine while a budget that forbids it is reached. Raises `BudgetReached`.

    The first wish of a fresh deployment finds no budget, and leaves the default one behind.
    """
    now = ports.clock.now()
    every = ports.store.get(Budget, ALL)
    if every is None:
        every = domain.default_budget(now)
        default = replace(every, shard=shard_of(ALL))
        ports.store.transact(lambda tx: tx.create(default))
    own = ports.store.get(Budget, budget_id(name))
    for budget in (every, own):
        if budget is None or not budget.limits or budget.action is BudgetAction.WARN:
            continue
        verdict = judge(ports, budget, open_of(ports, budget), now)
        if not domain.refuses(budget, verdict):
            continue
        window = verdict.reached[0]
        of_whom = f"{name}'s" if budget.machine else "the"
        until = {"hour": "within the hour", "day": "at midnight UTC", "total": "when it is raised"}[window]
        raise BudgetReached(
            f"{of_whom} budget of ${budget.limits[window]:.2f} {_PER[window]} is spent: nothing new is rented",
            hint=f"it is free again {until}; `dumont budget` shows it, `dumont budget set` raises it",
        )


SOON_SECONDS = 5.0


def look_soon(tx: Transaction, name: str, now: float) -> None:
    """Something begins to bill: a budget that had nothing to fear, and is not due for long, is looked at anew."""
    for identifier in (ALL, budget_id(name)):
        budget = tx.get(Budget, identifier)
        if budget is not None and budget.deadline is not None and budget.deadline > now + SOON_SECONDS:
            tx.put(replace(budget, deadline=now + SOON_SECONDS))


_PER = {"hour": "an hour", "day": "a day", "total": "in total"}
