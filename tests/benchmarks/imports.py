"""How long each function takes to import, in a fresh process: itself, and what its first request imports besides."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

from dumont.build.declarations import load
from tests.benchmarks.figures import Figure

GOAL_SECONDS = 0.6

CLOUD, LOCAL = "cloud", "local"
_STORE, _BUS, _MARKET, _SHELL = "store", "bus", "market", "shell"
_MODULES = {
    (CLOUD, _STORE): "dumont.adapters.firestore_store",
    (LOCAL, _STORE): "dumont.adapters.sqlite_store",
    (CLOUD, _BUS): "dumont.adapters.pubsub_bus",
    (LOCAL, _BUS): "dumont.adapters.local_bus",
    (CLOUD, _MARKET): "dumont.adapters.vast",
    (LOCAL, _MARKET): "dumont.adapters.vast",
    (CLOUD, _SHELL): "dumont.adapters.ssh",
    (LOCAL, _SHELL): "dumont.adapters.ssh",
}
_NEEDS = {
    "search": (_STORE, _MARKET),
    "machines": (_STORE,),
    "operations": (_STORE,),
    "provision": (_STORE, _BUS),
    "destroy": (_STORE, _BUS),
    "provision-worker": (_STORE, _MARKET, _SHELL),
    "destroy-worker": (_STORE, _MARKET),
    "heartbeat-check": (_STORE, _MARKET, _BUS),  # the bus if something is due, the market when the reaper is
}
"""What each entry's first request asks `dumont.edge.wiring` for, which imports it then. Of a function that is not
listed here, all is counted."""
_HTTPX_CLI = ("rich", "pygments")


def measure(root: Path, *, rounds: int) -> list[Figure]:
    """Best and median of so many fresh processes for each entry and each kind of adapters, taken in turn."""
    entries = [(declaration, entry) for declaration in load(root / "functions") for entry in declaration.entries]
    taken: dict[tuple[str, str], list[float]] = {}
    frameworks: list[float] = []
    for number in range(rounds + 1):
        for declaration, entry in entries:
            for kind in (CLOUD, LOCAL):
                needs = _NEEDS.get(entry.name, (_STORE, _BUS, _MARKET, _SHELL))
                modules = [_MODULES[kind, need] for need in needs]
                if entry.topic is not None:
                    modules.insert(0, "dumont.edge.events")
                lock = root / "requirements" / f"function-{'-'.join(sorted(declaration.extras))}.txt"
                seconds = _once(declaration.folder / "main.py", modules, _not_in(lock))
                if number:  # the first round only compiles
                    frameworks.append(seconds["framework"])
                    taken.setdefault((entry.name, kind), []).append(sum(seconds.values()))
    figures = [
        Figure(name="import functions-framework alone (in each below), median", unit="s",
               value=statistics.median(frameworks)),
    ]  # fmt: skip
    for kind, goal in ((CLOUD, GOAL_SECONDS), (LOCAL, GOAL_SECONDS)):
        for _, entry in entries:
            seen = taken[entry.name, kind]
            name = f"import {entry.name}, {kind} adapters"
            figures.append(Figure(name=f"{name}, best of {rounds}", value=min(seen), unit="s", goal=goal))
            figures.append(Figure(name=f"{name}, median", value=statistics.median(seen), unit="s", goal=goal))
    return figures


def _once(main: Path, modules: list[str], hidden: list[str]) -> dict[str, float]:
    # -P: the folder of the script is not on a function's path either.
    command = [sys.executable, "-P", str(Path(__file__).with_name("import_one.py")), str(main), ",".join(modules)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [*command, ",".join(hidden)], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    seconds: dict[str, float] = json.loads(done.stdout)
    return seconds


def _not_in(lock: Path) -> list[str]:
    """Of what httpx's own command line imports if it can, the packages that a function's lock does not install."""
    locked = set(re.findall(r"^([a-z0-9-]+)==", lock.read_text(), re.MULTILINE))
    return [name for name in _HTTPX_CLI if name not in locked]
