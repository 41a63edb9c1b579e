"""How long each function takes to import, in a fresh process: itself, and what its first request imports besides."""

from __future__ import annotations

import itertools
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from dumont.adapters.ssh import generate_key
from dumont.build.declarations import load
from tests.benchmarks.figures import Figure
from tests.end_to_end.cloud import clean_environment, free_port

GOAL_SECONDS = 0.6

CLOUD, LOCAL = "cloud", "local"
_NEEDS = {
    "search": "market",
    "machines": "",
    "operations": "",
    "provision": "bus",
    "destroy": "bus",
    "provision-worker": "worker,market,shell",
    "destroy-worker": "worker,market",
    "heartbeat-check": "market,bus",  # the bus if something is due, the market when the reaper is
}
"""What each entry's first request asks `dumont.edge.wiring` for besides the store, and so makes it import. Of an entry
that is not listed here, all is counted."""
_ALL = "worker,market,shell,bus"
_HTTPX_CLI = ("rich", "pygments")


def measure(root: Path, *, rounds: int) -> list[Figure]:
    """Best and median of so many fresh processes for each entry and each kind of adapters, taken in turn."""
    entries = [(declaration, entry) for declaration in load(root / "functions") for entry in declaration.entries]
    taken: dict[tuple[str, str], list[float]] = {}
    frameworks: list[float] = []
    with tempfile.TemporaryDirectory(prefix="dumont-bench-") as folder:
        environments = _environments(Path(folder))
        for number, (declaration, entry), kind in itertools.product(range(rounds + 1), entries, (CLOUD, LOCAL)):
            lock = root / "requirements" / f"function-{'-'.join(sorted(declaration.extras))}.txt"
            needs = _NEEDS.get(entry.name, _ALL)
            seconds = _once(declaration.folder / "main.py", needs, _not_in(lock), environments[kind])
            if number:  # the first round only compiles
                frameworks.append(seconds["framework"])
                taken.setdefault((entry.name, kind), []).append(sum(seconds.values()))
    figures = [
        Figure(name="import functions-framework alone (in each below), median", unit="s",
               value=statistics.median(frameworks)),
    ]  # fmt: skip
    for kind in (CLOUD, LOCAL):
        for _, entry in entries:
            seen = taken[entry.name, kind]
            name = f"import {entry.name}, {kind} adapters"
            figures.append(Figure(name=f"{name}, best of {rounds}", value=min(seen), unit="s"))
            figures.append(Figure(name=f"{name}, median", value=statistics.median(seen), unit="s", goal=GOAL_SECONDS))
    return figures


def _once(main: Path, needs: str, hidden: list[str], environment: dict[str, str]) -> dict[str, float]:
    # -P: the folder of the script is not on a function's path either.
    command = [sys.executable, "-P", str(Path(__file__).with_name("import_one.py")), str(main), needs]
    done = subprocess.run(
        [*command, ",".join(hidden)], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    seconds: dict[str, float] = json.loads(done.stdout)
    return seconds


def _environments(folder: Path) -> dict[str, dict[str, str]]:
    """The environment of a deployed function and of a local one. The cloud's clients are made as for an emulator: they
    ask for no credentials then, and connect to nobody before the first call."""
    both = clean_environment(folder) | {"VAST_API_KEY": "none", "DUMONT_SSH_PRIVATE_KEY": generate_key()[0]}
    nobody = f"127.0.0.1:{free_port()}"
    google = {"GOOGLE_CLOUD_PROJECT": "bench", "FIRESTORE_EMULATOR_HOST": nobody, "PUBSUB_EMULATOR_HOST": nobody}
    local = {"DUMONT_STORE": f"sqlite:{folder / 'store.sqlite3'}", "DUMONT_BUS": f"http://{nobody}"}
    return {CLOUD: both | google, LOCAL: both | local}


def _not_in(lock: Path) -> list[str]:
    """Of what httpx's own command line imports if it can, the packages that a function's lock does not install."""
    locked = set(re.findall(r"^([a-z0-9-]+)==", lock.read_text(), re.MULTILINE))
    return [name for name in _HTTPX_CLI if name not in locked]
