"""`make simulate SEEDS=10000`: many histories, on all cores, for longer than anybody waits for a test.

Says every few seconds how far it is. Of a seed that breaks an invariant it prints the shortest history that still does,
with its timeline. Figures go to build/benchmarks/simulate.json. Exit status 1 if a seed breaks something.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import functools
import gc
import logging
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tests.benchmarks.figures import ROOT, Figure, conclude, save, show
from tests.simulation import history
from tests.simulation.explain import explain
from tests.simulation.fresh import first_seed
from tests.simulation.mask import Mask
from tests.simulation.shrink import broken_by
from tests.simulation.world import World

REPORT = ROOT / "build/benchmarks/simulate.json"
SEEDS = 500
GOAL_SEEDS, GOAL_SECONDS = 10_000, 300.0
BATCH = 5
"""Seeds in one errand of a process: so few that all processes end about together."""
RENEWED_AFTER = 1000
"""Seeds after which there are new processes: those that have run for long have grown."""
TELLS_EVERY_SECONDS = 3.0
EXPLAINED_MOST = 3
BROKEN_MOST = 20
"""With so many there is nothing to be learned from more."""


@dataclass
class Run:
    """How far a run is."""

    seeds: int
    began: float = field(default_factory=time.monotonic)
    done: int = 0
    events: int = 0
    cpu_seconds: float = 0.0
    broken: dict[int, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.began

    @property
    def per_second(self) -> float:
        """Seeds a second, so far."""
        return self.done / self.seconds if self.done else 0.0

    def told(self) -> str:
        """A line for whoever waits."""
        if not self.done:
            return f"0 of {self.seeds:,} seeds"
        left_seconds = (self.seeds - self.done) / self.per_second
        broken = f", {len(self.broken)} broken" if self.broken else ""
        return (
            f"{self.done:,} of {self.seeds:,} seeds, {self.per_second:.1f} a second, {left_seconds:.0f} s left{broken}"
        )


def run_batch(seeds: list[int], *, jobs: bool) -> tuple[dict[int, str], int, float]:
    """What each of these seeds breaks, of those that do; how many events there were; and the processor's seconds."""
    broken, events, began = {}, 0, time.process_time()
    for seed in seeds:
        worlds: list[World] = []
        message = broken_by(seed, Mask(), jobs=jobs, era=history.ERA, watch=worlds.append)
        events += sum(world.hub.events for world in worlds)
        if message is not None:
            broken[seed] = message
    return broken, events, time.process_time() - began


def begin() -> None:
    """What a process does first: it logs nothing, and the collector leaves alone what stays for good."""
    logging.disable(logging.CRITICAL)
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that have all modules already, however often there are new ones. What is not begun yet when this ends
    is left out."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=begin)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def run_all(first: int, seeds: int, *, count: int, jobs: bool) -> Run:
    """Run so many seeds; say how far it is, and what breaks as it does."""
    run = Run(seeds)
    told_at, explained = run.began, 0
    for start in range(first, first + seeds, RENEWED_AFTER):
        end = min(start + RENEWED_AFTER, first + seeds)
        with processes(count) as pool:
            waiting: dict[Future[tuple[dict[int, str], int, float]], int] = {}
            for begins in range(start, end, BATCH):
                batch = list(range(begins, min(begins + BATCH, end)))
                waiting[pool.submit(run_batch, batch, jobs=jobs)] = len(batch)
            explaining: set[Future[str]] = set()
            while waiting or explaining:
                left = TELLS_EVERY_SECONDS - (time.monotonic() - told_at)
                pending: list[Future[Any]] = [*waiting, *explaining]
                done, _ = concurrent.futures.wait(pending, max(left, 0.0), concurrent.futures.FIRST_COMPLETED)
                for future in waiting.keys() & done:
                    run.done += waiting.pop(future)
                    broken, events, cpu_seconds = future.result()
                    run.broken |= broken
                    run.events += events
                    run.cpu_seconds += cpu_seconds
                    for seed, message in broken.items():
                        print(f"\nseed {seed}: {message[:400]}", flush=True)
                        if explained < EXPLAINED_MOST:
                            explained += 1
                            explaining.add(pool.submit(functools.partial(explain, seed, jobs=jobs)))
                for told in explaining & done:
                    explaining.discard(told)
                    print(f"\n{told.result()}\n", flush=True)
                if time.monotonic() - told_at >= TELLS_EVERY_SECONDS:
                    told_at = time.monotonic()
                    print(run.told(), flush=True)
                if len(run.broken) >= BROKEN_MOST and not explaining:
                    return run
    return run


def main() -> int:
    """Run seeds, print how it went, write the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--first", type=int, default=first_seed(), help="by default drawn from the code")
    parser.add_argument("--jobs", action="store_true", help="with users who run jobs")
    parser.add_argument("--processes", type=int, default=_cores(), help="by default one for each core")
    asked = parser.parse_args()
    print(f"{asked.seeds:,} seeds from {asked.first} on, in {asked.processes} processes", flush=True)
    run = run_all(asked.first, asked.seeds, count=asked.processes, jobs=asked.jobs)
    figures = [
        Figure(name=f"{GOAL_SEEDS:,} seeds", value=GOAL_SEEDS / run.per_second, unit="s", goal=GOAL_SECONDS),
        Figure(name="seeds that were run", value=float(run.done), unit="seeds"),
        Figure(name="seeds that broke something", value=float(len(run.broken)), unit="seeds", goal=0.0),
        Figure(name="time", value=run.seconds, unit="s"),
        Figure(name="seeds a second", value=run.per_second, unit="/s"),
        Figure(name="processor time of a seed", value=run.cpu_seconds / run.done * 1000, unit="ms"),
        Figure(name="events of a seed", value=run.events / run.done, unit="events"),
    ]
    inputs = {"first_seed": asked.first, "seeds": asked.seeds, "processes": asked.processes, "jobs": asked.jobs}
    counted = "measured" if run.done >= GOAL_SEEDS else f"reckoned from {run.done} seeds"
    save(REPORT, figures, inputs=inputs, goal=f"{GOAL_SEEDS:,} seeds: {counted}", broken=run.broken)
    show(f"Simulation: {run.done:,} histories", figures)
    conclude(REPORT, figures, f"{asked.processes} processes; time for {GOAL_SEEDS:,} seeds {counted}")
    return 1 if run.broken else 0


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
