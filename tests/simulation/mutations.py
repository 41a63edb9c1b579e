"""What the mutation check has found: the record of each defect, and the list made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tests.simulation.defects import DEFECTS, HARMLESS

RECORDS = Path(__file__).with_name("mutations.json")
LIST = Path(__file__).with_name("MUTATIONS.md")
OFTEN = 0.06
"""The share of seeds from which on a defect shows often enough to be held against each change of the code."""
CHANCE = 1e-4
"""That a defect which shows that often shows in none of the seeds that are tried."""
TRIES = (20, 150)
"""The least and the most."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """How a defect was caught: by which invariant, after how many seeds, how often in how many runs, and the seed in
    which it costs least to see."""

    caught_by: str
    after: int
    catches: int
    runs: int
    seed: int

    @property
    def share(self) -> float:
        """Of the seeds that show it, on the side of caution: the run ended with a catch, and few were made."""
        return min(0.9, (self.catches - 1) / self.runs)

    @property
    def runs_a_catch(self) -> float:
        """After how many seeds it is to be expected."""
        return self.runs / self.catches

    @property
    def often(self) -> bool:
        """Whether it shows in so many seeds that the tests' short form can look for it."""
        return self.share >= OFTEN

    @property
    def tries(self) -> int:
        """Within how many seeds it must show, whatever has become of the recorded one since."""
        least, most = TRIES
        return min(most, max(least, math.ceil(math.log(CHANCE) / math.log(1.0 - self.share))))


def kept() -> dict[str, Record]:
    """The records, by the name of the defect, in the order of the defects."""
    if not RECORDS.exists():
        return {}
    known = msgspec.json.decode(RECORDS.read_bytes(), type=dict[str, Record])
    return {name: known[name] for name in DEFECTS if name in known}


def keep(more: Mapping[str, Record]) -> None:
    """Write records down, in the place of what was there of these defects."""
    known = {**kept(), **more}
    ordered = {name: known[name] for name in DEFECTS if name in known}
    RECORDS.write_bytes(msgspec.json.format(msgspec.json.encode(ordered), indent=2) + b"\n")


def as_markdown(records: Mapping[str, Record]) -> str:
    """The list as a document."""
    lines = [
        "# Deliberate defects, and what catches them",
        "",
        f"Made by `python -m tests.simulation.mutation --write` (`make mutation-check`). Each of the {len(DEFECTS)} is "
        "applied to the code under simulation, and looked for in one seed after the other; it counts as caught by an "
        "invariant that it names, in a seed that breaks nothing without it. Of those that show often, "
        "`test_mutations.py` holds some against each change of the code, others each time.",
        "",
        "| Defect | What is lost | Caught by | After seeds | In all |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{name}` | {DEFECTS[name].says} | {record.caught_by} | {record.after} | {record.catches} of {record.runs} |"
        for name, record in records.items()
    ]
    lines += [
        f"| `{name}` | {DEFECTS[name].says} | not looked for yet | | |" for name in DEFECTS if name not in records
    ]
    if HARMLESS:
        lines += ["", "## Looked for and harmless", "", "| Defect | Why it breaks nothing |", "|---|---|"]
    lines += [f"| {what} | {why} |" for what, why in HARMLESS]
    return "\n".join(lines) + "\n"
