"""Which tier an idle machine sleeps in: never far from the ideal, better with what was learned, and shown."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from dumont.domain import idle_history, tiers
from dumont.domain.idle_history import EDGES, HALF_LIFE_SECONDS, IdleHistory, learn
from dumont.domain.offers import Offer
from dumont.domain.specs import MachineSpec
from dumont.domain.tariffs import Tariff, tariff_of
from dumont.domain.tiers import (
    LEARNED_BOUND,
    Course,
    Tier,
    choose,
    course_by_envelope,
    course_usd,
    ideal_usd,
    least_usd,
    plan,
)

often = settings(max_examples=150, deadline=None)
OFFER = Offer(provider="vast", id="1", gpu="RTX 4090", gpu_usd_per_hour=0.17, storage_usd_per_gb_hour=0.15 / 720)
TARIFF = tariff_of(OFFER, MachineSpec(disk_gb=40), workspace_bytes=20e9, changed_bytes=1e9)
WINDOW = 900.0
HOUR = 3600.0
BINS = len(EDGES) - 1

amount = st.floats(0.0, 10.0)
tariffs = st.builds(
    Tariff,
    gpu_usd_per_hour=st.floats(0.01, 20.0),
    disk_usd_per_hour=st.floats(0.0, 1.0),
    kept_usd_per_hour=st.floats(0.0, 0.5),
    snapshot_seconds=st.floats(0.0, 600.0),
    resume_seconds=st.floats(0.0, 200.0),
    resume_odds=st.floats(0.0, 1.0),
    wake_seconds=st.floats(1.0, 1800.0),
    upload_usd=amount,
    download_usd=amount,
    waiting_usd_per_hour=amount,
    may_pause=st.booleans(),
)
lengths = st.floats(1.0, 3e6)
windows = st.just(0.0) | st.floats(0.0, 20_000.0)
histograms = st.lists(st.just(0.0) | st.floats(0.0, 50.0), min_size=BINS, max_size=BINS).map(tuple)


def history(*seconds: float) -> IdleHistory:
    made = IdleHistory(id="trainer")
    for length in seconds:
        made = learn(made, "trainer", seconds=length, now=0.0)
    return made


def within(course: Course, window: float) -> Course:
    return Course(
        pause_at_seconds=max(course.pause_at_seconds, window),
        hibernate_at_seconds=max(course.hibernate_at_seconds, window),
    )


# --- The bounds ---------------------------------------------------------------------------------------------------


@often
@given(tariffs, lengths, windows)
def test_with_nothing_learned_no_stretch_costs_more_than_twice_the_ideal(
    tariff: Tariff, seconds: float, window: float
) -> None:
    course, learned = plan(tariff, (), window_seconds=window)
    assert not learned
    assert course_usd(tariff, course, seconds) <= 2 * ideal_usd(tariff, seconds, window) * (1 + 1e-9)


@often
@given(tariffs, lengths, windows, histograms)
def test_whatever_was_learned_wrongly_costs_a_bounded_part_more(
    tariff: Tariff, seconds: float, window: float, weights: tuple[float, ...]
) -> None:
    course, _ = plan(tariff, weights, window_seconds=window)
    assert course_usd(tariff, course, seconds) <= LEARNED_BOUND * ideal_usd(tariff, seconds, window) * (1 + 1e-9)


@often
@given(tariffs, windows, histograms)
def test_what_was_learned_is_expected_to_cost_no_more_than_knowing_nothing(
    tariff: Tariff, window: float, weights: tuple[float, ...]
) -> None:
    course, learned = plan(tariff, weights, window_seconds=window)
    plain = within(course_by_envelope(tariff), window)

    def expected(course: Course) -> float:
        lengths = ((idle_history.usual_seconds(i), weight) for i, weight in enumerate(weights))
        return sum(w * course_usd(tariff, course, length) for length, w in lengths if length > window and w)

    if learned:
        assert expected(course) <= expected(plain) * (1 + 1e-9) + 1e-9


@often
@given(tariffs, lengths)
def test_by_the_envelope_each_moments_state_is_the_one_with_the_lowest_line(tariff: Tariff, seconds: float) -> None:
    tier = course_by_envelope(tariff).tier_at(seconds)
    line = tiers.comes_back_usd(tariff, tier) + tiers.usd_per_second(tariff, tier) * seconds
    assert line == pytest.approx(least_usd(tariff, seconds), rel=1e-6, abs=1e-9)


@often
@given(tariffs, windows, histograms, st.floats(0.0, 1e6), st.sampled_from(list(Tier)))
def test_no_choice_is_shallower_than_what_is_or_earlier_than_the_window(
    tariff: Tariff, window: float, weights: tuple[float, ...], idle: float, current: Tier
) -> None:
    known = IdleHistory(id="m", weights=weights)
    seen = choose(tariff, known, idle_seconds=idle, window_seconds=window, now=0.0, current=current)
    assert tiers.ORDER.index(seen.tier) >= tiers.ORDER.index(current)
    if current is Tier.AWAKE and idle < window - tiers.SLACK_SECONDS:
        assert seen.tier is Tier.AWAKE
    if seen.next_at_seconds is not None:
        assert seen.next_at_seconds > idle
        assert seen.next_tier is not None
    if not tariff.may_pause and current is not Tier.PAUSE:
        assert Tier.PAUSE not in (seen.tier, seen.next_tier)


@often
@given(tariffs, windows, histograms, st.lists(st.floats(0.0, 1e5), min_size=1, max_size=8), lengths)
def test_asked_again_and_again_the_bound_holds_too(
    tariff: Tariff, window: float, weights: tuple[float, ...], asked: list[float], seconds: float
) -> None:
    known, tier, at = IdleHistory(id="m", weights=weights), Tier.AWAKE, 0.0
    entered = {Tier.PAUSE: math.inf, Tier.HIBERNATE: math.inf}
    looks = sorted(asked)
    while at < seconds:
        seen = choose(tariff, known, idle_seconds=at, window_seconds=window, now=0.0, current=tier)
        if seen.tier is not tier:
            tier = seen.tier
            entered[tier] = min(entered[tier], at)
        due = seen.next_at_seconds if seen.next_at_seconds is not None else math.inf
        at = min([due, *(look for look in looks if look > at)])
    hibernate_at = entered[Tier.HIBERNATE]
    lived = Course(pause_at_seconds=min(entered[Tier.PAUSE], hibernate_at), hibernate_at_seconds=hibernate_at)
    early = tiers.usd_per_second(tariff, Tier.AWAKE) * 3 * tiers.SLACK_SECONDS
    assert course_usd(tariff, lived, seconds) <= LEARNED_BOUND * (ideal_usd(tariff, seconds, window) + early) * (
        1 + 1e-9
    )


# --- What it comes to on a machine as they are --------------------------------------------------------------------


def test_a_usual_machine_pauses_when_its_window_is_over_and_deepens_hours_later() -> None:
    seen = choose(TARIFF, None, idle_seconds=WINDOW, window_seconds=WINDOW, now=0.0)
    assert seen.tier is Tier.PAUSE
    assert seen.next_tier is Tier.HIBERNATE
    assert seen.next_at_seconds is not None
    assert HOUR < seen.next_at_seconds < 12 * HOUR
    assert not seen.learned


def test_a_machine_that_sleeps_for_nights_is_hibernated_sooner() -> None:
    nights = history(*[14 * HOUR] * 10)
    plain = choose(TARIFF, None, idle_seconds=WINDOW, window_seconds=WINDOW, now=0.0)
    seen = choose(TARIFF, nights, idle_seconds=WINDOW, window_seconds=WINDOW, now=0.0)
    assert seen.learned
    assert seen.course.hibernate_at_seconds < plain.course.hibernate_at_seconds


def test_a_machine_that_is_soon_wanted_again_stays_awake_for_longer() -> None:
    dear = replace(TARIFF, waiting_usd_per_hour=20.0)
    soon = history(*[25 * 60.0] * 20)
    plain = choose(dear, None, idle_seconds=WINDOW, window_seconds=WINDOW, now=0.0)
    seen = choose(dear, soon, idle_seconds=WINDOW, window_seconds=WINDOW, now=0.0)
    assert seen.tier is Tier.AWAKE
    assert seen.course.pause_at_seconds >= plain.course.pause_at_seconds


def test_a_paused_machine_knows_when_it_deepens() -> None:
    at = tiers.deepen_at(TARIFF, None, idle_since=1000.0, now=5000.0, window_seconds=WINDOW)
    assert at == 1000.0 + course_by_envelope(TARIFF).hibernate_at_seconds


def test_a_disk_that_costs_nothing_is_kept_for_ever() -> None:
    free = replace(TARIFF, disk_usd_per_hour=0.0)
    assert tiers.deepen_at(free, None, idle_since=0.0, now=1e9, window_seconds=WINDOW) is None


def test_a_tier_that_is_wanted_is_taken_when_the_window_is_over() -> None:
    for wanted in (Tier.PAUSE, Tier.HIBERNATE):
        seen = choose(TARIFF, None, idle_seconds=WINDOW, window_seconds=WINDOW, now=0.0, wanted=wanted)
        assert seen.tier is wanted
    early = choose(TARIFF, None, idle_seconds=1.0, window_seconds=WINDOW, now=0.0, wanted="hibernate")
    assert (early.tier, early.next_tier, early.next_at_seconds) == (Tier.AWAKE, Tier.HIBERNATE, WINDOW)


def test_a_price_that_is_unknown_is_not_taken_for_nothing() -> None:
    silent = replace(OFFER, storage_usd_per_gb_hour=None)
    assert tariff_of(silent, MachineSpec(disk_gb=40)).disk_usd_per_hour == pytest.approx(40 * 0.20 / 720)


def test_the_arithmetic_is_shown_and_adds_up() -> None:
    seen = choose(TARIFF, None, idle_seconds=WINDOW, window_seconds=WINDOW, now=0.0)
    rows = {row.what: row for row in seen.rows}
    assert rows["awake"].usd_per_hour == pytest.approx(0.17 + 40 * 0.15 / 720)
    assert rows["a pause"].usd == pytest.approx((rows["to save"].usd or 0) + (rows["to resume"].usd or 0))
    assert rows["a hibernation"].usd == pytest.approx((rows["to save"].usd or 0) + (rows["to wake elsewhere"].usd or 0))
    assert rows["hibernate at"].seconds == seen.course.hibernate_at_seconds
    assert rows["at most"].times == 2.0


# --- The histogram ------------------------------------------------------------------------------------------------


def test_what_is_long_ago_fades() -> None:
    then = history(HOUR, HOUR)
    later = learn(then, "trainer", seconds=8 * HOUR, now=HALF_LIFE_SECONDS)
    assert later.weights[idle_history.bin_of(HOUR)] == pytest.approx(1.0)
    assert later.weights[idle_history.bin_of(8 * HOUR)] == 1.0
    assert later.stretches == 3


@given(st.floats(60.0, 1e9))
def test_each_length_has_its_bin(seconds: float) -> None:
    index = idle_history.bin_of(seconds)
    assert EDGES[index] <= seconds
    assert index == BINS - 1 or seconds < EDGES[index + 1]


@given(st.sampled_from([0.0, 59.0, -5.0, math.nan, math.inf]))
def test_what_is_no_stretch_teaches_nothing(seconds: float) -> None:
    assert learn(None, "trainer", seconds=seconds, now=5.0) == IdleHistory(id="trainer")
