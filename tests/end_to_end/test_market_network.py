"""Machines that lose their network or their life while the market says that they run: what passes before, during
and after, over SSH and over HTTP through the machine's own proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psutil
import pytest

from tests.end_to_end.market_support import Rig, market, processes_of, wait_for

BEATS = """
import http.client, os, time, urllib.request
url = os.environ["BEATS_URL"]
kept = None
while True:
    with open("count", "a") as file:
        file.write("x")
    try:
        if os.environ.get("KEPT"):
            host, _, port = os.environ["http_proxy"].removeprefix("http://").partition(":")
            kept = kept or http.client.HTTPConnection(host, int(port), timeout=60)
            kept.request("GET", f"{url}/kept/{os.getpid()}")
            kept.getresponse().read()
        else:
            urllib.request.urlopen(f"{url}/beat/{os.getpid()}", timeout=0.5).read()
    except OSError:
        kept = None
    time.sleep(0.05)
"""


class Plane:
    """Something that machines send to: it remembers the paths that were asked for."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.connections = 0
        paths, plane = self.paths, self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                plane.connections += 1
                super().setup()

            def do_GET(self) -> None:
                paths.append(self.path)
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def beats(self) -> bool:
        """Whether anything arrives from now on."""
        count = len(self.paths)
        return holds(lambda: len(self.paths) == count, 1.0) is False


@pytest.fixture(scope="module")
def running_market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with market(tmp_path_factory.mktemp("market")) as running:
        yield running


@pytest.fixture
def rig(running_market: Rig) -> Iterator[Rig]:
    """The market, with no fault waiting and no instance before or after."""
    yield running_market
    running_market.http.delete("/_market/faults")
    for row in running_market.http.get("/api/v1/instances/").json()["instances"]:
        running_market.http.delete(f"/api/v0/instances/{row['id']}/")


@pytest.fixture
def plane() -> Iterator[Plane]:
    made = Plane()
    yield made
    made.close()


def holds(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether a condition holds for so long without a gap."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not condition():
            return False
        time.sleep(0.02)
    return True


def beating(rig: Rig, plane: Plane, **env: str) -> int:
    """A running instance whose on-start script leaves a process behind that sends beats."""
    script = f"echo started >> starts; cat > beats.py <<'END'\n{BEATS}\nEND\nsetsid nohup python3 beats.py &\n"
    instance = rig.create(
        onstart=script, env={"BEATS_URL": plane.url, **env}, label=f"t.{len(rig.bill()['instances'])}"
    )
    rig.until(instance, "running")
    wait_for(lambda: plane.paths, "the first beat")
    return instance


def run(rig: Rig, row: dict[str, Any], command: str) -> str:
    async def once() -> str:
        async with rig.login(row) as connection:
            return str((await connection.run(command)).stdout)

    return asyncio.run(once())


def accepts(row: dict[str, Any], seconds: float = 0.5) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((row["ssh_host"], row["ssh_port"]), seconds):
        return True
    return False


def says_its_name(row: dict[str, Any], seconds: float = 0.5) -> bool:
    """Whether an SSH server answers."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection((row["ssh_host"], row["ssh_port"]), seconds) as connection,
    ):
        connection.settimeout(seconds)
        return connection.recv(4) == b"SSH-"
    return False


def status(rig: Rig, instance: int) -> str | None:
    row = rig.row(instance)
    assert row is not None
    found: str | None = row["actual_status"]
    return found


def count(rig: Rig, instance: int) -> int:
    """How often the machine's process went round."""
    return (rig.folder / str(instance) / "home" / "count").stat().st_size


def mend(rig: Rig, **named: Any) -> list[int]:
    answer = rig.http.post("/_market/mend", json=named)
    assert answer.status_code == 200, answer.text
    ids: list[int] = answer.json()["instance_ids"]
    return ids


def pids(plane: Plane) -> set[str]:
    return {path.rsplit("/", 1)[-1] for path in plane.paths}


# --- The network is cut -------------------------------------------------------------------------------------------


def test_a_cut_network_lets_nothing_in_or_out_while_all_runs_on_and_the_market_says_running(
    rig: Rig, plane: Plane
) -> None:
    instance = beating(rig, plane)
    row = rig.until(instance, "running")
    assert says_its_name(row)
    rig.fault("network_cut", instance_id=instance)
    wait_for(lambda: not plane.beats(), "the silence")
    before = count(rig, instance)
    assert not says_its_name(row)
    if sys.platform == "linux":
        assert not accepts(row), "a host that is cut off takes no connection either"
    assert status(rig, instance) == "running"
    wait_for(lambda: count(rig, instance) > before, "its process going on")
    mend(rig, instance_id=instance)
    wait_for(plane.beats, "a beat")
    assert len(pids(plane)) == 1, "the same process as before"
    assert run(rig, row, "cat starts") == "started\n"


def test_a_network_that_is_cut_for_a_while_comes_back_by_itself(rig: Rig, plane: Plane) -> None:
    instance = beating(rig, plane)
    row = rig.until(instance, "running")
    rig.fault("network_cut", instance_id=instance, seconds=3.0)
    wait_for(lambda: not says_its_name(row), "SSH's silence")
    wait_for(lambda: not plane.beats(), "the silence")
    wait_for(plane.beats, "a beat")
    wait_for(lambda: says_its_name(row), "SSH's answer")


def test_a_session_that_is_open_freezes_and_thaws(rig: Rig, plane: Plane) -> None:
    instance = beating(rig, plane)
    row = rig.until(instance, "running")

    async def frozen_and_thawed() -> tuple[str, str]:
        async with rig.login(row) as connection:
            process = await connection.create_process("while read line; do echo got $line; done")
            process.stdin.write("one\n")
            first = await process.stdout.readline()
            await asyncio.to_thread(rig.fault, "network_cut", instance_id=instance)
            process.stdin.write("two\n")
            reading = asyncio.ensure_future(process.stdout.readline())
            done, _ = await asyncio.wait({reading}, timeout=0.7)
            assert not done
            await asyncio.to_thread(mend, rig, instance_id=instance)
            return str(first), str(await asyncio.wait_for(reading, 5))

    assert asyncio.run(frozen_and_thawed()) == ("got one\n", "got two\n")


def test_a_connection_that_is_kept_alive_is_cut_as_well(rig: Rig, plane: Plane) -> None:
    instance = beating(rig, plane, KEPT="1")
    wait_for(lambda: len(plane.paths) > 5, "some requests")
    assert plane.connections == 1, "one connection for all of them"
    rig.fault("network_cut", instance_id=instance)
    wait_for(lambda: not plane.beats(), "the silence")
    mend(rig, instance_id=instance)
    wait_for(plane.beats, "a request")


TUNNEL = """
import http.client, os, time
def place(name):
    host, port = os.environ[name].rsplit("/", 1)[-1].split(":")
    return host, int(port)
tunnel = http.client.HTTPConnection(*place("HTTPS_PROXY"), timeout=1)
tunnel.set_tunnel(*place("BEATS_URL"))
try:
    while True:
        tunnel.request("GET", "/tunnel")
        print(tunnel.getresponse().read().decode(), flush=True)
        time.sleep(0.05)
except OSError as error:
    print(type(error).__name__)
"""


def test_a_tunnel_passes_bytes_until_the_network_is_cut(rig: Rig, plane: Plane) -> None:
    script = f"cat > tunnel.py <<'END'\n{TUNNEL}\nEND\npython3 tunnel.py > said\n"
    instance = rig.create(onstart=script, env={"BEATS_URL": plane.url})
    said = rig.folder / str(instance) / "home" / "said"
    wait_for(lambda: said.exists() and "ok" in said.read_text(), "the first answer")
    rig.fault("network_cut", instance_id=instance)
    wait_for(lambda: said.read_text().endswith("TimeoutError\n"), "the first request that hangs")
    assert plane.connections == 1
    assert set(plane.paths) == {"/tunnel"}


def test_a_machine_that_boots_without_a_network_runs_its_on_start_script_all_the_same(rig: Rig, plane: Plane) -> None:
    rig.fault("network_cut")
    script = (
        "python3 -c 'import os,urllib.request as u;"
        'u.urlopen(os.environ["BEATS_URL"], timeout=0.5)\' && echo out > told || echo not > told'
    )
    instance = rig.create(onstart=script, env={"BEATS_URL": plane.url})
    row = rig.until(instance, "running")
    told = rig.folder / str(instance) / "home" / "told"
    wait_for(lambda: told.exists() and told.read_text(), "the script's end")
    assert told.read_text() == "not\n"
    assert plane.paths == []
    assert not says_its_name(row)
    mend(rig, instance_id=instance)
    wait_for(lambda: says_its_name(row), "SSH's answer")


# --- The host is dead, or gone for a while ------------------------------------------------------------------------


def test_a_hung_host_is_dead_while_the_market_says_that_it_runs(rig: Rig, plane: Plane) -> None:
    instance = beating(rig, plane)
    row = rig.until(instance, "running")
    rig.fault("hung", instance_id=instance)
    wait_for(lambda: not processes_of(rig.folder / str(instance)), "the end of its processes")
    assert not plane.beats()
    assert not accepts(row)
    assert status(rig, instance) == "running"
    assert holds(lambda: not processes_of(rig.folder / str(instance)), 0.5), "nothing starts it again"
    # Its disk is there yet, and a restart runs the on-start script again.
    rig.http.put(f"/api/v0/instances/{instance}/", json={"state": "stopped"})
    wait_for(lambda: status(rig, instance) != "running", "the stop")
    rig.http.put(f"/api/v0/instances/{instance}/", json={"state": "running"})
    assert run(rig, rig.until(instance, "running"), "cat starts") == "started\nstarted\n"
    wait_for(plane.beats, "a beat")


def test_a_hung_host_may_be_noticed_later(rig: Rig, plane: Plane) -> None:
    instance = beating(rig, plane)
    rig.fault("hung", instance_id=instance, seconds=1.0)
    wait_for(lambda: not processes_of(rig.folder / str(instance)), "the end of its processes")
    assert status(rig, instance) == "running"
    rig.until(instance, "offline")
    assert not plane.beats()


def test_an_offline_host_runs_on_unseen_and_comes_back_as_it_was(rig: Rig, plane: Plane) -> None:
    instance = beating(rig, plane)
    row = rig.until(instance, "running")
    rig.fault("offline", instance_id=instance)
    assert status(rig, instance) == "offline"
    wait_for(lambda: not plane.beats(), "the silence")
    assert not says_its_name(row)
    before = count(rig, instance)
    wait_for(lambda: count(rig, instance) > before, "its process going on")
    mend(rig, instance_id=instance)
    assert status(rig, instance) == "running"
    wait_for(plane.beats, "a beat")
    assert len(pids(plane)) == 1
    assert run(rig, row, "cat starts") == "started\n"


def test_a_stop_reaches_an_offline_host_when_it_is_back(rig: Rig, plane: Plane) -> None:
    instance = beating(rig, plane)
    rig.fault("offline", instance_id=instance, seconds=2.0)
    rig.http.put(f"/api/v0/instances/{instance}/", json={"state": "stopped"})
    assert status(rig, instance) == "offline"
    assert processes_of(rig.folder / str(instance)) != []
    wait_for(lambda: status(rig, instance) in ("exited", "stopped"), "its return")
    wait_for(lambda: not processes_of(rig.folder / str(instance)), "the end of its processes")


@pytest.mark.parametrize("kind", ["network_cut", "offline"])
def test_a_destroy_may_not_reach_a_machine_that_is_cut_off_until_it_is_back(rig: Rig, plane: Plane, kind: str) -> None:
    instance = beating(rig, plane)
    rig.fault(kind, instance_id=instance, outlives_destroy=True)
    assert rig.http.delete(f"/api/v0/instances/{instance}/").json()["success"] is True
    assert rig.row(instance) is None
    before = count(rig, instance)
    wait_for(lambda: count(rig, instance) > before, "its process going on")
    (shown,) = [r for r in rig.http.get("/_market/state").json()["instances"] if r["id"] == instance]
    assert (shown["exists"], shown["network_works"], shown["processes_run"]) == (False, False, True)
    assert mend(rig, instance_id=instance) == [instance]
    wait_for(lambda: not processes_of(rig.folder / str(instance)), "the end of its processes")
    wait_for(lambda: not (rig.folder / str(instance)).exists(), "the end of its folder")


def test_a_destroy_ends_what_is_cut_off_at_once_if_nothing_else_is_said(rig: Rig, plane: Plane) -> None:
    instance = beating(rig, plane)
    rig.fault("network_cut", instance_id=instance)
    rig.http.delete(f"/api/v0/instances/{instance}/")
    wait_for(lambda: not processes_of(rig.folder / str(instance)), "the end of its processes")


# --- The container ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stop", "destroy", "dies", "hung"])
def test_what_the_on_start_script_left_in_the_background_ends_with_its_machine(
    rig: Rig, plane: Plane, how: str
) -> None:
    instance = beating(rig, plane)
    (pid,) = pids(plane)
    if how == "stop":
        rig.http.put(f"/api/v0/instances/{instance}/", json={"state": "stopped"})
    elif how == "destroy":
        rig.http.delete(f"/api/v0/instances/{instance}/")
    else:
        rig.fault(how, instance_id=instance)
    wait_for(lambda: not psutil.pid_exists(int(pid)), "the end of its process")
    assert processes_of(rig.folder / str(instance)) == []


def test_the_environment_has_what_a_container_s_has(rig: Rig) -> None:
    instance = rig.create()
    row = rig.until(instance, "running")
    names = dict(line.split("=", 1) for line in run(rig, row, "env").splitlines() if "=" in line)
    assert names["CONTAINER_ID"] == str(instance)
    assert len(names["CONTAINER_API_KEY"]) == 64
    assert names["VAST_CONTAINERLABEL"] == f"C.{instance}"
    assert names["PUBLIC_IPADDR"] == row["ssh_host"]
    assert names["VAST_TCP_PORT_22"] == str(row["ssh_port"])
    proxies = {names[name] for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
    assert len(proxies) == 1
    assert (names["no_proxy"], names["NO_PROXY"]) == ("", "")


def test_a_machine_destroys_itself_with_its_own_key_and_reaches_no_other(rig: Rig) -> None:
    other = rig.create()
    rig.until(other, "running")
    script = f"""
import os, urllib.error, urllib.request
def call(method, instance):
    url = os.environ["VAST_URL"] + "/api/v0/instances/" + str(instance) + "/"
    headers = {{"Authorization": "Bearer " + os.environ["CONTAINER_API_KEY"]}}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers, method=method)).status
    except urllib.error.HTTPError as error:
        return error.code
print(call("DELETE", {other}), flush=True)
print(call("DELETE", os.environ["CONTAINER_ID"]), flush=True)
"""
    instance = rig.create(onstart=f"cat > own.py <<'END'\n{script}\nEND\nexec python3 own.py\n", label="itself")
    wait_for(lambda: rig.row(instance) is None, "its end")
    wait_for(lambda: not processes_of(rig.folder / str(instance)), "the end of its processes")
    assert status(rig, other) == "running"


# --- Whom a fault befalls -----------------------------------------------------------------------------------------


def test_a_fault_may_name_whom_it_befalls_by_the_label(rig: Rig) -> None:
    one, other = (rig.create(label=f"dumont.x.{name}.1.u") for name in ("ada", "bob"))
    for instance in (one, other):
        rig.until(instance, "running")
    answer = rig.http.post("/_market/faults", json={"kind": "dies", "label": "*.bob.*"})
    assert answer.json()["instance_ids"] == [other]
    rig.until(other, "exited")
    assert status(rig, one) == "running"
    assert rig.http.post("/_market/faults", json={"kind": "dies", "label": "nobody"}).status_code == 404
    assert rig.http.post("/_market/mend", json={}).status_code == 400


def test_a_fault_may_wait_for_the_one_that_will_bear_a_label(rig: Rig) -> None:
    rig.fault("boot_never_ends", label="dumont.x.ada.2.*", at_create=True)
    first, second = (rig.create(label=f"dumont.x.ada.{epoch}.u") for epoch in (1, 2))
    rig.until(first, "running")
    rig.until(second, "loading")
    assert holds(lambda: status(rig, second) == "loading", 0.7)
