"""Each of the simulated market's faults, as clients see it over HTTP and SSH."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import socket
import time
from typing import Any

import asyncssh
import httpx
import pytest

from dumont.local.market.limits import LEAST_SECONDS
from tests.end_to_end.market_support import BODY, Rig, processes_of, wait_for


def create(rig: Rig, **body: Any) -> httpx.Response:
    return rig.http.put(f"/api/v0/asks/{rig.offers()[0]['id']}/", json={**BODY, **body})


def run(rig: Rig, instance: int, command: str) -> asyncssh.SSHCompletedProcess:
    async def once() -> asyncssh.SSHCompletedProcess:
        async with rig.login(rig.until(instance, "running")) as connection:
            return await connection.run(command)

    return asyncio.run(once())


def ssh_answers(row: dict[str, Any]) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((row["ssh_host"], row["ssh_port"]), 1):
        return True
    return False


# --- Boots --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "actual", "message"),
    [
        ("boot_never_ends", "loading", "Waiting"),
        ("oci_error", "created", "OCI runtime create failed"),
        ("bad_image", "loading", "manifest unknown"),
    ],
)
def test_a_boot_that_fails_shows_why_and_has_no_machine(rig: Rig, kind: str, actual: str, message: str) -> None:
    rig.fault(kind)
    instance = rig.create()

    def failed() -> bool:
        row = rig.row(instance)
        return row is not None and row["actual_status"] == actual and message in (row["status_msg"] or "")

    wait_for(failed, f"{actual} and {message}")
    assert processes_of(rig.folder / str(instance)) == []
    assert rig.bill()["instances"][-1]["gpu_usd"] == 0.0


def test_without_its_driver_nvidia_smi_fails_though_ssh_works(rig: Rig) -> None:
    rig.fault("no_gpu")
    done = run(rig, rig.create(), "nvidia-smi")
    assert done.exit_status == 9
    assert str(done.stdout).startswith("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver")


def test_another_gpu_than_the_offered_one_shows_itself(rig: Rig) -> None:
    rig.fault("wrong_gpu", gpu="NVIDIA GeForce GTX 1650")
    assert "GTX 1650" in str(run(rig, rig.create(), "nvidia-smi -L").stdout)


def test_ssh_is_dead_though_the_market_says_running(rig: Rig) -> None:
    rig.fault("ssh_dead")
    row = rig.until(rig.create(), "running")
    assert not ssh_answers(row)


# --- Deaths -------------------------------------------------------------------------------------------------------


def test_a_gpu_that_fails_later_fails_nvidia_smi(rig: Rig) -> None:
    instance = rig.create()
    assert run(rig, instance, "nvidia-smi").exit_status == 0
    rig.fault("no_gpu", instance_id=instance)
    assert run(rig, instance, "nvidia-smi").exit_status == 9


def test_ssh_that_dies_later_breaks_off_who_is_in(rig: Rig) -> None:
    instance = rig.create()
    row = rig.until(instance, "running")

    async def broken_off() -> bool:
        async with rig.login(row) as connection:
            process = await connection.create_process("sleep 100")
            rig.fault("ssh_dead", instance_id=instance)
            await asyncio.wait_for(process.wait_closed(), 20)
            return True

    assert asyncio.run(broken_off())
    wait_for(lambda: not ssh_answers(row), "a closed port")
    assert rig.row(instance)["actual_status"] == "running"  # type: ignore[index]


@pytest.mark.parametrize(("kind", "status"), [("dies", "exited"), ("bid_lost", "exited")])
def test_what_ends_an_instance_kills_its_processes(rig: Rig, kind: str, status: str) -> None:
    instance = rig.create()
    row = rig.until(instance, "running")
    run(rig, instance, "(setsid sleep 4321 >/dev/null 2>&1 &)")
    rig.fault(kind, instance_id=instance)
    rig.until(instance, status)
    wait_for(lambda: not processes_of(rig.folder / str(instance)), "the end of its processes")
    # A process that is being killed loses its memory, by which we see it, a moment before its sockets.
    wait_for(lambda: not ssh_answers(row), "a closed port")


def test_a_fault_may_be_set_for_later(rig: Rig) -> None:
    rig.fault("dies", after_seconds=1.5)
    instance = rig.create()
    rig.until(instance, "running")
    rig.until(instance, "exited")


def test_a_host_that_comes_back_has_its_disk(rig: Rig) -> None:
    instance = rig.create()
    run(rig, instance, "echo kept > workspace/file")
    rig.fault("offline", instance_id=instance, seconds=1.5)
    rig.until(instance, "offline")
    assert run(rig, instance, "cat workspace/file").stdout == "kept\n"


def test_a_resume_that_is_refused_is_queued_and_comes_later(rig: Rig) -> None:
    instance = rig.create()
    rig.until(instance, "running")
    path = f"/api/v0/instances/{instance}/"
    rig.http.put(path, json={"state": "stopped"})
    wait_for(lambda: rig.row(instance)["actual_status"] != "running", "the stop")  # type: ignore[index]
    rig.fault("resume_refused", instance_id=instance, seconds=1.5)
    answer = rig.http.put(path, json={"state": "running"}).json()
    assert answer["success"] is False
    assert answer["msg"] == "Required resources are currently unavailable, state change queued."
    assert rig.row(instance)["intended_status"] == "running"  # type: ignore[index]
    rig.until(instance, "running")


def test_a_destroy_that_lags_leaves_the_instance_for_a_while(rig: Rig) -> None:
    instance = rig.create()
    rig.until(instance, "running")
    rig.fault("destroy_lags", seconds=1.5)
    assert rig.http.delete(f"/api/v0/instances/{instance}/").json()["success"] is True
    assert rig.row(instance) is not None
    wait_for(lambda: rig.row(instance) is None, "the destruction")


# --- Creates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 404, 410])
def test_an_offer_that_is_gone_says_no_such_ask(rig: Rig, status: int) -> None:
    rig.fault("offer_gone", status=status)
    answer = create(rig)
    assert answer.status_code == status
    assert "no_such_ask" in answer.text
    assert "new_contract" not in answer.json()
    assert create(rig).json()["success"] is True


def test_a_bid_that_is_too_low_leaves_an_instance_that_bills_its_disk(rig: Rig) -> None:
    rig.fault("bid_too_low")
    answer = create(rig, price=0.3).json()
    assert answer["success"] is False
    instance = answer["new_contract"]
    assert rig.until(instance, "stopped")["intended_status"] == "stopped"
    wait_for(lambda: _line(rig, instance)["storage_usd"] > 0.0, "a charge")
    assert _line(rig, instance)["gpu_usd"] == 0.0


def _line(rig: Rig, instance: int) -> dict[str, Any]:
    found: dict[str, Any] = next(line for line in rig.bill()["instances"] if line["instance_id"] == instance)
    return found


def test_without_credit_nothing_is_rented_and_all_that_runs_is_stopped(rig: Rig) -> None:
    instance = rig.create()
    rig.until(instance, "running")
    rig.http.post("/_market/credit", json={"credit_usd": 0.000001})
    rig.until(instance, "exited")
    wait_for(lambda: not processes_of(rig.folder / str(instance)), "the end of its processes")
    assert create(rig).json()["error"] == "insufficient_credit"
    assert rig.http.get("/api/v0/users/current").json()["credit"] <= 0.0


def test_out_of_credit_may_be_said_for_once(rig: Rig) -> None:
    rig.fault("out_of_credit")
    assert create(rig).json()["error"] == "insufficient_credit"
    assert create(rig).json()["success"] is True


# --- Requests -----------------------------------------------------------------------------------------------------


def test_a_lost_answer_closes_the_connection_and_leaves_the_effect(rig: Rig) -> None:
    rig.fault("lost_answer", endpoint="create")
    with pytest.raises(httpx.RemoteProtocolError):
        create(rig, label="lost")
    rows = rig.http.get("/api/v1/instances/").json()["instances"]
    assert [row["label"] for row in rows] == ["lost"]


def test_a_lost_answer_may_keep_the_client_waiting_past_its_time(rig: Rig) -> None:
    rig.fault("lost_answer", endpoint="create", seconds=30.0)
    ask = rig.offers()[0]["id"]
    with pytest.raises(httpx.ReadTimeout):
        rig.http.put(f"/api/v0/asks/{ask}/", json={**BODY, "label": "held"}, timeout=0.3)
    # It may have given up before it was heard.
    rows = wait_for(lambda: rig.http.get("/api/v1/instances/").json()["instances"], "the instance")
    assert [row["label"] for row in rows] == ["held"]


def test_a_slow_answer_comes_late_and_holds_up_nobody_else(rig: Rig) -> None:
    seconds = 2.0
    rig.fault("slow", endpoint="user", seconds=seconds)
    started = time.monotonic()
    with (
        httpx.Client(base_url=rig.http.base_url, headers=rig.http.headers) as other,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        slow = pool.submit(rig.http.get, "/api/v0/users/current")
        wait_for(lambda: rig_calls(other, "user"), "the slow request's arrival")
        assert other.get("/api/v1/instances/").status_code == 200
        assert not slow.done()
        assert slow.result(20).status_code == 200
    assert time.monotonic() - started >= seconds


def rig_calls(client: httpx.Client, endpoint: str) -> list[dict[str, Any]]:
    return [call for call in client.get("/_market/calls").json()["calls"] if call["endpoint"] == endpoint]


@pytest.mark.parametrize(("retry_after", "header"), [(None, None), (3.0, "3")])
def test_too_many_requests_are_refused_with_and_without_a_time(rig: Rig, retry_after: float, header: str) -> None:
    rig.fault("rate_limited", endpoint="list", retry_after_seconds=retry_after)
    answer = rig.http.get("/api/v1/instances/")
    assert answer.status_code == 429
    assert "API requests too frequent" in answer.json()["detail"]
    assert answer.headers.get("Retry-After") == header
    assert rig.http.get("/api/v1/instances/").status_code == 200


def test_vast_s_own_rate_limits_can_be_switched_on(rig: Rig) -> None:
    rig.http.post("/_market/limits", json=dict(LEAST_SECONDS))
    statuses = [rig.http.post("/api/v0/bundles/", json={}).status_code for _ in range(3)]
    assert statuses == [200, 429, 429]
    rig.http.post("/_market/limits", json={})


def test_errors_of_the_server_have_no_effect(rig: Rig) -> None:
    rig.fault("server_error", endpoint="create", count=2)
    assert [create(rig).status_code for _ in range(2)] == [500, 500]
    assert rig.http.get("/api/v1/instances/").json()["instances"] == []


def test_listings_may_be_cut_short_or_be_an_error_under_200(rig: Rig) -> None:
    for _ in range(2):
        assert create(rig).json()["success"]
    rig.fault("list_truncated", keep=0)
    assert rig.http.get("/api/v1/instances/").json()["instances"] == []
    rig.fault("list_error_200")
    answer = rig.http.get("/api/v1/instances/")
    assert answer.status_code == 200
    assert answer.json()["success"] is False
    assert len(rig.http.get("/api/v1/instances/").json()["instances"]) == 2


def test_the_old_listing_is_always_deprecated(rig: Rig) -> None:
    answer = rig.http.get("/api/v0/instances/")
    assert answer.status_code == 410
    assert answer.json()["error"] == "deprecated_endpoint"


# --- Control ------------------------------------------------------------------------------------------------------


def test_the_controls_show_faults_that_wait_and_every_instance_that_there_was(rig: Rig) -> None:
    rig.fault("offer_gone", ask_id=5, status=404)
    (waiting,) = rig.http.get("/_market/faults").json()["faults"]
    assert (waiting["kind"], waiting["ask_id"], waiting["status"]) == ("offer_gone", 5, 404)
    rig.http.delete("/_market/faults")
    assert rig.http.get("/_market/faults").json()["faults"] == []
    instance = rig.create(label="remembered")
    rig.until(instance, "running")
    rig.http.delete(f"/api/v0/instances/{instance}/")
    state = rig.http.get("/_market/state").json()
    (shown,) = [row for row in state["instances"] if row["id"] == instance]
    assert (shown["exists"], shown["label"]) == (False, "remembered")
    assert [phase["actual"] for phase in shown["phases"]] == [None, "loading", "running"]


@pytest.mark.parametrize("body", [b"{", b'{"kind": "gremlins"}', b'{"kind": "dies", "when": 5}', b"{}"])
def test_a_fault_that_cannot_be_read_is_refused(rig: Rig, body: bytes) -> None:
    answer = rig.http.post("/_market/faults", content=body)
    assert answer.status_code == 400
    assert "boot_never_ends" in answer.json()["kinds"]


def test_a_fault_of_an_instance_that_is_not_there_is_refused(rig: Rig) -> None:
    assert rig.http.post("/_market/faults", json={"kind": "dies", "instance_id": 1}).status_code == 404
