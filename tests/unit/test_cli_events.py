"""`events` and `failover`: each thing that happened once, in its order, and what a move came to."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import pytest

from dumont.cli.commands.events import event_line, events_of
from dumont.cli.timeline import timeline
from tests.unit.cli_world import NOW, World, instance, machine, operation, output, problem, step

MOVE = operation(
    id="op-2",
    kind="failover",
    requested_by="heartbeat",
    created_at=NOW + 100,
    phase="release",
    tried=["cold"],
    tried_since=NOW + 104,
    snapshot_id="snap-9",
    steps=[
        step("detect", 92, 100, ok=False, detail="silent for 8.0 s"),
        step("confirm", 100, 103, detail="its provider says that it is stopped"),
        step("search", 104, 104.5),
        step("boot", 105, 125, instance_id=instance("a")["id"]),
        step("restore", 126, 130, instance_id=instance("a")["id"], detail="3 files, 12 bytes"),
        step("release", 131, 133, instance_id=instance("b")["id"]),
    ],
    instances=[instance("a", state="proven"), instance("b", state="gone", intended_at=NOW + 1)],
)


def test_events_are_steps_of_all_operations_the_newest_last(api: World) -> None:
    first = operation(state="succeeded", ended_at=NOW + 12, steps=[step("search", 0, 0.2), step("ssh", 8, 9)])
    api.says("GET /operations", {"operations": [MOVE, first]})
    lines = api.run("events", "trainer").stdout.splitlines()
    told = [tuple(line.split()[2:5]) for line in lines]
    assert told[:4] == [
        ("provision", "begin", "ok"), ("provision", "search", "ok"), ("provision", "ssh", "ok"),
        ("provision", "end", "ok"),
    ]  # fmt: skip
    assert told[4] in [("failover", "detect", "failed"), ("failover", "begin", "ok")]
    assert told[-1] == ("failover", "release", "ok")
    assert any("8.00 s  silent for 8.0 s" in line for line in lines)
    assert api.query("GET /operations") == {"machine": "trainer", "limit": "50"}


def test_a_limit_leaves_the_latest(api: World) -> None:
    api.says("GET /operations", {"operations": [MOVE]})
    assert [e["step"] for e in output(api.run("events", "trainer", "--limit", "2", "--json"))["events"]] == [
        "restore",
        "release",
    ]


def test_the_end_of_an_operation_says_why_and_what_it_cost() -> None:
    failed = operation(state="failed", ended_at=NOW + 9, problem={"code": "no_offers", "detail": "no offer passed"})
    line = event_line(events_of([failed])[-1])
    assert line.endswith("end            failed    9.00 s  failed: no offer passed, $0.0021")


def test_events_need_no_field() -> None:
    assert len([event_line(event) for event in events_of([{"steps": [{}], "state": "failed"}])]) == 3


def test_events_of_a_machine_that_is_not_there_say_so(api: World) -> None:
    api.says("GET /operations", {"operations": []})
    api.says("GET /machines/ghost", problem(404, "not_found", "there is no machine named ghost"))
    result = api.run("events", "ghost")
    assert result.exit_code == 4
    assert "there is no machine named ghost" in result.stderr


def following(api: World, *options: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in api.environment().items() if v is not None}
    command = [sys.executable, "-m", "dumont.cli.main", "events", "trainer", "-f", *options]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_following_tells_each_new_event_once_and_survives_a_restart_of_the_api(api: World) -> None:
    begun: dict[str, Any] = MOVE | {"steps": MOVE["steps"][:1], "state": "running"}
    away = problem(503, "store_unavailable", "the store does not answer")
    later = MOVE | {"state": "succeeded", "ended_at": NOW + 133}
    api.says("GET /operations", {"operations": [begun]}, away, {"operations": [begun]}, {"operations": [later]})
    process = following(api, "--json")
    assert process.stdout is not None
    told = [json.loads(process.stdout.readline()) for _ in range(8)]
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=10)
    steps = [event["step"] for event in told]
    assert sorted(steps[:2]) == ["begin", "detect"]
    assert steps[2:] == ["confirm", "search", "boot", "restore", "release", "end"]
    assert (rest, errors, process.returncode) == ("", "", 130)


def test_following_for_a_person_says_that_the_api_is_away(api: World) -> None:
    api.says("GET /operations", {"operations": [MOVE]}, problem(503, "store_unavailable", "the store is away"))
    process = following(api)
    assert process.stdout is not None
    assert process.stderr is not None
    told = [process.stdout.readline() for _ in range(7)]
    assert "(trying again: the store is away)" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10) == ("", "")
    assert told[-1].split()[3] == "release"
    assert process.returncode == 130


@pytest.mark.parametrize(("status", "code"), [(401, "wrong_key"), (403, "forbidden")])
def test_following_ends_when_the_key_is_refused(api: World, status: int, code: str) -> None:
    api.says("GET /operations", {"operations": [MOVE]}, problem(status, code, "the API key was revoked"))
    process = following(api)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 3
    assert "error: the API key was revoked" in errors


# --- failover -----------------------------------------------------------------------------------------------------

MOVED = machine(epoch=2, running_since=NOW + 130.5, instance_id=instance("a")["id"])


def test_failover_follows_the_move_and_ends_with_its_timeline(api: World) -> None:
    api.says("POST /failover", {"operation": operation(id="op-2", kind="failover", requested_by="me")})
    api.says("GET /operations/op-2", {"operation": MOVE | {"state": "succeeded", "ended_at": NOW + 133}})
    api.says("GET /machines/trainer", {"machine": MOVED})
    result = api.run("failover", "trainer", "--discard")
    assert result.exit_code == 0
    assert api.last("POST /failover").json == {"name": "trainer", "discard": True}
    assert "new hosts race" in result.stderr
    rows = result.stdout.splitlines()
    steps = [row.split("  ")[0] for row in rows[1 : rows.index("")]]
    assert steps == ["detect", "confirm", "search", "boot", "restore", "route", "release"]
    assert rows[1].split()[1:3] == ["0.00", "s"], "times count from the host's last word"
    assert "trainer serves again on RTX 4090 in Sweden, SE, 38.5 s after its host's last word; $0.0021" in result.stdout
    assert "its files: as of snap-9" in result.stdout


def test_failover_in_json_is_the_operation_and_the_machine(api: World) -> None:
    ended = MOVE | {"state": "succeeded"}
    api.says("POST /failover", {"operation": ended})
    api.says("GET /machines/trainer", {"machine": MOVED})
    assert output(api.run("failover", "trainer", "--json")) == {"machine": MOVED, "operation": ended}


def test_failover_need_not_be_waited_for(api: World) -> None:
    api.says("POST /failover", {"operation": operation(id="op-2", kind="failover")})
    result = api.run("failover", "trainer", "--no-wait")
    assert "dumont events trainer -f" in result.stdout
    assert api.last("POST /failover").json == {"name": "trainer", "discard": False}


def test_a_failover_that_failed_fails_and_says_what_is_safe(api: World) -> None:
    why = {"code": "unrestorable", "detail": "every snapshot is damaged", "safe": "They are kept.", "hint": "look"}
    api.says("POST /failover", {"operation": operation(kind="failover", state="failed", problem=why)})
    api.says("GET /machines/trainer", {"machine": machine(state="failing_over")})
    result = api.run("failover", "trainer")
    assert result.exit_code == 1
    assert all(words in result.stderr for words in ("every snapshot is damaged", "They are kept."))


def test_a_machine_that_did_not_move_has_no_moment_of_serving() -> None:
    names = [s["name"] for s in timeline(MOVE, machine(running_since=NOW + 12))]
    assert "route" not in names
    assert timeline({}, {}) == []


def test_the_wait_for_the_old_hosts_lease_is_a_row_of_its_own() -> None:
    leased = MOVE | {"serve_not_before": NOW + 130.2}
    row = next(step for step in timeline(leased, MOVED) if step["name"] == "lease")
    assert row["seconds"] == pytest.approx(27.2, abs=0.001)
    assert all(step["name"] != "lease" for step in timeline(MOVE | {"serve_not_before": NOW + 60}, MOVED))
