"""Whether a machine is idle: what its heartbeats prove, folded one by one into a small `Activity`. Pure.

Each heartbeat is in use, quiet, or in doubt. In use (one signal above its limit is enough) ends a stretch of idleness.
Quiet adds the time since the heartbeat before it, if that was quiet too, came from the same boot, and is no further
away than `GAP_INTERVALS`. In doubt (a signal that counts is unknown) and gaps add nothing and end nothing: unknown is
not idle (invariant 6), and is not use either. What comes twice, late or out of order can end a stretch, never add.

Every signal counts by default, since a usual Vast.ai container tells them all from its second heartbeat on: its SSH
server is OpenSSH's, nvidia-smi is there, and /proc is its own. What would keep such a container awake for ever is not
the unknown but the image's own daemons, which look like a user's processes: those that ran before the machine served,
when nobody had yet had a chance to start anything, are not counted. Where a host never tells something (`ssh_sessions`
without an OpenSSH server in sight, GPUs on a machine without nvidia-smi) the machine stays awake and says why, until
its owner names that signal in `idle_ignore`: that is a decision, and not ours.

A server that runs is not use by itself: its GPU, its traffic and its requests are. A job (a workload that is not
started again whenever it ends) is use as long as it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from dumont.domain.specs import MachineSpec

if TYPE_CHECKING:
    from dumont.domain.heartbeats import Readings, WorkloadSeen

GAP_INTERVALS = 3
"""Heartbeats further apart than so many intervals say nothing of the time between them."""
GAP_SECONDS_LEAST = 3.0
"""A late packet is no gap, however short the interval."""
RESTING_COUNTS = 3
"""Of the last so many heartbeats before it served, the fewest processes are the image's own: fewer than the most, as
our own proof may have run a command just then."""
STRETCH_SECONDS_LEAST = 60.0
"""Shorter stretches teach nothing about how long this machine idles: no window is that short."""

_RUNS = frozenset({"starting", "running", "healthy", "unhealthy"})
_ENDED = frozenset({"stopped", "exited"})

SignalState = Literal["active", "quiet", "unknown", "ignored"]


class Signal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One sign of use: what was seen of it (None: unknown), and the most that is not use, in `unit`."""

    name: str
    state: SignalState
    seen: float | None
    limit: float
    unit: str = ""


class Activity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the heartbeats of one boot have proven so far. Times are when heartbeats were received.

    `active_at`: the last use, or when it began to serve; `active_because`: the signals then, or ("start",).
    `unknown`: the signals that the last heartbeat did not tell. `quiet`: whether it told them all, and none was use.
    """

    boot_id: str = ""
    sequence: int = -1
    heard_at: float = 0.0
    serving: bool = False
    quiet: bool = False
    proven_idle_seconds: float = 0.0
    active_at: float = 0.0
    active_because: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    gpu_memory_mib: tuple[float, ...] = ()
    """Of each GPU, as last known: a change since then is use."""
    resting_processes: tuple[float, ...] = ()
    """How many processes were seen in the last heartbeats before it served."""


class IdleVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether it is idle, why in words, and the earliest moment at which it can be, whatever happens until then (None:
    it never sleeps by itself): not before that is another look worth its while."""

    idle: bool
    words: tuple[str, ...]
    idle_at: float | None


# --- Heartbeats, one by one ---------------------------------------------------------------------------------------


def observe(
    before: Activity | None,
    *,
    readings: Readings,
    workload: WorkloadSeen,
    boot_id: str,
    sequence: int,
    received_at: float,
    spec: MachineSpec,
    serving: bool = True,
) -> Activity:
    """What is known after one more heartbeat. A new boot, and the beginning of service, start from nothing.

    `serving`: whether its sender was told to serve; of one that does not, only its resting processes are kept.
    """
    known = before if before is not None and before.boot_id == boot_id else Activity(boot_id=boot_id)
    memory = _memory(readings, spec) or known.gpu_memory_mib
    resting = known.resting_processes
    heard_at = max(received_at, known.heard_at)
    if not serving:
        if readings.user_processes is not None:
            resting = (*resting, readings.user_processes)[-RESTING_COUNTS:]
        return Activity(
            boot_id=boot_id, sequence=sequence, heard_at=heard_at, gpu_memory_mib=memory, resting_processes=resting
        )
    seen = signals(readings, workload, spec, known)
    active = tuple(signal.name for signal in seen if signal.state == "active")
    unknown = tuple(signal.name for signal in seen if signal.state == "unknown")
    newer = sequence > known.sequence
    # A copy sees no change of memory where its first saw one: only what is newer can make a doubt quiet.
    quiet = not active and not unknown and (newer or known.quiet)
    proven, active_at, because = known.proven_idle_seconds, known.active_at, known.active_because
    if active or not known.serving:
        proven, active_at, because = 0.0, heard_at, active or ("start",)
    elif quiet and known.quiet and newer:
        apart = received_at - known.heard_at
        proven += apart if 0.0 < apart <= gap_seconds(spec) else 0.0
    return Activity(
        boot_id=boot_id,
        sequence=sequence,
        heard_at=heard_at,
        serving=True,
        quiet=quiet,
        proven_idle_seconds=proven,
        active_at=active_at,
        active_because=because,
        unknown=unknown,
        gpu_memory_mib=memory,
        resting_processes=resting,
    )


def gap_seconds(spec: MachineSpec) -> float:
    """Heartbeats further apart than this leave the time between them in doubt."""
    return max(GAP_INTERVALS * spec.heartbeat_seconds, GAP_SECONDS_LEAST)


def stretch_ended(before: Activity | None, after: Activity) -> float | None:
    """The proven seconds of the idle stretch that a heartbeat has ended by use; None if it ended none worth noting."""
    if before is None or not (before.serving and after.serving) or before.boot_id != after.boot_id:
        return None
    if after.proven_idle_seconds > 0:
        return None
    return before.proven_idle_seconds if before.proven_idle_seconds >= STRETCH_SECONDS_LEAST else None


def is_job(spec: MachineSpec) -> bool:
    """Whether the workload is one that ends: what is started again whenever it ends is a server."""
    return bool(spec.run) and spec.restart != "always"


# --- Signals ------------------------------------------------------------------------------------------------------


def signals(
    readings: Readings, workload: WorkloadSeen, spec: MachineSpec, known: Activity | None = None
) -> tuple[Signal, ...]:
    """The signs of use in one heartbeat. `known` is what was known before it: without it changes cannot be told."""
    known = known or Activity()
    gpus = readings.gpus or ()
    use: list[float | None] = [gpu.utilization_percent for gpu in gpus]
    use += [None] * (spec.gpu_count - len(gpus))  # one that is not reported is unknown
    resting = min(known.resting_processes, default=0.0)
    read = (
        _signal("gpu_use", use, spec.idle_gpu_percent, "%"),
        _signal("gpu_memory", _changes(readings, spec, known), spec.idle_gpu_memory_mib, "MiB"),
        _signal("cpu", [readings.cpu_percent], spec.idle_cpu_percent, "%"),
        _signal("network", _network(readings), spec.idle_network_bytes_per_second, "B/s"),
        _signal("disk_writes", [readings.disk_write_bytes_per_second], spec.idle_disk_bytes_per_second, "B/s"),
        _signal("ssh_sessions", [readings.ssh_sessions], 0.0),
        _signal("user_processes", [readings.user_processes], spec.idle_user_processes + resting),
    )
    counted: tuple[Signal, ...] = read
    if spec.idle_ignore:
        counted = tuple(
            msgspec.structs.replace(signal, state="ignored") if signal.name in spec.idle_ignore else signal
            for signal in read
        )
    return (*counted, _workload(workload, spec)) if spec.run else counted


def _signal(name: str, values: Sequence[float | None], limit: float, unit: str = "") -> Signal:
    """Use if any value is above the limit, whatever the others; else unknown if any is; less than nothing is no
    reading."""
    read = [value for value in values if value is not None and value >= 0]
    most = max(read) if read else None
    state: SignalState = "quiet"
    if most is not None and most > limit:
        state = "active"
    elif most is None or len(read) < len(values):
        state = "unknown"
    return Signal(name=name, state=state, seen=most, limit=limit, unit=unit)


def _network(readings: Readings) -> list[float | None]:
    received, sent = readings.network_receive_bytes_per_second, readings.network_send_bytes_per_second
    if received is None or sent is None or received < 0 or sent < 0:
        return [received, sent]  # one way alone may prove use, but not that there is none
    return [received + sent]


def _memory(readings: Readings, spec: MachineSpec) -> tuple[float, ...]:
    """The memory in use on each GPU; () if one of them does not say."""
    used = [gpu.memory_used_mib for gpu in readings.gpus or ()]
    known = tuple(value for value in used if value is not None and value >= 0)
    return known if len(known) == len(used) >= spec.gpu_count else ()


def _changes(readings: Readings, spec: MachineSpec, known: Activity) -> list[float | None]:
    """By how much each GPU's memory has changed since it was last known: also across gaps and doubt."""
    now, before = _memory(readings, spec), known.gpu_memory_mib
    if not now or len(now) != len(before):
        return [None]
    return [abs(a - b) for a, b in zip(now, before, strict=True)]


def _workload(seen: WorkloadSeen, spec: MachineSpec) -> Signal:
    runs = None if seen.state not in _RUNS | _ENDED else float(seen.state in _RUNS)
    signal = _signal("workload", [runs], 0.0)
    counts = spec.idle_workload_counts or is_job(spec)
    return signal if counts else msgspec.structs.replace(signal, state="ignored")
