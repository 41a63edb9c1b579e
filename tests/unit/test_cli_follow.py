"""What following an operation shows: each event once, in order, and a picture of the race."""

from __future__ import annotations

import pytest
from rich.console import Console

from dumont.cli.follow import _Lines, event_lines, failure, picture
from dumont.cli.output import duration, money, plain_table
from tests.unit.cli_world import NOW, instance, operation, step


def shown(thing: object) -> str:
    console = Console(width=100, color_system=None)
    with console.capture() as captured:
        console.print(thing)
    return captured.get()


def test_each_event_is_told_once() -> None:
    first = operation(instances=[instance("a")], steps=[step("search", 0, 0.2)])
    second = operation(instances=[instance("a")], steps=[step("search", 0, 0.2), step("rent", 0.2, 0.5)])
    assert len(event_lines(None, first)) == 2
    assert event_lines(first, first) == []
    assert [line.split("  ")[-1] for line in event_lines(first, second)] == ["rent took 0.30 s"]


def test_events_stand_in_the_order_in_which_they_happened() -> None:
    late = instance("b", intended_at=NOW + 5, state="gone", gone_at=NOW + 7)
    lines = event_lines(None, operation(instances=[late, instance("a")], steps=[step("ssh", 5.5, 6)]))
    assert [line.strip().split(" s  ")[1].split(":")[0] for line in lines] == [
        "rental A",
        "rental B",
        "ssh took 0.50 s",
        "rental B",
    ]


def test_a_step_that_failed_says_so() -> None:
    failed = step("boot", 0, 9, ok=False, detail="stuck loading", instance_id=instance("a")["id"])
    lines = event_lines(None, operation(instances=[instance("a")], steps=[failed]))
    assert lines[-1].endswith("boot on A FAILED took 9.00 s: stuck loading")


def test_the_picture_shows_each_racer_with_its_state_and_time() -> None:
    racers = [instance("a"), instance("b", state="proven", intended_at=NOW + 1)]
    text = shown(picture(operation(instances=racers, steps=[step("search", 0, 0.25)]), NOW + 12))
    assert "provision trainer" in text
    assert "booting" in text
    assert "12.0 s" in text
    assert "11.0 s" in text
    assert "proven" in text
    assert "0.25 s" in text


def test_the_picture_needs_no_field() -> None:
    assert "–" in shown(picture({}, NOW))


def test_only_success_is_no_failure() -> None:
    assert failure(operation(state="succeeded")) is None
    superseded = failure(operation(state="superseded"))
    assert superseded is not None
    assert superseded.code == "superseded"
    assert "another operation took the machine over" in superseded.detail
    unexplained = failure(operation(state="failed"))
    assert unexplained is not None
    assert "dumont operation op-1" in unexplained.hint


def test_money_never_rounds_something_to_nothing() -> None:
    assert money(0.00001) == "<$0.0001"
    assert money(-0.00001) == "-<$0.0001"
    assert money(0) == "$0.0000"
    assert money(0.3128) == "$0.3128"
    assert money(None) == "–"


def test_times_read_as_a_person_says_them() -> None:
    seconds = (0.4211, 72.77, 600, 11_100, 200_000)
    assert [duration(s) for s in seconds] == ["0.42 s", "72.8 s", "10 min", "3 h 5 min", "2 d 7 h"]


def test_plain_tables_align() -> None:
    lines = plain_table(("name", ">cost"), [["a", "$10"], ["long", "$1"]])
    assert lines == ["NAME  COST", "a      $10", "long    $1"]


def test_in_a_pipe_a_long_copy_says_now_and_then_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = iter([0.0, 1.0, 6.0, 6.0, 8.0])
    lines = _Lines(now=lambda: next(seconds))
    copying = operation(kind="snapshot", progress={"bytes_sent": 5e5})
    for _ in range(3):
        lines.update(copying)
    assert capsys.readouterr().err == "  (so far: 500.0 kB sent)\n"


def test_a_failover_says_how_it_goes_about_it_and_what_it_waits_for() -> None:
    first = operation(kind="failover", tried=["resume"], tried_since=NOW + 2)
    second = first | {"tried": ["resume", "hold"], "tried_since": NOW + 60, "serve_not_before": NOW + 48}
    assert event_lines(None, first) == ["   2.00 s  the old host is only stopped: it is started again"]
    told = "\n".join(event_lines(first, second))
    assert "it waits for its old host" in told
    assert "dumont failover trainer --discard" in told
    assert "no new host serves before 48.0 s" in told
    assert "it waits for its old host" in shown(picture(second, NOW + 61))
    for_ever = second | {"serve_not_before": 1e12}
    assert "--fence-after 0" in "\n".join(event_lines(first, for_ever))
