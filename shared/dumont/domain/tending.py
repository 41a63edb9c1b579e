"""What an open instance needs next, and how a provider's word on it is read. Shared by every operation; pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from dumont.domain import meter
from dumont.domain.actions import Action, Dismiss, Finish, Release, Survey, Wait
from dumont.domain.records import KEPT_DISK, Instance, InstanceState, MachineSpec, Problem
from dumont.domain.statuses import InstanceStatus, ProviderInstance

SETTLE_SECONDS = 60.0
"""How long after an intent its label may be missing from a readable list before we hold that nothing was rented: a
create call ends within 45 s, and lists were seen to lag; the reaper is behind it still."""

RELEASE_FIRST_SECONDS = 1.0
RELEASE_MOST_SECONDS = 30.0
STOPPED_GRACE_SECONDS = 15.0
"""`exited` is seen for moments on an instance that comes up; only beyond this is it taken at its word."""

STARTED_GRACE_SECONDS = 60.0
"""One that was started again may say so for much longer, although it comes up."""


def backoff_seconds(tries: int, *, first: float = RELEASE_FIRST_SECONDS, most: float = RELEASE_MOST_SECONDS) -> float:
    """How long to wait after the n-th try in vain: doubling, bounded."""
    return float(min(most, first * 2.0 ** min(tries, 16)))


def look_again_seconds(age_seconds: float, *, calls: bool = False) -> float:
    """How long until the next look at a boot: often while boots usually end, then less so; and seldom where the
    instance calls by itself once it has booted."""
    if calls:
        return 10.0 if age_seconds < 180 else 20.0
    if age_seconds < 60:
        return 1.0  # Vast.ai bears one list call a second
    return 2.0 if age_seconds < 180 else 8.0


def releasing_duty(instance: Instance, now: float) -> Action | None:
    """What an instance that is to go needs now: to be found by its label if its id is not known, or destroyed."""
    if instance.state is not InstanceState.RELEASING or now < instance.next_check_at:
        return None
    if instance.provider_instance_id is None:
        return Survey(instance.provider)
    return Release(instance.id)


def clear(instances: Sequence[Instance], now: float) -> Action:
    """Release what is left; finish when the provider has said of each that it is gone (invariant 3).

    One that was not let go yet came late, handed over by an operation that did not know that the race was over: it
    would bill, and nobody would wait for it (invariant 2).
    """
    left = [i for i in instances if i.state is not InstanceState.GONE]
    if not left:
        return Finish()
    for instance in left:
        if instance.state is not InstanceState.RELEASING:
            return Dismiss(instance.id)
        duty = releasing_duty(instance, now)
        if duty is not None:
            return duty
    return Wait(max(now + 0.05, min(i.next_check_at for i in left)))


# --- Reading what a provider says ---------------------------------------------------------------------------------


def found_by_label(instance: Instance, seen: ProviderInstance, now: float) -> Instance:
    """An instance whose create's answer was lost, found: it exists, and bills."""
    state = InstanceState.CREATED if instance.state is InstanceState.INTENDED else InstanceState.RELEASING
    return replace(
        meter.reopened(instance) if instance.gone_at is not None else instance,
        state=state,
        open=True,
        provider_instance_id=seen.id,
        outcome_unknown=False,
        created_at=instance.created_at or instance.intended_at,
        gone_at=None,
        next_check_at=now,
        tries=0,
    )


def missing_by_label(instance: Instance, now: float) -> Instance:
    """An intent whose label a readable list does not show: not yet settled, or nothing was rented."""
    if now < instance.intended_at + SETTLE_SECONDS:
        return replace(instance, outcome_unknown=True, next_check_at=now + backoff_seconds(instance.tries, most=15.0),
                       tries=instance.tries + 1)  # fmt: skip
    return never_was(instance, now, Problem(code="never_created", detail="the create call had no effect"))


def never_was(instance: Instance, now: float, problem: Problem) -> Instance:
    """An intent that the provider refused, or that settled as never rented."""
    return replace(
        instance,
        state=InstanceState.GONE,
        open=False,
        outcome_unknown=False,
        gone_at=now,
        problem=instance.problem or problem,
    )


def reject(instance: Instance, now: float, problem: Problem | None) -> Instance:
    """An instance that does not do: to be released. But one whose disk holds what no snapshot has is put aside instead:
    it is released only by who knows that nothing is lost with it (invariant 4)."""
    if instance.restored_snapshot_id == KEPT_DISK and instance.state is not InstanceState.LOST:
        return put_aside(instance, now, problem)
    if instance.standby and instance.restored_snapshot_id is not None and instance.state is InstanceState.PROVEN:
        return replace(instance, problem=problem)  # a spare that is behind is better than none; its operation ends
    return dismiss(instance, now, problem)


def put_aside(instance: Instance, now: float, problem: Problem | None) -> Instance:
    """An instance that backed a machine and does not any more: it may come back, or hold what no snapshot has."""
    if instance.state in (InstanceState.RELEASING, InstanceState.GONE):
        return instance
    return replace(
        instance,
        state=InstanceState.LOST,
        problem=problem,
        phoned_home_at=None,
        returned_at=None,
        stopped_at=None,
        next_check_at=now,
        tries=0,
    )


def dismiss(instance: Instance, now: float, problem: Problem | None) -> Instance:
    """An instance that is not wanted any more: to be released, until the provider says that it is gone."""
    if instance.state in (InstanceState.RELEASING, InstanceState.GONE):
        return instance
    return replace(
        instance,
        state=InstanceState.RELEASING,
        releasing_at=now,
        next_check_at=now,
        tries=0,
        problem=instance.problem or problem,
    )


def gone(instance: Instance, now: float) -> Instance:
    """The provider says that there is no such instance (invariant 3). Said again, later or by one who heard it before
    and slept since, it changes nothing: the ledger has its entries."""
    if instance.state is InstanceState.GONE:
        return instance
    return replace(meter.ended(instance, now), state=InstanceState.GONE, open=False, gone_at=now, outcome_unknown=False)


def looked_at(instance: Instance, seen: ProviderInstance, spec: MachineSpec, now: float) -> Instance:
    """A booting instance after the provider's word on it: booted, rejected with the reason, or to be looked at again.

    A status that we cannot read proves nothing: only the boot's time limit ends the wait for it.
    """
    began_at = instance.woken_at or (instance.created_at if instance.created_at is not None else instance.intended_at)
    age_seconds = now - began_at
    billed = meter.billed_as(seen.status)
    if billed is not None and instance.turns:
        # It ran before: the record's own times are of its last boot alone.
        instance = meter.saw(instance, billed, now)
    status, said = seen.status, f": {seen.status_message[:200]}" if seen.status_message else ""
    if status is InstanceStatus.RUNNING and seen.ssh is not None:
        return replace(
            instance,
            state=InstanceState.BOOTED,
            booted_at=instance.booted_at or now,
            up_at=now,
            ssh=seen.ssh,
            next_check_at=now,
            tries=0,
        )
    if status is InstanceStatus.BROKEN:
        return reject(instance, now, Problem(code="host_broken", detail=f"the host cannot start it{said}"))
    if status is InstanceStatus.OFFLINE:
        return reject(instance, now, Problem(code="host_offline", detail=f"the host went offline while booting{said}"))
    grace_seconds = STOPPED_GRACE_SECONDS if instance.woken_at is None else STARTED_GRACE_SECONDS
    if status is InstanceStatus.STOPPED and age_seconds > grace_seconds:
        return reject(instance, now, Problem(code="stopped", detail=f"it stopped while booting{said}"))
    if age_seconds > spec.boot_timeout_seconds:
        return reject(
            instance,
            now,
            Problem(code="boot_timeout", detail=f"it did not boot within {spec.boot_timeout_seconds:.0f} s{said}"),
        )
    return replace(
        instance,
        seen_booting_at=now if instance.booted_at is None else instance.seen_booting_at,
        next_check_at=min(
            now + look_again_seconds(age_seconds, calls=instance.agent_sent and instance.phoned_home_at is None),
            max(now, began_at + spec.boot_timeout_seconds) + 0.1,  # nor later than its time is up
        ),
    )


def vanished() -> Problem:
    """Why an instance is gone that nobody asked to go."""
    return Problem(code="vanished", detail="the provider says that it is gone, and nobody asked for that")
