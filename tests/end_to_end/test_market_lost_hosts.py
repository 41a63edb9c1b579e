"""Hosts that go offline, hang, or are destroyed unreached; and what a container may do with its own key."""

from __future__ import annotations

import psutil
import pytest

from tests.end_to_end.market_network_support import (
    Plane,
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
    rig.fault("offline", instance_id=instance, seconds=3.0)
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
    wait_for(lambda: not processes_of(rig.folder / str(instance)), "the end of all others")


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
