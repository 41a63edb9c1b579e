"""GPUs as nvidia-smi tells of them."""

from __future__ import annotations

import math
from typing import Any

from dumont.agent.host.children import Children

QUERY_SECONDS_MOST = 10.0
_FIELDS = {
    "utilization_percent": "utilization.gpu",
    "memory_used_mib": "memory.used",
    "memory_total_mib": "memory.total",
    "temperature_c": "temperature.gpu",
    "power_w": "power.draw",
}
_COMMAND = ["nvidia-smi", f"--query-gpu={','.join(_FIELDS.values())}", "--format=csv,noheader,nounits"]


def query(children: Children) -> list[dict[str, Any]] | None:
    """The GPUs' readings; None where there is no nvidia-smi, or it fails, or hangs as it does on a broken GPU."""
    outcome = children.run(_COMMAND, QUERY_SECONDS_MOST)
    if outcome is None or outcome.status != 0:
        return None
    return read_gpus(outcome.output.decode("utf-8", "replace"))


def read_gpus(text: str) -> list[dict[str, Any]] | None:
    """Parse nvidia-smi's table; "[N/A]" and the like are None."""
    gpus = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if line.strip():
            if len(cells) != len(_FIELDS):
                return None
            gpus.append({name: _number(cell) for name, cell in zip(_FIELDS, cells)})  # noqa: B905 - Python 3.8
    return gpus or None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
