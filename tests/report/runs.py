"""Runs what a report needs, on all cores, and says how far it is."""

from __future__ import annotations

import concurrent.futures
import time
from concurrent.futures import Future

from tests.report import fleet
from tests.report.findings import Findings, found
from tests.report.fleet import Plan
from tests.report.measures import Measures
from tests.simulation import history
from tests.simulation.many import TELLS_EVERY_SECONDS, processes
from tests.simulation.mask import Mask
from tests.simulation.shrink import broken_by

FAULTS = "histories full of faults"
BATCH = 5


def histories(seeds: list[int]) -> Findings:
    """What these seeds measure together."""
    together = Findings()
    for seed in seeds:
        measures = Measures()
        if broken_by(seed, Mask(), jobs=False, era=history.ERA, watch=measures.watch) is None:
            together.add(found(measures))
        else:
            together.broken.append(seed)
    return together


def run_all(plans: list[Plan], *, first: int, seeds: int, count: int) -> dict[str, Findings]:
    """The findings by name: of fleets of one name together, and of the histories as `FAULTS`. What breaks is said."""
    taken: dict[str, Findings] = {FAULTS: Findings(), **{plan.name: Findings() for plan in plans}}
    began = told_at = time.monotonic()
    with processes(count) as pool:
        waiting: dict[Future[Findings], tuple[str, int]] = {pool.submit(fleet.live, p): (p.name, 0) for p in plans}
        for start in range(first, first + seeds, BATCH):
            batch = list(range(start, min(start + BATCH, first + seeds)))
            waiting[pool.submit(histories, batch)] = (FAULTS, len(batch))
        fleets, done_fleets, done_seeds = len(plans), 0, 0
        while waiting:
            left = max(0.0, TELLS_EVERY_SECONDS - (time.monotonic() - told_at))
            done, _ = concurrent.futures.wait(waiting, left, concurrent.futures.FIRST_COMPLETED)
            for future in done:
                name, number = waiting.pop(future)
                taken[name].add(future.result())
                done_seeds += number
                done_fleets += number == 0
            if time.monotonic() - told_at >= TELLS_EVERY_SECONDS:
                told_at = time.monotonic()
                told = f"{done_fleets} of {fleets} fleets, {done_seeds:,} of {seeds:,} histories"
                print(f"{told_at - began:5.0f} s  {told}", flush=True)
    return taken
