"""Is it dead? What one missed heartbeat proves, and what it takes besides (invariant 6)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dumont.domain import detection
from dumont.domain.detection import Verdict, cooled_down_at, is_mass, judge, overdue, too_often
from dumont.domain.evidence import Evidence

SUSPECTED_AT = 1000.0
LOOK = Evidence(at=1001.0, heartbeat_at=990.0, provider="running", shell="silent", fleet_heard=10)

providers = st.sampled_from(["running", "starting", "stopped", "broken", "offline", "gone", "unknown"])
shells = st.sampled_from(["answers", "refuses", "silent", "unknown"])
looks = st.builds(
    Evidence,
    at=st.floats(1000, 2000),
    heartbeat_at=st.none() | st.floats(900, 2000),
    provider=providers,
    shell=shells,
    notice=st.sampled_from(["", "outbid"]),
    fleet_silent=st.integers(0, 50),
    fleet_heard=st.integers(0, 50),
)


def verdict(*evidence: Evidence) -> Verdict:
    return judge(evidence, SUSPECTED_AT).verdict


def test_silence_alone_is_not_death() -> None:
    assert verdict() is Verdict.UNSURE
    assert verdict(LOOK) is Verdict.UNSURE


def test_ssh_that_fails_twice_is_a_second_signal() -> None:
    assert verdict(LOOK, LOOK) is Verdict.DEAD


@pytest.mark.parametrize("word", ["stopped", "offline", "broken", "gone"])
def test_the_providers_word_is_a_second_signal(word: str) -> None:
    assert verdict(replace(LOOK, provider=word, shell="unknown")) is Verdict.DEAD


def test_a_provider_that_does_not_answer_proves_nothing() -> None:
    assert verdict(*[replace(LOOK, provider="unknown")] * 20) is Verdict.UNSURE


def test_what_the_provider_told_by_itself_counts_where_it_is_not_contradicted() -> None:
    told = replace(LOOK, provider="unknown", notice="outbid")
    assert verdict(told) is Verdict.DEAD
    assert verdict(replace(told, provider="running")) is Verdict.UNSURE
    assert verdict(replace(told, shell="answers")) is Verdict.UNSURE  # it may be a moment ahead of what befalls it
    assert verdict(replace(told, shell="answers", at=SUSPECTED_AT + detection.NOTICE_SECONDS)) is Verdict.AGENT_DEAD


def test_a_host_that_answers_lives_though_its_agent_does_not() -> None:
    assert verdict(LOOK, replace(LOOK, shell="answers")) is Verdict.AGENT_DEAD


def test_a_heartbeat_that_comes_again_ends_the_suspicion() -> None:
    assert verdict(LOOK, LOOK, replace(LOOK, heartbeat_at=SUSPECTED_AT + 1)) is Verdict.ALIVE


@given(st.lists(looks, max_size=5), looks)
def test_whoever_is_heard_again_and_not_struck_out_lives(before: list[Evidence], last: Evidence) -> None:
    heard = replace(last, heartbeat_at=SUSPECTED_AT + 5, notice="")
    assert (verdict(*before, heard) is Verdict.ALIVE) or heard.provider == "gone"


@given(st.lists(looks, min_size=1, max_size=5))
def test_nobody_is_dead_without_a_second_signal(evidence: list[Evidence]) -> None:
    last = evidence[-1]
    if verdict(*evidence) in (Verdict.DEAD, Verdict.MASS):
        by_provider = last.provider in ("stopped", "offline", "broken", "gone") or bool(last.notice)
        by_shell = len(evidence) > 1 and last.shell in ("silent", "refuses")
        assert by_provider or by_shell


@given(st.lists(looks, min_size=1, max_size=5))
def test_so_many_at_once_are_never_moved(evidence: list[Evidence]) -> None:
    if is_mass(evidence[-1].fleet_silent, evidence[-1].fleet_heard):
        assert verdict(*evidence) is not Verdict.DEAD


@pytest.mark.parametrize(
    ("silent", "heard", "mass"),
    [(1, 0, False), (2, 0, False), (3, 0, True), (3, 12, False), (3, 11, True), (4, 16, False), (100, 300, True)],
)
def test_more_than_a_fifth_and_more_than_two_are_our_own_fault(silent: int, heard: int, mass: bool) -> None:
    assert is_mass(silent, heard) is mass


def test_what_fell_due_while_nobody_listened_has_its_time_again() -> None:
    assert overdue(100.0, 101.0, listening_since=0.0, missed_after_seconds=7.5)
    assert not overdue(100.0, 101.0, listening_since=99.0, missed_after_seconds=7.5)
    assert overdue(100.0, 106.5, listening_since=99.0, missed_after_seconds=7.5)


def test_a_machine_that_moves_again_and_again_waits_longer_each_time_and_then_stops() -> None:
    now = 10_000.0
    few = [now - 60 * i for i in range(detection.FREE_PER_HOUR - 1)]
    assert cooled_down_at(few, now) <= now
    waits = []
    moved = list(few)
    for _ in range(6):
        moved.append(now)
        waits.append(cooled_down_at(moved, now) - now)
    assert waits == sorted(waits)
    assert waits[0] > 0
    assert len(set(waits[:5])) == 5
    assert too_often(moved, len(moved), now)
    assert not too_often(moved, len(moved) + 1, now)
    assert not too_often([now - 86_401.0] * 50, 1, now)
