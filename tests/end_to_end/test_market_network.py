"""Machines that lose their network or their life while the market says that they run: what passes before, during
and after, over SSH and over HTTP through the machine's own proxy.
"""

from __future__ import annotations

import asyncio
import sys

from tests.end_to_end.market_network_support import (
    Plane,
    accepts,
    beating,
    count,
    holds,
    mend,
    pids,
    run,
    says_its_name,
    status,
)
from tests.end_to_end.market_support import Rig, processes_of, wait_for


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
    rig.fault("network_cut", instance_id=instance, seconds=5.0)
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
            return str(first), str(await asyncio.wait_for(reading, 20))

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
    # A process that is being killed loses its memory, by which we see it, a moment before its sockets.
    wait_for(lambda: not accepts(row), "a closed port")
    assert not plane.beats()
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
    rig.fault("hung", instance_id=instance, seconds=3.0)
    wait_for(lambda: not processes_of(rig.folder / str(instance)), "the end of its processes")
    assert status(rig, instance) == "running"
    rig.until(instance, "offline")
    assert not plane.beats()
