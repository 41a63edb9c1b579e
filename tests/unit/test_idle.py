"""The idle rule over traces: what is use, what is idleness, what is neither, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from dumont.domain.heartbeats import GpuUse, Readings, WorkloadSeen
from dumont.domain.idle import observe, signals, stretch_ended
from dumont.domain.idle_verdict import describe, judge
from dumont.domain.specs import MachineSpec
from tests.idle_traces import QUIET, SPEC, UNKNOWN, Beat, every_step, fold, having, verdict, with_gpu

WINDOW = 900.0


def test_a_machine_that_nothing_used_for_its_window_is_idle() -> None:
    seen = verdict(every_step(WINDOW))
    assert seen.idle
    assert seen.words == ("nothing used it for 15 min, and 15 min is enough; it began to serve 15 min ago",)


def test_a_moment_before_it_is_not_and_says_when_it_may_be() -> None:
    seen = verdict(every_step(WINDOW - 5))
    assert not seen.idle
    assert seen.idle_at == WINDOW
    assert seen.words == ("nothing used it for 14 min of the 15 min that it takes; it began to serve 14 min ago",)


@pytest.mark.parametrize(
    ("use", "name"),
    [
        (with_gpu(6.0), "GPU use"),
        (with_gpu(0.0, 20_500.0), "GPU memory"),
        (having(cpu_percent=30.0), "processor"),
        (having(network_receive_bytes_per_second=15_000.0, network_send_bytes_per_second=6_000.0), "network"),
        (having(disk_write_bytes_per_second=5e6), "disk writes"),
        (having(ssh_sessions=1), "SSH sessions"),
        (having(user_processes=1), "a user's processes"),
    ],
)
def test_each_signal_alone_is_use(use: Readings, name: str) -> None:
    idle_till_then = every_step(WINDOW)
    seen = verdict([*idle_till_then, Beat(at=WINDOW + 5, sequence=181, readings=use)])
    assert not seen.idle
    assert name in seen.words[0]


@pytest.mark.parametrize(
    "field",
    [
        "cpu_percent",
        "network_receive_bytes_per_second",
        "network_send_bytes_per_second",
        "disk_write_bytes_per_second",
        "ssh_sessions",
        "user_processes",
        "gpus",
    ],
)
def test_what_is_never_told_keeps_it_awake_and_is_named(field: str) -> None:
    seen = verdict(every_step(3 * WINDOW, having(**{field: None})))
    assert not seen.idle
    assert "what is unknown is not idle" in seen.words[0]


def test_a_busy_machine_without_a_single_reading_is_never_put_to_sleep() -> None:
    assert not verdict(every_step(24 * 3600, UNKNOWN)).idle


def test_what_its_owner_names_as_untold_does_not_count() -> None:
    spec = replace(SPEC, idle_ignore=("ssh_sessions",))
    assert verdict(every_step(WINDOW, having(ssh_sessions=None)), spec).idle


def test_an_open_ssh_session_keeps_it_awake() -> None:
    seen = verdict(every_step(10 * WINDOW, having(ssh_sessions=1)))
    assert not seen.idle
    assert "SSH sessions" in seen.words[0]


def test_a_stuck_process_keeps_it_awake_and_is_named() -> None:
    seen = verdict(every_step(10 * WINDOW, having(user_processes=1)))
    assert not seen.idle
    assert "a user's processes" in seen.words[0]


def test_the_images_own_daemons_are_not_a_users_processes() -> None:
    waiting = [
        Beat(at=i, sequence=i, readings=having(user_processes=count), serving=False)
        for i, count in enumerate((1, 3, 4, 3))  # the 4: our own proof ran a command
    ]
    served = every_step(WINDOW, having(user_processes=3), start=5.0, first=4)
    assert verdict([*waiting, *served]).idle
    one_more = every_step(WINDOW, having(user_processes=4), start=5.0, first=4)
    assert not verdict([*waiting, *one_more]).idle


def test_bursts_within_the_window_keep_it_awake() -> None:
    beats = every_step(4 * 3600)
    bursty = [replace(b, readings=with_gpu(90.0)) if b.sequence % 150 == 149 else b for b in beats]
    assert not any(
        judge(fold(bursty[:count]), SPEC, now=bursty[count - 1].at).idle for count in range(1, len(bursty), 50)
    )


def test_a_gap_proves_nothing_and_ends_nothing() -> None:
    first, later = every_step(600), every_step(600, start=4200.0, first=200)
    assert fold([*first, *later]).proven_idle_seconds == 1200.0


def test_doubt_proves_nothing_and_ends_nothing() -> None:
    doubt = every_step(600, having(cpu_percent=None), start=605.0, first=121)
    again = every_step(600, start=1210.0, first=242)
    assert fold([*every_step(600), *doubt]).proven_idle_seconds == 600.0
    assert fold([*every_step(600), *doubt, *again]).proven_idle_seconds == 1200.0


def test_memory_that_changed_behind_a_gap_is_use() -> None:
    gap = Beat(at=5000.0, sequence=900, readings=with_gpu(0.0, 1_000.0))
    assert fold([*every_step(WINDOW), gap]).active_because == ("gpu_memory",)


def test_silence_is_not_idle() -> None:
    activity = fold(every_step(WINDOW))
    assert judge(activity, SPEC, now=WINDOW + 14).idle
    late = judge(activity, SPEC, now=WINDOW + 60)
    assert not late.idle
    assert late.words == ("its agent was last heard 60 s ago, and silence proves nothing",)


def test_a_machine_that_was_never_heard_is_not_idle() -> None:
    seen = judge(None, SPEC, now=1e9)
    assert not seen.idle
    assert "not heard" in seen.words[0]


def test_a_fresh_boot_is_not_idle() -> None:
    rebooted = Beat(at=WINDOW + 5, sequence=0, boot_id="boot-2")
    activity = fold([*every_step(WINDOW), rebooted])
    assert activity.proven_idle_seconds == 0.0
    assert activity.active_because == ("start",)


def test_a_woken_machine_is_not_idle_before_it_served_for_its_window() -> None:
    waits = Beat(at=WINDOW + 5, sequence=181, serving=False)
    serves = Beat(at=WINDOW + 6, sequence=182)
    assert fold([*every_step(WINDOW), waits, serves]).proven_idle_seconds == 0.0
    assert not verdict(every_step(WINDOW), serving_since=10.0).idle


def test_a_keep_alive_lasts_until_its_time() -> None:
    beats = every_step(WINDOW)
    kept = verdict(beats, keep_until=WINDOW + 3600)
    assert not kept.idle
    assert kept.words == ("it is kept awake for another 60 min",)
    assert kept.idle_at == WINDOW + 3600
    assert verdict(beats, keep_until=WINDOW).idle


def test_a_request_within_the_window_keeps_it_awake() -> None:
    beats = every_step(2 * WINDOW)
    asked = verdict(beats, last_request_at=WINDOW + 1)
    assert not asked.idle
    assert asked.words == ("a request came through the gateway 14 min ago",)
    assert asked.idle_at == 2 * WINDOW + 1
    assert verdict(beats, last_request_at=WINDOW).idle


def test_without_a_window_it_never_sleeps_by_itself() -> None:
    seen = verdict(every_step(24 * 3600), MachineSpec())
    assert not seen.idle
    assert seen.idle_at is None
    assert seen.words[0] == "it never sleeps by itself: it was given no time to sleep after"


def test_a_server_that_runs_is_not_use_and_a_job_is() -> None:
    runs = [replace(b, workload=WorkloadSeen(state="running")) for b in every_step(WINDOW)]
    server = replace(SPEC, run="vllm serve", restart="always")
    job = replace(SPEC, run="python train.py", restart="never")
    assert verdict(runs, server).idle
    assert not verdict(runs, replace(server, idle_workload_counts=True)).idle
    assert not verdict(runs, job).idle
    ended = [replace(b, workload=WorkloadSeen(state="exited", exit_status=0)) for b in every_step(WINDOW)]
    assert verdict(ended, job).idle
    unheard = [replace(b, workload=WorkloadSeen(state="none")) for b in every_step(WINDOW)]
    assert not verdict(unheard, job).idle, "a job that has not begun is in doubt"


def test_one_gpu_of_two_that_does_not_report_is_unknown_and_one_that_is_busy_is_use() -> None:
    spec = replace(SPEC, gpu_count=2)
    assert not verdict(every_step(WINDOW), spec).idle
    both = having(gpus=(*(QUIET.gpus or ()), GpuUse(utilization_percent=80.0)))  # type: ignore[arg-type]
    states = {signal.name: signal.state for signal in signals(both, WorkloadSeen(), spec)}
    assert states["gpu_use"] == "active"
    assert states["gpu_memory"] == "unknown"


def test_half_a_reading_can_prove_use_and_not_its_absence() -> None:
    def network(**fields: Any) -> str:
        return next(s.state for s in signals(having(**fields), WorkloadSeen(), SPEC) if s.name == "network")

    assert network(network_receive_bytes_per_second=None, network_send_bytes_per_second=1e6) == "active"
    assert network(network_receive_bytes_per_second=None, network_send_bytes_per_second=1.0) == "unknown"
    assert network(network_receive_bytes_per_second=-5.0) == "unknown"


def test_a_stretch_that_use_ended_is_told_once() -> None:
    before = fold(every_step(WINDOW))
    used = Beat(at=WINDOW + 5, sequence=181, readings=with_gpu(50.0))
    after = fold([used], before=before)
    assert stretch_ended(before, after) == WINDOW
    assert stretch_ended(after, fold([replace(used, sequence=182, at=WINDOW + 10)], before=after)) is None
    asleep = fold([replace(used, serving=False)], before=before)
    assert stretch_ended(before, asleep) is None, "that it was put to sleep does not end its idleness"


def test_signals_are_described_with_their_limits() -> None:
    seen = {s.name: describe(s) for s in signals(having(cpu_percent=None), WorkloadSeen(), SPEC)}
    assert seen["gpu_use"] == "GPU use 0 % (not use up to 5 %)"
    assert seen["cpu"] == "processor unknown (not use up to 10 %)"
    assert seen["network"] == "network 1,100 B/s (not use up to 20,000 B/s)"


def test_the_first_heartbeat_of_an_agent_started_anew_ends_nothing() -> None:
    again = [replace(b, sequence=i) for i, b in enumerate(every_step(300, start=605.0))]
    first = replace(again[0], readings=having(cpu_percent=None))
    activity = fold([*every_step(600), first, *again[1:]])
    assert activity.proven_idle_seconds == 600.0 + 295.0


def test_a_copy_of_a_heartbeat_that_was_use_does_not_begin_a_stretch() -> None:
    loaded = Beat(at=WINDOW + 5, sequence=181, readings=with_gpu(0.0, 20_500.0))
    after = Beat(at=WINDOW + 10, sequence=182, readings=loaded.readings)
    once = fold([*every_step(WINDOW), loaded, after])
    twice = fold([*every_step(WINDOW), loaded, loaded, after])
    assert "gpu_memory" in once.active_because
    assert twice.proven_idle_seconds == once.proven_idle_seconds == 0.0


def test_observe_takes_the_hosts_word_for_nothing_that_it_cannot_mean() -> None:
    odd = replace(QUIET, gpus=(), cpu_percent=-1.0)
    activity = observe(None, readings=odd, workload=WorkloadSeen(), boot_id="", sequence=0, received_at=1.0, spec=SPEC)
    assert activity.unknown == ("gpu_use", "gpu_memory", "cpu")
