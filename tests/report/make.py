"""`make report [SEEDS=…]`: run histories and fleets, and write what was measured as a page and as figures.

build/report/index.html is the page, build/report/report.json has its figures and every single death. The short form
takes less than a minute; `--hours 48 --hundred` runs fleets for days of virtual time, and one of a hundred machines.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from datetime import UTC, datetime
from typing import Any

import dumont
from tests.benchmarks import google_prices as prices
from tests.benchmarks.figures import ROOT, Figure, conclude, percentile, save, show
from tests.report import bills, fleet
from tests.report.findings import Findings
from tests.report.page import Report, render
from tests.report.runs import FAULTS, run_all
from tests.simulation.fresh import first_seed

FOLDER = ROOT / "build/report"
BENCHMARKS = ROOT / "build/benchmarks"
SEEDS, HOURS = 60, 3.0


def main() -> int:
    """Run, print, write; 1 if a seed breaks an invariant."""
    parser = argparse.ArgumentParser(prog="python -m tests.report", description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="histories full of faults")
    parser.add_argument("--first", type=int, default=first_seed(), help="by default drawn from the code")
    parser.add_argument("--hours", type=float, default=HOURS, help="of virtual time that ten machines live")
    parser.add_argument("--hundred", action="store_true", help="a fleet of 100, too, for 6 hours at most")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    asked = parser.parse_args()
    began = time.monotonic()
    plans = fleet.plans(seed=asked.first, hours=asked.hours, with_hundred=asked.hundred)
    taken = run_all(plans, first=asked.first, seeds=asked.seeds, count=asked.processes)
    report = Report(
        version=dumont.__version__,
        day=datetime.now(UTC).strftime("%Y-%m-%d"),
        first_seed=asked.first,
        seeds=asked.seeds,
        hours=asked.hours,
        seconds=time.monotonic() - began,
        taken=taken,
        months=bills.months(bills.a_month(taken["1 machine"]), bills.a_month(taken["10 machines"])),
    )
    report.figures = figures_of(report)
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "index.html").write_text(render(report, BENCHMARKS), encoding="utf-8")
    save(FOLDER / "report.json", report.figures, **as_json(report))
    show(f"Measured in {asked.seeds:,} histories and {len(plans)} fleets", report.figures)
    broken = taken[FAULTS].broken
    if broken:
        print(f"seeds that broke an invariant, and are left out: {', '.join(map(str, broken))}")
    conclude(FOLDER / "report.json", report.figures, f"{asked.processes} processes, {report.seconds:.0f} s")
    print(f"page: {(FOLDER / 'index.html').relative_to(ROOT)}")
    return 1 if broken else 0


def figures_of(report: Report) -> list[Figure]:
    """What the page says, in short."""
    figures = []
    for world, found in (("calm", report.calm), ("faults", report.taken[FAULTS])):
        for word in ("suspected", "fenced", "recovered", "lost_work"):
            values = [v for t in found.troubles if (v := getattr(t, f"{word}_seconds")) is not None]
            for name, share in (("p50", 0.5), ("p99", 0.99)) if values else ():
                told = f"{world}: a host's death, {word.replace('_', ' ')}, {name}"
                figures.append(Figure(name=told, value=percentile(values, share), unit="s"))
        figures += [
            Figure(name=f"{world}: machine-days", value=found.machine_days, unit=""),
            Figure(name=f"{world}: false failovers", value=float(found.false_failovers), unit=""),
            Figure(name=f"{world}: orphans' share of the bill", value=_share(found) * 100, unit="%"),
        ]
    for month in report.months:
        name = f"control plane, {month.machines:,} machines for a month"
        figures.append(Figure(name=name, value=month.total_usd, unit="$"))
    nothing = bills.month(0, bills.a_month(report.taken["nothing there"]))
    figures.append(Figure(name="control plane, nothing there for a month", value=nothing.total_usd, unit="$"))
    return figures


def as_json(report: Report) -> dict[str, Any]:
    """Everything else that was measured."""
    return {
        "version": report.version,
        "day": report.day,
        "first_seed": report.first_seed,
        "seeds": report.seeds,
        "hours": report.hours,
        "seconds": round(report.seconds, 1),
        "prices": {"as_of": prices.AS_OF, "sources": list(prices.SOURCES)},
        "deaths_every_hours": fleet.DEATHS_EVERY_HOURS,
        "months": [dataclasses.asdict(month) for month in report.months],
        "worlds": {name: dataclasses.asdict(findings) for name, findings in report.taken.items()},
    }


def _share(found: Findings) -> float:
    return sum(o.usd for o in found.orphans) / found.billed_usd if found.billed_usd else 0.0
