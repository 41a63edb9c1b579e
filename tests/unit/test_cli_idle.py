"""`dumont idle`, `dumont keep`, and the options of `dumont up` that let a machine sleep."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from dumont.cli.commands.sleeping import keep_seconds, length_seconds
from dumont.cli.errors import CliError
from tests.unit.cli_world import NOW, World, machine, operation, output


def seen(**fields: Any) -> dict[str, Any]:
    signals = [{"name": "cpu", "state": "active", "words": "processor 55 % (not use up to 10 %)"}]
    rows = [
        {"what": "awake", "how": "GPU $0.1700 + disk $0.0083", "usd_per_hour": 0.1783},
        {"what": "a pause", "how": "to save + to resume", "usd": 0.0121},
        {"what": "hibernate at", "how": "nothing learned: break-even", "seconds": None},
        {"what": "at most", "how": "times what the ideal pays", "times": 2.0},
    ]
    sleep = {"tier": "awake", "next_tier": "pause", "next_at_seconds": 900.0, "learned": False, "rows": rows}
    view = {"name": "trainer", "state": "running", "idle": False, "idle_at": NOW + 900, "signals": signals}
    view |= {"words": ["nothing used it for 4 min of the 15 min that it takes"], "sleep": sleep}
    return {"idle": {**view, **fields}}


def test_it_is_told_in_words_why_a_machine_is_not_idle(api: World) -> None:
    api.says("GET /idle/trainer", seen())
    text = api.run("idle", "trainer").stdout
    assert text.startswith("trainer is not idle:\n  - nothing used it for 4 min")
    assert "processor 55 % (not use up to 10 %)  in use" in text
    assert "at the earliest it is idle at" in text
    assert "awake" not in text


def test_the_arithmetic_is_shown_if_asked_for(api: World) -> None:
    api.says("GET /idle/trainer", seen())
    text = api.run("idle", "trainer", "--why").stdout
    assert "now awake, by break-even: too little is known of its idleness; pause once idle for 15 min" in text
    for shown in ("$0.1783/h", "$0.0121", "never", "2×"):
        assert shown in text


def test_a_machine_that_sleeps_has_no_verdict(api: World) -> None:
    api.says("GET /idle/trainer", {"idle": {"name": "trainer", "idle": None, "words": ["it is hibernated"]}})
    result = api.run("idle", "trainer", "--why")
    assert result.exit_code == 0
    assert result.stdout.startswith("trainer does not serve:\n  - it is hibernated\n")
    assert output(api.run("idle", "trainer", "--json"))["idle"]["idle"] is None


def test_a_machine_is_kept_awake_for_as_long_as_is_said(api: World) -> None:
    api.says("POST /idle/trainer/keep", seen(keep_until=NOW + 7200))
    result = api.run("keep", "trainer", "2h")
    assert api.last("POST /idle/trainer/keep").json == {"seconds": 7200.0}
    assert "kept awake until" in result.stdout
    api.says("POST /idle/trainer/keep", seen())
    assert "may sleep" in api.run("keep", "trainer", "off").stdout
    assert api.last("POST /idle/trainer/keep").json == {"seconds": 0.0}


def test_up_says_when_to_sleep_and_wake(api: World) -> None:
    api.says("POST /provision", {"operation": operation()})
    options = ["--sleep-after", "15m", "--idle-gpu", "3", "--idle-ignore", "ssh_sessions"]
    days = ["--wake-at", "weekdays 08:45", "--sleep-at", "daily 22:00", "--sleep-tier", "pause"]
    days += ["--time-zone", "Europe/Berlin"]
    result = api.run("up", "trainer", *options, *days, "--idle-workload-counts", "--detach")
    assert result.exit_code == 0, result.output
    sent = api.last("POST /provision").json
    assert {name: value for name, value in sent.items() if name not in ("name", "ssh_public_keys")} == {
        "idle_after_minutes": 15.0,
        "idle_gpu_percent": 3.0,
        "idle_ignore": ["ssh_sessions"],
        "idle_workload_counts": True,
        "wake_at": ["weekdays 08:45"],
        "sleep_at": ["daily 22:00"],
        "sleep_tier": "pause",
        "time_zone": "Europe/Berlin",
    }


def test_up_without_them_leaves_all_to_the_api(api: World) -> None:
    api.says("POST /provision", {"operation": operation()})
    api.says("GET /machines/trainer", {"machine": machine()})
    api.run("up", "trainer", "--detach")
    assert set(api.last("POST /provision").json) == {"name", "ssh_public_keys"}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1.5 d", 129_600), ("45min", 2700)],
)
def test_lengths_of_time_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert length_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5", "2h later", "-3m"])
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(CliError):
        length_seconds(text)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin")
def test_until_is_the_next_such_time_on_the_wall() -> None:
    def until(clock: str, *now: int) -> float:
        return keep_seconds(("until", clock), datetime(*now).astimezone())  # type: ignore[arg-type]

    assert until("18:00", 2026, 11, 22, 17, 0) == 3600
    assert until("7:30", 2026, 11, 22, 17, 0) == 14.5 * 3600
    assert until("12:00", 2026, 10, 24, 13, 0) == 24 * 3600, "an hour is put back, and it is 23 by the clock"
    assert keep_seconds((), datetime.now(UTC).astimezone()) == 3600
    assert keep_seconds(("off",), datetime.now(UTC).astimezone()) == 0
    with pytest.raises(CliError):
        until("25:00", 2026, 11, 22)
