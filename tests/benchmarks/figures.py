"""Figures of a benchmark: named, with their goal, as a table for people and as a JSON file for programs."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil

ROOT = Path(__file__).parents[2]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured value; `goal` is the most that it may be, None where it is shown for information only."""

    name: str
    value: float
    unit: str
    goal: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        return None if self.goal is None else self.value <= self.goal


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share (0–1) of the values do not exceed: none is made up in between."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def machine() -> dict[str, Any]:
    """What figures depend on, and nothing that says whose machine it is: no host name, no path."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "os": _os_name(),
    }


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"


def save(path: Path, figures: Sequence[Figure], **more: Any) -> None:
    """Write the figures as JSON, with the machine, and whatever `more` says of how they were taken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"name": f.name, "value": round(f.value, 4), "unit": f.unit, "goal": f.goal, "met": f.met} for f in figures]
    path.write_text(json.dumps({"machine": machine(), **more, "figures": rows}, indent=2, ensure_ascii=False) + "\n")


def show(title: str, figures: Sequence[Figure]) -> None:
    """Print the figures as a table."""
    digits = {"s": 3, "ms": 1}
    rows = [
        (f.name, f"{f.value:.{digits.get(f.unit, 2)}f} {f.unit}", "" if f.goal is None else f"≤ {f.goal:g}", _word(f))
        for f in figures
    ]
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print(f"\n{title}")
        for name, value, goal, word in rows:
            print(f"  {name:<58} {value:>12} {goal:>8} {word}")
        return
    table = Table(title=title, title_justify="left", header_style="bold")
    for heading, justify in (("figure", "left"), ("value", "right"), ("goal", "right"), ("met", "left")):
        table.add_column(heading, justify=justify, no_wrap=heading != "figure")  # type: ignore[arg-type]
    for name, value, goal, word in rows:
        table.add_row(name, value, goal, word, style="red" if word == "no" else None)
    # As wide as it needs where the output is a file: a table that is cut off there cannot be widened.
    console = Console()
    (console if console.is_terminal else Console(width=120)).print(table)


def _word(figure: Figure) -> str:
    return "" if figure.met is None else "yes" if figure.met else "no"


def conclude(report: Path, figures: Sequence[Figure], loads: str) -> None:
    """The last lines of a benchmark: on what it ran, how many goals are missed, and where its figures are."""
    about = machine()
    on = f"{about['cpu']}, {about['cores']} cores, {about['memory_gib']} GiB, {about['python']}, {about['os']}"
    print(f"{on}; {loads}")
    missed = [figure.name for figure in figures if figure.met is False]
    if missed:
        print(f"{len(missed)} of {sum(f.goal is not None for f in figures)} goals missed")
    print(f"figures: {report.relative_to(ROOT)}")
