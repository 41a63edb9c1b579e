"""What the agent makes of answers, and how long they hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.agent.host.answers import Answer, WorkloadSpec, read_answer
from dumont.agent.host.heartbeat import JITTER, Pace
from dumont.agent.host.mandate import DESTROY_SECONDS_MOST, Mandate

SPEC: dict[str, Any] = {"run": "train", "restart": "on-failure", "health": "port:80", "stop_seconds": 7}
GOOD: dict[str, Any] = {
    "state": "serve",
    "epoch": 3,
    "interval_seconds": 5,
    "lease_seconds": 45.0,
    "workload": SPEC,
    "destroy": False,
}


def read(**changes: Any) -> Answer | None:
    return read_answer(200, json.dumps({**GOOD, **changes}).encode())


def made(state: str = "serve", *, lease: float = 45.0, stop: float = 10.0, destroy: bool = False) -> Answer:
    workload = WorkloadSpec("train", stop_seconds=stop) if state == "serve" else None
    return Answer(state, 1, 5.0, lease, workload, destroy)


def test_a_whole_answer_is_read() -> None:
    assert read() == Answer("serve", 3, 5.0, 45.0, WorkloadSpec("train", "on-failure", "port:80", 7.0), destroy=False)
    assert read(workload={"run": "x"}, new="field") == Answer("serve", 3, 5.0, 45.0, WorkloadSpec("x"), destroy=False)
    assert read(interval_seconds=0) == Answer("serve", 3, 0.05, 45.0, WorkloadSpec(**SPEC), destroy=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "Serve"},
        {"state": ["serve"]},
        {"epoch": "3"},
        {"epoch": True},
        {"interval_seconds": -1},
        {"interval_seconds": float("nan")},
        {"lease_seconds": None},
        {"lease_seconds": float("inf")},
        {"workload": "train"},
        {"workload": {}},
        {"workload": {**SPEC, "run": " "}},
        {"workload": {**SPEC, "run": "a\0b"}},
        {"workload": {**SPEC, "restart": "sometimes"}},
        {"workload": {**SPEC, "health": None}},
        {"workload": {**SPEC, "stop_seconds": "7"}},
    ],
)
def test_one_that_is_wrong_somewhere_is_none(changes: dict[str, Any]) -> None:
    assert read(**changes) is None


def test_only_200_counts() -> None:
    for status in (201, 204, 301, 401, 404, 500, 503):
        assert read_answer(status, json.dumps(GOOD).encode()) is None


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reading(body: bytes) -> None:
    assert read_answer(200, body) is None


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), st.one_of(st.none(), st.integers(), st.text(), st.floats())))
def test_no_values_break_the_reading(changes: dict[str, Any]) -> None:
    found = read(**changes)
    assert found is None or found.state in ("serve", "wait", "fenced")


def test_only_one_that_is_fenced_is_told_to_destroy_itself() -> None:
    fenced = read(state="fenced", destroy=True)
    assert fenced is not None
    assert fenced.destroy
    assert not (read(destroy=True) or fenced).destroy
    assert not (read(state="fenced", destroy=1) or fenced).destroy


def test_nothing_runs_before_the_first_answer() -> None:
    mandate = Mandate()
    assert mandate.wanted(0.0) is None
    assert mandate.ends_at() is None
    assert not mandate.destroys(0.0)


def test_the_lease_counts_from_the_sending_and_keeps_time_to_stop_in() -> None:
    mandate = Mandate()
    mandate.hear(made(lease=45.0, stop=10.0), sent_at=100.0)
    assert mandate.wanted(134.9) is not None
    assert mandate.wanted(135.0) is None
    assert mandate.ends_at() == 145.0
    mandate.hear(made(lease=45.0, stop=10.0), sent_at=139.0)
    assert mandate.wanted(140.0) is not None


def test_a_long_time_to_stop_leaves_most_of_the_lease_to_the_workload() -> None:
    mandate = Mandate()
    mandate.hear(made(lease=45.0, stop=300.0), sent_at=0.0)
    assert mandate.wanted(29.9) is not None
    assert mandate.wanted(30.1) is None


def test_without_a_lease_it_runs_for_ever() -> None:
    mandate = Mandate()
    mandate.hear(made(lease=0.0), sent_at=0.0)
    assert mandate.wanted(1e9) is not None
    assert mandate.ends_at() is None


def test_a_late_answer_to_an_earlier_heartbeat_undoes_nothing() -> None:
    mandate = Mandate()
    mandate.hear(made("fenced"), sent_at=10.0)
    mandate.hear(made("serve"), sent_at=9.0)
    assert mandate.wanted(11.0) is None


def test_fenced_and_waiting_run_nothing_and_serving_again_does() -> None:
    mandate = Mandate()
    for state in ("wait", "fenced"):
        mandate.hear(made(state), sent_at=1.0)
        assert mandate.wanted(1.0) is None
        mandate.hear(made("serve"), sent_at=2.0)
        assert mandate.wanted(2.0) is not None
        mandate = Mandate()


def test_an_order_to_destroy_that_is_not_repeated_lapses() -> None:
    mandate = Mandate()
    mandate.hear(made("fenced", destroy=True), sent_at=0.0)
    assert mandate.destroys(DESTROY_SECONDS_MOST - 1)
    assert not mandate.destroys(DESTROY_SECONDS_MOST)
    mandate.hear(made("fenced"), sent_at=1.0)
    assert not mandate.destroys(2.0)


@given(
    st.lists(st.tuples(st.floats(0, 20), st.sampled_from(["serve", "wait", "fenced"]), st.floats(0, 4)), max_size=30),
    st.floats(0.1, 30),
    st.floats(0, 30),
)
def test_nothing_is_wanted_once_the_lease_of_what_was_last_heard_has_ended(
    heard: list[tuple[float, str, float]], lease: float, stop: float
) -> None:
    mandate, now, latest = Mandate(), 0.0, -1.0
    for pause, state, delay in heard:
        sent_at = now + pause
        now = sent_at + delay
        mandate.hear(made(state, lease=lease, stop=stop), sent_at)
        latest = sent_at
        assert mandate.wanted(latest + lease) is None
        assert (mandate.wanted(sent_at) is not None) == (state == "serve" and min(stop, lease / 3) < lease)


def test_heartbeats_keep_their_pace_whatever_one_takes() -> None:
    pace = Pace(5.0, lambda: 0.0)
    assert pace.wait_seconds(100.0) == 0
    pace.sent(100.0)
    assert pace.wait_seconds(104.0) == 1.0  # it took 4 s
    pace.sent(105.0)
    assert pace.wait_seconds(105.0) == 5.0
    pace.sent(110.2)  # woken late: the next is not later for that
    assert pace.wait_seconds(110.2) == pytest.approx(4.8)


def test_missed_heartbeats_are_not_caught_up_on() -> None:
    pace = Pace(5.0, lambda: 0.0)
    pace.sent(100.0)
    pace.sent(160.0)
    assert pace.wait_seconds(160.0) == 5.0


def test_jitter_is_small_and_a_new_interval_counts_at_once() -> None:
    pace = Pace(300.0, lambda: 1.0)
    pace.sent(0.0)
    assert pace.wait_seconds(0.0) == pytest.approx(300 * (1 + JITTER))
    pace.interval_seconds = 2.0
    assert pace.wait_seconds(0.0) == pytest.approx(2 * (1 + JITTER))


def test_news_are_told_soon_but_not_in_a_flood() -> None:
    pace = Pace(5.0, lambda: 0.0)
    pace.sent(0.0)
    assert pace.wait_seconds(0.1, news=True) == pytest.approx(0.4)
    assert pace.wait_seconds(0.7, news=True) == 0
