"""`make bench-main`: what the main job takes. Figures go to the terminal and to build/benchmarks/main.json.

Goals are shown, and missing one does not fail the run: a busy machine is no defect. What fails it is a wrong answer.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

from tests.benchmarks import commands, imports, provisions
from tests.benchmarks.figures import ROOT, Figure, conclude, percentile, save, show
from tests.benchmarks.steady_load import send
from tests.end_to_end.cloud import Cloud, local_cloud

REPORT = ROOT / "build/benchmarks/main.json"

REQUESTS_PER_SECOND = 50.0
P50_GOAL_MS, P99_GOAL_MS = 20.0, 100.0
MACHINES_IN_STORE = 20
PARTS = ("imports", "provisions", "commands", "latency")


def latency(cloud: Cloud, *, seconds: float, say: Callable[[str], None]) -> list[Figure]:
    """Latency of `search` and `machines` at a steady rate, with machines in the store; the client is this process."""
    say(f"renting {MACHINES_IN_STORE} machines, to be listed")
    asked = [
        cloud.up(f"listed-{n}", gpu=None, min_vram_gib=8, max_price_usd_per_hour=None, min_reliability=None,
                 race_width=1)
        for n in range(MACHINES_IN_STORE)
    ]  # fmt: skip
    for operation in asked:
        ended = cloud.ended(operation, seconds=180)
        assert ended["state"] == "succeeded", ended.get("problem")
    figures = []
    headers = {"Authorization": f"Bearer {cloud.key}", "Accept": "application/json"}
    base = f"http://127.0.0.1:{cloud.port}"
    for name, path in (("search", f"/search?{urlencode({'gpu': 'RTX 4090'})}"), ("machines", "/machines")):
        say(f"{name} at {REQUESTS_PER_SECOND:g} requests/s for {seconds:g} s")
        send(base + path, headers, per_second=REQUESTS_PER_SECOND, seconds=1.0)  # what only first requests do
        outcome = send(base + path, headers, per_second=REQUESTS_PER_SECOND, seconds=seconds)
        assert not outcome.refused, f"{len(outcome.refused)} requests failed, such as {outcome.refused[0]}"
        milliseconds = [1000 * s for s in outcome.latencies]
        late = [1000 * s for s in outcome.late]
        figures += [
            Figure(name=f"{name}, 50 requests/s, p50", value=statistics.median(milliseconds), unit="ms",
                   goal=P50_GOAL_MS),
            Figure(name=f"{name}, 50 requests/s, p99", value=percentile(milliseconds, 0.99), unit="ms",
                   goal=P99_GOAL_MS),
            Figure(name=f"  of it the client's own delay, {name}, p99", value=percentile(late, 0.99), unit="ms"),
        ]  # fmt: skip
    return figures


def main() -> int:
    """Measure, print and save; answers with the exit status."""
    parser = argparse.ArgumentParser(prog="bench_main", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--short", action="store_true", help="fewer repetitions: to see that it works")
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this part; can be given again")
    parser.add_argument("--provisions", type=int, metavar="N", help="default 12, short 3")
    parser.add_argument("--time-scale", type=float, default=0.05, metavar="X", help="of boots; default %(default)s")
    arguments = parser.parse_args()
    only, short = arguments.only or PARTS, arguments.short
    # Bytecode as a deployed function has it, and kept out of the checkout. Every process started here inherits this.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(REPORT.parent / "pycache")
    began, load_before = time.monotonic(), os.getloadavg()[0]

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", file=sys.stderr, flush=True)

    taken: dict[str, list[Figure]] = {}
    if "imports" in only:
        rounds = 2 if short else 5
        say(f"importing each function in {rounds} fresh processes")
        taken["imports"] = imports.measure(ROOT, rounds=rounds)
    if set(only) - {"imports"}:
        with tempfile.TemporaryDirectory(prefix="dumont-bench-") as folder:
            say("starting a local cloud")
            with local_cloud(Path(folder), time_scale=arguments.time_scale) as cloud:
                if "provisions" in only:
                    count = arguments.provisions or (3 if short else 12)
                    taken["provisions"] = provisions.measure(cloud, provisions=count, say=say)
                if "commands" in only:
                    say("dumont search against vastai search offers")
                    taken["commands"] = commands.measure(cloud, rounds=4 if short else 15)
                if "latency" in only:
                    taken["latency"] = latency(cloud, seconds=5.0 if short else 20.0, say=say)
    titles = {
        "provisions": f"Provision, three racing, boots at {arguments.time_scale:g} of their time",
        "latency": f"API, open loop, {MACHINES_IN_STORE} machines in the store",
        "imports": "Imports in fresh processes, byte-compiled",
        "commands": "Whole processes, in turn, against one market",
    }
    for part, title in titles.items():
        if part in taken:
            show(title, taken[part])
    figures = [figure for part in titles for figure in taken.get(part, [])]
    load_after = os.getloadavg()[0]
    save(
        REPORT, figures, measured_at=datetime.now(UTC).isoformat(timespec="seconds"), short=short,
        time_scale=arguments.time_scale, load_before=round(load_before, 2), load_after=round(load_after, 2),
    )  # fmt: skip
    conclude(REPORT, figures, f"load before {load_before:.2f}, after {load_after:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
