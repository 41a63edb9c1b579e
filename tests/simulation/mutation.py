"""`make mutation-check`: each deliberate defect is looked for by the simulation, in one seed after the other.

Prints which defect is caught by which invariant after how many seeds; figures go to build/benchmarks/mutation.json. A
seed counts only if it breaks an invariant that the defect names, and breaks nothing without the defect. With `--write`
what was found goes to mutations.json, which the tests' short form runs from, and to MUTATIONS.md. Exit status 1 if a
defect is not caught.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import logging
import sys
import time

import msgspec

from tests.benchmarks.figures import ROOT, Figure, conclude, save
from tests.simulation import history
from tests.simulation.defects import DEFECTS
from tests.simulation.mask import Mask
from tests.simulation.mutations import LIST, Record, as_markdown, keep, kept
from tests.simulation.shrink import broken_by, kind_of
from tests.simulation.world import World

REPORT = ROOT / "build/benchmarks/mutation.json"
FIRST_SEED = 6_000_000
SEEDS = 500
MORE_SEEDS = 30
"""Run after the first catch, if it takes so many to see `CATCHES`: they say how often a defect shows, and one of them
may be the cheapest to run again."""
CATCHES = 5
PROCESSES_MOST = 2


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What came of looking for one defect: `record` is None where nothing broke within the seeds, `others` what broke
    that the defect does not name, by how often, `unsound` the seeds that break something without it."""

    name: str
    record: Record | None
    message: str
    others: dict[str, int]
    unsound: list[int]
    seeds: int
    seconds: float


def look_for(name: str, first: int, seeds: int) -> Found:
    """Run seeds with a defect until one breaks, and some more."""
    logging.disable(logging.CRITICAL)
    defect, began = DEFECTS[name], time.monotonic()
    others: dict[str, int] = {}
    unsound: list[int] = []
    after, said, run = 0, "", 0
    catches: list[tuple[int, int]] = []
    for run in range(1, seeds + MORE_SEEDS + 1):
        if (not after and run > seeds) or (after and (run > after + MORE_SEEDS or len(catches) == CATCHES)):
            run -= 1
            break
        seed = first + run - 1
        with defect.applied():
            message, events = one_life(seed)
        if message is None:
            continue
        if not is_expected(message, defect.invariants):
            others[kind_of(message)] = others.get(kind_of(message), 0) + 1
            continue
        without, events_without = _undamaged(seed)
        if without is not None:
            unsound.append(seed)
            continue
        if not after:
            after, said = run, message
        catches.append((events + events_without, seed))
    record = None
    if catches:
        record = Record(caught_by=kind_of(said), after=after, catches=len(catches), runs=run, seed=min(catches)[1])
    return Found(
        name=name, record=record, message=said[:200], others=others, unsound=unsound, seeds=run,
        seconds=time.monotonic() - began,
    )  # fmt: skip


def one_life(seed: int) -> tuple[str | None, int]:
    """What a history breaks, None if nothing; and how many events it took."""
    worlds: list[World] = []
    message = broken_by(seed, Mask(), jobs=False, era=history.ERA, watch=worlds.append)
    return message, worlds[0].hub.events


@functools.lru_cache(maxsize=1000)
def _undamaged(seed: int) -> tuple[str | None, int]:
    return one_life(seed)


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
    parser.add_argument("--new", action="store_true", help="only those that mutations.json has nothing of")
    parser.add_argument("--processes", type=int, choices=range(1, PROCESSES_MOST + 1), default=PROCESSES_MOST)
    parser.add_argument("--write", action="store_true", help="write what is found to mutations.json and MUTATIONS.md")
    asked = parser.parse_args()
    names = [name for name in asked.only or DEFECTS if not (asked.new and name in kept())]
    print(f"{'defect':<38} {'caught by':<16} {'after seeds':>11} {'in all':>8} {'seconds':>8}")
    found: list[Found] = []
    with concurrent.futures.ProcessPoolExecutor(asked.processes) as pool:
        for one in pool.map(look_for, names, [asked.first] * len(names), [asked.seeds] * len(names)):
            found.append(one)
            print(_row(one), flush=True)
            if asked.write and one.record is not None:
                keep({one.name: one.record})
                LIST.write_text(as_markdown(kept()))
    caught = [(one.name, one.record) for one in found if one.record is not None]
    figures = [
        Figure(name=f"seeds until caught: {name}", value=float(record.after), unit="seeds", goal=float(asked.seeds))
        for name, record in caught
    ]
    figures.append(Figure(name="defects not caught", value=float(len(found) - len(caught)), unit="defects", goal=0.0))
    save(REPORT, figures, inputs={"first_seed": asked.first, "seeds": asked.seeds},
         table=[msgspec.to_builtins(one) for one in found])  # fmt: skip
    print(f"{len(caught)} of {len(found)} defects are caught by an invariant that they name")
    conclude(REPORT, figures, "in virtual time")
    unsound = sorted({seed for one in found for seed in one.unsound})
    if unsound:
        print(f"these seeds break an invariant without any defect: {unsound}")
    return 0 if len(caught) == len(found) and not unsound else 1


def _row(one: Found) -> str:
    others = f"   others: {one.others}" if one.others else ""
    if one.record is None:
        return f"{one.name:<38} {'NOT CAUGHT':<16} {one.seeds:>11} {'':>8} {one.seconds:>8.1f}{others}"
    record = one.record
    row = f"{one.name:<38} {record.caught_by:<16} {record.after:>11} {record.catches:>3} in {record.runs:<3}"
    return f"{row} {one.seconds:>8.1f}   {one.message[:100]}{others}"


if __name__ == "__main__":
    sys.exit(main())
