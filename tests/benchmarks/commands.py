"""`dumont search` and `vastai search offers`, as whole processes, against the same market."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.benchmarks.figures import Figure
from tests.end_to_end.cloud import Cloud


def measure(cloud: Cloud, *, rounds: int) -> list[Figure]:
    """Medians of so many runs each, one after the other in turn, and how the two compare.

    Ours asks the API, which asks the market; the official one asks the market itself.
    """
    folder = Path(sys.executable).parent
    key = (cloud.folder / "data/market-key").read_text().strip()
    market_url = f"http://127.0.0.1:{cloud.market_port}"
    theirs_environment = cloud.environment | {
        "HOME": str(cloud.folder), "XDG_CACHE_HOME": str(cloud.folder / "cache"), "VAST_URL": market_url,
        "VAST_API_KEY": key, "VASTAI_NO_UPDATE_CHECK": "1",
    }  # fmt: skip
    ours = ([str(folder / "dumont"), "search", "--gpu", "RTX 4090"], cloud.environment)
    theirs = ([str(folder / "vastai"), "search", "offers", "gpu_name=RTX_4090", "--url", market_url],
              theirs_environment)  # fmt: skip
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for number in range(rounds + 1):
        pairs = [("ours", *ours), ("theirs", *theirs)]
        for name, command, environment in pairs if number % 2 else pairs[::-1]:
            took = _run(command, environment)
            if number:  # the first round only compiles
                seconds[name].append(took)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    return [
        Figure(name="dumont search, whole process, median", value=medians["ours"], unit="s"),
        Figure(name="dumont search, whole process, best", value=min(seconds["ours"]), unit="s"),
        Figure(name="vastai search offers, whole process, median", value=medians["theirs"], unit="s"),
        Figure(name="vastai search offers, whole process, best", value=min(seconds["theirs"]), unit="s"),
        Figure(name="dumont search / vastai search offers, medians", value=medians["ours"] / medians["theirs"],
               unit="×", goal=1.0),
    ]  # fmt: skip


def _run(command: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(
        command, env={**environment, "PATH": os.environ["PATH"]}, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip
    took = time.perf_counter() - began
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4090" in done.stdout.replace("_", " "), f"{command[0]} found nothing: {done.stdout}"
    return took
