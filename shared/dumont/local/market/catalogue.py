"""The listings of the simulated market, made from a seed.

Whatever the seed, there is a single RTX 4090 in British Columbia whose GPU costs $0.1689 an hour and which is the
cheapest RTX 4090 at any disk size, and thirteen more single ones at $0.19 to $0.38, each on a host of its own. Each
listing has GPUs of its own: renting one leaves every other as it is.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dumont.local.market.gpu_models import BY_NAME, MODELS, GpuModel

CHEAPEST_4090_USD_PER_HOUR = 0.1689  # a real rental's price, of the system that this one replaces
CHEAPEST_4090_STORAGE_USD = 0.08  # $/GB/month: lower than any other listing's, so that it stays the cheapest
HOURS_PER_MONTH = 720.0
DAY_SECONDS = 86400.0

CATALOGUES = 16
"""How many catalogues markets choose from by their seeds: making one takes 5 ms, and simulations make many markets."""

REGIONS: tuple[tuple[str, int], ...] = (
    ("California, US", 6),
    ("Texas, US", 5),
    ("Washington, US", 4),
    ("New York, US", 3),
    ("Utah, US", 2),
    ("British Columbia, CA", 3),
    ("Quebec, CA", 4),
    ("Ontario, CA", 2),
    ("Sweden, SE", 4),
    ("Norway, NO", 3),
    ("Finland, FI", 2),
    ("Germany, DE", 3),
    ("Netherlands, NL", 2),
    ("Poland, PL", 3),
    ("Czechia, CZ", 2),
    ("Bulgaria, BG", 2),
    ("United Kingdom, GB", 2),
    ("France, FR", 2),
    ("Japan, JP", 2),
    ("South Korea, KR", 2),
    ("Taiwan, TW", 2),
    ("Vietnam, VN", 2),
    ("China, CN", 2),
    ("India, IN", 1),
)
"""Places in Vast.ai's spelling, with how common they are."""

DRIVERS = (("550.54.15", 12.4), ("550.144.03", 12.4), ("560.35.05", 12.6), ("570.86.15", 12.8), ("580.65.06", 13.0))
CPUS = (("AMD EPYC 7702 64-Core Processor", 128), ("AMD Ryzen 9 7950X 16-Core Processor", 32))
DISKS = (("Samsung SSD 990 PRO 2TB", 5200.0), ("nvme", 2900.0), ("KINGSTON SNV2S2000G", 2100.0))


@dataclass(frozen=True, slots=True)
class Ask:
    """A listing. `fields` are those of Vast.ai's answer that no request changes; prices are USD per hour."""

    id: int
    model: GpuModel
    num_gpus: int
    machine_id: int
    host_id: int
    gpu_usd_per_hour: float
    min_bid_usd_per_hour: float
    storage_usd_per_gb_month: float
    disk_gb: float
    driver_version: str
    public_ip: str
    offered_for_seconds: float
    """From the market's opening until the host takes the machine back."""
    taken: bool
    """Rented by somebody else, for good."""
    fields: Mapping[str, Any]

    def storage_usd_per_hour(self, disk_gb: float) -> float:
        """What a disk bills each hour, in USD."""
        return disk_gb * self.storage_usd_per_gb_month / HOURS_PER_MONTH


@functools.lru_cache(maxsize=64)
def catalogue(seed: int = 0) -> tuple[Ask, ...]:
    """The listings for a seed: the same ones each time, made once a process."""
    rng = random.Random(f"catalogue/{seed}")
    asks = [_anchor(rng)]
    for model in MODELS:
        for num_gpus in (*[1] * model.singles, *model.several):
            asks.append(_make(rng, model, num_gpus, len(asks)))
    return tuple(asks)


def by_id(asks: Iterable[Ask]) -> dict[int, Ask]:
    """The listings by their ids."""
    return {ask.id: ask for ask in asks}


def _anchor(rng: random.Random) -> Ask:
    return _build(
        rng,
        BY_NAME["RTX 4090"],
        1,
        number=0,
        gpu_usd=CHEAPEST_4090_USD_PER_HOUR,
        storage_usd=CHEAPEST_4090_STORAGE_USD,
        region="British Columbia, CA",
        reliability=0.9962,
        verified=True,
        taken=False,
    )


def _make(rng: random.Random, model: GpuModel, num_gpus: int, number: int) -> Ask:
    is_single_4090 = model.name == "RTX 4090" and num_gpus == 1
    regions, weights = zip(*REGIONS, strict=True)
    # Several GPUs together cost a little less each than one, and never less than the model's lowest price.
    each_usd = max(model.usd_low, rng.uniform(model.usd_low, model.usd_high) * (0.97 if num_gpus > 1 else 1.0))
    return _build(
        rng,
        model,
        num_gpus,
        number=number,
        gpu_usd=round(each_usd * num_gpus, 4),
        storage_usd=round(rng.choice((0.1, 0.1, 0.12, 0.15, 0.15, 0.2, 0.25)), 3),
        region=rng.choices(regions, weights)[0],
        reliability=round(1.0 - min(0.2, rng.lognormvariate(-4.6, 0.9)), 4),
        verified=is_single_4090 or number % 7 != 3,
        taken=not is_single_4090 and number % 11 == 5,
    )


def _build(
    rng: random.Random,
    model: GpuModel,
    num_gpus: int,
    *,
    number: int,
    gpu_usd: float,
    storage_usd: float,
    region: str,
    reliability: float,
    verified: bool,
    taken: bool,
) -> Ask:
    # The number in the id keeps ids apart; the random rest keeps anyone from counting on their order.
    ask_id = 20_000_000 + rng.randrange(10_000) * 1000 + number
    machine_id, host_id = 10_000 + number * 37 + rng.randrange(37), 50_000 + number * 53 + rng.randrange(53)
    driver, cuda = rng.choice(DRIVERS[3:] if model.compute_cap >= 1200 else DRIVERS)
    cpu_name, cpu_cores = rng.choice(CPUS)
    disk_name, disk_bw = rng.choice(DISKS)
    cpu_ram = rng.choice((64, 128, 256)) * 1024 * max(1, num_gpus // 2)
    inet_down = round(rng.lognormvariate(6.6, 0.6), 1)
    public_ip = f"203.0.113.{1 + number % 254}"
    min_bid = round(gpu_usd * rng.uniform(0.2, 0.5), 4)
    disk_gb = round(rng.uniform(120, 2400), 1)
    offered_for = rng.uniform(14, 330) * DAY_SECONDS
    term_age = rng.uniform(1, 200) * DAY_SECONDS
    fields: dict[str, Any] = {
        "id": ask_id,
        "ask_contract_id": ask_id,
        "bundle_id": 900_000 + number,
        "bundled_results": None,
        "bw_nvlink": 0.0,
        "compute_cap": model.compute_cap,
        "cpu_arch": "amd64",
        "cpu_cores": cpu_cores,
        "cpu_cores_effective": float(cpu_cores) if num_gpus > 1 else cpu_cores / 4,
        "cpu_ghz": rng.choice((2.0, 3.4, 4.5)),
        "cpu_name": cpu_name,
        "cpu_ram": cpu_ram,
        "credit_discount_max": 0.1,
        "cuda_max_good": cuda,
        "direct_port_count": rng.choice((16, 64, 250, 999)),
        "disk_bw": round(disk_bw * rng.uniform(0.8, 1.1), 1),
        "disk_name": disk_name,
        "disk_space": disk_gb,
        "dlperf": round(model.dlperf * num_gpus * rng.uniform(0.93, 1.05), 3),
        "driver_version": driver,
        "driver_vers": numeric_version(driver),
        "external": False,
        "geolocation": region,
        "gpu_arch": "nvidia",
        "gpu_display_active": False,
        "gpu_frac": 1.0 if num_gpus > 1 else rng.choice((1.0, 0.5, 0.25)),
        "gpu_lanes": 16,
        "gpu_mem_bw": round(model.memory_gb_per_second * rng.uniform(0.9, 0.97), 1),
        "gpu_name": model.name,
        "gpu_ram": model.vram_mib,
        "gpu_total_ram": model.vram_mib * num_gpus,
        "gpu_max_power": float(model.watts),
        "gpu_max_temp": 90.0,
        "has_avx": 1,
        "host_id": host_id,
        "hosting_type": 1 if number % 4 == 0 else 0,
        "hostname": None,
        "inet_down": inet_down,
        "inet_down_cost": rng.choice((0.0, 0.001, 0.002, 0.0033)),
        "inet_up": round(inet_down * rng.uniform(0.4, 1.0), 1),
        "inet_up_cost": rng.choice((0.0, 0.001, 0.002, 0.0033)),
        "logo": "/static/logos/vastai_small2.png",
        "machine_id": machine_id,
        "mobo_name": rng.choice(("ROME2D32GM-2T", "X670E Steel Legend", "H12SSL-i")),
        "num_gpus": num_gpus,
        "os_version": rng.choice(("22.04", "24.04")),
        "pci_gen": 4.0,
        "pcie_bw": round(rng.uniform(11.0, 26.0), 1),
        "public_ipaddr": public_ip,
        "reliability": reliability,
        "reliability2": reliability,
        "reliability_mult": round(reliability**2, 4),
        "score": round(model.dlperf * num_gpus / gpu_usd * reliability * rng.uniform(0.9, 1.1), 3),
        "static_ip": rng.random() < 0.4,
        "storage_cost": storage_usd,
        "total_flops": round(model.tflops * num_gpus, 2),
        "verification": "verified" if verified else rng.choice(("unverified", "unverified", "deverified")),
        "vericode": 1 if verified else 0,
        "vms_enabled": False,
        "webpage": None,
        "resource_type": "gpu",
        "cluster_id": None,
        "term_age_seconds": term_age,
    }
    return Ask(
        id=ask_id,
        model=model,
        num_gpus=num_gpus,
        machine_id=machine_id,
        host_id=host_id,
        gpu_usd_per_hour=gpu_usd,
        min_bid_usd_per_hour=min_bid,
        storage_usd_per_gb_month=storage_usd,
        disk_gb=disk_gb,
        driver_version=driver,
        public_ip=public_ip,
        offered_for_seconds=offered_for,
        taken=taken,
        fields=fields,
    )


def numeric_version(version: str) -> int:
    """ "535.86.5" as the number 535086005: how Vast.ai's CLI sends driver versions, so that they compare."""
    major, minor, patch = ([*version.split("."), "0", "0"])[:3]
    return int(f"{int(major):03d}{int(minor):03d}{int(patch):03d}")
