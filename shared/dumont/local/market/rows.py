"""Offers and instances as Vast.ai's answers show them."""

from __future__ import annotations

from typing import Any

from dumont.local.market.catalogue import Ask
from dumont.local.market.instance import Instance
from dumont.local.market.lifecycle import RUNNING, UNSAID_SHARE, pull_message

OFFER_FIELDS_COMPUTED = frozenset(
    {
        "dph_base",
        "dph_total",
        "dph_total_adj",
        "discounted_dph_total",
        "discounted_hourly",
        "discount_rate",
        "min_bid",
        "is_bid",
        "rentable",
        "rented",
        "duration",
        "start_date",
        "end_date",
        "dlperf_per_dphtotal",
        "flops_per_dphtotal",
        "storage_total_cost",
        "vram_costperhour",
        "search",
        "instance",
    }
)


def offer_row(
    ask: Ask, *, storage_gb: float, bid: bool, rentable: bool, opened_at: float, now: float
) -> dict[str, Any]:
    """An offer with its prices for so much disk; as a bid, the GPU's price is the lowest one that wins."""
    gpu_usd = ask.min_bid_usd_per_hour if bid else ask.gpu_usd_per_hour
    disk_usd = ask.storage_usd_per_hour(storage_gb)
    total_usd = gpu_usd + disk_usd
    end_date = opened_at + ask.offered_for_seconds
    row = dict(ask.fields)
    started = opened_at - row.pop("term_age_seconds")
    prices = {
        "gpuCostPerHour": gpu_usd,
        "diskHour": disk_usd,
        "totalHour": total_usd,
        "discountTotalHour": 0.0,
        "discountedTotalPerHour": total_usd,
    }
    row.update(
        dph_base=gpu_usd,
        dph_total=total_usd,
        dph_total_adj=total_usd,
        discounted_dph_total=total_usd,
        discounted_hourly=0.0,
        discount_rate=0.0,
        min_bid=ask.min_bid_usd_per_hour,
        is_bid=bid,
        rentable=rentable,
        rented=not rentable,
        duration=end_date - now,
        start_date=started,
        end_date=end_date,
        dlperf_per_dphtotal=row["dlperf"] / total_usd,
        flops_per_dphtotal=row["total_flops"] / total_usd,
        storage_total_cost=disk_usd,
        vram_costperhour=gpu_usd / row["gpu_total_ram"],
        search=prices,
        instance=prices,
    )
    return row


OFFER_ALIASES = {
    "reliability": "reliability2",
    "cuda_vers": "cuda_max_good",
    "display_active": "gpu_display_active",
    "dlperf_usd": "dlperf_per_dphtotal",
    "dph": "dph_total",
    "flops_usd": "flops_per_dphtotal",
    "driver_version": "driver_vers",
    "ubuntu_version": "os_version",
    "verified": "verification",
    "datacenter": "hosting_type",
}


def offer_value(row: dict[str, Any], field: str) -> Any:
    """A field of an offer as filters see it: aliases resolved, derived flags as booleans."""
    if field == "verified":
        return row["verification"] == "verified"
    if field == "datacenter":
        return row["hosting_type"] == 1
    if field == "geolocation":
        return row["geolocation"].rsplit(", ", 1)[-1]
    return row[OFFER_ALIASES.get(field, field)]


def instance_row(instance: Instance, now: float, opened_at: float) -> dict[str, Any]:
    """An instance as `show instance` has it. `ports` is there only while it runs."""
    ask, order, phase = instance.ask, instance.order, instance.phase(now)
    running_since = instance.timeline.running_since(now)
    host, port = instance.endpoint or instance.nowhere or (None, None)
    direct = instance.endpoint is not None
    gpu_usd, disk_usd = instance.gpu_usd_per_hour, instance.storage_usd_per_hour
    fields = ask.fields
    row: dict[str, Any] = {
        "id": instance.id,
        "actual_status": phase.actual,
        "intended_status": phase.intended,
        "cur_state": phase.cur,
        "next_state": phase.intended,
        "status_msg": _status_message(instance, now),
        "label": instance.label,
        "image_uuid": order.image,
        "image_args": list(order.args),
        "image_runtype": order.runtype,
        "extra_env": [[name, value] for name, value in order.env.items()],
        "onstart": order.onstart or None,
        "template_id": None,
        "template_hash_id": None,
        "template_name": None,
        "ssh_host": host,
        "ssh_idx": str(instance.id % 9 + 1),
        "ssh_port": port,
        "machine_dir_ssh_port": port,
        # Real answers carry white space around it.
        "public_ipaddr": f"{host if direct else ask.public_ip}\n",
        "local_ipaddrs": "172.17.0.2 \n",
        "machine_id": ask.machine_id,
        "host_id": ask.host_id,
        "bundle_id": fields["bundle_id"],
        "start_date": instance.created_at,
        "end_date": opened_at + ask.offered_for_seconds,
        "duration": now - instance.created_at,
        "uptime_mins": (now - running_since) / 60.0 if running_since is not None else None,
        "disk_space": order.disk_gb,
        "disk_usage": 1.2 if running_since is not None else -1,
        "disk_util": 1.2 / order.disk_gb if running_since is not None else -1,
        "gpu_util": 0.0 if running_since is not None else None,
        "gpu_temp": 38.0 if running_since is not None else None,
        "gpu_totalram": fields["gpu_total_ram"],
        "cpu_util": 0.0,
        "mem_limit": fields["cpu_ram"] / 1024,
        "mem_usage": 0.2 if running_since is not None else None,
        "vmem_usage": None,
        "is_bid": instance.interruptible,
        "min_bid": ask.min_bid_usd_per_hour,
        "dph_base": gpu_usd,
        "dph_total": gpu_usd + disk_usd,
        "storage_total_cost": disk_usd,
        "search": {"gpuCostPerHour": gpu_usd, "diskHour": disk_usd, "totalHour": gpu_usd + disk_usd},
        "instance": {"gpuCostPerHour": gpu_usd, "diskHour": disk_usd, "totalHour": gpu_usd + disk_usd},
        "credit_balance": None,
        "credit_discount": None,
        "time_remaining": "",
        "time_remaining_isbid": "",
        "volume_info": [],
        "rentable": False,
        "external": False,
        "country_code": fields["geolocation"].rsplit(", ", 1)[-1],
        "direct_port_start": -1,
        "direct_port_end": -1,
        "jupyter_token": None,
    }
    for name in _FIELDS_OF_ITS_OFFER:
        row[name] = fields[name]
    if running_since is not None and port is not None:
        row["ports"] = {"22/tcp": _mapped(port if direct else 40_000 + instance.id % 20_000)}
        for inside in order.ports:
            if inside != "22/tcp":
                row["ports"][inside] = _mapped(int(inside.split("/")[0]))
    return row


# fmt: off
_FIELDS_OF_ITS_OFFER = (
    "num_gpus", "gpu_name", "gpu_ram", "gpu_arch", "gpu_frac", "gpu_lanes", "gpu_mem_bw", "bw_nvlink",
    "compute_cap", "cuda_max_good", "cpu_arch", "cpu_cores", "cpu_cores_effective", "cpu_ghz", "cpu_name",
    "cpu_ram", "disk_bw", "disk_name", "dlperf", "total_flops", "driver_version", "geolocation", "hosting_type",
    "inet_up", "inet_down", "inet_up_cost", "inet_down_cost", "mobo_name", "os_version", "pci_gen", "pcie_bw",
    "reliability2", "score", "static_ip", "storage_cost", "verification", "direct_port_count", "webpage", "logo",
)
# fmt: on


def _mapped(port: int) -> list[dict[str, str]]:
    return [{"HostIp": "0.0.0.0", "HostPort": str(port)}, {"HostIp": "::", "HostPort": str(port)}]  # noqa: S104


def _status_message(instance: Instance, now: float) -> str | None:
    phase = instance.phase(now)
    if phase.message:
        return phase.message
    if phase.actual != "loading":
        return None
    ready_at = instance.timeline.first(RUNNING)
    if ready_at is None:
        return pull_message(instance.id, 0.4)
    # The phase itself begins after the first part of the boot, in which nothing is said.
    whole = (ready_at - phase.at) / (1.0 - UNSAID_SHARE)
    return pull_message(instance.id, (now - phase.at) / (whole or 1.0))
