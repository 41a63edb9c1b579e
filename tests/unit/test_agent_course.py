"""When the workload starts, stops, and starts again: decided without a process or a clock."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.agent.host.answers import WorkloadSpec
from dumont.agent.host.course import Backoff, Course, Do, restarts
from dumont.agent.host.health import CALM_SECONDS, EAGER_SECONDS, START_SECONDS, Check, Health, read_check

TRAIN = WorkloadSpec("train", "always", "", 10.0)


def running(spec: WorkloadSpec = TRAIN, now: float = 0.0) -> Course:
    course = Course(now)
    assert course.step(now, spec) is Do.START
    course.started(now, None)
    return course


def test_nothing_wanted_nothing_done() -> None:
    course = Course(0.0)
    assert course.step(1.0, None) is Do.NOTHING
    assert course.state == "none"


def test_what_is_wanted_starts_once() -> None:
    course = running()
    assert course.step(1.0, TRAIN) is Do.NOTHING
    assert (course.state, course.since) == ("running", 0.0)


def test_what_is_no_longer_wanted_gets_sigterm_then_sigkill_until_all_is_gone() -> None:
    course = running()
    assert course.step(5.0, None) is Do.TERM
    assert course.step(6.0, None, left=True) is Do.NOTHING
    assert course.step(15.0, None, left=True) is Do.KILL
    assert course.step(15.1, None, exit_status=137, left=True) is Do.KILL
    assert course.step(15.2, None, left=False) is Do.NOTHING
    assert (course.state, course.exit_status, course.restarts) == ("stopped", 137, 0)


def test_what_failed_is_run_again_only_so_often() -> None:
    course = running(WorkloadSpec("train", "on-failure", "", 10.0, max_restarts=1))
    spec = course.spec
    course.step(1.0, spec, exit_status=3)
    course.step(1.1, spec)
    assert course.step(9.0, spec) is Do.START
    course.started(9.0, None)
    course.step(10.0, spec, exit_status=3)
    assert all(course.step(11.0 + 100.0 * n, spec) is Do.NOTHING for n in range(5))
    assert (course.state, course.exit_status, course.restarts) == ("exited", 3, 1)


def test_at_the_end_of_the_lease_a_stop_waits_no_longer() -> None:
    course = running()
    course.step(5.0, None)
    assert course.step(7.9, None, left=True, kill_by=8.0) is Do.NOTHING
    assert course.step(8.0, None, left=True, kill_by=8.0) is Do.KILL


def test_wanted_again_while_it_stops_it_stops_first_and_then_starts() -> None:
    course = running()
    course.step(5.0, None)
    assert course.step(6.0, TRAIN, left=True) is Do.NOTHING
    course.step(7.0, TRAIN, exit_status=0, left=False)
    assert course.step(7.1, TRAIN) is Do.START
    assert course.restarts == 0


def test_another_command_stops_the_first() -> None:
    course = running()
    other = replace(TRAIN, run="serve")
    assert course.step(1.0, other) is Do.TERM
    course.step(2.0, other, exit_status=0)
    assert course.step(2.1, other) is Do.START
    assert course.spec == other


def test_another_policy_leaves_the_running_command_alone() -> None:
    course = running()
    assert course.step(1.0, replace(TRAIN, restart="never", health="port:80")) is Do.NOTHING
    assert course.step(1.5, replace(TRAIN, restart="never", health="port:80")) is Do.NOTHING
    assert course.state == "starting"
    assert course.step(2.0, replace(TRAIN, restart="never"), exit_status=1) is Do.TERM
    assert course.step(100.0, replace(TRAIN, restart="never")) is Do.NOTHING
    assert (course.state, course.exit_status) == ("exited", 1)


@pytest.mark.parametrize(
    ("policy", "exit_status", "again"),
    [
        ("always", 0, True),
        ("always", 1, True),
        ("on-failure", 0, False),
        ("on-failure", 137, True),
        ("never", 0, False),
        ("never", 1, False),
    ],
)
def test_the_policy_says_whether_a_run_is_followed_by_another(policy: str, exit_status: int, again: bool) -> None:
    assert restarts(policy, exit_status) is again
    spec = replace(TRAIN, restart=policy)
    course = running(spec)
    assert course.step(3.0, spec, exit_status=exit_status) is Do.TERM, "for what it left behind"
    assert course.step(3.9, spec) is Do.NOTHING
    assert course.step(4.0, spec) is (Do.START if again else Do.NOTHING)
    assert course.restarts == int(again)


def test_what_ended_by_itself_is_not_run_again_for_a_lapse_of_contact() -> None:
    spec = replace(TRAIN, restart="never")
    course = running(spec)
    course.step(3.0, spec, exit_status=0)
    course.step(50.0, None)
    assert course.step(60.0, spec) is Do.NOTHING
    assert course.state == "exited"


def test_restarts_wait_longer_each_time_up_to_a_minute_and_ten_good_minutes_end_that() -> None:
    backoff = Backoff()
    assert [backoff.after(5.0) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff.after(599.0) == 60
    assert backoff.after(600.0) == 1
    assert backoff.after(5.0) == 2


def test_an_unhealthy_run_earns_no_fresh_start() -> None:
    spec = replace(TRAIN, health="port:80")
    course = running(spec)
    course.step(1.0, spec, exit_status=1)
    course.step(2.0, spec)
    course.started(2.0, None)
    course.step(2000.0, spec, exit_status=1)
    assert course.step(2001.0, spec) is Do.NOTHING
    assert course.step(2002.0, spec) is Do.START


def test_a_command_that_cannot_be_started_is_tried_again_by_policy() -> None:
    course = Course(0.0)
    course.step(0.0, TRAIN)
    course.started(0.0, "no such folder")
    assert (course.state, course.exit_status, course.detail) == ("exited", 127, "no such folder")
    assert course.step(1.0, TRAIN) is Do.START


def test_leftovers_go_before_anything_starts() -> None:
    course = Course(0.0, leftovers=True)
    assert course.step(0.0, TRAIN, left=True) is Do.TERM
    assert course.step(1.0, TRAIN, left=True) is Do.NOTHING
    assert course.step(6.0, TRAIN, left=True) is Do.KILL
    assert course.step(6.1, TRAIN, left=False) is Do.NOTHING
    assert course.step(6.2, TRAIN) is Do.START


@given(st.lists(st.tuples(st.sampled_from([None, "a", "b"]), st.booleans(), st.floats(0, 30)), max_size=60))
def test_it_starts_nothing_while_something_runs_or_is_left(steps: list[tuple[str | None, bool, float]]) -> None:
    course, now, alive = Course(0.0), 0.0, False
    for run, dies, pause in steps:
        now += pause
        exited = alive and dies
        alive = alive and not dies
        wanted = replace(TRAIN, run=run) if run else None
        todo = course.step(now, wanted, exit_status=1 if exited else None, left=alive)
        if todo is Do.START:
            assert not alive
            assert wanted is not None
            alive = True
            course.started(now, None)
        elif todo is Do.KILL:
            assert wanted is None or alive
        assert course.state in ("none", "running", "stopped", "exited")


def test_one_success_is_healthy_and_three_failures_in_a_row_are_not() -> None:
    health = Health(0.0)
    assert health.judge()[0] == "starting"
    assert health.pause_seconds() == EAGER_SECONDS
    health.saw(1.0, None)
    assert health.judge() == ("healthy", "")
    assert health.pause_seconds() == CALM_SECONDS
    for failure in ("a", "b"):
        health.saw(2.0, failure)
    assert health.judge() == ("healthy", "b")
    health.saw(3.0, "c")
    assert health.judge() == ("unhealthy", "c")
    health.saw(4.0, None)
    assert (health.judge()[0], health.well_since) == ("healthy", 4.0)


def test_failures_count_for_nothing_while_it_starts_but_not_for_ever() -> None:
    health = Health(0.0)
    for second in range(int(START_SECONDS)):
        health.saw(float(second), "refused")
    assert health.judge() == ("starting", "refused")
    for second in range(3):
        health.saw(START_SECONDS + second, "refused")
    assert health.judge() == ("unhealthy", "refused")


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("http:8000/health?deep=1", Check("http", 8000, "/health?deep=1")),
        ("http:8000", Check("http", 8000, "/")),
        ("port:22", Check("port", 22)),
        ("command:test -e up", Check("command", command="test -e up")),
        ("", None),
        ("http:", None),
        ("http:0/", None),
        ("http:65536/", None),
        ("http:80/a b", None),
        ("port:22/x", None),
        ("port:²", None),
        ("command: ", None),
        ("grpc:80", None),
    ],
)
def test_checks_are_read(text: str, check: Check | None) -> None:
    assert read_check(text) == check


def test_a_check_that_only_a_later_agent_knows_is_none() -> None:
    assert running(replace(TRAIN, health="grpc:80")).state == "running"
