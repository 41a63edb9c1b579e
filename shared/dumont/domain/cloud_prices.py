"""What the big clouds ask for a GPU hour: list prices on demand, Linux, each with its date and its source.

Prices change (AWS cut p4d by a third in June 2025, and many comparisons still quote the old figure), so each carries
the date on which it was read and the page it stands on, and a comparison must show both. A node of several GPUs is
compared **per GPU**, never whole against one GPU.
"""

from __future__ import annotations

import msgspec


class CloudPrice(msgspec.Struct, frozen=True, kw_only=True):
    """A cloud's list price for one machine type; `vram_gib` is one GPU's. `as_of` is an ISO date."""

    cloud: str
    machine_type: str
    gpu: str
    gpu_count: int = 1
    vram_gib: float
    usd_per_hour: float
    region: str
    as_of: str
    source: str
    note: str = ""

    @property
    def usd_per_gpu_hour(self) -> float:
        """The whole machine's price shared among its GPUs."""
        return self.usd_per_hour / self.gpu_count


_AWS = "https://aws.amazon.com/ec2/pricing/on-demand/"
_GCP = "https://cloud.google.com/products/compute/pricing/accelerator-optimized"
_AZURE = "https://azure.microsoft.com/en-us/pricing/details/virtual-machines/linux/"

CLOUD_PRICES: tuple[CloudPrice, ...] = (
    CloudPrice(
        cloud="AWS",
        machine_type="g5.xlarge",
        gpu="A10G",
        vram_gib=24,
        usd_per_hour=1.006,
        region="us-east-1",
        as_of="2026-09-14",
        source=_AWS,
    ),
    CloudPrice(
        cloud="AWS",
        machine_type="p4d.24xlarge",
        gpu="A100 40 GB",
        gpu_count=8,
        vram_gib=40,
        usd_per_hour=21.957642,
        region="us-east-1",
        as_of="2026-09-14",
        source=_AWS,
        note="whole node $21.96/h ÷ 8 GPUs; it is rented only whole ($32.77/h before the price cut of June 2025)",
    ),
    CloudPrice(
        cloud="GCP",
        machine_type="g2-standard-4",
        gpu="L4",
        vram_gib=24,
        usd_per_hour=0.706832,
        region="us-west1",
        as_of="2026-08-22",
        source=_GCP,
    ),
    CloudPrice(
        cloud="GCP",
        machine_type="a2-highgpu-1g",
        gpu="A100 40 GB",
        vram_gib=40,
        usd_per_hour=3.673385,
        region="us-west1",
        as_of="2026-08-22",
        source=_GCP,
    ),
    CloudPrice(
        cloud="Azure",
        machine_type="NC6s v3",
        gpu="V100 16 GB",
        vram_gib=16,
        usd_per_hour=3.06,
        region="East US",
        as_of="2025-09-30",
        source=_AZURE,
        note="last list price: the series was retired on 2025-09-30",
    ),
    CloudPrice(
        cloud="Azure",
        machine_type="NC24ads A100 v4",
        gpu="A100 80 GB",
        vram_gib=80,
        usd_per_hour=3.673,
        region="East US",
        as_of="2026-11-09",
        source=_AZURE,
    ),
)
