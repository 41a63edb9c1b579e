"""What a provision takes besides the boot of the machine that wins, and where it goes."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from tests.benchmarks.figures import Figure
from tests.end_to_end.cloud import Cloud, wait_for

GOAL_SECONDS = 3.0

PARTS = (
    ("accepted until the worker searches", "start"),
    ("search", "search"),
    ("rent, until the winner is created", "rent"),
    ("detection: it runs until we know it", "detection"),
    ("proof over SSH", "proof"),
    ("win: proven until the machine runs", "win"),
)


def measure(cloud: Cloud, *, provisions: int, say: Callable[[str], None]) -> list[Figure]:
    """Provision so many machines, one after another, and destroy each.

    The overhead is the time from the acceptance until the machine runs, less the winner's boot as the market itself
    has it: from its create call until it says "running". The parts of each add up to its overhead.
    """
    taken: list[dict[str, float]] = []
    for number in range(provisions):
        name = f"bench-{number}"
        ended = cloud.ended(cloud.up(name, race_width=3), seconds=120)
        assert ended["state"] == "succeeded", ended.get("problem")
        parts = split(ended, cloud.machine(name), cloud.market.get("/state").json())
        taken.append(parts)
        say(f"provision {number + 1}/{provisions}: boot {parts['boot']:.2f} s, overhead {overhead(parts):.2f} s")
        down = cloud.ended(cloud.down(name), seconds=60)
        assert down["state"] == "succeeded", down.get("problem")
        wait_for(lambda: not cloud.live(), seconds=30, why="nothing is rented")
    overheads = [overhead(parts) for parts in taken]
    figures = [
        Figure(name="provision: overhead besides boot, p50", value=statistics.median(overheads), unit="s",
               goal=GOAL_SECONDS),
        Figure(name="provision: overhead besides boot, max", value=max(overheads), unit="s", goal=GOAL_SECONDS),
    ]  # fmt: skip
    for words, part in PARTS:
        seen = [parts[part] for parts in taken]
        figures.append(Figure(name=f"  {words}, p50", value=statistics.median(seen), unit="s"))
        figures.append(Figure(name=f"  {words}, max", value=max(seen), unit="s"))
    boots = [parts["boot"] for parts in taken]
    figures.append(
        Figure(name="  (the winner's boot, not counted above, p50)", value=statistics.median(boots), unit="s")
    )
    return figures


def overhead(parts: dict[str, float]) -> float:
    """All but the boot, in seconds."""
    return sum(parts[part] for _, part in PARTS)


def split(operation: dict[str, Any], machine: dict[str, Any], market: dict[str, Any]) -> dict[str, float]:
    """The seconds of each part of a provision that won: from the operation, the machine and the market's own state."""
    winner = next(i for i in operation["instances"] if i["id"] == machine["instance_id"])
    rented = next(row for row in market["instances"] if row["label"] == winner["id"])
    runs_at = next(phase["at"] for phase in rented["phases"] if phase["actual"] == "running")
    search = next(step for step in operation["steps"] if step["name"] == "search")
    return {
        "start": search["started_at"] - operation["created_at"],
        "search": search["ended_at"] - search["started_at"],
        "rent": rented["created_at"] - search["ended_at"],
        "boot": runs_at - rented["created_at"],
        "detection": winner["booted_at"] - runs_at,
        "proof": winner["proven_at"] - winner["booted_at"],
        "win": machine["running_since"] - winner["proven_at"],
    }
