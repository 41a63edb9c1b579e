"""What a failover does next: confirm → fence → bring the machine back, by one strategy after the other → clear. Pure.

Before the fence the operation has no say over the machine, and nothing is changed; after it the old host never serves
again, unless it is taken back by this same operation before a replacement serves (invariant 1).
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from dumont.domain import detection, moving, provisioning
from dumont.domain.actions import (
    Abandon,
    Action,
    Confirm,
    Dismiss,
    Fence,
    Finish,
    GiveUp,
    Look,
    RestartAgent,
    Start,
    Stop,
    TakeBack,
    Try,
    Wait,
)
from dumont.domain.detection import Verdict
from dumont.domain.moving import CONFIRM as CONFIRM
from dumont.domain.moving import is_fenced as is_fenced
from dumont.domain.moving import is_suspect as is_suspect
from dumont.domain.reaping import held_by
from dumont.domain.records import (
    Instance,
    InstanceState,
    Machine,
    MachineSpec,
    Operation,
    OperationKind,
    Problem,
)
from dumont.domain.tending import clear

NEVER = 1e12
"""`serve_not_before` of a machine whose old host never stops by itself."""
RESUME, WARM, COLD, HOLD = "resume", "warm", "cold", "hold"

PAUSED = Problem(code="paused", detail="it was stopped, with its disk, when its machine went to sleep")
START_FAILED = "start_failed"
"""The provider's answer to a start was none, or not clear: it may have had its effect."""
STARTING = Problem(code="starting", detail="its start was asked for, and nobody has heard what came of it")
TOO_SLOW = Problem(code="start_too_slow", detail="it was started and did not serve in its time")
_NOT_TRIED_YET = frozenset({"lost", "moved", "paused", "starting"})
"""Why an instance was put aside before anybody tried to bring it back."""

RESUME_SECONDS = 60.0
"""How long a stopped instance may take to serve again before a race is begun."""
RESUME_AGAIN_SECONDS = 120.0
LOOK_SECONDS = 10.0
"""How often one looks that has nothing else to wait for."""
WARM_SECONDS = 45.0
"""How long a spare may take to be started and brought up to date before others race beside it."""
AGENT_RESTARTS = 3
AGENT_RESTART_SECONDS = 10.0
TAKEN_BACK_MOST = 2
"""A host that comes and goes is not taken back for ever."""
SAFE = "Its last verified snapshot, and whatever its host still has, are kept."


def decide(op: Operation, machine: Machine | None, instances: Sequence[Instance], now: float) -> Action:
    """The next action. `instances` are those that this operation answers for: none before the fence."""
    if op.forced and not is_fenced(op):
        return moving.decide(op, machine, now)
    if op.phase == CONFIRM:
        return _confirm(op, machine, now)
    if op.phase == provisioning.RELEASE:
        held = held_by(machine) if machine is not None else frozenset()
        return clear([i for i in instances if i.id not in held], now)
    if machine is None or machine.operation_id != op.id or machine.epoch != op.epoch:
        return Abandon()
    if op.phase == provisioning.GIVE_UP:
        return _clear_up(op, instances, now)
    return _bring_back(op, machine, instances, now)


def _clear_up(op: Operation, instances: Sequence[Instance], now: float) -> Action:
    """Release what was rented. What a wake keeps is stopped first, if it may run: it must not bill while its machine
    sleeps on."""
    kept = next((i for i in instances if stays_paused(op, i)), None)
    action = clear([i for i in instances if i is not kept and i.state is not InstanceState.LOST], now)
    if kept is None or not _may_run(kept):
        return action
    if now >= kept.next_check_at:
        return Stop(kept.id)
    if isinstance(action, Finish):
        return Wait(kept.next_check_at)
    return Wait(min(action.until, kept.next_check_at)) if isinstance(action, Wait) else action


def stays_paused(op: Operation, instance: Instance) -> bool:
    """Whether an instance is the one that a machine keeps which could not be woken: it sleeps on as it did."""
    out = (InstanceState.RELEASING, InstanceState.GONE)
    return op.kind is OperationKind.WAKE and instance.id == op.suspect_instance_id and instance.state not in out


def _may_run(kept: Instance) -> bool:
    """Whether a start of it may have had an effect that nobody has cancelled."""
    code = kept.problem.code if kept.problem is not None else ""
    unknown = code in (START_FAILED, STARTING.code)
    # It was put aside since its provider still had it for stopped, or its host for broken: the start may be under way.
    unknown = unknown or (kept.woken_at is not None and code != TOO_SLOW.code)
    return kept.state is not InstanceState.LOST or unknown


# --- Before the fence ---------------------------------------------------------------------------------------------


def _confirm(op: Operation, machine: Machine | None, now: float) -> Action:
    if op.problem is not None:
        return Finish()
    if not is_suspect(op, machine) or machine is None:
        return Abandon()
    if now < op.not_before:
        return Wait(op.not_before)
    finding = detection.judge(op.evidence, op.suspected_at)
    if finding.verdict is Verdict.ALIVE:
        return Finish()
    if finding.verdict is Verdict.AGENT_DEAD:
        return RestartAgent(machine.instance_id or "") if op.tries < AGENT_RESTARTS else Finish()
    if finding.verdict in (Verdict.UNSURE, Verdict.MASS):
        return _look_again(op, finding.again_seconds, now)
    return _may_move(op, machine.spec, finding.why, now)


def _look_again(op: Operation, after_seconds: float, now: float) -> Action:
    if not op.evidence:
        return Confirm()
    again_at = op.evidence[-1].at + after_seconds
    return Confirm() if now >= again_at else Wait(again_at)


def _may_move(op: Operation, spec: MachineSpec, why: str, now: float) -> Action:
    failovers_at = op.evidence[-1].failovers_at
    if spec.failover == "off":
        return GiveUp(
            Problem(
                code="failover_off",
                detail=f"it is dead ({why}), and its policy is not to move it",
                safe=SAFE,
                hint=f"move it by hand, with what its last snapshot has: dumont failover {op.machine} --discard",
            )
        )
    if detection.too_often(failovers_at, spec.max_failovers_per_day, now):
        return GiveUp(
            Problem(
                code="failover_limit",
                detail=f"it is dead ({why}), and was moved {len(failovers_at)} times within a day already",
                safe=SAFE,
                hint=f"see why hosts fail it: dumont events {op.machine}; then dumont failover {op.machine} --discard",
            )
        )
    cool_at = detection.cooled_down_at(failovers_at, now)
    if now < cool_at:
        # Look again first thing then: what is dead now may live by that time.
        return Wait(cool_at) if cool_at - op.evidence[-1].at < 10.0 else _look_again(op, cool_at - now, now)
    return Fence(why)


# --- After the fence ----------------------------------------------------------------------------------------------


def _bring_back(op: Operation, machine: Machine, instances: Sequence[Instance], now: float) -> Action:
    lost = next((i for i in instances if i.id == op.suspect_instance_id), None)
    if lost is not None and lost.state is InstanceState.LOST:
        if is_taken_back(op, lost):
            return TakeBack(lost.id)
        if now >= lost.next_check_at:
            return Look(lost.id)
    strategy = choose(op, machine.spec, lost, now, stood_by(op, instances))
    if not op.tried or strategy != op.tried[-1]:
        return Try(strategy)
    if lost is not None and strategy == RESUME:
        return _resume(op, machine.spec, lost, instances, now)
    anew = strategy in (WARM, COLD)
    aside = lost if lost is not None and lost.state is not InstanceState.LOST else None
    # One that could not be stopped is tried again when it is due, and is no reason for the others to wait. Where none
    # may be built anew it is stopped, too: only then is it started again, and nobody looks at it meanwhile.
    if aside is not None and aside.state in (InstanceState.CREATED, InstanceState.BOOTED):
        if now >= aside.next_check_at or aside.problem is None:
            return Stop(aside.id)
        instances = [i for i in instances if i is not aside or not anew]
    if strategy == HOLD:
        return _hold(op, instances, lost, now)
    if lost is not None and lost.stopped_at is not None:
        op = replace(op, serve_not_before=0.0)  # it was told, and has stopped: its lease need not run out
    if op.serve_not_before >= NEVER:
        # It does not stop by itself: it is destroyed first, once its replacement has all that it needs.
        if _is_gone(lost):
            op = replace(op, serve_not_before=0.0)
        elif (
            lost is not None
            and lost.state is InstanceState.LOST
            and any(provisioning.is_ready(op, i) for i in instances)
        ):
            return Dismiss(lost.id)
    action = _race(op, machine.spec, [i for i in instances if i.state is not InstanceState.LOST], now, strategy)
    if isinstance(action, GiveUp) and op.forced and lost is not None and _has_returned(lost):
        return TakeBack(lost.id, action.problem)  # nowhere to move to: better where it was than nowhere
    return action


def _race(op: Operation, spec: MachineSpec, instances: Sequence[Instance], now: float, strategy: str) -> Action:
    """A race; a spare that is stopped is started for it, and while a spare has its time nothing else is rented."""
    for instance in instances:
        if instance.state is InstanceState.STOPPED and now >= instance.next_check_at:
            return Start(instance.id)
    action = provisioning.race(op, spec, instances, now, rents=strategy != WARM)
    if strategy == WARM and isinstance(action, Wait):
        return Wait(min(action.until, max(now + 0.05, op.tried_since + WARM_SECONDS)))
    return action


def stood_by(op: Operation, instances: Sequence[Instance]) -> list[Instance]:
    """The instances that stood by when the machine fell, and race for it now."""
    own = (InstanceState.CREATED, InstanceState.BOOTED, InstanceState.PROVEN, InstanceState.STOPPED)
    return [i for i in instances if i.id != op.suspect_instance_id and i.rented_by != op.id and i.state in own]


def is_taken_back(op: Operation, lost: Instance) -> bool:
    """What becomes of a host that comes back: it is kept while no replacement serves; afterwards the replacement is
    (it is then being released, and no decision of ours). Not where a user wanted to move, nor for ever."""
    # A heartbeat that was on its way when it was stopped is no return: its provider is asked first, at once. And what
    # we have just stopped ourselves may seem to run for a while, to itself and to its provider.
    return _has_returned(lost) and not op.forced and lost.taken_back < TAKEN_BACK_MOST


def _has_returned(lost: Instance) -> bool:
    out = lost.state is not InstanceState.LOST or lost.last_status == "stopped" or lost.problem == TOO_SLOW
    return lost.returned_at is not None and not out


def choose(op: Operation, spec: MachineSpec, lost: Instance | None, now: float, spares: Sequence[Instance] = ()) -> str:
    """The strategy to go on with. A stopped instance's disk has what no snapshot has, so it is tried first."""
    current = op.tried[-1] if op.tried else ""
    if current == COLD and may_lose(op, spec, lost):
        return COLD
    stopped = lost is not None and lost.state is InstanceState.LOST and lost.last_status == "stopped"
    if current == RESUME and lost is not None:
        out = (InstanceState.LOST, InstanceState.CREATED, InstanceState.BOOTED)
        failed = lost.state in out and lost.problem is not None and lost.problem.code not in _NOT_TRIED_YET
        # Where nothing may be built anew, nothing waits for it to be given up: it has the time that any boot has.
        most_seconds = RESUME_SECONDS if may_lose(op, spec, lost) else max(RESUME_SECONDS, spec.boot_timeout_seconds)
        if not failed and now < op.tried_since + most_seconds and lost.state is not InstanceState.GONE:
            return RESUME
    elif (
        stopped
        and not op.forced
        and (RESUME not in op.tried or (current == HOLD and now >= op.tried_since + RESUME_AGAIN_SECONDS))
    ):
        return RESUME
    if not may_lose(op, spec, lost):
        return HOLD
    return WARM if _is_spares_time(op, spares, now) else COLD


def _is_spares_time(op: Operation, spares: Sequence[Instance], now: float) -> bool:
    """Whether a spare is to take over alone: one that is ready waits for nothing but the old host's lease."""
    if not spares:
        return False
    if any(provisioning.is_ready(op, i) for i in spares):
        return True
    return WARM not in op.tried or (op.tried[-1] == WARM and now < op.tried_since + WARM_SECONDS)


def may_lose(op: Operation, spec: MachineSpec, lost: Instance | None) -> bool:
    """Whether a machine may be built anew: there is a verified snapshot to restore, or nothing that could be lost with
    its old host, or somebody said that it may be (invariant 4)."""
    if op.snapshot_id is not None or op.discard or op.found_empty:
        return True
    return not op.unrestorable and (spec.stateless or _is_gone(lost))


def _is_gone(lost: Instance | None) -> bool:
    return lost is None or lost.state is InstanceState.GONE or lost.last_status == "gone"


def _resume(op: Operation, spec: MachineSpec, lost: Instance, instances: Sequence[Instance], now: float) -> Action:
    if lost.state is InstanceState.LOST:
        return Start(lost.id)
    # A spare is ready at once, and would win before the disk that has what no snapshot has.
    own = [i for i in instances if i is lost or i.state in (InstanceState.RELEASING, InstanceState.GONE)]
    racing = provisioning.race(op, spec, own, now, rents=False)
    return racing if not isinstance(racing, GiveUp) else Wait(max(now + LOOK_SECONDS, op.tried_since + RESUME_SECONDS))


def _hold(op: Operation, instances: Sequence[Instance], lost: Instance | None, now: float) -> Action:
    """Nothing may be built anew: wait for the old host, and let whatever was rented meanwhile go."""
    if op.unrestorable and _is_gone(lost):
        return GiveUp(
            Problem(
                code="unrestorable",
                detail="its host is gone for ever, and every snapshot of it is damaged",
                safe="The damaged snapshots are kept as they are.",
                hint=f"restore what can be read by hand, or begin empty: dumont up {op.machine}",
            )
        )
    action = clear([i for i in instances if i is not lost], now)
    # What is due and has nothing that can be done about it is no reason to look again and again.
    at = lost.next_check_at if lost is not None and lost.next_check_at > now else now + LOOK_SECONDS
    if isinstance(action, Finish):
        return Wait(at)
    return Wait(max(now + 0.05, min(action.until, at))) if isinstance(action, Wait) else action
