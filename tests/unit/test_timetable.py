"""Waking and sleeping by the clock, in zones whose clocks are put forward and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dumont.domain.errors import InvalidInput
from dumont.domain.specs import MachineSpec
from dumont.domain.timetable import Due, check, due, next_after, next_due, to_cron

often = settings(max_examples=150, deadline=None)
BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
ZONES = (BERLIN, NEW_YORK, "UTC", "Asia/Kolkata", "Australia/Lord_Howe", "Africa/Casablanca", "America/St_Johns")

zones = st.sampled_from(ZONES)
moments = st.floats(1.45e9, 2.0e9)
clocks = st.tuples(st.integers(0, 23), st.integers(0, 59))
days = st.sampled_from(["daily", "weekdays", "weekends", "mon,wed", "fri-mon", "sunday"])
rules = st.builds(lambda words, clock: f"{words} {clock[0]:02}:{clock[1]:02}", days, clocks) | st.sampled_from(
    ["*/20 * * * *", "30 */2 * * *", "15 2 * * 0", "0 0 1 * *", "45 1-3 * * *", "5 4 29 2 *"]
)


def at(zone: str, *clock: int, fold: int = 0) -> float:
    return datetime(*clock, tzinfo=ZoneInfo(zone), fold=fold).timestamp()  # type: ignore[arg-type,misc]


def local(moment: float | None, zone: str) -> str:
    assert moment is not None
    return datetime.fromtimestamp(moment, ZoneInfo(zone)).strftime("%a %Y-%m-%d %H:%M")


@pytest.mark.parametrize(
    ("rule", "cron"),
    [
        ("weekdays 08:45", "45 8 * * 1-5"),
        ("daily 22:00", "0 22 * * *"),
        ("22:00", "0 22 * * *"),
        ("every day at 7:05", "5 7 * * *"),
        ("Weekends 10:00", "0 10 * * 0,6"),
        ("mon,wed 9:30", "30 9 * * 1,3"),
        ("Mon, Wed and Fri 9:30", "30 9 * * 1,3,5"),
        ("fri-mon 10:00", "0 10 * * 0,1,5,6"),
        ("Sundays at 10:00", "0 10 * * 0"),
        ("45 8 * * 1-5", "45 8 * * 1-5"),
        ("  */15   *  * * * ", "*/15 * * * *"),
    ],
)
def test_rules_are_read_as_people_write_them(rule: str, cron: str) -> None:
    assert to_cron(rule) == cron


@pytest.mark.parametrize(
    "rule",
    ["someday 10:00", "24:00", "8:60", "noon", "* * * *", "0 0 31 2 *", "61 * * * *", "1 2 3 4 5 6", "mon- 9:00", ""],
)
def test_what_cannot_be_read_is_refused_and_named(rule: str) -> None:
    with pytest.raises(InvalidInput):
        next_after(rule, "UTC", 0.0)
    with pytest.raises(InvalidInput) as refused:
        check(MachineSpec(sleep_at=(rule,)))
    assert refused.value.field == "sleep_at"


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "Europe", "../../etc/passwd", "/etc/localtime"])
def test_a_zone_that_is_none_is_refused(zone: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check(MachineSpec(wake_at=("daily 10:00",), time_zone=zone))
    assert refused.value.field == "time_zone"


def test_a_rule_that_never_comes_is_refused() -> None:
    with pytest.raises(InvalidInput, match="never comes"):
        check(MachineSpec(wake_at=("* * */20 * 1L",)))


def test_a_working_day_begins_in_its_own_zone() -> None:
    friday_evening = at(BERLIN, 2026, 11, 20, 19, 0)
    assert local(next_after("weekdays 08:45", BERLIN, friday_evening), BERLIN) == "Mon 2026-11-23 08:45"
    assert next_after("weekdays 08:45", BERLIN, friday_evening) == at("UTC", 2026, 11, 23, 7, 45)


def test_what_falls_into_the_gap_of_spring_comes_at_its_end() -> None:
    eve = at(BERLIN, 2026, 3, 28, 12, 0)
    assert local(next_after("daily 02:30", BERLIN, eve), BERLIN) == "Sun 2026-03-29 03:00"
    after = next_after("daily 02:30", BERLIN, at(BERLIN, 2026, 3, 29, 3, 0))
    assert local(after, BERLIN) == "Mon 2026-03-30 02:30"


def test_what_would_come_twice_in_autumn_comes_once_at_the_first_time() -> None:
    first, second = (at(BERLIN, 2026, 10, 25, 2, 30, fold=fold) for fold in (0, 1))
    assert second - first == 3600
    assert next_after("daily 02:30", BERLIN, first - 3600) == first
    for within in (first, first + 1, first + 1800, second - 60, second, second + 60):
        assert local(next_after("daily 02:30", BERLIN, within), BERLIN) == "Mon 2026-10-26 02:30"


def test_what_goes_by_elapsed_time_goes_on_through_both() -> None:
    for day in ((2026, 3, 29), (2026, 10, 25)):
        moment = at(NEW_YORK, *day)
        for _ in range(100):
            following = next_after("*/15 * * * *", NEW_YORK, moment)
            assert following == moment + 900
            moment = following


def test_of_what_was_missed_the_latest_counts() -> None:
    spec = MachineSpec(wake_at=("weekdays 08:45",), sleep_at=("daily 22:00",), time_zone=BERLIN)
    monday = at(BERLIN, 2026, 11, 23, 9, 0)
    assert due(spec, monday - 3600, monday) == Due(action="wake", at=monday - 900, rule="weekdays 08:45")
    assert due(spec, monday, monday + 60) is None
    night = at(BERLIN, 2026, 11, 25, 23, 0)
    assert due(spec, monday, night) == Due(action="sleep", at=night - 3600, rule="daily 22:00")
    assert due(spec, 0.0, monday) == Due(action="wake", at=monday - 900, rule="weekdays 08:45")


def test_at_one_and_the_same_moment_it_is_to_be_awake() -> None:
    spec = MachineSpec(wake_at=("daily 10:00",), sleep_at=("daily 10:00",))
    found = due(spec, 0.0, 36_000.0)
    assert found is not None
    assert found.action == "wake"


def test_without_rules_nothing_is_ever_due() -> None:
    assert due(MachineSpec(), 0.0, 1e9) is None
    assert next_due(MachineSpec(), 0.0) is None


@often
@given(rules, zones, moments)
def test_the_next_moment_is_later_and_the_same_from_anywhere_before_it(rule: str, zone: str, now: float) -> None:
    following = next_after(rule, zone, now)
    assert following is not None
    assert following > now
    for share in (0.25, 0.9):
        assert next_after(rule, zone, now + share * (following - now)) == following
    assert next_after(rule, zone, max(now, following - 1.0)) == following


@often
@given(clocks, zones, moments)
def test_each_day_has_its_moment_once(clock: tuple[int, int], zone: str, now: float) -> None:
    hour, minute = clock
    for _ in range(4):
        following = next_after(f"daily {hour}:{minute:02}", zone, now)
        assert following is not None
        assert following - now <= 25 * 3600 + 1
        seen = datetime.fromtimestamp(following, ZoneInfo(zone))
        wanted = seen.replace(hour=hour, minute=minute, second=0, fold=0)
        exists = wanted.astimezone(UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None) == wanted.replace(tzinfo=None)
        if exists:
            assert (seen.hour, seen.minute, seen.fold) == (hour, minute, 0)
        else:
            before = seen.astimezone(UTC) - timedelta(minutes=1)
            assert before.astimezone(ZoneInfo(zone)).utcoffset() != seen.utcoffset(), "the end of the gap"
        now = following


@often
@given(st.lists(rules, max_size=2), st.lists(rules, max_size=2), zones, moments, st.floats(0.0, 5e6))
def test_what_is_due_is_the_last_of_what_came(
    wake: list[str], sleep: list[str], zone: str, last: float, passed: float
) -> None:
    spec = MachineSpec(wake_at=tuple(wake), sleep_at=tuple(sleep), time_zone=zone)
    now = last + passed
    found, first = due(spec, last, now), next_due(spec, last)
    assert (found is not None) == (first is not None and first.at <= now)
    if found is not None:
        assert last < found.at <= now
        later = next_due(spec, found.at)
        assert later is not None
        assert later.at > now
        assert due(spec, found.at, now) is None
