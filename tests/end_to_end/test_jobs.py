"""Jobs on the local cloud: real processes, real files, real deaths. Each ends once, its outputs in its snapshot, and
its machine is gone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from dumont import queries
from dumont.adapters.sqlite_store import SqliteStore
from dumont.domain.ledger import LedgerEntry
from tests.end_to_end.cloud import Cloud, wait_for
from tests.end_to_end.failover_support import Json, Stage, Story
from tests.end_to_end.snapshot_support import Host, ObjectStore, snapshot_of

QUICK = {"gpu": "RTX 4090", "max_price_usd_per_hour": 0.4, "race_width": 1}
QUICK |= {"heartbeat_seconds": 0.5, "fence_after_seconds": 2.0}
OPTIONS = ("--gpu", "RTX 4090", "--max-price", "0.4", "--race", "1", "--heartbeat", "0.5", "--fence-after", "2")
ENDS = ("succeeded", "failed", "cancelled")
JOB_SECONDS = 90.0


def ask(cloud: Cloud, command: str, **wish: Any) -> httpx.Response:
    """Ask for a job, whatever the answer."""
    return cloud.http.post("/jobs", json={"command": command} | QUICK | wish)


def begun(cloud: Cloud, command: str, **wish: Any) -> Json:
    """A job that was accepted."""
    answer = ask(cloud, command, **wish)
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"/jobs/{answer.json()['job']['id']}"
    job: Json = answer.json()["job"]
    return job


def seen(cloud: Cloud, which: str) -> Json:
    """A job with its log."""
    view: Json = cloud.http.get(f"/jobs/{which}").json()
    return view


def ended(cloud: Cloud, which: str) -> Json:
    """The job, once it has ended, with its log's text; its machine is gone, and cost what the ledger says."""

    def look() -> Json | None:
        view = seen(cloud, which)
        return view if view["job"]["state"] in ENDS else None

    view = wait_for(look, seconds=JOB_SECONDS, why=f"{which} has ended", every_seconds=0.2)
    job: Json = view["job"] | {"log": view.get("log", {}).get("text")}
    assert cloud.machine(job["machine"])["state"] == "destroyed", job
    assert bills(cloud, job["machine"]) == []
    entries = SqliteStore(cloud.folder / "data/store.sqlite3").find(
        LedgerEntry, queries.ledger_of_machine(job["machine"])
    )
    assert job["cost_usd"] == pytest.approx(sum(e.amount_micro_usd for e in entries) / 1e6, abs=1e-5)
    assert job["cost_usd"] > 0
    return job


def bills(cloud: Cloud, machine: str) -> list[Json]:
    """What bills for a machine now, by the market's own word."""
    return [line for line in cloud.live() if f".{machine}." in line["label"]]


def appears(path: Path) -> None:
    """Wait until a file is there."""
    wait_for(path.exists, seconds=60, why=f"{path.name} is there")


def files_of(cloud: Cloud, snapshot: str, name: str) -> str:
    """What `ls` and `cat` show of a snapshot's files, by a job that begins with it."""
    job = begun(cloud, "ls; cat *", name=name, **{"from": snapshot})
    end = ended(cloud, job["id"])
    assert end["state"] == "succeeded", end
    return str(end["log"])


# --- Stories ------------------------------------------------------------------------------------------------------


def it_succeeds_and_its_output_is_in_its_snapshot(cloud: Cloud) -> None:
    ran = cloud.cli("job", "run", *OPTIONS, "--", "echo out; echo err >&2; echo weights > model.bin", timeout=90)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["out", "err"], "stdout has what the command wrote, and nothing else"
    assert "state        succeeded" in ran.stderr
    listed = json.loads(cloud.cli("job", "ls", "--json").stdout)["jobs"]
    job = next(entry for entry in listed if "weights" in entry["command"])
    end = ended(cloud, job["id"])
    assert (end["exit_status"], end["attempts"], end["log"]) == (0, 1, "out\nerr\n")
    kept = cloud.http.get(f"/snapshot/{end['result_snapshot_id']}").json()["snapshot"]
    assert (kept["state"], kept["files"], kept["reason"]) == ("complete", 1, "end of job")
    assert files_of(cloud, end["result_snapshot_id"], "reader") == "model.bin\nweights\n"
    assert cloud.cli("job", "logs", job["id"]).stdout == "out\nerr\n", "it can be read when its machine is long gone"


def one_that_fails_is_run_again_and_then_says_how_it_ended(cloud: Cloud) -> None:
    command = "echo try >> tries; wc -l < tries; exit 3"
    ran = cloud.cli("job", "run", *OPTIONS, "--name", "failing", "--retries", "1", "--", command, timeout=90)
    assert ran.returncode == 3, ran.stderr
    assert ran.stdout.split() == ["1", "2"]
    end = ended(cloud, "failing")
    assert (end["state"], end["exit_status"], end["attempts"]) == ("failed", 3, 2)
    assert end["problem"]["code"] == "exit_status"
    shown = cloud.cli("job", "show", "failing").stdout
    assert "exit status  3" in shown
    assert files_of(cloud, "failing", "reader-2") == "tries\ntry\ntry\n", "what it wrote is saved all the same"


def a_host_that_is_killed_in_the_middle_is_replaced_and_it_goes_on_from_its_checkpoint(cloud: Cloud) -> None:
    go = cloud.folder / "go"
    command = (
        'echo "begins with $(cat steps 2>/dev/null || echo nothing)"; [ -e steps ] || echo 7 > steps; '
        f"while [ ! -e {go} ]; do sleep 0.1; done; cat steps > result"
    )
    job = begun(cloud, command, name="moving")
    wait_for(lambda: cloud.machine("moving")["state"] == "running", seconds=60, why="it runs")
    host = Host(cloud, "moving")
    appears(host.workspace / "steps")
    snapshot_of(cloud, "moving")
    (host.workspace / "since").write_text("lost with its host")
    cloud.fault("hung", label=host.instance_id)
    wait_for(lambda: cloud.machine("moving")["epoch"] == 2, seconds=60, why="it moves")
    wait_for(lambda: seen(cloud, job["id"])["job"]["attempts"] == 2, seconds=60, why="its command starts again")
    assert seen(cloud, job["id"])["job"]["state"] == "running", "a host that is lost ends no job"
    go.touch()
    end = ended(cloud, job["id"])
    assert (end["state"], end["exit_status"], end["attempts"]) == ("succeeded", 0, 2)
    assert end["log"] == "begins with 7\n"
    assert files_of(cloud, end["result_snapshot_id"], "reader-3") == "result\nsteps\n7\n7\n"


def a_job_that_is_cancelled_is_saved_first_unless_its_user_says_otherwise(cloud: Cloud) -> None:
    job = begun(cloud, "echo half > half; sleep 900", name="halved")
    wait_for(lambda: cloud.machine("halved")["state"] == "running", seconds=60, why="it runs")
    appears(Host(cloud, "halved").workspace / "half")
    said = cloud.cli("job", "cancel", "halved")
    assert said.returncode == 0, said.stderr
    assert "what it wrote is saved" in said.stdout
    again = cloud.http.post(f"/jobs/{job['id']}/cancel", json={})
    assert again.status_code == 202, "asked for again, it is the same"
    end = ended(cloud, job["id"])
    assert (end["state"], end.get("exit_status")) == ("cancelled", None)
    assert files_of(cloud, end["result_snapshot_id"], "reader-4") == "half\nhalf\n"

    gone = begun(cloud, "echo half > half; sleep 900", name="dropped")
    wait_for(lambda: cloud.machine("dropped")["state"] == "running", seconds=60, why="it runs")
    assert cloud.http.post(f"/jobs/{gone['id']}/cancel", json={"discard": True}).status_code == 202
    end = ended(cloud, gone["id"])
    assert (end["state"], end.get("result_snapshot_id")) == ("cancelled", None)


def one_that_takes_too_long_is_stopped_and_saved(cloud: Cloud) -> None:
    job = begun(cloud, "trap 'echo stopped >> end; exit 0' TERM; echo begun > end; while :; do sleep 0.1; done",
                name="slow", timeout_hours=12 / 3600)  # fmt: skip
    end = ended(cloud, job["id"])
    assert (end["state"], end["problem"]["code"]) == ("failed", "timed_out")
    assert files_of(cloud, end["result_snapshot_id"], "reader-5") == "end\nbegun\nstopped\n", "it could end in order"


def outputs_that_cannot_be_verified_keep_its_machine_until_they_are(cloud: Cloud) -> None:
    store = ObjectStore(cloud)
    store.fault("lost", name_prefix="machines/stuck/1/packs/", count=None)
    job = begun(cloud, "echo mine > mine", name="stuck")

    def refused() -> bool:
        found = cloud.http.get("/operations", params={"machine": "stuck"}).json()["operations"]
        return any(op["kind"] == "finish" and op["state"] == "failed" for op in found)

    wait_for(refused, seconds=60, why="its outputs were not there")
    view = seen(cloud, job["id"])["job"]
    assert (view["state"], view["exit_status"], view["machine_state"]) == ("saving", 0, "running")
    assert len(bills(cloud, "stuck")) == 1, "nothing is let go that is not saved"
    store.mend()
    end = ended(cloud, job["id"])
    assert (end["state"], end["attempts"]) == ("succeeded", 1), "its command was not run again for that"


def what_cannot_be_is_refused_before_anything_is_rented(cloud: Cloud) -> None:
    for wish, status, field in (
        ({"from": "snap-nowhere"}, 404, "from"),
        ({"run": "serve"}, 400, "run"),
        ({"idle_after_minutes": 5}, 400, "idle_after_minutes"),
        ({"name": "No Name"}, 400, "name"),
        ({"retries": -1}, 400, "retries"),
        ({"unheard_of": 1}, 400, "unheard_of"),
    ):
        answer = ask(cloud, "true", **wish)
        assert (answer.status_code, answer.json()["field"]) == (status, field), answer.text
    assert ask(cloud, "  ").status_code == 400
    assert cloud.http.get("/jobs/job-nowhere").status_code == 404
    assert cloud.http.post("/jobs/job-nowhere/cancel", json={}).status_code == 404
    assert cloud.cli("job", "show", "job-nowhere").returncode == 4


STORIES: list[Story] = [
    a_host_that_is_killed_in_the_middle_is_replaced_and_it_goes_on_from_its_checkpoint,
    it_succeeds_and_its_output_is_in_its_snapshot,
    outputs_that_cannot_be_verified_keep_its_machine_until_they_are,
    a_job_that_is_cancelled_is_saved_first_unless_its_user_says_otherwise,
    one_that_fails_is_run_again_and_then_says_how_it_ended,
    one_that_takes_too_long_is_stopped_and_saved,
    what_cannot_be_is_refused_before_anything_is_rented,
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_job(stage: Stage, story: Story) -> None:
    stage.outcome(story)
