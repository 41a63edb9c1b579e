"""What a provision does next: search → race → the first that proves itself wins → the losers go. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from dumont.domain import costs
from dumont.domain.actions import (
    Abandon,
    Action,
    AttachKeys,
    GiveUp,
    Prove,
    Rent,
    Restore,
    Search,
    Survey,
    Wait,
    Win,
)
from dumont.domain.reaping import held_by
from dumont.domain.records import (
    KEPT_DISK,
    Instance,
    InstanceState,
    Machine,
    MachineSpec,
    Operation,
    OperationKind,
    Problem,
)
from dumont.domain.tending import clear, releasing_duty

RACE = "race"
RELEASE = "release"
GIVE_UP = "give_up"

MAX_ROUNDS = 3
MAX_ROUNDS_OF_A_FAILOVER = 12
"""A machine that people rely on is searched for longer: rounds that found nothing are spaced out (`renting`)."""
MAX_SEARCH_TRIES = 4
RESTORE_SECONDS_MAX = 6 * 3600.0
UNKNOWN_HOLDS_A_PLACE_SECONDS = 15.0
"""A create whose answer was lost keeps its place in the race this long; then the next offer runs too, so that one
market error does not cost a whole settle time, and a broken market still does not start a launch storm."""
UNREACHABLE_TRIES = 3
"""One that proved itself and was then not reached so often in a row (some 7 s) may have died while it was restored: it
may still win, and its place is another's."""
NOTHING_BILLS = "Nothing that was rented for it is left billing."

_CONTENDING = (InstanceState.INTENDED, InstanceState.CREATED, InstanceState.BOOTED, InstanceState.PROVEN)


def max_rounds(op: Operation) -> int:
    """How often an operation searches before it gives up."""
    return MAX_ROUNDS_OF_A_FAILOVER if op.kind is OperationKind.FAILOVER else MAX_ROUNDS


def avoid_regions(op: Operation, instances: Sequence[Instance]) -> tuple[str, ...]:
    """Regions in which two hosts or more failed this operation, and none did better: a region may fail as a whole.

    Given up again with the round after, since elsewhere may be worse.
    """
    if op.rounds % 2 == 0:
        return ()
    failed: dict[str, int] = {}
    for instance in instances:
        if instance.offer.region is None or instance.state is InstanceState.INTENDED:
            continue
        bad = instance.problem is not None and instance.problem.code != "lost_race"
        failed[instance.offer.region] = failed.get(instance.offer.region, 0) + (1 if bad else -1000)
    return tuple(sorted(region for region, count in failed.items() if count >= 2))


def max_rentals(spec: MachineSpec) -> int:
    """How many create calls one provision may make: enough for bad luck, too few for a launch storm."""
    return spec.race_width * 3 + 3


def total_seconds_max(spec: MachineSpec) -> float:
    """When a provision ends whatever happens: as if each round used up its boot and SSH time, and a minute more."""
    return MAX_ROUNDS * (spec.boot_timeout_seconds + spec.ssh_timeout_seconds) + 60.0


def _began(op: Operation) -> float:
    return op.tried_since or op.created_at


def _ends_at(op: Operation, spec: MachineSpec, instances: Sequence[Instance]) -> float:
    """When a race is over whatever happens; a restore under way, which may be of terabytes, has its own time."""
    restoring = any(i.state is InstanceState.PROVEN and not is_ready(op, i) for i in instances)
    return _began(op) + total_seconds_max(spec) + (RESTORE_SECONDS_MAX if restoring else 0.0)


def contends(instance: Instance, now: float) -> bool:
    """Whether an instance holds a place in the race."""
    if instance.state not in _CONTENDING:
        return False
    if instance.state is InstanceState.PROVEN and instance.tries >= UNREACHABLE_TRIES:
        return False
    return not (instance.outcome_unknown and now >= instance.intended_at + UNKNOWN_HOLDS_A_PLACE_SECONDS)


def may_have_rented(instance: Instance) -> bool:
    """Whether its create call had, or may have had, an effect: a refused one (offer gone, too frequent) had none."""
    return instance.open or instance.created_at is not None or _unsettled(instance)


def _unsettled(instance: Instance) -> bool:
    return instance.problem is not None and instance.problem.code == "never_created"


def decide(op: Operation, machine: Machine | None, instances: Sequence[Instance], now: float) -> Action:
    """The next action. `instances` are those that this operation answers for, gone ones too."""
    if op.phase == RELEASE:
        held = held_by(machine) if machine is not None else frozenset()
        return clear([i for i in instances if i.id not in held], now)
    if machine is None or machine.operation_id != op.id or machine.epoch != op.epoch:
        return Abandon()
    if op.phase == GIVE_UP:
        return clear(instances, now)
    return race(op, machine.spec, instances, now)


def is_ready(op: Operation, instance: Instance) -> bool:
    """Whether an instance may serve: it proved itself, and its workspace is what it should be (invariant 5)."""
    if instance.state is not InstanceState.PROVEN:
        return False
    return op.snapshot_id is None or instance.restored_snapshot_id in (op.snapshot_id, KEPT_DISK)


def race(op: Operation, spec: MachineSpec, instances: Sequence[Instance], now: float, *, rents: bool = True) -> Action:
    """The next action of a race; without `rents` only those race that are in it already."""
    ready = [i for i in instances if is_ready(op, i)]
    if ready and now >= op.serve_not_before:
        return Win(ready[0].id)
    ended = _must_end(op, spec, instances, now)
    if ended is not None:
        return GiveUp(ended)
    contenders = [i for i in instances if contends(i, now)]
    rentals_left = max_rentals(spec) - sum(may_have_rented(i) for i in instances)
    wants_more = rents and len(contenders) < spec.race_width and bool(op.candidates) and rentals_left > 0
    if wants_more and now >= op.not_before:
        return Rent(op.candidates[0])
    for instance in instances:
        duty = _racing_duty(op, instance, now)
        if duty is not None:
            return duty
    if not contenders and not wants_more and rents:
        return _nobody_left(op, spec, instances, rentals_left, now)
    return _wait(op, spec, instances, wants_more, now)


def _must_end(op: Operation, spec: MachineSpec, instances: Sequence[Instance], now: float) -> Problem | None:
    if op.problem is not None:
        return op.problem
    if op.unrestorable and op.kind is OperationKind.PROVISION:
        return Problem(
            code="inputs_damaged",
            detail="the snapshot that it was to begin with is damaged, or not there any more",
            safe=NOTHING_BILLS,
            hint="begin with another: `dumont snapshots` shows those there are",
        )
    spent_usd = costs.total_at_most_usd(list(instances), now)
    if spec.budget_usd is not None and spent_usd >= spec.budget_usd:
        return Problem(
            code="budget_reached",
            detail=f"its budget of ${spec.budget_usd:.4f} was reached before a machine had proved itself",
            safe=NOTHING_BILLS,
            hint="raise the budget, or ask for a cheaper GPU",
        )
    if now >= _ends_at(op, spec, instances):
        return Problem(
            code="timed_out",
            detail=f"no machine was ready within {now - _began(op):.0f} s{_reasons(instances)}",
            safe=NOTHING_BILLS,
            hint="try again, or widen the search (--max-price, --region, another --gpu)",
        )
    return None


def _racing_duty(op: Operation, instance: Instance, now: float) -> Action | None:
    if now < instance.next_check_at:
        return None
    if instance.state is InstanceState.INTENDED:
        return Survey(instance.provider)
    if instance.state is InstanceState.CREATED:
        return Survey(instance.provider) if instance.keys_attached else AttachKeys(instance.id)
    if instance.state is InstanceState.BOOTED:
        return Prove(instance.id) if instance.keys_attached else AttachKeys(instance.id)
    if instance.state is InstanceState.PROVEN and not is_ready(op, instance):
        return Restore(instance.id)
    return releasing_duty(instance, now)


def _nobody_left(
    op: Operation, spec: MachineSpec, instances: Sequence[Instance], rentals_left: int, now: float
) -> Action:
    """Nobody races and nobody can join: search again with what was learned, or say that it cannot be done."""
    if op.rounds < max_rounds(op) and rentals_left > 0:
        if op.tries > MAX_SEARCH_TRIES:
            return GiveUp(
                Problem(
                    code="market_down",
                    detail="no market answered the search, tried several times",
                    safe=NOTHING_BILLS if instances else "Nothing was rented.",
                    hint="try again in a few minutes; `dumont search` shows whether the market answers",
                )
            )
        return (
            Search(avoid_regions(op, instances))
            if now >= op.not_before
            else Wait(_next_check(op, spec, instances, now, op.not_before))
        )
    return GiveUp(
        Problem(
            code="no_machine_proved",
            detail=f"{len(instances)} offers were tried and none gave a machine that works{_reasons(instances)}",
            safe=NOTHING_BILLS,
            hint="try again, or widen the search (--max-price, --region, another --gpu)",
        )
    )


def _wait(op: Operation, spec: MachineSpec, instances: Sequence[Instance], wants_more: bool, now: float) -> Wait:
    return Wait(_next_check(op, spec, instances, now, op.not_before if wants_more else None))


def _next_check(
    op: Operation, spec: MachineSpec, instances: Sequence[Instance], now: float, also: float | None
) -> float:
    times = [i.next_check_at for i in instances if i.state is not InstanceState.GONE]
    times += [i.intended_at + UNKNOWN_HOLDS_A_PLACE_SECONDS for i in instances if contends(i, now)]
    times.append(_ends_at(op, spec, instances))
    times.append(op.serve_not_before)
    budget = costs.budget_deadline(list(instances), spec.budget_usd, now)
    times += [t for t in (also, budget) if t is not None]
    # Never in the past: a wait that is over at once would turn a defect here into a busy loop that bills.
    return max(now + 0.05, min(t for t in times if t > now) if any(t > now for t in times) else now + 1.0)


def _reasons(instances: Sequence[Instance]) -> str:
    seen: dict[str, int] = {}
    for instance in instances:
        if instance.problem is not None:
            seen[instance.problem.code] = seen.get(instance.problem.code, 0) + 1
    if not seen:
        return ""
    return " (" + ", ".join(f"{count} × {code.replace('_', ' ')}" for code, count in sorted(seen.items())) + ")"


LOST_RACE = Problem(code="lost_race", detail="another proved itself first")
