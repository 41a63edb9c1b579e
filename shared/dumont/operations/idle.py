"""Whether a machine is idle, as it is told to whoever asks; and keeping it awake."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from dumont import queries
from dumont.domain import timetable
from dumont.domain.errors import Conflict, Unknown
from dumont.domain.heartbeats import Heartbeat
from dumont.domain.idle import Activity, IdleVerdict, Signal, signals
from dumont.domain.idle_history import IdleHistory
from dumont.domain.idle_verdict import judge
from dumont.domain.names import check_machine_name
from dumont.domain.records import Instance, Machine, MachineState
from dumont.domain.snapshots import Snapshot, newest_good
from dumont.domain.tariffs import tariff_of
from dumont.domain.tiers import Choice, Tier, choose
from dumont.domain.timetable import Due
from dumont.ports import Ports, Transaction

_ENDED = (MachineState.DESTROYING, MachineState.DESTROYED, MachineState.FAILED)
_ASLEEP = (MachineState.HIBERNATING, MachineState.HIBERNATED)


class IdleSeen(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides whether a machine sleeps. `verdict` is None for one that does not serve, `choice` for one that
    is on no host and was on none."""

    machine: Machine
    verdict: IdleVerdict | None
    signals: tuple[Signal, ...]
    activity: Activity | None
    choice: Choice | None
    next_due: Due | None
    now: float


def look(ports: Ports, name: str) -> IdleSeen:
    """Whether a machine is idle, by what was last heard of it. Raises `Unknown`."""
    machine = _machine(ports.store.get(Machine, check_machine_name(name)), name)
    now = ports.clock.now()
    beat = ports.store.get(Heartbeat, machine.instance_id) if machine.instance_id is not None else None
    if beat is not None and beat.sequence < 0:
        beat = None  # it only holds the deadline of an instance that was never heard
    activity = beat.activity if beat is not None else None
    serves = machine.state is MachineState.RUNNING
    read = signals(beat.readings, beat.workload, machine.spec, activity) if beat is not None and serves else ()
    return IdleSeen(
        machine=machine,
        verdict=verdict(machine, activity, now) if serves else None,
        signals=_without_changes(read),
        activity=activity,
        choice=tier_choice(ports, machine, activity, now),
        next_due=timetable.next_due(machine.spec, now),
        now=now,
    )


def verdict(machine: Machine, activity: Activity | None, now: float) -> IdleVerdict:
    """The verdict on a machine that serves."""
    return judge(
        activity,
        machine.spec,
        now=now,
        keep_until=machine.keep_until,
        last_request_at=machine.last_request_at,
        serving_since=machine.running_since,
    )


def tier_choice(ports: Ports, machine: Machine, activity: Activity | None, now: float) -> Choice | None:
    """What an idle machine is to be, by what its present (or last) host costs and what its snapshots weigh. None
    without a host to go by."""
    host = _host(ports, machine)
    if host is None:
        return None
    taken = ports.store.find(Snapshot, queries.snapshots_of_machine(machine.id))
    good = newest_good(taken)
    tariff = tariff_of(
        host.offer,
        machine.spec,
        workspace_bytes=float(good.bytes_total) if good is not None else 0.0,
        changed_bytes=float(good.bytes_sent) if good is not None else None,
    )
    current = Tier.AWAKE
    idle_seconds = activity.proven_idle_seconds if activity is not None else 0.0
    if machine.state in _ASLEEP:
        current = Tier.PAUSE if machine.paused_instance_id is not None else Tier.HIBERNATE
        idle_seconds = max(0.0, now - (machine.unused_since or machine.slept_at or now))
    return choose(
        tariff,
        ports.store.get(IdleHistory, machine.id),
        idle_seconds=idle_seconds,
        window_seconds=(machine.spec.idle_after_minutes or 0.0) * 60.0,
        now=now,
        current=current,
        wanted=machine.spec.sleep_tier,
    )


def keep(ports: Ports, name: str, *, seconds: float) -> Machine:
    """Keep a machine awake for so long from now on; 0 ends a keep-alive. Raises `Unknown`, `Conflict`."""
    check_machine_name(name)

    def work(tx: Transaction) -> Machine:
        machine = _machine(tx.get(Machine, name), name)
        if machine.state in _ENDED:
            raise Conflict(f"{name} is {machine.state.value}, and cannot be kept awake")
        if seconds > 0 and machine.state in _ASLEEP:
            raise Conflict(f"{name} sleeps", hint=f"`dumont wake {name}` wakes it")
        now = ports.clock.now()
        # `updated_at` stays: it says when the machine's state changed, and nothing of that has.
        kept = replace(machine, keep_until=now + seconds if seconds > 0 else 0.0)
        if kept.keep_until < machine.keep_until and machine.state is MachineState.RUNNING:
            kept = replace(kept, deadline=now)  # the sweep had put its next look off until the end of the longer one
        tx.put(kept)
        return kept

    return ports.store.transact(work)


def _machine(found: Machine | None, name: str) -> Machine:
    if found is None:
        raise Unknown(f"there is no machine named {name}", field="name", hint="`dumont ls` shows those there are")
    return found


def _host(ports: Ports, machine: Machine) -> Instance | None:
    """The instance that backs it, or that it slept on, or the last that it had."""
    known = machine.instance_id or machine.paused_instance_id
    if known is not None:
        return ports.store.get(Instance, known)
    ever = ports.store.find(Instance, queries.instances_ever_of_machine(machine.id))
    served = [i for i in ever if i.intended_at >= machine.created_at and i.proven_at is not None]
    return max(served, key=lambda i: i.proven_at or 0.0, default=None)


def _without_changes(read: tuple[Signal, ...]) -> tuple[Signal, ...]:
    """A kept heartbeat has been compared with itself by now: how memory changed before it is known no more."""
    return tuple(signal for signal in read if signal.name != "gpu_memory")
