"""`dumont job`: its output comes once and whole, its exit status is passed on, and its end is told."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest

from dumont.cli.client import Client
from dumont.cli.joblog import PIECE_BYTES, JobOutput, script
from dumont.cli.jobs import short, status_of
from tests.unit.cli_world import KEY, NOW, Json, World, output, problem

SNAPSHOT = {"id": "snap-9", "machine": "job-1", "state": "complete", "files": 2, "bytes_total": 1500}
SNAPSHOT |= {"reason": "end of job"}


def job(**fields: object) -> Json:
    view: Json = {"id": "job-1", "machine": "job-1", "command": "python train.py", "state": "succeeded"}
    view |= {"created_at": NOW, "started_at": NOW + 20, "exited_at": NOW + 80, "ended_at": NOW + 95}
    view |= {"exit_status": 0, "attempts": 1, "cost_usd": 0.0123, "result_snapshot_id": "snap-9"}
    return {**view, **fields}


def accepts(api: World, end: Json, log: Json | None = None) -> None:
    operation = {"operation": {"id": "op-1", "kind": "provision", "state": "running"}}
    api.says("POST /jobs", {"job": job(state="pending", ended_at=None), **operation})
    api.says("GET /jobs/job-1", {"job": end, **({"log": log} if log else {})})
    api.says("GET /snapshot/snap-9", {"snapshot": SNAPSHOT})


def test_a_job_is_asked_for_as_it_was_said_and_its_output_alone_is_on_stdout(api: World) -> None:
    accepts(api, job(), {"text": "one\ntwo\n", "file_bytes": 8, "instance_id": "i"})
    result = api.run("job", "run", "--gpu", "RTX 4090", "--from", "data", "--retries", "2", "--checkpoint-every", "30",
                     "--", "python", "train.py", "a b")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "one\ntwo\n"
    sent = api.last("POST /jobs").json
    assert sent["ssh_public_keys"]
    del sent["ssh_public_keys"]
    assert sent == {
        "gpu": "RTX 4090", "from": "data", "retries": 2, "snapshot_every_minutes": 30.0,
        "command": "python train.py 'a b'",
    }  # fmt: skip
    for told in ("state        succeeded", "exit status  0", "cost         $0.0123", "60.0 s from the command's first",
                 "snapshot snap-9: 2 files, 1.5 kB", "--from snap-9"):  # fmt: skip
        assert told in result.stderr


def test_its_exit_status_is_passed_on_and_why_it_failed_is_told(api: World) -> None:
    why = {"code": "exit_status", "detail": "its command ended with exit status 7", "hint": "look"}
    accepts(api, job(state="failed", exit_status=7, problem=why))
    result = api.run("job", "run", "--", "false")
    assert result.exit_code == 7
    assert "why          its command ended with exit status 7" in result.stderr
    as_json = api.run("job", "run", "--json", "--", "false")
    assert as_json.exit_code == 7
    assert output(as_json)["job"]["problem"] == why


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, 0),
        ({"state": "failed", "exit_status": 3}, 3),
        ({"state": "failed", "exit_status": 0}, 1),  # it ended well, and was not saved
        ({"state": "failed", "exit_status": None}, 1),
        ({"state": "cancelled", "exit_status": None}, 1),
    ],
)
def test_the_command_line_ends_as_the_job_did(fields: Json, status: int) -> None:
    assert status_of(job(**fields)) == status


def test_a_machine_that_is_left_is_said_to_bill(api: World) -> None:
    why = {
        "code": "not_saved",
        "detail": "not saved",
        "safe": "IT STILL BILLS.",
        "hint": "dumont down job-1 --snapshot",
    }
    accepts(api, job(state="failed", result_snapshot_id=None, machine_kept=True, problem=why))
    result = api.run("job", "run", "--", "true")
    assert result.exit_code == 1
    for told in ("none were saved", "job-1 is kept: it bills until", "IT STILL BILLS", "dumont down job-1 --snapshot"):
        assert told in result.stderr


def test_jobs_are_listed_shown_and_cancelled(api: World) -> None:
    api.says("GET /jobs", {"jobs": [job(), job(id="job-2", state="running", machine_state="failing_over")]})
    listed = api.run("job", "ls")
    assert "python train.py" in listed.stdout
    assert "running (failing over)" in listed.stdout
    api.says("GET /jobs/job-1", {"job": job()})
    api.says("GET /snapshot/snap-9", {"snapshot": SNAPSHOT | {"reason": "policy"}})
    assert "as of its last checkpoint" in api.run("job", "show", "job-1").stdout
    assert output(api.run("job", "show", "job-1", "--json"))["snapshot"]["id"] == "snap-9"
    api.says("POST /jobs/job-1/cancel", {"job": job(state="saving", ended_at=None)})
    assert "what it wrote is saved" in api.run("job", "cancel", "job-1").stdout
    assert api.last("POST /jobs/job-1/cancel").json == {"discard": False}
    assert api.run("job", "show", "job-7").exit_code == 4
    api.says("POST /jobs", problem(409, "no_object_store", "there is none", hint="configure one"))
    refused = api.run("job", "run", "--", "true")
    assert refused.exit_code == 5
    assert "configure one" in refused.stderr


# --- Its output ---------------------------------------------------------------------------------------------------


def answer(home: Path, offset: int) -> bytes:
    """What a host's shell says to the script."""
    said = subprocess.run(["/bin/sh", "-c", script(offset)], env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
                          capture_output=True, check=True)  # fmt: skip
    return said.stdout


def test_a_host_is_asked_for_what_is_new_and_a_log_that_was_set_aside_comes_first(tmp_path: Path) -> None:
    assert answer(tmp_path, 0) == b"", "there is no log yet"
    folder = tmp_path / ".dumont"
    folder.mkdir()
    log = folder / "workload.log"
    log.write_bytes(b"abc")
    assert answer(tmp_path, 0) == b"same\nabc"
    assert answer(tmp_path, 3) == b"same\n"
    log.write_bytes(b"abc" + b"x" * (PIECE_BYTES + 5))
    assert len(answer(tmp_path, 3)) == len(b"same\n") + PIECE_BYTES, "no more at once than can be taken"
    log.rename(folder / "workload.log.1")
    log.write_bytes(b"new")
    assert answer(tmp_path, PIECE_BYTES) == b"old\n" + b"x" * 8


@pytest.mark.parametrize(
    ("read", "kept", "written", "whole"),
    [
        (("i-1", 3), {"text": "abcdef", "file_bytes": 6, "instance_id": "i-1"}, b"def", True),
        (("i-1", 6), {"text": "abcdef", "file_bytes": 6, "instance_id": "i-1"}, b"", True),
        (("i-1", 2), {"text": "yz", "file_bytes": 26, "instance_id": "i-1"}, b"yz", False),
        (("i-1", 99), {"text": "abc", "file_bytes": 3, "instance_id": "i-1"}, b"abc", True),
        (("i-1", 99), {"text": "abc", "file_bytes": 3, "instance_id": "i-2"}, b"abc", True),
        ((None, 0), {"text": "yz", "file_bytes": 26, "instance_id": "i-1"}, b"yz", False),
        ((None, 0), None, b"", False),
    ],
)
def test_the_end_that_was_not_read_any_more_comes_from_the_record_once(
    read: tuple[str | None, int], kept: Json | None, written: bytes, whole: bool
) -> None:
    out = io.BytesIO()
    with Client("http://localhost:1", KEY) as client:
        tail = JobOutput(client, "job-1", out)
        tail._instance, tail._offset = read
        assert tail.finish(kept) is whole
    assert out.getvalue() == written


def test_a_long_command_is_shown_on_one_line() -> None:
    assert short("a\n  b") == "a b"
    assert len(short("x" * 100)) == 60
