"""The agent as a real process: what it tells, what it runs, and when it stops."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dumont.agent import boot
from tests import agent_rig
from tests.agent_rig import Host, answer, serve, wait_for

COUNT = 'while :; do echo "$(date +%s.%N)" >>beats; sleep 0.02; done'


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with agent_rig.host(tmp_path) as made:
        yield made


def wait_gone(host: Host) -> None:
    wait_for(lambda: not host.others(), "the workload is gone")


def test_it_phones_home_at_once_and_then_at_its_pace(host: Host) -> None:
    host.start(interval_seconds=30.0)
    wait_for(lambda: len(host.plane.beats) >= 8, "the pace of the answers, not of the configuration")
    first, *_, last = host.plane.beats[:8]
    assert 0.5 < last.at - first.at < 10.0
    body = first.body
    assert first.token == host.config().token
    assert (body["version"], body["machine"], body["epoch"], body["sequence"]) == (1, "trainer", 1, 0)
    assert body["instance"] == host.config().instance
    assert last.body["sequence"] == 7
    assert last.body["boot_id"] == body["boot_id"]
    assert body["agent"]["sha256"] == boot.agent_sha256()
    assert body["workload"]["state"] == "none"
    assert abs(body["sent_at"] - time.time()) < 60
    readings = wait_for(lambda: (r := host.plane.last["readings"])["cpu_percent"] is not None and r, "readings")
    assert readings["gpus"] is None
    assert readings["ssh_sessions"] is None
    assert 0 <= readings["cpu_percent"] <= 100
    assert 0 < readings["memory_used_mib"] <= readings["memory_total_mib"]
    assert readings["disk_free_gib"] > 0
    assert readings["load_1m"] >= 0
    assert readings["user_processes"] is not None


def test_gpus_are_read_and_one_that_hangs_delays_no_heartbeat(host: Host) -> None:
    host.program("nvidia-smi", "[ -e ../hang ] && exec sleep 60; echo '93, 1024, 24564, 61, 312.50'")
    host.start()
    expected = {
        "utilization_percent": 93.0,
        "memory_used_mib": 1024.0,
        "memory_total_mib": 24564.0,
        "temperature_c": 61.0,
        "power_w": 312.5,
    }
    wait_for(lambda: host.plane.last.get("readings", {}).get("gpus") == [expected], "its readings")
    (host.home.parent / "hang").touch()
    wait_for(lambda: any("nvidia-smi" in " ".join(p.cmdline()) or p.name() == "sleep" for p in host.others()), "a hang")
    host.plane.says = serve("sleep 60", health="command: sleep 60")
    host.plane.wait_state("starting")
    count, began = len(host.plane.beats), time.monotonic()
    wait_for(lambda: len(host.plane.beats) >= count + 6, "heartbeats go on")
    assert time.monotonic() - began < 4.0


def test_the_end_of_the_engine_is_told_at_once(host: Host) -> None:
    host.plane.says = answer("wait", interval_seconds=20.0)
    run = host.home / ".dumont" / "runs" / "op-1-snapshot-snap-1-1"
    run.mkdir(parents=True)
    host.start()
    wait_for(lambda: host.plane.last.get("engine") == {"run": run.name, "ended": False}, "the run is told of")
    ended_at = time.monotonic()
    (run / "status").write_text("0\n")
    wait_for(lambda: host.plane.last.get("engine") == {"run": run.name, "ended": True}, "its end is told")
    assert host.plane.beats[-1].at - ended_at < 10.0, "not at the pace of heartbeats, which is 20 s here"


def test_it_runs_the_workload_in_its_workspace_and_keeps_its_output(host: Host) -> None:
    host.plane.says = serve("echo here: $PWD $MINE; echo wrong >&2; umask; exec sleep 60")
    host.environment["MINE"] = "value"
    host.start()
    report = host.plane.wait_state("running")
    wait_for(lambda: host.log() == f"here: {host.workspace} value\nwrong\n{os.umask(os.umask(0o22)):04o}\n", host.log())
    assert report["restarts"] == 0
    assert abs(report["since"] - time.time()) < 30


@pytest.mark.parametrize("state", ["wait", "fenced"])
def test_told_so_it_stops_all_of_the_workload_and_serves_again(host: Host, state: str) -> None:
    # One child is of another session and deaf to SIGTERM, its parent gone; another has no environment to be known by.
    stray = "(setsid sh -c \"trap '' TERM; while :; do sleep 1; done\" &); env -i setsid sleep 61 & "
    host.plane.says = serve(stray + COUNT, stop_seconds=0.3)
    host.start()
    host.plane.wait_state("running")
    wait_for(lambda: (host.workspace / "beats").exists(), "it counts")
    host.plane.says = answer(state)
    report = host.plane.wait_state("stopped")
    assert host.others() == []
    assert not [
        p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "61"] and _is_ours(p, host)
    ]
    assert report["restarts"] == 0
    count = len(host.plane.beats)
    wait_for(lambda: len(host.plane.beats) > count + 2, "it goes on reporting")
    host.plane.says = serve(COUNT)
    host.plane.wait_state("running")


def _is_ours(process: psutil.Process, host: Host) -> bool:
    try:
        return str(process.cwd()) == str(host.workspace)
    except psutil.Error:
        return False


def sleeps(host: Host) -> list[list[str]]:
    """The command lines of its processes that sleep."""
    return [words for process in host.others() if (words := agent_rig.words(process))[:1] == ["sleep"]]


def test_another_command_takes_the_place_of_the_first(host: Host) -> None:
    host.plane.says = serve("echo first; exec sleep 60")
    host.start()
    wait_for(lambda: "first" in host.log(), "the first")
    host.plane.says = serve("echo second; exec sleep 62")
    wait_for(lambda: "second" in host.log(), "the second")
    # The shell that said so becomes the sleep a moment later.
    wait_for(lambda: sleeps(host), "its sleep")
    assert sleeps(host) == [["sleep", "62"]]


def test_a_host_that_is_cut_off_has_stopped_when_its_lease_ends_and_serves_after_it(host: Host) -> None:
    lease = 3.0
    host.plane.says = serve(COUNT, lease_seconds=lease, stop_seconds=10.0)
    host.start()
    wait_for(lambda: (host.workspace / "beats").exists(), "it counts")
    host.plane.stop()
    cut_at = host.plane.beats[-1].at - time.monotonic() + time.time()
    wait_gone(host)
    beats = [float(line) for line in (host.workspace / "beats").read_text().split()]
    assert cut_at + lease * 0.5 < beats[-1] < cut_at + lease
    host.plane.start()
    wait_for(lambda: len((host.workspace / "beats").read_text().split()) > len(beats), "it counts again")


def test_what_cannot_be_followed_is_no_contact_and_changes_nothing(host: Host) -> None:
    good = serve("exec sleep 60", lease_seconds=3.0)
    fenced = json.dumps(answer("fenced")).encode()
    host.plane.says = good
    host.start()
    host.plane.wait_state("running")
    workload = host.others()
    for nonsense in (
        (500, fenced),
        (401, fenced),
        (302, fenced),
        (200, b"<html>"),
        (200, b'{"state": "elsewhere"}'),
        None,
    ):
        host.plane.says = nonsense
        wait_for(lambda: not host.plane.beats[-1].answered, "it is heard")
        assert host.others() == workload
        if nonsense is not None:
            host.plane.says = good
            wait_for(lambda: host.plane.beats[-1].answered, "it is heard again")
    wait_gone(host)  # the last one hangs: as if the network were gone, the lease ends
    assert not [seen for seen in host.plane.requests if seen.path == "/elsewhere"]


def test_a_workload_that_is_killed_is_started_again(host: Host) -> None:
    host.plane.says = serve("echo once more; exec sleep 60", restart="on-failure")
    host.start()
    host.plane.wait_state("running")
    host.others()[0].kill()
    assert host.plane.wait_state("exited")["exit_status"] == 137
    report = host.plane.wait_state("running")
    assert (report["restarts"], host.log()) == (1, "once more\nonce more\n")


def test_what_ended_by_itself_and_may_stay_so_is_not_run_again(host: Host) -> None:
    host.plane.says = serve("echo done; exit 3", restart="never")
    host.start()
    assert host.plane.wait_state("exited")["exit_status"] == 3
    host.plane.says = answer("wait")
    count = len(host.plane.beats)
    wait_for(lambda: len(host.plane.beats) > count + 3, "it waits")
    host.plane.says = serve("echo done; exit 3", restart="never")
    count = len(host.plane.beats)
    wait_for(lambda: len(host.plane.beats) > count + 5, "it serves again")
    assert (host.plane.workload()["state"], host.log()) == ("exited", "done\n")


def test_health_is_told(host: Host) -> None:
    host.plane.says = serve("touch up; exec sleep 60", health="command: test -e up")
    host.start()
    host.plane.wait_state("healthy")


def test_asked_to_end_it_stops_the_workload_and_ends(host: Host) -> None:
    host.plane.says = serve("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done")
    agent = host.start()
    wait_for(lambda: "up" in host.log(), "it runs")
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(agent_rig.SECONDS_MOST) == 0
    assert host.processes() == []
    assert host.log().endswith("bye\n")


def test_an_agent_that_is_killed_takes_its_workload_along_and_comes_back(host: Host) -> None:
    host.plane.says = serve("exec sleep 60")
    guard = host.start()
    host.plane.wait_state("running")
    workload = host.others()
    (agent,) = [p for p in host.agents() if p.pid != guard.pid]
    agent.kill()
    wait_for(lambda: not workload[0].is_running(), "the workload is killed")
    wait_for(lambda: len(host.plane.beats) > 2 and host.plane.last["sequence"] == 0, "a new agent")
    host.plane.wait_state("running")


def test_a_guard_that_is_ended_between_two_agents_starts_no_other(host: Host) -> None:
    host.plane.says = serve("exec sleep 60")
    guard = host.start()
    host.plane.wait_state("running")
    (agent,) = [p for p in host.agents() if p.pid != guard.pid]
    agent.kill()
    wait_for(lambda: "it is started again" in host.log(".dumont/agent/agent.log"), "the pause before the next one")
    guard.send_signal(signal.SIGTERM)
    assert guard.wait(agent_rig.SECONDS_MOST) == 0
    assert host.agents() == []


def test_what_a_killed_agent_left_running_is_stopped_before_anything_starts(host: Host) -> None:
    host.plane.says = serve("exec sleep 60")
    guard = host.start()
    host.plane.wait_state("running")
    workload = host.others()
    for process in sorted(host.agents(), key=lambda p: p.pid):
        process.kill()
    guard.wait(agent_rig.SECONDS_MOST)
    assert workload[0].is_running()
    host.plane.says = answer("wait")
    host.start()
    wait_gone(host)


def test_fenced_for_good_it_destroys_its_own_instance(host: Host) -> None:
    host.plane.provider_says = [(200, b'{"success": true}')]
    host.environment |= {"CONTAINER_ID": "4711", "CONTAINER_API_KEY": "own-key", "VAST_URL": host.plane.url}
    host.plane.says = serve("exec sleep 60")
    host.start()
    host.plane.wait_state("running")
    host.plane.says = answer("fenced", destroy=True)
    seen = wait_for(lambda: [s for s in host.plane.requests if s.method == "DELETE"], "the destroy")[0]
    assert (seen.path, seen.token) == ("/api/v0/instances/4711/", "own-key")
    assert host.plane.workload()["state"] == "stopped"
    count = len(host.plane.beats)
    wait_for(lambda: len(host.plane.beats) > count + 2, "it goes on reporting")


def test_it_speaks_through_the_proxy(host: Host) -> None:
    host.environment["http_proxy"] = host.plane.url
    host.start(url="http://control.invalid")
    wait_for(lambda: len(host.plane.beats) > 2, "heartbeats by the proxy")
    assert host.plane.beats[0].path == "http://control.invalid/heartbeat"


def test_the_token_is_seen_nowhere(host: Host) -> None:
    host.plane.says = serve("env; exec sleep 60")
    host.start()
    host.plane.wait_state("running")
    host.plane.stop()
    wait_for(lambda: "no contact" in host.log(".dumont/agent/agent.log"), "the log says so")
    secret = host.config().token.encode()
    for path in host.home.rglob("*"):
        if path.is_file() and path.name != "config.json":
            with contextlib.suppress(FileNotFoundError):  # the agent's own, for a moment
                assert secret not in path.read_bytes(), path
    assert (host.folder / "config.json").stat().st_mode & 0o077 == 0
    for process in host.processes():
        for name in ("cmdline", "environ"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                assert secret not in Path(f"/proc/{process.pid}/{name}").read_bytes()


def test_a_second_agent_ends_at_once(host: Host) -> None:
    host.start()
    wait_for(lambda: host.plane.beats, "the first")
    count = len(host.agents())
    assert host.start().wait(agent_rig.SECONDS_MOST) == 0
    assert len(host.agents()) == count == 2


def test_a_config_that_is_none_is_refused(host: Host) -> None:
    (host.home / "c.json").write_text('{"url": "http://x", "token": ""}')
    (host.home / "a.pyz").write_bytes(boot.agent_file())
    words = [agent_rig.PYTHON, "-IS", "a.pyz", "c.json"]
    done = subprocess.run(words, env=host.env(), cwd=host.home, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"token is not a text" in done.stderr
