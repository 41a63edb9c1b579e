"""What the mutation check has found: the record of each defect, and the list made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tests.simulation.defects import DEFECTS, HARMLESS

RECORDS = Path(__file__).with_name("mutations.json")
LIST = Path(__file__).with_name("MUTATIONS.md")
OFTEN = 0.2
"""The share of seeds from which on a defect shows often enough to be held against each change of the code."""
CHANCE = 1e-5
"""That a defect which shows that often shows in none of the seeds that are tried."""
TRIES_LEAST = 20


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """How a defect was caught: by which invariant, after how many seeds, in which share of those that followed, and the
    seed in which it costs least to see."""

    caught_by: str
    after: int
    share: float
    seed: int

    @property
    def often(self) -> bool:
        """Whether it shows in so many seeds that the tests' short form can look for it."""
        return self.share >= OFTEN

    @property
    def tries(self) -> int:
        """Within how many seeds it must show, whatever has become of the recorded one since."""
        share = min(self.share, 0.9)
        return max(TRIES_LEAST, math.ceil(math.log(CHANCE) / math.log(1.0 - share)))


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
        f"Made by `python -m tests.simulation.mutation --write` (`make mutation-check`). Each of the {len(records)} is "
        "applied to the code under simulation, and looked for in one seed after the other; it counts as caught by an "
        "invariant that it names, in a seed that breaks nothing without it. The last column is the share of the next "
        f"seeds that show it, too. Those of {OFTEN:.0%} and more are held against each change by `test_mutations.py`.",
        "",
        "| Defect | What is lost | Caught by | After seeds | Then in |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{name}` | {DEFECTS[name].says} | {record.caught_by} | {record.after} | {record.share:.0%} |"
        for name, record in records.items()
    ]
    lines += ["", "## Looked for and harmless", "", "| Defect | Why it breaks nothing |", "|---|---|"]
    lines += [f"| {what} | {why} |" for what, why in HARMLESS]
    return "\n".join(lines) + "\n"
