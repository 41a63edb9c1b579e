"""Why a seed breaks an invariant: the shortest history that still does, and its timeline.

`python -m tests.simulation.explain SEED [--jobs] [--era 1]`; `make simulate` does the same for what it finds.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from tests.simulation import history
from tests.simulation.shrink import Shrunk, broken_by, shrink
from tests.simulation.timeline import Timeline

FOLDER = Path(__file__).parents[2] / "build" / "simulation"
LINES_MOST = 60


def explain(seed: int, *, jobs: bool = False, era: int = history.ERA, seconds_most: float = 60.0) -> str:
    """The seed, the invariant, what of its history it takes, and the timeline; all of that goes to a file as well."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # hundreds of lives log what this one is asked for
    try:
        found = shrink(seed, jobs=jobs, era=era, seconds_most=seconds_most)
        timeline = Timeline()
        if found is not None:
            broken_by(seed, found.mask, jobs=jobs, era=era, watch=timeline.watch)
    finally:
        logging.disable(level)
    if found is None:
        return f"seed {seed} breaks nothing when it is run again"
    head = _head(seed, found, jobs=jobs, era=era)
    file = FOLDER / f"{seed}{'-jobs' if jobs else ''}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([*head, *timeline.told()]) + "\n")
    where = f"all {len(timeline.lines)} lines: {file.relative_to(FOLDER.parents[1])}"
    return "\n".join([*head, *timeline.told(LINES_MOST - len(head) - 1, about=found.message), where])


def _head(seed: int, found: Shrunk, *, jobs: bool, era: int) -> list[str]:
    options = f"{' --jobs' if jobs else ''}{'' if era == history.ERA else f' --era {era}'}"
    cut = found.mask.busy_seconds
    return [
        f"seed {seed}: {found.message[:400]}",
        f"replay it: python -m tests.simulation.explain {seed}{options}",
        f"it takes: {', '.join(found.kept) or 'nothing but time'}" + (f"; calm after {cut:.0f} s" if cut < 1e9 else ""),
        f"shrunk in {found.runs} runs, {found.seconds:.0f} s{'' if found.whole else ', when time was up'}",
    ]


def main() -> int:
    """Explain one seed. Exit status 1 if it breaks something."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.explain", description=main.__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--jobs", action="store_true", help="with users who run jobs")
    parser.add_argument("--era", type=int, default=history.ERA, help="what a history can hold (see history.ERA)")
    asked = parser.parse_args()
    said = explain(asked.seed, jobs=asked.jobs, era=asked.era)
    print(said)
    return 0 if "breaks nothing" in said else 1


if __name__ == "__main__":
    sys.exit(main())
