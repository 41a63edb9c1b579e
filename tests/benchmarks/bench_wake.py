"""`make bench-wake`: what the gateway costs. Figures go to the terminal and to build/benchmarks/wake.json.

The machine is simulated and on this same computer: its SSH server and its program share the processors with the
gateway, so that the throughput is a lower bound, and there is no network in the latency. Requests through the gateway
and direct ones alternate within one run. Of a wake, boot and restore are the market's and the object store's: what is
left of the time to the first byte, the workload's own start included, is our own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from tests.benchmarks.figures import ROOT, Figure, conclude, percentile, save, show
from tests.end_to_end.cloud import local_cloud
from tests.end_to_end.gateway_support import Served
from tests.end_to_end.snapshot_support import Host

REPORT = ROOT / "build/benchmarks/wake.json"
MODEL_BYTES = 50_000_000
AT_ONCE = 20
Say = Callable[[str], None]
Json = dict[str, Any]


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def first_byte(client: httpx.Client, url: str) -> float:
    """Seconds until the first byte of an answer's body."""
    began = time.perf_counter()
    with client.stream("GET", url) as answer:
        answer.raise_for_status()
        for _ in answer.iter_raw():
            break
        return time.perf_counter() - began


def latency(served: Served, direct: httpx.Client, *, count: int, say: Say) -> list[Figure]:
    """Small requests, one at a time, by both ways in turn."""
    say(f"{count} requests through the gateway, and as many without")
    ways: list[tuple[httpx.Client, list[float]]] = [(served.http, []), (direct, [])]
    for client, _ in ways * 10:
        first_byte(client, "/echo")
    for _ in range(count):
        for client, taken in ways:
            taken.append(first_byte(client, "/echo") * 1000)
    (_, gateway), (_, plain) = ways
    figures = [
        Figure(name=f"request to first byte, awake, {label} {name}", value=percentile(taken, share), unit="ms")
        for label, taken in (("through the gateway,", gateway), ("direct,", plain))
        for name, share in (("p50", 0.5), ("p99", 0.99))
    ]
    return figures + [
        Figure(
            name=f"the gateway's added latency, {name}",
            value=percentile(gateway, share) - percentile(plain, share),
            unit="ms",
        )
        for name, share in (("p50", 0.5), ("p99", 0.99))
    ]


def throughput(served: Served, direct: httpx.Client, *, size: int, rounds: int, say: Say) -> list[Figure]:
    """Large bodies, by both ways in turn; the median."""
    say(f"{size / 1e6:g} MB down and up, {rounds} times each way")
    data = os.urandom(size)
    taken: dict[str, list[float]] = {}
    for _ in range(rounds):
        for label, client in (("through the gateway", served.http), ("direct", direct)):
            down = _seconds(lambda client=client: client.get(f"/noise?bytes={size}"))  # type: ignore[misc]
            up = _seconds(lambda client=client: client.post("/echo", content=data))  # type: ignore[misc]
            taken.setdefault(f"download, {label}", []).append(down)
            taken.setdefault(f"upload, {label}", []).append(up)
    return [
        Figure(name=name, value=size / 1e6 / statistics.median(seconds), unit="MB/s") for name, seconds in taken.items()
    ]


def at_once(served: Served, direct: httpx.Client, *, count: int, say: Say) -> list[Figure]:
    """Small requests, twenty at a time."""
    say(f"{count} requests, {AT_ONCE} at a time")
    figures = []
    for label, client in (("through the gateway", served.http), ("direct", direct)):
        with ThreadPoolExecutor(AT_ONCE) as pool:
            began = time.perf_counter()
            answers = list(pool.map(lambda _, client=client: client.get("/echo").status_code, range(count)))
            seconds = time.perf_counter() - began
        if set(answers) != {200}:
            raise SystemExit(f"not all were answered: {sorted(set(answers))}")
        figures.append(Figure(name=f"{AT_ONCE} at a time, {label}", value=count / seconds, unit="requests/s"))
    return figures


def wakes(served: Served, *, pause: bool, count: int, say: Say) -> list[Figure]:
    """Requests to a machine that sleeps, each of which wakes it."""
    kind = "paused" if pause else "hibernated"
    whole: list[float] = []
    parts: dict[str, list[float]] = {"boot": [], "restore": [], "own": []}
    for number in range(count):
        say(f"{kind}: wake {number + 1} of {count}")
        served.sleep(pause=pause)
        seconds = first_byte(served.http, "/echo")
        op = served.operations("wake")[0]
        steps: list[Json] = served.cloud.http.get(f"/operations/{op['id']}").json()["operation"]["steps"]
        boot, restore = (sum(s["seconds"] for s in steps if s["name"] == name) for name in ("boot", "restore"))
        whole.append(seconds)
        parts["boot"].append(boot)
        parts["restore"].append(restore)
        parts["own"].append(seconds - boot - restore)
    named = {"boot": "of it boot", "restore": "of it restore", "own": "of it our own, with the workload's start"}
    return [
        Figure(name=f"request to first byte, {kind}, p50 of {count}", value=statistics.median(whole), unit="s"),
        Figure(name=f"request to first byte, {kind}, the longest", value=max(whole), unit="s"),
        *(
            Figure(name=f"  {kind}: {named[part]}, p50", value=statistics.median(values), unit="s")
            for part, values in parts.items()
            if any(values)
        ),
    ]


def measure(*, small: bool, time_scale: float, say: Say) -> dict[str, list[Figure]]:
    """Everything, on one machine of one local cloud."""
    with (
        tempfile.TemporaryDirectory(prefix="dumont-bench-") as folder,
        local_cloud(Path(folder), time_scale=time_scale) as cloud,
    ):
        served = Served(cloud, "bench")
        try:
            served.answers()
            direct = httpx.Client(base_url=f"http://127.0.0.1:{served.port}", timeout=60, trust_env=False)
            taken = {"awake": latency(served, direct, count=50 if small else 500, say=say)}
            size, rounds = (20_000_000, 2) if small else (100_000_000, 5)
            taken["throughput"] = throughput(served, direct, size=size, rounds=rounds, say=say)
            taken["throughput"] += at_once(served, direct, count=100 if small else 1000, say=say)
            direct.close()
            workspace = Host(cloud, "bench").workspace
            workspace.mkdir(exist_ok=True)
            (workspace / "model").write_bytes(os.urandom(MODEL_BYTES))
            taken["wake"] = wakes(served, pause=True, count=2 if small else 7, say=say)
            taken["wake"] += wakes(served, pause=False, count=2 if small else 7, say=say)
        finally:
            served.end()
        return taken


def main() -> int:
    """Measure, print and save; answers with the exit status."""
    parser = argparse.ArgumentParser(prog="bench_wake", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--small", action="store_true", help="fewer runs: to see that it works")
    parser.add_argument("--time-scale", type=float, default=0.02, metavar="X", help="of boots; default %(default)s")
    arguments = parser.parse_args()
    # Bytecode as a deployed function has it, and kept out of the checkout. Every process started here inherits this.
    with tempfile.TemporaryDirectory(prefix="dumont-bytecode-") as bytecode:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = bytecode
        sys.pycache_prefix = bytecode
        taken = measure(
            small=arguments.small,
            time_scale=arguments.time_scale,
            say=lambda text: print(text, file=sys.stderr, flush=True),
        )
    for part, figures in taken.items():
        show(part, figures)
    save(
        REPORT,
        [figure for figures in taken.values() for figure in figures],
        taken_at=datetime.now(UTC).isoformat(timespec="seconds"),
        time_scale=arguments.time_scale,
        model_bytes=MODEL_BYTES,
        small=arguments.small,
    )
    conclude(REPORT, [figure for figures in taken.values() for figure in figures], f"load {os.getloadavg()[0]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
