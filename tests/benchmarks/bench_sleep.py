"""`make bench-sleep`: a month of three patterns of use, through the rules that run in earnest, in seconds.

What each costs against always on, and against the ideal that knows the future. Figures go to the terminal and to
build/benchmarks/sleep.json. Prices, times and patterns are inputs, below and in `month`; nothing is measured on a host.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

from dumont.domain.offers import Offer
from dumont.domain.specs import MachineSpec
from dumont.domain.tariffs import tariff_of
from tests.benchmarks.figures import ROOT, Figure, conclude, save, show
from tests.benchmarks.month import PATTERNS, Lived, Month, always_on_usd, ideal_usd, wanted

REPORT = ROOT / "build/benchmarks/sleep.json"

OFFER = Offer(
    provider="vast",
    id="bench",
    gpu="RTX 4090",
    gpu_usd_per_hour=0.34,
    storage_usd_per_gb_hour=0.15 / 720,
    upload_usd_per_gb=0.005,
    download_usd_per_gb=0.005,
)
"""A usual RTX 4090 on Vast.ai: GPU, disk per GB and month of 720 hours, traffic."""
SPEC = MachineSpec(idle_after_minutes=15, disk_gb=60)
WORKSPACE_BYTES, CHANGED_BYTES = 30e9, 1e9
POLICIES: dict[str, tuple[MachineSpec, bool]] = {
    "by cost, learning": (SPEC, True),
    "by cost, knowing nothing": (SPEC, False),
    "pause first": (MachineSpec(idle_after_minutes=15, disk_gb=60, sleep_tier="pause"), False),
    "hibernate only": (MachineSpec(idle_after_minutes=15, disk_gb=60, sleep_tier="hibernate"), False),
}


def main() -> int:
    """Live the months, print the table, write the figures."""
    parser = argparse.ArgumentParser(prog="make bench-sleep", description=main.__doc__)
    parser.add_argument("--months", type=int, default=3, help="lives of each pattern, each with chances of its own")
    months = parser.parse_args().months
    tariff = tariff_of(OFFER, SPEC, workspace_bytes=WORKSPACE_BYTES, changed_bytes=CHANGED_BYTES)
    figures: list[Figure] = []
    table: list[dict[str, Any]] = []
    wrong = 0
    for pattern in PATTERNS:
        works = [wanted(pattern, seed) for seed in range(months)]
        always = always_on_usd(tariff)
        ideal = statistics.fmean(ideal_usd(tariff, work) for work in works)
        print(f"\n{pattern}: always on ${always:.2f} a month, the ideal ${ideal:.2f}")
        print(f"  {'policy':<26}{'$/month':>9}{'saved':>8}{'× ideal':>9}{'wakes':>7}{'refused':>9}{'mean wait':>11}"
              f"{'asleep':>8}")  # fmt: skip
        for policy, (spec, learning) in POLICIES.items():
            lives = [Month(tariff, spec, learning=learning, seed=s).live(w) for s, w in enumerate(works)]
            row = _row(pattern, policy, lives, always, ideal)
            table.append(row)
            wrong += sum(life.slept_in_use for life in lives)
            print(f"  {policy:<26}{row['usd']:>9.2f}{row['saved']:>8.1%}{row['times_ideal']:>9.2f}{row['wakes']:>7.0f}"
                  f"{row['refused']:>9.0f}{row['mean_wait_seconds']:>9.0f} s{row['asleep']:>8.1%}")  # fmt: skip
        best = table[-len(POLICIES)]
        figures.append(Figure(name=f"{pattern}: cost against always on", value=best["usd"] / always, unit="×"))
        figures.append(Figure(name=f"{pattern}: cost against the ideal", value=best["times_ideal"], unit="×", goal=2.0))
    figures.append(Figure(name="put to sleep while in use", value=float(wrong), unit="times", goal=0.0))
    show("A month asleep and awake, by cost and learning", figures)
    inputs = {
        "gpu_usd_per_hour": OFFER.gpu_usd_per_hour,
        "disk_gb": SPEC.disk_gb,
        "workspace_gb": WORKSPACE_BYTES / 1e9,
        "changed_gb": CHANGED_BYTES / 1e9,
        "window_minutes": SPEC.idle_after_minutes,
        "months": months,
    }
    save(REPORT, figures, inputs=inputs, table=table)
    conclude(REPORT, figures, "in virtual time")
    return 1 if wrong else 0


def _row(pattern: str, policy: str, lives: list[Lived], always: float, ideal: float) -> dict[str, Any]:
    def mean(name: str) -> float:
        return statistics.fmean(getattr(life, name) for life in lives)

    usd, wakes = mean("usd"), mean("wakes")
    return {
        "pattern": pattern,
        "policy": policy,
        "usd": usd,
        "always_on_usd": always,
        "ideal_usd": ideal,
        "saved": 1 - usd / always,
        "times_ideal": usd / ideal,
        "wakes": wakes,
        "refused": mean("refused"),
        "mean_wait_seconds": mean("waited_seconds") / wakes if wakes else 0.0,
        "asleep": mean("asleep_seconds") / (31 * 86_400 + 3600),
        "slept_in_use": mean("slept_in_use"),
    }


if __name__ == "__main__":
    sys.exit(main())
