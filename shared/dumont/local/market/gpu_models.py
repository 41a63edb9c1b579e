"""The GPU models on the simulated market: what their makers state, and what they rent for."""

from __future__ import annotations

from typing import NamedTuple


class GpuModel(NamedTuple):
    """One model. Prices are USD per hour and GPU, about what Vast.ai's on-demand listings asked in 2025 and 2026."""

    name: str
    """As Vast.ai spells it."""
    driver_name: str
    """As nvidia-smi spells it."""
    vram_mib: int
    """What nvidia-smi reports as memory.total: a little less than the data sheet's GiB where ECC takes its share."""
    compute_cap: int
    memory_gb_per_second: float
    tflops: float
    dlperf: float
    watts: int
    usd_low: float
    usd_high: float
    singles: int
    """How many of the listings are for one GPU."""
    several: tuple[int, ...]
    """The GPU counts of the other listings."""


MODELS: tuple[GpuModel, ...] = (
    GpuModel("RTX 4090", "NVIDIA GeForce RTX 4090", 24564, 890, 1008, 82.6, 104.0, 450, 0.19, 0.38, 13, (2, 2, 4, 8)),
    GpuModel("RTX 3090", "NVIDIA GeForce RTX 3090", 24576, 860, 936, 35.6, 58.0, 350, 0.10, 0.22, 10, (2, 4)),
    GpuModel("RTX 5090", "NVIDIA GeForce RTX 5090", 32607, 1200, 1792, 104.8, 172.0, 575, 0.34, 0.62, 8, (2, 4, 8)),
    GpuModel("RTX 4080S", "NVIDIA GeForce RTX 4080 SUPER", 16376, 890, 736, 52.2, 73.0, 320, 0.14, 0.26, 5, (2,)),
    GpuModel("RTX 4080", "NVIDIA GeForce RTX 4080", 16376, 890, 717, 48.7, 68.0, 320, 0.13, 0.24, 3, ()),
    GpuModel("RTX 4070S Ti", "NVIDIA GeForce RTX 4070 Ti SUPER", 16376, 890, 672, 44.1, 60.0, 285, 0.10, 0.2, 3, ()),
    GpuModel("RTX 3080", "NVIDIA GeForce RTX 3080", 10240, 860, 760, 29.8, 45.0, 320, 0.07, 0.15, 3, (2,)),
    GpuModel("RTX 3060", "NVIDIA GeForce RTX 3060", 12288, 860, 360, 12.7, 21.0, 170, 0.05, 0.10, 4, ()),
    GpuModel("RTX 4060 Ti", "NVIDIA GeForce RTX 4060 Ti", 16380, 890, 288, 22.1, 30.0, 165, 0.08, 0.14, 3, ()),
    GpuModel("RTX 5080", "NVIDIA GeForce RTX 5080", 16303, 1200, 960, 56.3, 88.0, 360, 0.18, 0.32, 3, ()),
    GpuModel("RTX A4000", "NVIDIA RTX A4000", 16376, 860, 448, 19.2, 31.0, 140, 0.08, 0.15, 3, (4,)),
    GpuModel("RTX A5000", "NVIDIA RTX A5000", 24564, 860, 768, 27.8, 45.0, 230, 0.14, 0.26, 3, (2,)),
    GpuModel("RTX A6000", "NVIDIA RTX A6000", 49140, 860, 768, 38.7, 57.0, 300, 0.33, 0.58, 4, (2, 4)),
    GpuModel("RTX 6000Ada", "NVIDIA RTX 6000 Ada Generation", 49140, 890, 960, 91.1, 108.0, 300, 0.5, 0.86, 4, (2, 4)),
    GpuModel("A40", "NVIDIA A40", 46068, 860, 696, 37.4, 54.0, 300, 0.30, 0.48, 3, (4,)),
    GpuModel("L4", "NVIDIA L4", 23034, 890, 300, 30.3, 36.0, 72, 0.20, 0.36, 3, ()),
    GpuModel("L40S", "NVIDIA L40S", 46068, 890, 864, 91.6, 110.0, 350, 0.46, 0.82, 4, (2, 8)),
    GpuModel("Tesla V100", "Tesla V100-SXM2-16GB", 16384, 700, 900, 15.7, 38.0, 300, 0.12, 0.25, 3, (4,)),
    GpuModel("Tesla T4", "Tesla T4", 15360, 750, 320, 8.1, 16.0, 70, 0.08, 0.15, 2, ()),
    GpuModel("A100 PCIE", "NVIDIA A100-PCIE-40GB", 40960, 800, 1555, 19.5, 96.0, 250, 0.52, 0.82, 4, (2, 4)),
    GpuModel("A100 SXM4", "NVIDIA A100-SXM4-80GB", 81920, 800, 2039, 19.5, 112.0, 400, 0.68, 1.19, 4, (4, 8)),
    GpuModel("H100 PCIE", "NVIDIA H100 PCIe", 81559, 900, 2000, 51.2, 190.0, 350, 1.45, 2.1, 3, (2,)),
    GpuModel("H100 SXM", "NVIDIA H100 80GB HBM3", 81559, 900, 3350, 66.9, 260.0, 700, 1.65, 2.45, 3, (2, 4, 8)),
    GpuModel("H200", "NVIDIA H200", 143771, 900, 4800, 66.9, 280.0, 700, 2.1, 3.2, 2, (8,)),
)

BY_NAME: dict[str, GpuModel] = {model.name: model for model in MODELS}
