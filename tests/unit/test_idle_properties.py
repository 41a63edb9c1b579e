"""The idle rule, whatever heartbeats come: in any order, twice, late, with anything unknown."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from dumont.domain.heartbeats import GpuUse, Readings, WorkloadSeen
from dumont.domain.idle import signals
from dumont.domain.idle_verdict import judge
from dumont.domain.specs import MachineSpec
from tests.idle_traces import QUIET, Beat, fold
from tests.strategies import of_type

often = settings(max_examples=80, deadline=None)
NAMES = ("gpu_use", "gpu_memory", "cpu", "network", "disk_writes", "ssh_sessions", "user_processes")


def _gpu(percent: float | None, memory_mib: float | None) -> Readings:
    return replace(QUIET, gpus=(GpuUse(utilization_percent=percent, memory_used_mib=memory_mib),))


VARIANTS = (
    Readings(),
    replace(QUIET, gpus=None),
    *(_gpu(percent, 20_480.0) for percent in (None, 1.0, 6.0, 12.0, 99.0)),
    *(_gpu(0.0, memory) for memory in (None, 100.0, 110.0, 200.0)),
    *(replace(QUIET, cpu_percent=value) for value in (None, 0.0, 9.0, 15.0, 30.0)),
    *(replace(QUIET, disk_write_bytes_per_second=value) for value in (None, 1e5, 3e5, 1e7)),
    *(replace(QUIET, network_receive_bytes_per_second=value) for value in (None, 1e4, 3e4, 1e6)),
    *(replace(QUIET, network_send_bytes_per_second=value) for value in (None, 1e4, 1e6)),
    *(replace(QUIET, ssh_sessions=value) for value in (None, 1, 2)),
    *(replace(QUIET, user_processes=value) for value in (None, 1, 2, 7)),
    replace(QUIET, cpu_percent=50.0, ssh_sessions=None),
)
"""Hosts in use, in doubt, or near a threshold, by each signal."""
readings = st.integers(0, 2 * len(VARIANTS)).map(lambda i: VARIANTS[i] if i < len(VARIANTS) else QUIET)
APART_SECONDS = (5.0, 5.0, 5.0, 0.0, 12.0, 16.0, 300.0)
STEPS = (1, 1, 1, 0, -2, 3)


@st.composite
def streams(draw: st.DrawFn, *, boots: int = 2) -> list[Beat]:
    """Heartbeats at any distance, most of them on time; numbers mostly grow, and now and then one comes again."""
    one = st.tuples(st.sampled_from(APART_SECONDS), st.sampled_from(STEPS), readings, st.integers(0, 19))
    at, sequence, beats = 0.0, 0, []
    for apart, step, seen, chance in draw(st.lists(one, min_size=1, max_size=25)):
        at, sequence = at + apart, max(0, sequence + step)
        boot = "boot-2" if chance == 18 and boots > 1 else "boot-1"
        beats.append(Beat(at=at, sequence=sequence, readings=seen, boot_id=boot, serving=chance != 19))
    return beats


specs = st.builds(
    MachineSpec,
    idle_after_minutes=st.floats(0.05, 2),
    idle_gpu_percent=st.floats(0, 12),
    idle_gpu_memory_mib=st.floats(0, 120),
    idle_cpu_percent=st.floats(0, 20),
    idle_network_bytes_per_second=st.floats(0, 6e4),
    idle_disk_bytes_per_second=st.floats(0, 4e5),
    idle_user_processes=st.integers(0, 2),
    idle_ignore=st.lists(st.sampled_from(NAMES), max_size=3, unique=True).map(tuple),
)


def in_use(beats: list[Beat], spec: MachineSpec) -> list[float]:
    """When something was used, by the readings alone: without the changes, which need two."""
    plain = replace(spec, idle_ignore=(*spec.idle_ignore, "gpu_memory"), idle_user_processes=100)
    return [b.at for b in beats if any(s.state == "active" for s in signals(b.readings, b.workload, plain))]


@often
@given(streams(), specs)
def test_no_more_is_proven_than_the_time_since_the_last_use(beats: list[Beat], spec: MachineSpec) -> None:
    activity = fold(beats, spec)
    latest = max(in_use(beats, spec), default=beats[0].at)
    assert activity.proven_idle_seconds <= beats[-1].at - latest + 1e-6


@often
@given(streams(), specs)
def test_use_within_the_window_forbids_idle(beats: list[Beat], spec: MachineSpec) -> None:
    assert spec.idle_after_minutes is not None
    now = beats[-1].at
    if judge(fold(beats, spec), spec, now=now).idle:
        assert all(at <= now - spec.idle_after_minutes * 60 + 1e-6 for at in in_use(beats, spec))


@often
@given(streams(), specs, st.sampled_from(NAMES))
def test_a_signal_that_counts_and_is_never_told_forbids_idle(beats: list[Beat], spec: MachineSpec, name: str) -> None:
    spec = replace(spec, idle_ignore=tuple(other for other in spec.idle_ignore if other != name))
    gone = {
        "gpu_use": "gpus",
        "gpu_memory": "gpus",
        "cpu": "cpu_percent",
        "network": "network_send_bytes_per_second",
        "disk_writes": "disk_write_bytes_per_second",
    }.get(name, name)
    blind = [replace(beat, readings=replace(beat.readings, **{gone: None})) for beat in beats]
    activity = fold(blind, spec)
    assert activity.proven_idle_seconds == 0.0
    assert not judge(activity, spec, now=beats[-1].at).idle


@often
@given(streams(), specs)
def test_heartbeats_that_come_twice_prove_no_more(beats: list[Beat], spec: MachineSpec) -> None:
    twice = [beat for beat in beats for beat in (beat, beat)]
    assert fold(twice, spec).proven_idle_seconds <= fold(beats, spec).proven_idle_seconds + 1e-6
    once_and_again = fold(beats, spec)
    assert fold([beats[-1]], spec, once_and_again).proven_idle_seconds <= once_and_again.proven_idle_seconds


@often
@given(streams(boots=1), specs, st.randoms(use_true_random=False))
def test_out_of_order_no_more_is_proven_than_passed_since_the_last_use(
    beats: list[Beat], spec: MachineSpec, chance: object
) -> None:
    order = list(range(len(beats)))
    chance.shuffle(order)  # type: ignore[attr-defined]
    shuffled = [replace(beats[which], at=beats[place].at) for place, which in enumerate(order)]
    activity = fold(shuffled, spec)
    latest = max(in_use(shuffled, spec), default=shuffled[0].at)
    assert activity.proven_idle_seconds <= shuffled[-1].at - latest + 1e-6


@often
@given(streams(), st.sampled_from([20.0, 600.0, 1e6]))
def test_a_gap_adds_nothing_and_ends_nothing(beats: list[Beat], seconds: float) -> None:
    spec = MachineSpec(idle_after_minutes=1)
    before = fold(beats, spec)
    after = Beat(at=before.heard_at + seconds, sequence=before.sequence + 1, boot_id=before.boot_id)
    same_memory = replace(
        QUIET, gpus=(GpuUse(utilization_percent=0.0, memory_used_mib=_memory(before.gpu_memory_mib)),)
    )
    later = fold([replace(after, readings=same_memory)], spec, before)
    if before.serving:
        assert later.proven_idle_seconds == before.proven_idle_seconds


def _memory(known: tuple[float, ...]) -> float:
    return known[0] if known else 0.0


@often
@given(streams(), specs)
def test_a_fresh_boot_begins_at_nothing(beats: list[Beat], spec: MachineSpec) -> None:
    before = fold(beats, spec)
    fresh = Beat(at=before.heard_at + 5, sequence=before.sequence + 1, boot_id="another")
    after = fold([fresh], spec, before)
    assert after.proven_idle_seconds == 0.0
    assert not judge(after, spec, now=fresh.at).idle


@often
@given(streams(), specs, st.floats(0, 1e5), st.floats(0, 1e5))
def test_a_keep_alive_forbids_idle_until_its_time_and_then_changes_nothing(
    beats: list[Beat], spec: MachineSpec, now: float, keep_until: float
) -> None:
    activity = fold(beats, spec)
    kept = judge(activity, spec, now=now, keep_until=keep_until)
    assert kept.idle == (judge(activity, spec, now=now).idle and now >= keep_until)


@often
@given(streams(), specs, st.floats(0, 12), st.integers(0, 2), st.floats(0, 1e5), st.sampled_from(NAMES))
def test_looser_thresholds_never_make_it_less_idle(
    beats: list[Beat], spec: MachineSpec, more: float, processes: int, much: float, name: str
) -> None:
    assert spec.idle_after_minutes is not None
    looser = replace(
        spec,
        idle_after_minutes=spec.idle_after_minutes * 0.9,
        idle_gpu_percent=spec.idle_gpu_percent + more,
        idle_gpu_memory_mib=spec.idle_gpu_memory_mib + more,
        idle_cpu_percent=spec.idle_cpu_percent + more,
        idle_network_bytes_per_second=spec.idle_network_bytes_per_second + much,
        idle_disk_bytes_per_second=spec.idle_disk_bytes_per_second + much,
        idle_user_processes=spec.idle_user_processes + processes,
        idle_ignore=(*spec.idle_ignore, name),
    )
    strict, loose = fold(beats, spec), fold(beats, looser)
    assert loose.proven_idle_seconds >= strict.proven_idle_seconds - 1e-6
    now = beats[-1].at
    if judge(strict, spec, now=now).idle:
        assert judge(loose, looser, now=now).idle


@often
@given(streams(), specs, st.floats(0, 200), st.floats(0, 400), st.floats(0, 400))
def test_it_is_never_idle_before_the_moment_that_was_named(
    beats: list[Beat], spec: MachineSpec, wait: float, keep_until: float, asked_at: float
) -> None:
    others = {"keep_until": keep_until, "last_request_at": asked_at}
    now = beats[-1].at
    activity = fold(beats, spec)
    named = judge(activity, spec, now=now, **others)
    assert named.idle_at is not None
    assert named.words
    quiet = [
        replace(beats[-1], at=now + 5.0 * i, sequence=activity.sequence + i, readings=QUIET)
        for i in range(1, int(wait // 5) + 1)
    ]
    later = quiet[-1].at if quiet else now
    if later < named.idle_at - 1e-6:
        assert not judge(fold(quiet, spec, activity), spec, now=later, **others).idle


@often
@given(of_type(Readings), of_type(WorkloadSeen), streams())
def test_whatever_a_host_sends_is_taken_without_an_error(
    anything: Readings, workload: WorkloadSeen, beats: list[Beat]
) -> None:
    spec = MachineSpec(idle_after_minutes=15, run="serve")
    odd = replace(beats[-1], readings=anything, workload=workload)
    judge(fold([*beats, odd, *beats], spec), spec, now=beats[-1].at)
