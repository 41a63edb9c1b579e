"""Heartbeats of hosts that are used and not, in the order in which they came in, for tests of the idle rule."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from dumont.domain.heartbeats import GpuUse, Readings, WorkloadSeen
from dumont.domain.idle import Activity, IdleVerdict, observe
from dumont.domain.idle_verdict import judge
from dumont.domain.specs import MachineSpec

SPEC = MachineSpec(idle_after_minutes=15, heartbeat_seconds=5.0)
STEP_SECONDS = 5.0
MEMORY_MIB = 20_480.0

QUIET = Readings(
    gpus=(GpuUse(utilization_percent=0.0, memory_used_mib=MEMORY_MIB, memory_total_mib=24_564.0),),
    cpu_percent=1.5,
    disk_write_bytes_per_second=2_000.0,
    network_receive_bytes_per_second=400.0,
    network_send_bytes_per_second=700.0,
    ssh_sessions=0,
    user_processes=0,
)
"""A host on which a model lies loaded and nobody asks it anything."""
UNKNOWN = Readings()


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """A heartbeat as it came in: `at` by our clock, numbered by its sender."""

    at: float
    sequence: int
    readings: Readings = QUIET
    workload: WorkloadSeen = WorkloadSeen(state="healthy")
    boot_id: str = "boot-1"
    serving: bool = True


def with_gpu(percent: float | None, memory_mib: float | None = MEMORY_MIB) -> Readings:
    """The quiet host, with its GPU in use so much."""
    gpu = GpuUse(utilization_percent=percent, memory_used_mib=memory_mib)
    return msgspec.structs.replace(QUIET, gpus=(gpu,))


def having(**fields: float | None) -> Readings:
    """The quiet host, but for these readings."""
    return msgspec.structs.replace(QUIET, **fields)


def every_step(seconds: float, readings: Readings = QUIET, *, start: float = 0.0, first: int = 0) -> list[Beat]:
    """One heartbeat each step for so long, both ends included."""
    count = int(seconds / STEP_SECONDS) + 1
    return [Beat(at=start + i * STEP_SECONDS, sequence=first + i, readings=readings) for i in range(count)]


WAITED = Activity(boot_id="boot-1", gpu_memory_mib=(MEMORY_MIB,))
"""What is known of a host that waited, was heard, and is now told to serve."""


def fold(beats: Iterable[Beat], spec: MachineSpec = SPEC, before: Activity = WAITED) -> Activity:
    """What these heartbeats prove, one after the other."""
    for beat in beats:
        before = observe(
            before,
            readings=beat.readings,
            workload=beat.workload,
            boot_id=beat.boot_id,
            sequence=beat.sequence,
            received_at=beat.at,
            spec=spec,
            serving=beat.serving,
        )
    return before


def verdict(beats: list[Beat], spec: MachineSpec = SPEC, **others: float) -> IdleVerdict:
    """The verdict at the moment of the latest heartbeat."""
    return judge(fold(beats, spec), spec, now=max(beat.at for beat in beats), **others)
