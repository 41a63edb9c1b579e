"""`make mutation-check`: each deliberate defect is looked for by the simulation, in one seed after the other.

Prints which defect is caught by which invariant after how many seeds; figures go to build/benchmarks/mutation.json. A
seed counts only if it breaks nothing without the defect. Exit status 1 if a defect is not caught.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import logging
import sys
import time
from pathlib import Path

import msgspec

from tests.benchmarks.figures import ROOT, Figure, conclude, save
from tests.simulation import history
from tests.simulation.defects import DEFECTS
from tests.simulation.mask import Mask
from tests.simulation.shrink import broken_by, kind_of

REPORT = ROOT / "build/benchmarks/mutation.json"
LIST = Path(__file__).with_name("MUTATIONS.md")
FIRST_SEED = 6_000_000
SEEDS = 500
PROCESSES_MOST = 2


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What came of looking for one defect. `caught_by` is "" where nothing broke within the seeds."""

    name: str
    caught_by: str
    message: str
    expected: bool
    """Whether it is an invariant that the defect names."""
    seed: int
    seeds: int
    seconds: float


def look_for(name: str, first: int, seeds: int) -> Found:
    """Run seeds with a defect until one breaks."""
    logging.disable(logging.CRITICAL)
    defect, began = DEFECTS[name], time.monotonic()
    for seed in range(first, first + seeds):
        with defect.applied():
            message = broken_by(seed, Mask(), jobs=False, era=history.ERA)
        if message is None or broken_by(seed, Mask(), jobs=False, era=history.ERA) is not None:
            continue
        return Found(
            name=name,
            caught_by=kind_of(message),
            message=message[:200],
            expected=is_expected(message, defect.invariants),
            seed=seed,
            seeds=seed - first + 1,
            seconds=time.monotonic() - began,
        )
    return Found(name=name, caught_by="", message="", expected=False, seed=0, seeds=seeds,
                 seconds=time.monotonic() - began)  # fmt: skip


def is_expected(message: str, invariants: tuple[str, ...]) -> bool:
    """Whether a break is of one of these: "8" stands for "invariant 8", a word for itself."""
    head = message.partition(":")[0]
    numbers = set(head.replace(",", " ").split()) if head.startswith("invariant") else set()
    return any(wanted in numbers or (not wanted.isdigit() and wanted in message) for wanted in invariants)


def main() -> int:
    """Look for each defect, print the table, write the figures."""
    parser = argparse.ArgumentParser(prog="make mutation-check", description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="within how many seeds each must be caught")
    parser.add_argument("--first", type=int, default=FIRST_SEED, help="the first seed")
    parser.add_argument("--only", choices=sorted(DEFECTS), action="append", help="this defect alone (may be repeated)")
    parser.add_argument("--processes", type=int, choices=range(1, PROCESSES_MOST + 1), default=PROCESSES_MOST)
    parser.add_argument("--write", action="store_true", help=f"write the table to {LIST.name}, too")
    asked = parser.parse_args()
    names = asked.only or list(DEFECTS)
    print(f"{'defect':<40} {'caught by':<24} {'seeds':>6} {'seconds':>8}")
    found: list[Found] = []
    with concurrent.futures.ProcessPoolExecutor(asked.processes) as pool:
        for one in pool.map(look_for, names, [asked.first] * len(names), [asked.seeds] * len(names)):
            found.append(one)
            by = (one.caught_by if one.expected else f"{one.caught_by} (!)") if one.caught_by else "NOT CAUGHT"
            print(f"{one.name:<40} {by:<24} {one.seeds:>6} {one.seconds:>8.1f}   {one.message[:100]}", flush=True)
    if asked.write and not asked.only:
        LIST.write_text(as_markdown(found, asked.first, asked.seeds))
    caught = [one for one in found if one.caught_by]
    goal = float(asked.seeds)
    figures = [
        Figure(name=f"seeds until caught: {one.name}", value=float(one.seeds), unit="seeds", goal=goal)
        for one in caught
    ]
    figures.append(Figure(name="defects not caught", value=float(len(found) - len(caught)), unit="defects", goal=0.0))
    save(REPORT, figures, inputs={"first_seed": asked.first, "seeds": asked.seeds},
         table=[msgspec.to_builtins(one) for one in found])  # fmt: skip
    print(f"{len(caught)} of {len(found)} defects are caught; (!) by another invariant than the one they name")
    conclude(REPORT, figures, "in virtual time")
    return 0 if len(caught) == len(found) else 1


def as_markdown(found: list[Found], first: int, seeds: int) -> str:
    """The table as a document."""
    rows = [
        f"| `{one.name}` | {DEFECTS[one.name].says} | {one.caught_by or f'not within {seeds} seeds'} "
        f"| {one.seeds if one.caught_by else '–'} |"
        for one in found
    ]
    head = [
        "# Deliberate defects, and what catches them",
        "",
        f"Made by `python -m tests.simulation.mutation --write`: each is looked for from seed {first} on, in up to "
        f"{seeds} seeds. They are defined in `defects_of_*.py`.",
        "",
        "| Defect | What is lost | Caught by | After seeds |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *rows]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
