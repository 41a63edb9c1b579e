"""Vast.ai's answers, read: never a crash, whatever comes; and what each known form means."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dumont.adapters import vast_errors, vast_read
from dumont.domain.errors import NotFound, ProviderDown, ProviderError, RateLimited
from dumont.domain.offers import OfferQuery, matches
from dumont.ports import InstanceStatus

NOW = 1_790_000_000.0
ROW: dict[str, Any] = {
    "id": 12,
    "ask_contract_id": 12,
    "gpu_name": "RTX 4090",
    "num_gpus": 1,
    "gpu_ram": 24564,
    "dph_base": 0.2,
    "dph_total": 0.21,
    "min_bid": 0.08,
    "storage_cost": 0.36,
    "inet_down": 800.0,
    "inet_up": 300.0,
    "inet_up_cost": 0.002,
    "inet_down_cost": 0.001,
    "reliability2": 0.99,
    "verification": "verified",
    "geolocation": "Sweden, SE",
    "disk_space": 400.0,
    "disk_bw": 3000.0,
    "cpu_cores_effective": 16.0,
    "cpu_ram": 65536,
    "cuda_max_good": 12.6,
    "driver_version": "560.35.05",
    "dlperf": 100.0,
    "machine_id": 7,
    "host_id": 8,
    "duration": 86400.0,
    "static_ip": True,
    "rentable": True,
    "external": False,
}
INSTANCE: dict[str, Any] = {
    "id": 34,
    "actual_status": "running",
    "intended_status": "running",
    "cur_state": "running",
    "next_state": "running",
    "status_msg": "success, running pytorch/pytorch_latest/ssh",
    "label": "dumont.main.a.1.x",
    "public_ipaddr": " 203.0.113.5\n",
    "ports": {"22/tcp": [{"HostIp": "::", "HostPort": "40022"}]},
    "ssh_host": "ssh4.vast.ai",
    "ssh_port": 12345,
    "start_date": NOW - 60,
    "gpu_name": "RTX 4090",
    "machine_id": 7,
    "host_id": 8,
    "dph_total": 0.21,
}

junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["1", "-1", "nan", "inf", "1e999", "0x10", "running", "9" * 5000, 10**400, -0.0]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def spoiled(row: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The row with some of its fields gone and some of them anything."""
    gone = st.sets(st.sampled_from(sorted(row)))
    odd = st.dictionaries(st.sampled_from(sorted(row)), junk, max_size=5)
    return st.tuples(gone, odd).map(lambda both: {**{k: v for k, v in row.items() if k not in both[0]}, **both[1]})


# --- Never a crash ------------------------------------------------------------------------------------------------


@given(row=spoiled(ROW), interruptible=st.booleans())
def test_an_offer_is_read_from_any_row(row: dict[str, Any], interruptible: bool) -> None:
    offer = vast_read.read_offer(row, interruptible=interruptible, disk_gb=20.0, now=NOW)
    if offer is not None:
        assert offer.id.isdigit()
        assert 0 <= offer.gpu_usd_per_hour < float("inf")
        assert 0 <= offer.total_usd_per_hour(100.0) <= float("inf")
        matches(offer, OfferQuery())
    vast_read.is_open(row)


@given(row=spoiled(INSTANCE) | junk)
def test_an_instance_is_read_from_any_row(row: Any) -> None:
    instance = vast_read.read_instance(row)
    if instance is not None:
        assert instance.id.isdigit()
        assert instance.status in InstanceStatus
        assert instance.ssh is None or 0 < instance.ssh.port < 65_536
        assert instance.status is not InstanceStatus.RUNNING or instance.ssh is not None


@given(content=st.binary() | junk.map(lambda j: json.dumps(j).encode()), status=st.integers(100, 599))
def test_any_answer_is_a_success_or_an_error(content: bytes, status: int) -> None:
    answer = vast_errors.read_answer(status, content)
    if not vast_errors.is_success(answer):
        assert isinstance(vast_errors.error_of(answer, "show", NOW), ProviderError)


refusals = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("success", "error", "msg", "message", "detail", "new_contract"), junk)
)


@given(body=refusals, status=st.integers(100, 599), header=st.none() | st.text())
def test_any_refusal_has_a_type_and_a_plain_message(body: dict[str, Any], status: int, header: str | None) -> None:
    answer = vast_errors.read_answer(status, json.dumps(body).encode(), header)
    error = vast_errors.error_of(answer, "create", NOW)
    assert str(error).isprintable()
    assert len(str(error)) < 400
    if isinstance(error, RateLimited):
        assert 0 <= error.retry_after_seconds <= 86_400


@given(status=st.integers(500, 599), body=refusals)
def test_a_failing_server_never_proves_that_nothing_was_done_without_a_word(status: int, body: dict[str, Any]) -> None:
    for key in ("error", "msg", "message", "detail", "new_contract"):
        body.pop(key, None)
    answer = vast_errors.read_answer(status, json.dumps(body).encode())
    assert type(vast_errors.error_of(answer, "create", NOW)) is ProviderDown


@given(content=st.binary(max_size=200), status=st.integers(100, 599))
def test_what_is_no_json_never_proves_that_an_instance_is_gone(content: bytes, status: int) -> None:
    answer = vast_errors.read_answer(status, b"<" + content)
    assert not isinstance(vast_errors.error_of(answer, "show", NOW, missing=ProviderDown), NotFound)


@settings(max_examples=50)
@given(row=spoiled(ROW))
def test_what_an_offer_does_not_say_is_unknown_and_not_good(row: dict[str, Any]) -> None:
    offer = vast_read.read_offer(row, interruptible=False, disk_gb=20.0, now=NOW)
    if offer is not None and "verification" not in row:
        assert offer.verified is not True
    if offer is not None and "reliability2" not in row:
        assert offer.reliability is None


# --- Offers -------------------------------------------------------------------------------------------------------


def test_an_offer_in_our_units() -> None:
    offer = vast_read.read_offer(ROW, interruptible=False, disk_gb=20.0, now=NOW)
    assert offer is not None
    assert (offer.gpu_usd_per_hour, offer.storage_usd_per_gb_hour) == (0.2, 0.36 / 720)
    assert (offer.vram_gib, offer.memory_gib, offer.cpu_cores) == (24.0, 64.0, 16.0)
    assert offer.storage_usd_per_hour(100.0) == pytest.approx(0.05)


def test_an_interruptible_offer_costs_its_least_bid_and_without_one_is_none() -> None:
    offer = vast_read.read_offer(ROW, interruptible=True, disk_gb=20.0, now=NOW)
    assert offer is not None
    assert (offer.interruptible, offer.gpu_usd_per_hour) == (True, 0.08)
    assert vast_read.read_offer({**ROW, "min_bid": None}, interruptible=True, disk_gb=20.0, now=NOW) is None


def test_a_price_without_its_parts_is_its_total_less_the_disk() -> None:
    row = {**ROW, "dph_base": None}
    offer = vast_read.read_offer(row, interruptible=False, disk_gb=20.0, now=NOW)
    assert offer is not None
    assert offer.gpu_usd_per_hour == pytest.approx(0.21 - 20 * 0.36 / 720)


def test_numbers_may_come_as_strings() -> None:
    row = {
        key: str(value) if isinstance(value, int | float) and value is not True else value for key, value in ROW.items()
    }
    row.update(rentable=True, external=False, static_ip=True)
    assert vast_read.read_offer(row, interruptible=False, disk_gb=20.0, now=NOW) == vast_read.read_offer(
        ROW, interruptible=False, disk_gb=20.0, now=NOW
    )


@pytest.mark.parametrize(
    ("gpu", "megabytes", "gib"),
    [
        ("RTX 4090", 24564, 24),
        ("RTX 3090", 24576, 24),
        ("L4", 23034, 24),
        ("A40", 46068, 48),
        ("Tesla T4", 15109, 16),
        ("A100 SXM4", 81920, 80),
        ("A100 SXM4", 40960, 40),
        ("A100 PCIE", 81559, 80),
        ("H100 SXM", 81559, 80),
        ("H200", 143771, 141),
        ("Nobody's GPU", 24564, 24),
        ("Nobody's GPU", 7000, 7000 / 1024),
        ("RTX 4090", 12282, 12),
        ("RTX 4090", 0, None),
        ("RTX 4090", None, None),
    ],
)
def test_memory_is_the_size_that_a_gpu_is_sold_by(gpu: str, megabytes: object, gib: float | None) -> None:
    row = {**ROW, "gpu_name": gpu, "gpu_ram": megabytes}
    offer = vast_read.read_offer(row, interruptible=False, disk_gb=20.0, now=NOW)
    assert offer is not None
    assert offer.vram_gib == gib


# --- Instances ----------------------------------------------------------------------------------------------------

OCI = "Error response from daemon: failed to create shim task: OCI runtime create failed: runc create failed"
CDI = "failed to inject CDI devices: unresolvable CDI devices D.123/gpu=0"
S = InstanceStatus


@pytest.mark.parametrize(
    ("actual", "cur", "intended", "message", "status"),
    [
        (None, None, "running", None, S.STARTING),
        ("", None, "running", "", S.STARTING),
        (None, "stopped", "stopped", None, S.STOPPED),
        ("loading", "running", "running", "9f1a2b3c4d5e: Pulling fs layer", S.STARTING),
        ("created", "running", "running", "", S.STARTING),
        ("running", "running", "running", "success, running pytorch", S.RUNNING),
        ("RUNNING ", "running", "running", None, S.RUNNING),
        ("running", "running", "running", OCI, S.RUNNING),
        ("created", "stopped", "running", OCI, S.BROKEN),
        ("created", "stopped", "stopped", CDI, S.BROKEN),
        ("stopped", "stopped", "running", OCI, S.BROKEN),
        (None, "running", "running", OCI, S.BROKEN),
        ("loading", "running", "running", "manifest for a/b:c not found: manifest unknown", S.BROKEN),
        ("loading", "running", "running", "pull access denied for a/b, repository does not exist", S.BROKEN),
        ("loading", "running", "running", "success, running vendor/cdi_latest", S.STARTING),
        ("exited", "running", "running", "container exited with code 137", S.STOPPED),
        ("exited", "stopped", "stopped", "", S.STOPPED),
        ("stopped", "stopped", "stopped", "", S.STOPPED),
        ("exited", "stopped", "running", "Required resources are currently unavailable", S.STOPPED),
        ("scheduling", "stopped", "running", "", S.STARTING),
        ("scheduling", "stopped", "stopped", "", S.STOPPED),
        ("offline", "running", "running", "", S.OFFLINE),
        ("unknown", "running", "running", OCI, S.OFFLINE),
        ("rebooting", "running", "running", "", S.UNKNOWN),
        ("recycling", "running", "running", "0123456789ab: Pull complete", S.STARTING),
        ("frozen", "running", "running", "", S.UNKNOWN),
        ("something new", "running", "running", "", S.UNKNOWN),
        (17, "running", "running", "", S.UNKNOWN),
    ],
)
def test_status(actual: object, cur: object, intended: object, message: object, status: InstanceStatus) -> None:
    row = {**INSTANCE, "actual_status": actual, "cur_state": cur, "intended_status": intended, "status_msg": message}
    instance = vast_read.read_instance(row)
    assert instance is not None
    assert instance.status is status


@pytest.mark.parametrize(
    ("change", "endpoint"),
    [
        ({}, "203.0.113.5:40022"),
        ({"ports": None}, "ssh4.vast.ai:12345"),
        ({"ports": {}}, "ssh4.vast.ai:12345"),
        ({"ports": {"22/tcp": []}}, "ssh4.vast.ai:12345"),
        ({"ports": {"22/tcp": [None, {"HostPort": "x"}, {"HostPort": 2222}]}}, "203.0.113.5:2222"),
        ({"public_ipaddr": ""}, "ssh4.vast.ai:12345"),
        ({"public_ipaddr": "-oProxyCommand=evil"}, "ssh4.vast.ai:12345"),
        ({"public_ipaddr": "a b; evil"}, "ssh4.vast.ai:12345"),
        ({"public_ipaddr": "2001:db8::1"}, "2001:db8::1:40022"),
        ({"ports": None, "ssh_port": "12345"}, "ssh4.vast.ai:12345"),
        ({"ports": None, "ssh_port": 70_000}, None),
        ({"ports": None, "ssh_host": None}, None),
        ({"ports": None, "ssh_port": None}, None),
    ],
)
def test_where_ssh_answers(change: dict[str, Any], endpoint: str | None) -> None:
    found = vast_read.ssh_of({**INSTANCE, **change})
    assert (f"{found.host}:{found.port}" if found else None) == endpoint


def test_what_runs_without_an_address_is_still_starting() -> None:
    row = {**INSTANCE, "ports": None, "ssh_host": None}
    instance = vast_read.read_instance(row)
    assert instance is not None
    assert instance.status is InstanceStatus.STARTING


@pytest.mark.parametrize("bad", [None, True, "", "x", 0, -3, 1.5, [], {}])
def test_a_row_without_an_id_is_no_instance(bad: object) -> None:
    assert vast_read.read_instance({**INSTANCE, "id": bad}) is None
