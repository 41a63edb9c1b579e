"""The Cloud Scheduler adapter, against its REST API as published: jobs.get, jobs.pause, jobs.resume."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from google.auth.credentials import AnonymousCredentials

from dumont.adapters.cloud_scheduler import CloudSchedule
from dumont.domain.errors import InvalidInput, ScheduleError, ScheduleUnavailable
from dumont.optional_ports import ScheduleState
from tests.contract.scripted_http import Asked, Said, ScriptedServer, said

JOB = "projects/pro/locations/europe-west1/jobs/heartbeat-check"


class Scheduler:
    """One job. Pausing what is paused, and resuming what runs, is refused, as Google's reference says that it may."""

    def __init__(self) -> None:
        self.state = "ENABLED"
        self.answers: list[Said] = []
        self.lost = 0

    def __call__(self, asked: Asked) -> Said:
        if self.answers:
            return self.answers.pop(0)
        path = asked.path.split("?")[0]
        if path == f"/v1/{JOB}":
            return self._job()
        wanted, becomes = {f"/v1/{JOB}:pause": ("ENABLED", "PAUSED"), f"/v1/{JOB}:resume": ("PAUSED", "ENABLED")}.get(
            path, ("", "")
        )
        if not wanted:
            return self._error(404, "NOT_FOUND", "Job not found.")
        if self.state != wanted:
            return self._error(400, "FAILED_PRECONDITION", f"The job must be in {wanted}.")
        self.state = becomes
        if self.lost:
            self.lost -= 1
            return Said(body=None)
        return self._job()

    def _job(self) -> Said:
        return said(
            200, {"name": JOB, "schedule": "* * * * *", "state": self.state, "httpTarget": {"uri": "https://x"}}
        )

    @staticmethod
    def _error(code: int, status: str, message: str) -> Said:
        return said(code, {"error": {"code": code, "message": message, "status": status}})


@pytest.fixture
def scheduler() -> Iterator[tuple[Scheduler, CloudSchedule]]:
    job = Scheduler()
    with ScriptedServer(job) as http:
        schedule = made(http.url)
        yield job, schedule
        schedule.close()


def made(url: str, job: str = JOB, call_seconds: float = 10.0) -> CloudSchedule:
    anonymous = AnonymousCredentials()  # type: ignore[no-untyped-call]
    return CloudSchedule(job, url=url, credentials=anonymous, call_seconds=call_seconds)


def test_it_is_paused_and_resumed(scheduler: tuple[Scheduler, CloudSchedule]) -> None:
    job, schedule = scheduler
    assert schedule.state() is ScheduleState.RUNNING
    schedule.pause()
    assert (job.state, schedule.state()) == ("PAUSED", ScheduleState.PAUSED)
    schedule.resume()
    assert (job.state, schedule.state()) == ("ENABLED", ScheduleState.RUNNING)


def test_twice_is_once(scheduler: tuple[Scheduler, CloudSchedule]) -> None:
    job, schedule = scheduler
    for _ in range(2):
        schedule.pause()
    for _ in range(2):
        schedule.resume()
    assert job.state == "ENABLED"


def test_an_answer_that_is_lost_is_asked_for_again(scheduler: tuple[Scheduler, CloudSchedule]) -> None:
    job, schedule = scheduler
    job.lost = 1
    schedule.pause()
    assert job.state == "PAUSED"


def test_errors_in_passing_are_outlived(scheduler: tuple[Scheduler, CloudSchedule]) -> None:
    job, schedule = scheduler
    job.answers = [Scheduler._error(503, "UNAVAILABLE", "later"), Scheduler._error(429, "RESOURCE_EXHAUSTED", "slow")]
    schedule.pause()
    assert job.state == "PAUSED"


@pytest.mark.parametrize("state", ["DISABLED", "UPDATE_FAILED", "STATE_UNSPECIFIED"])
def test_a_job_that_the_scheduler_stopped_is_neither_and_says_so(
    scheduler: tuple[Scheduler, CloudSchedule], state: str
) -> None:
    job, schedule = scheduler
    job.state = state
    assert schedule.state() is ScheduleState.OTHER
    with pytest.raises(ScheduleError, match="must be in PAUSED"):
        schedule.resume()


def test_a_job_that_is_not_there_is_refused_and_one_that_stays_away_is_not_known() -> None:
    with ScriptedServer(Scheduler()) as http:
        schedule = made(http.url, JOB.replace("heartbeat", "other"))
        with pytest.raises(ScheduleError, match="NotFound"):
            schedule.pause()
        schedule.close()
    with ScriptedServer(lambda _: Scheduler._error(503, "UNAVAILABLE", "later")) as http:
        schedule = made(http.url, call_seconds=1.0)
        with pytest.raises(ScheduleUnavailable):
            schedule.resume()
        schedule.close()


@pytest.mark.parametrize("job", ["", "heartbeat-check", "projects/p/locations/l/jobs/", f"{JOB}/x", f"{JOB}:pause?"])
def test_what_is_no_jobs_name_is_refused_by_its_variable(job: str) -> None:
    if job.endswith("?"):
        job = f"{JOB} x"
    with pytest.raises(InvalidInput) as refused:
        CloudSchedule(job, credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]
    assert refused.value.field == "DUMONT_SCHEDULER_JOB"


def test_nothing_of_googles_is_imported_with_the_ports_and_the_operations() -> None:
    code = (
        "import sys, dumont.operations.rest, dumont.operations.reputations, dumont.optional_ports;"
        "import dumont.domain.trust, dumont.domain.failover_offers, dumont.adapters.always_running;"
        "heavy = ('google.auth', 'google.api_core', 'google.cloud.scheduler_v1', 'grpc', 'httpx', 'requests');"
        "sys.exit(any(name.startswith(heavy) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
