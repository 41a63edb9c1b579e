"""Vast.ai's offers and instances, read into our records. Pure, and tolerant: each field may be missing or odd.

Units as Vast has them: gpu_ram (of one GPU) and cpu_ram in MB, disk_space in GB, inet_* in Mbit/s, disk_bw in MB/s,
prices in USD an hour, storage_cost in USD a GB and month.
"""

from __future__ import annotations

import math
import re
from typing import Any

from dumont.adapters.vast_errors import PROVIDER, whole_number
from dumont.domain import gpus
from dumont.domain.offers import HOURS_PER_MONTH, Offer
from dumont.domain.records import SshEndpoint
from dumont.domain.statuses import InstanceStatus, ProviderInstance

Row = dict[str, Any]

MB_PER_GIB = 1024.0
VRAM_TOLERANCE = 0.08
"""Drivers keep part of a GPU's memory back (an L4 of 24 GiB shows 23,034 MiB): so much less is the nominal size."""

_STATUS_MESSAGE_CHARACTERS = 500
_SEARCHED_CHARACTERS = 10_000
_NOMINAL_VRAM_GIB = sorted(set(gpus.VRAM_GIB.values()))

# A host name or an address. It ends up in commands that users run: it must not pass for an option ("-oProxy…").
_HOST = re.compile(r"[A-Za-z0-9:][A-Za-z0-9.:-]{0,252}")

_NEVER_RUNS = re.compile(
    r"oci runtime|failed to create shim|nvidia-container-cli"
    r"|(fail|error|unresolvable|invalid).{0,80}\bcdi\b|\bcdi\b.{0,80}(fail|error|unresolvable|invalid)"
    r"|manifest unknown|manifest for .{1,300} not found|pull access denied|repository does not exist"
    r"|invalid reference format",
    re.DOTALL,
)
_PULLS_IMAGE = re.compile(
    r"\b[0-9a-f]{12}: (pulling|waiting|downloading|verifying|download complete|extracting|pull complete|already exists)"
)


# --- Values -------------------------------------------------------------------------------------------------------


def number(value: object) -> float | None:
    """A finite number, sent as a number or as a string; None for anything else, truth values included."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        result = float(value)
    except (ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def _not_negative(value: object) -> float | None:
    result = number(value)
    return result if result is not None and result >= 0 else None


def _text(value: object) -> str | None:
    if not isinstance(value, str) or not value.strip():
        return None
    return value.strip()


def _truth(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _identity(value: object) -> str | None:
    found = whole_number(value)
    return str(found) if found is not None else None


# --- Offers -------------------------------------------------------------------------------------------------------


def price_of(row: Row) -> float | None:
    """The price that a listing is ordered by, USD an hour."""
    return _not_negative(row.get("dph_total"))


def offer_id(row: Row) -> str | None:
    """An offer's id: `id` is the same number, but only `ask_contract_id` can be filtered by."""
    return _identity(row.get("ask_contract_id")) or _identity(row.get("id"))


def is_open(row: Row) -> bool:
    """Whether a listing can be rented here: Vast does not apply every filter that it is sent."""
    return row.get("rentable") is not False and row.get("external") is not True


def read_offer(row: Row, *, interruptible: bool, disk_gb: float, now: float) -> Offer | None:
    """The offer in a row of a search for `disk_gb` of disk; None where it lacks an id, a price, or which GPUs.

    Without them it can be neither rented nor compared.
    """
    found_id = offer_id(row)
    gpu = _text(row.get("gpu_name"))
    storage = _per_hour(row.get("storage_cost"))
    price = _gpu_price(row, interruptible=interruptible, storage_usd_per_hour=disk_gb * (storage or 0.0))
    count = whole_number(row.get("num_gpus"))
    if found_id is None or gpu is None or price is None or count is None:
        return None
    gpu = gpus.canonical(gpu)
    return Offer(
        provider=PROVIDER,
        id=found_id,
        gpu=gpu,
        gpu_count=count,
        gpu_usd_per_hour=price,
        storage_usd_per_gb_hour=storage,
        upload_usd_per_gb=_not_negative(row.get("inet_up_cost")),
        download_usd_per_gb=_not_negative(row.get("inet_down_cost")),
        vram_gib=_vram_gib(gpu, row.get("gpu_ram")),
        interruptible=interruptible,
        reliability=_share(row.get("reliability2"), row.get("reliability")),
        verified=_verified(row),
        region=_text(row.get("geolocation")),
        download_mbps=_not_negative(row.get("inet_down")),
        upload_mbps=_not_negative(row.get("inet_up")),
        disk_gb=_not_negative(row.get("disk_space")),
        disk_mb_per_second=_not_negative(row.get("disk_bw")),
        cpu_cores=_first(_not_negative(row.get("cpu_cores_effective")), _not_negative(row.get("cpu_cores"))),
        memory_gib=_gib(row.get("cpu_ram")),
        cuda_version=_not_negative(row.get("cuda_max_good")),
        driver_version=_text(row.get("driver_version")),
        dlperf=_not_negative(row.get("dlperf")),
        machine_id=_identity(row.get("machine_id")),
        host_id=_identity(row.get("host_id")),
        available_seconds=_available_seconds(row, now),
        static_ip=_truth(row.get("static_ip")),
    )


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _per_hour(usd_per_month: object) -> float | None:
    value = _not_negative(usd_per_month)
    return value / HOURS_PER_MONTH if value is not None else None


def _gpu_price(row: Row, *, interruptible: bool, storage_usd_per_hour: float) -> float | None:
    if interruptible:
        return _not_negative(row.get("min_bid"))
    base = _not_negative(row.get("dph_base"))
    total = price_of(row)
    if base is not None or total is None:
        return base
    return max(0.0, total - storage_usd_per_hour)


def _gib(megabytes: object) -> float | None:
    value = _not_negative(megabytes)
    return value / MB_PER_GIB if value is not None else None


def _vram_gib(gpu: str, megabytes: object) -> float | None:
    """The size that a GPU is sold by, where what the driver shows is near it: users filter by "24", not by "22.5".

    A model's own size first (an A100 comes in two), then the nearest of any model's.
    """
    shown = _gib(megabytes)
    if not shown:
        return None
    own = gpus.VRAM_GIB.get(gpu)
    if own is not None and own * (1 - VRAM_TOLERANCE) <= shown <= own * 1.02:
        return own
    nearest = min(_NOMINAL_VRAM_GIB, key=lambda size: abs(size - shown))
    return nearest if nearest * 0.97 <= shown <= nearest * 1.02 else shown


def _share(*values: object) -> float | None:
    found = _first(*(number(value) for value in values))
    return found if found is not None and 0 <= found <= 1 else None


def _verified(row: Row) -> bool | None:
    word = _text(row.get("verification"))
    return word.casefold() == "verified" if word is not None else _truth(row.get("verified"))


def _available_seconds(row: Row, now: float) -> float | None:
    duration = _not_negative(row.get("duration"))
    end = number(row.get("end_date"))
    if duration is None and end is not None:
        return max(0.0, end - now)
    return duration


# --- Instances ----------------------------------------------------------------------------------------------------


def read_instance(row: object) -> ProviderInstance | None:
    """The instance in a row; None where there is no id to know it by."""
    if not isinstance(row, dict):
        return None
    found_id = _identity(row.get("id"))
    if found_id is None:
        return None
    ssh = ssh_of(row)
    gpu = _text(row.get("gpu_name"))
    return ProviderInstance(
        id=found_id,
        status=status_of(row, has_ssh=ssh is not None),
        label=_text(row.get("label")),
        status_message=(_text(row.get("status_msg")) or "")[:_STATUS_MESSAGE_CHARACTERS],
        ssh=ssh,
        started_at=_not_negative(row.get("start_date")),
        gpu=gpus.canonical(gpu) if gpu is not None else None,
        machine_id=_identity(row.get("machine_id")),
        host_id=_identity(row.get("host_id")),
        total_usd_per_hour=price_of(row),
    )


def status_of(row: Row, *, has_ssh: bool) -> InstanceStatus:
    """What Vast's three status fields and its message say together.

    `actual_status` lags by minutes, and a message outlives what it is about: so what runs, runs, whatever its message.
    """
    actual = _word(row.get("actual_status"))
    intended = _word(row.get("intended_status"))
    message = (_text(row.get("status_msg")) or "")[:_SEARCHED_CHARACTERS].casefold()
    if actual in ("offline", "unknown"):
        return InstanceStatus.OFFLINE
    if actual == "running":
        return InstanceStatus.RUNNING if has_ssh else InstanceStatus.STARTING
    if _NEVER_RUNS.search(message):
        return InstanceStatus.BROKEN
    if actual in ("exited", "stopped"):
        return InstanceStatus.STOPPED
    if actual in ("", "loading", "created", "scheduling"):
        # An interruptible whose bid lost at once never starts, and yet its disk bills.
        parked = intended == "stopped" and actual != "loading"
        return InstanceStatus.STOPPED if parked else InstanceStatus.STARTING
    return InstanceStatus.STARTING if _PULLS_IMAGE.search(message) else InstanceStatus.UNKNOWN


def _word(value: object) -> str:
    """A status in lower case; "" for null; "?" for what is no text, so that it equals no status that we know."""
    if value is None:
        return ""
    return value.strip().casefold() if isinstance(value, str) else "?"


def ssh_of(row: Row) -> SshEndpoint | None:
    """Where SSH answers: straight to the container if a port is mapped, since the proxy is one more thing to fail."""
    host = _host(row.get("public_ipaddr"))
    ports = row.get("ports")
    mappings = ports.get("22/tcp") if isinstance(ports, dict) else None
    for mapping in mappings if isinstance(mappings, list) else []:
        port = _port(mapping.get("HostPort")) if isinstance(mapping, dict) else None
        if host is not None and port is not None:
            return SshEndpoint(host=host, port=port)
    host, port = _host(row.get("ssh_host")), _port(row.get("ssh_port"))
    return SshEndpoint(host=host, port=port) if host is not None and port is not None else None


def _host(value: object) -> str | None:
    text = _text(value)
    return text if text is not None and _HOST.fullmatch(text) else None


def _port(value: object) -> int | None:
    port = whole_number(value)
    return port if port is not None and port < 65_536 else None
