"""`snapshot`, `snapshots`, `restore` and `diff`: what is asked of the API, what is shown, and how it ends."""

from __future__ import annotations

from typing import Any

import pytest

from dumont.cli.follow import picture
from dumont.cli.output import size
from dumont.cli.views import progress_text
from tests.unit.cli_world import NOW, World, operation, output, problem, step
from tests.unit.test_cli_follow import shown

ID = "snap-7"
DAMAGED = {"code": "damaged", "detail": "packs/ab at offset 12 (weights.bin)", "safe": "It is as it was.", "hint": "x"}


def view(**fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"id": ID, "machine": "trainer", "epoch": 1, "operation_id": "op-1", "state": "complete"}
    made |= {"created_at": NOW, "completed_at": NOW + 3, "reason": "user", "files": 1512, "bytes_total": 68_100_000}
    made |= {"bytes_sent": 1_250_000, "stored_bytes": 51_000_000, "packs": 5, "seconds": 3.2, "missing": []}
    return {**made, "keep": False, **fields}


def going(kind: str, **fields: Any) -> dict[str, Any]:
    return operation(kind=kind, phase="running", snapshot_id=ID, **fields)


def ended(kind: str, **fields: Any) -> dict[str, Any]:
    return operation(**{"kind": kind, "phase": "done", "state": "succeeded", "snapshot_id": ID, **fields})


def sent(api: World, request: str) -> Any:
    return api.last(request).json


@pytest.fixture
def taking(api: World) -> World:
    """A world in which a snapshot can be taken."""
    steps = [step("start engine", 0, 0.4), step("copy", 0.4, 3, detail="1512 files"), step("verify", 3, 3.1)]
    accepted = {"snapshot": view(state="taking", files=0), "operation": going("snapshot")}
    copying = going("snapshot", steps=steps[:1], progress={"files": 300, "bytes_read": 2e7, "bytes_sent": 5e5})
    api.says("POST /snapshot", accepted)
    api.says("GET /operations/op-1", {"operation": copying}, {"operation": ended("snapshot", steps=steps)})
    api.says(f"GET /snapshot/{ID}", {"snapshot": view()})
    return api


@pytest.fixture
def restoring(api: World) -> World:
    """A world in which a snapshot can be restored."""
    steps = [step("start engine", 0, 0.4), step("restore", 0.4, 2, detail="1512 files, 68.1 MB in all")]
    api.says("POST /restore", {"operation": going("restore")})
    api.says("GET /operations/op-1", {"operation": ended("restore", steps=steps)})
    return api


# --- snapshot ---------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_followed_until_it_counts(taking: World) -> None:
    result = taking.run("snapshot", "trainer")
    assert result.exit_code == 0
    assert sent(taking, "POST /snapshot") == {"name": "trainer"}
    assert "copy took 2.60 s: 1512 files" in result.stderr
    assert "snap-7: 1,512 files, 68.1 MB; 1.2 MB had to be sent, packed and encrypted; complete" in result.stdout
    assert "dumont restore trainer --snapshot snap-7" in result.stdout


def test_a_snapshot_in_json_and_detached(taking: World) -> None:
    told = output(taking.run("snapshot", "trainer", "--json"))
    assert told["snapshot"]["state"] == "complete"
    assert told["operation"]["state"] == "succeeded"
    taking.asked.clear()
    detached = taking.run("snapshot", "trainer", "--detach")
    assert "dumont operation op-1 --watch" in detached.stdout
    assert [asked.method for asked in taking.asked] == ["POST"]
    assert output(taking.run("snapshot", "--json", "--detach", "trainer"))["snapshot"]["state"] == "taking"


def test_a_snapshot_that_trusts_no_times_is_asked_for_by_a_word(taking: World) -> None:
    assert taking.run("snapshot", "trainer", "--rehash", "--detach").exit_code == 0
    assert sent(taking, "POST /snapshot") == {"name": "trainer", "rehash": True}


def test_a_snapshot_that_lacks_files_is_no_success_for_a_script(taking: World) -> None:
    missing = [f"logs/{n}" for n in range(12)]
    taking.says(f"GET /snapshot/{ID}", {"snapshot": view(state="incomplete", missing=missing)})
    result = taking.run("snapshot", "trainer")
    assert result.exit_code == 1
    assert "snap-7 lacks files that could not be read whole: logs/0, " in result.stderr
    assert "and 2 more" in result.stderr
    assert "kept safe: All other files are saved" in result.stderr
    told = output(taking.run("snapshot", "trainer", "--json"))
    assert told["code"] == "snapshot_incomplete"
    assert told["snapshot"]["missing"] == missing


def test_a_snapshot_that_fails_says_why(taking: World) -> None:
    why = {"code": "not_verified", "detail": "1 of 6 objects is not in the store", "safe": "It runs.", "hint": "again"}
    taking.says("GET /operations/op-1", {"operation": ended("snapshot", state="failed", problem=why)})
    result = taking.run("snapshot", "trainer")
    assert result.exit_code == 1
    assert "error: snapshot of trainer failed: 1 of 6 objects is not in the store" in result.stderr
    assert "next: again" in result.stderr


@pytest.mark.parametrize(("status", "code", "exit_code"), [(404, "unknown", 4), (409, "operation_under_way", 5)])
def test_a_snapshot_that_is_refused_has_the_refusals_exit_status(
    api: World, status: int, code: str, exit_code: int
) -> None:
    api.says("POST /snapshot", problem(status, code, "no"))
    assert api.run("snapshot", "trainer").exit_code == exit_code
    assert output(api.run("snapshot", "trainer", "--json"))["code"] == code


@pytest.mark.parametrize("name", ["verify", "rm", "keep", "take"])
def test_a_machine_named_as_a_command_is_taken_by_take(taking: World, name: str) -> None:
    assert taking.run("snapshot", "take", name, "--detach").exit_code == 0
    assert sent(taking, "POST /snapshot") == {"name": name}


def test_options_may_stand_before_the_word(taking: World) -> None:
    assert taking.run("snapshot", "--url", taking.url, "--json", "--detach", "trainer").exit_code == 0
    taking.says(f"POST /snapshot/{ID}/keep", {"snapshot": view(keep=True)})
    assert output(taking.run("snapshot", "--json", "keep", ID))["snapshot"]["keep"] is True


def test_a_snapshot_of_nothing_is_wrong_usage(api: World) -> None:
    assert api.run("snapshot").exit_code == 2
    assert output(api.run("snapshot", "--json"))["code"] == "usage"
    assert api.run("snapshot", "verify").exit_code == 2
    assert "take NAME" in api.run("snapshot", "--help").stdout


# --- verify, rm, keep -------------------------------------------------------------------------------------------------


def test_verify_reads_it_back_and_fails_where_it_is_damaged(api: World) -> None:
    api.says(f"POST /snapshot/{ID}/verify", {"operation": going("verify")})
    good = ended("verify", steps=[step("verify", 0, 4, detail="51 MB")])
    api.says("GET /operations/op-1", {"operation": good})
    result = api.run("snapshot", "verify", ID)
    assert result.exit_code == 0
    assert result.stdout == "snap-7 was read back whole: 51 MB in 4.00 s\n"
    api.says("GET /operations/op-1", {"operation": ended("verify", state="failed", problem=DAMAGED)})
    failed = api.run("snapshot", "verify", ID)
    assert failed.exit_code == 1
    assert "packs/ab at offset 12 (weights.bin)" in failed.stderr
    assert "--watch" in api.run("snapshot", "verify", ID, "--detach").stdout


def test_rm_deletes_and_never_the_only_good_one(api: World) -> None:
    api.says(f"DELETE /snapshot/{ID}", {"snapshot": view(state="deleted")})
    assert api.run("snapshot", "rm", ID).stdout == "snap-7 is deleted\n"
    assert output(api.run("snapshot", "rm", ID, "--json"))["snapshot"]["state"] == "deleted"
    api.says(f"DELETE /snapshot/{ID}", problem(409, "only_good_one", "it is trainer's only complete snapshot"))
    refused = api.run("snapshot", "rm", ID)
    assert refused.exit_code == 5
    assert "only complete snapshot" in refused.stderr


def test_keep_and_its_opposite(api: World) -> None:
    api.says(f"POST /snapshot/{ID}/keep", {"snapshot": view(keep=True)}, {"snapshot": view(keep=False)})
    assert api.run("snapshot", "keep", ID).stdout == "snap-7 is kept until you delete it\n"
    assert sent(api, f"POST /snapshot/{ID}/keep") == {"keep": True}
    assert api.run("snapshot", "keep", ID, "--no").stdout == "snap-7 is left to retention\n"
    assert sent(api, f"POST /snapshot/{ID}/keep") == {"keep": False}


# --- snapshots --------------------------------------------------------------------------------------------------------


def test_snapshots_are_listed_with_what_they_hold(api: World) -> None:
    listed = [
        view(keep=True, reason="schedule"),
        view(id="snap-6", state="taking", files=0),
        view(id="snap-5", state="incomplete", missing=["a b"]),
    ]
    api.says("GET /snapshot", {"snapshots": listed})
    result = api.run("snapshots", "trainer")
    assert api.query("GET /snapshot") == {"machine": "trainer"}
    head, *rows = result.stdout.splitlines()
    assert head.split()[:2] == ["SNAPSHOT", "MACHINE"]
    assert "1,512" in rows[0]
    assert "68.1 MB" in rows[0]
    assert rows[0].endswith("schedule, kept")
    assert "68.1 MB" not in rows[1], "what is not copied yet has no size"
    assert rows[2].endswith("1 missing: a b")
    assert len(output(api.run("snapshots", "--json"))["snapshots"]) == 3
    assert api.query("GET /snapshot") == {}


def test_no_snapshots_are_no_error(api: World) -> None:
    api.says("GET /snapshot", {"snapshots": []})
    result = api.run("snapshots", "trainer")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "dumont snapshot trainer" in result.stderr


# --- restore ----------------------------------------------------------------------------------------------------------


def test_restore_takes_the_newest_unless_told_otherwise(restoring: World) -> None:
    result = restoring.run("restore", "trainer")
    assert result.exit_code == 0
    assert sent(restoring, "POST /restore") == {"name": "trainer"}
    assert result.stdout == "snap-7 is restored into trainer: 1512 files, 68.1 MB in all in 1.60 s\n"
    told = restoring.run("restore", "trainer", "--snapshot", ID, "--path", "a/b c", "--fall-back", "--json")
    assert sent(restoring, "POST /restore") == {"name": "trainer", "snapshot": ID, "path": "a/b c", "fall_back": True}
    assert output(told)["operation"]["kind"] == "restore"
    assert told.stderr == ""
    assert "--watch" in restoring.run("restore", "trainer", "--detach").stdout
    assert restoring.run("restore", "trainer", "--discard").exit_code == 0
    assert sent(restoring, "POST /restore") == {"name": "trainer", "discard": True}


def test_a_damaged_snapshot_is_named_and_what_is_safe(restoring: World) -> None:
    restoring.says("GET /operations/op-1", {"operation": ended("restore", state="failed", problem=DAMAGED)})
    result = restoring.run("restore", "trainer")
    assert result.exit_code == 1
    assert "restore of trainer failed: packs/ab at offset 12 (weights.bin)" in result.stderr
    assert "kept safe: It is as it was." in result.stderr
    assert output(restoring.run("restore", "trainer", "--json"))["code"] == "damaged"


def test_falling_back_is_never_silent(restoring: World) -> None:
    steps = [step("restore", 0, 1, ok=False, detail="pack ab is damaged"), step("restore", 1, 2)]
    restoring.says("GET /operations/op-1", {"operation": ended("restore", steps=steps, snapshot_id="snap-6")})
    result = restoring.run("restore", "trainer", "--fall-back")
    assert result.exit_code == 0
    assert "a newer snapshot was damaged, so snap-6 took its place: pack ab is damaged" in result.stderr
    assert result.stdout.startswith("snap-6 is restored into trainer")


# --- diff -------------------------------------------------------------------------------------------------------------


def test_diff_names_what_changed(api: World) -> None:
    found = {"added": ["new"], "removed": ["old"], "changed": ["weights"], "touched": ["run.sh"]}
    api.says(f"POST /snapshot/{ID}/diff", {"operation": going("diff")})
    api.says("GET /operations/op-1", {"operation": ended("diff", result=found)})
    result = api.run("diff", ID, "snap-8")
    assert result.exit_code == 0
    assert sent(api, f"POST /snapshot/{ID}/diff") == {"other": "snap-8"}
    assert result.stdout == "+ new\n- old\n~ weights\nt run.sh\n"
    assert "1 added, 1 removed, 1 changed, 1 touched" in result.stderr
    assert output(api.run("diff", ID, "snap-8", "--json"))["diff"] == found
    api.says("GET /operations/op-1", {"operation": ended("diff", result={})})
    assert "no difference" in api.run("diff", ID, "snap-8").stderr


# --- How far it is ----------------------------------------------------------------------------------------------------


def test_the_picture_says_how_far_a_copy_is() -> None:
    copying = going("snapshot", progress={"files": 1300.0, "bytes_read": 2e7, "bytes_sent": 5e5, "bytes_new": 0.0})
    assert progress_text(copying) == "1,300 files, 20.0 MB read, 500.0 kB sent"
    assert "20.0 MB read" in shown(picture(copying, NOW + 2))
    assert "20.0 MB read" not in shown(picture({**copying, "state": "succeeded"}, NOW + 2))
    assert progress_text(going("restore", progress={"bytes_received": 1_500_000_000.0})) == "1.5 GB received"


def test_sizes_read_as_a_person_says_them() -> None:
    counts = (0, 999, 1000, 64_000_000, 999_960_000, 2.5e15, None)
    assert [size(count) for count in counts] == ["0 B", "999 B", "1.0 kB", "64.0 MB", "1.0 GB", "2500.0 TB", "–"]


def test_an_answer_with_nothing_in_it_breaks_nothing(api: World) -> None:
    api.says("GET /snapshot", {})
    assert api.run("snapshots").exit_code == 0
    for request in (f"DELETE /snapshot/{ID}", f"POST /snapshot/{ID}/keep"):
        api.says(request, {})
    for command in (["snapshot", "rm", ID], ["snapshot", "keep", ID]):
        assert api.run(*command).exit_code == 0
