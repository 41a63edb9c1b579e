"""`make bench-failover`: what a death costs. Figures go to the terminal and to build/benchmarks/failover.json.

The local cloud sweeps as often as the deployed one does (each 3 s) and its machines report as often as they do by
default (each 5 s). Real boots take minutes, so races on boot times like the real ones run in the simulation's virtual
time, on the real code; a few in real time, with short boots, stand beside them. Goals are shown, and missing one does
not fail the run; a machine that does not come back does.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks import failover_races as races
from tests.benchmarks import failover_runs as runs
from tests.benchmarks.figures import ROOT, Figure, conclude, save, show
from tests.end_to_end.cloud import Cloud, local_cloud

REPORT = ROOT / "build/benchmarks/failover.json"
COLD_GOAL_SECONDS = 60.0
RACE_OF_THE_GOAL = 3
TRANSFER_SECONDS = 10.0
"""Of the simulated restores: about a gigabyte over 1 Gbit/s. Ours to choose, and shown."""
PARTS = ("races", "detection", "overhead", "warm")
Say = Callable[[str], None]


def race_figures(*, count: int, say: Say) -> list[Figure]:
    """Cold failovers on boot times like the real ones, by race width."""
    figures: list[Figure] = []
    for width in races.WIDTHS:
        say(f"{count} failovers in virtual time, {width} racing")
        found = races.sample(width, runs=count, transfer_seconds=TRANSFER_SECONDS)
        goal = COLD_GOAL_SECONDS if width == RACE_OF_THE_GOAL else None
        figures += races.figures(width, found, goal=goal)
    return figures


@contextmanager
def deployed_pace(time_scale: float) -> Iterator[Cloud]:
    """A local cloud that sweeps as seldom as the deployed one."""
    with (
        tempfile.TemporaryDirectory(prefix="dumont-bench-") as folder,
        local_cloud(
            Path(folder), time_scale=time_scale, environment={"DUMONT_SWEEP_SECONDS": f"{races.SWEEP_SECONDS:g}"}
        ) as cloud,
    ):
        yield cloud


def overhead_figures(*, small: bool, time_scale: float, say: Say) -> list[Figure]:
    """One machine, which dies again and again."""
    with deployed_pace(time_scale) as cloud:
        figures = runs.cold(cloud, runs=3 if small else 8, say=say)
        figures.append(_same_in_virtual_time(30 if small else 200, time_scale, figures))
        figures += runs.by_hand(cloud, runs=1 if small else 4, say=say)
        figures += runs.resume(cloud, runs=1 if small else 4, say=say)
        runs.down(cloud, ["ada", "bob"])
        return figures


def _same_in_virtual_time(count: int, time_scale: float, real: list[Figure]) -> Figure:
    """The simulation's answer to what was just measured: how far its figures for long boots can be believed."""
    transfer = next(figure.value for figure in real if "transfer of" in figure.name)
    found = races.sample(3, runs=count, boots="fast", time_scale=time_scale, transfer_seconds=transfer, run="")
    seconds = statistics.median(f.to_serving - f.to_fenced for f in found if f.recovered)
    return Figure(name=f"  the same in virtual time, p50 ({count} runs)", value=seconds, unit="s")


def warm_figures(*, small: bool, time_scale: float, say: Say) -> list[Figure]:
    """A machine with a spare."""
    with deployed_pace(time_scale) as cloud:
        return [f for spare in ("running", "stopped") for f in runs.warm(cloud, spare, runs=1 if small else 5, say=say)]


def detection_figures(*, small: bool, say: Say) -> list[Figure]:
    """A fleet, so that four of it at once are no mass."""
    with deployed_pace(0.02) as cloud:
        return runs.detection(cloud, machines=22, waves=3 if small else 20, say=say)


def main() -> int:
    """Measure, print and save; answers with the exit status."""
    parser = argparse.ArgumentParser(prog="bench_failover", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--small", action="store_true", help="fewer runs: to see that it works")
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this part; can be given again")
    parser.add_argument("--time-scale", type=float, default=0.05, metavar="X", help="of boots; default %(default)s")
    arguments = parser.parse_args()
    only, small = arguments.only or PARTS, arguments.small
    # Bytecode as a deployed function has it, and kept out of the checkout. Every process started here inherits this.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(REPORT.parent / "pycache")
    began, load_before, loads = time.monotonic(), os.getloadavg()[0], []

    def say(text: str) -> None:
        loads.append(os.getloadavg()[0])
        print(f"{time.monotonic() - began:6.1f} s  {text}", file=sys.stderr, flush=True)

    taken: dict[str, list[Figure]] = {}
    if "detection" in only:
        taken["detection"] = detection_figures(small=small, say=say)
    if "overhead" in only:
        taken["overhead"] = overhead_figures(small=small, time_scale=arguments.time_scale, say=say)
    if "warm" in only:
        taken["warm"] = warm_figures(small=small, time_scale=arguments.time_scale, say=say)
    if "races" in only:
        taken["races"] = race_figures(count=30 if small else 400, say=say)
    titles = {
        "detection": "Time to detect: 5 s heartbeats, a sweep each 3 s; host dies → its epoch is fenced",
        "overhead": f"Own overhead: no workload, hence no lease to wait for; boots at {arguments.time_scale:g} of "
        "their time",
        "warm": f"Warm: no workload, hence no lease to wait for; starts at {arguments.time_scale:g} of their time",
        "races": f"Cold, boots as the real ones, virtual time, a transfer of {TRANSFER_SECONDS:g} s, a lease of 30 s",
    }
    for part, title in titles.items():
        if part in taken:
            show(title, taken[part])
    figures = [figure for part in titles for figure in taken.get(part, [])]
    load = round(statistics.median(loads), 2) if loads else round(load_before, 2)
    save(
        REPORT, figures, measured_at=datetime.now(UTC).isoformat(timespec="seconds"), small=small,
        time_scale=arguments.time_scale, load_before=round(load_before, 2), load_median=load,
    )  # fmt: skip
    conclude(REPORT, figures, f"load before {load_before:.2f}, median {load:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
