"""What the control plane itself costs a month: its real code in virtual time, counted, at Google's list prices.

    python -m tests.benchmarks.bench_control_plane [--small]

Machines run, report every 5 s, take a snapshot each hour and a failover a day; what they do is counted by function and
store, with one machine and with several: the difference is what each costs, the rest what sweeping costs whatever there
is. A request is taken to last as long as its port calls take in the simulation, at least the tenth of a second that is
billed.
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import dataclass, field, replace
from typing import Any

from dumont.build.declarations import load
from dumont.domain.records import Machine, MachineState
from dumont.domain.specs import MachineSpec
from dumont.operations import provision
from dumont.ports import Query
from tests.benchmarks import google_prices as prices
from tests.benchmarks.bench_scale import Counted
from tests.benchmarks.figures import ROOT, Figure, conclude, save, show
from tests.simulation.hub import Hub
from tests.simulation.world import Weather, World

REPORT = ROOT / "build/benchmarks/control-plane.json"
FLEETS = (1, 10, 1000, 10_000)
MONTH_SECONDS = prices.DAYS * 86_400.0
SPEC = MachineSpec(gpu="RTX 4090", run="python serve.py", snapshot_every_minutes=60.0)


@dataclass
class Use:
    """What was used within some time: documents, messages, and requests with their seconds by function."""

    reads: float = 0.0
    writes: float = 0.0
    messages: float = 0.0
    deletes: float = 0.0
    requests: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def __sub__(self, other: Use) -> Use:
        return self.plus(other, -1.0)

    def plus(self, other: Use, times: float) -> Use:
        """Both together, the other so many times."""
        names = {*self.requests, *other.requests}
        return Use(
            reads=self.reads + times * other.reads,
            writes=self.writes + times * other.writes,
            messages=self.messages + times * other.messages,
            deletes=self.deletes + times * other.deletes,
            requests={n: self.requests.get(n, 0.0) + times * other.requests.get(n, 0.0) for n in names},
            seconds={n: self.seconds.get(n, 0.0) + times * other.seconds.get(n, 0.0) for n in names},
        )

    def scaled(self, times: float) -> Use:
        """As much of it."""
        return Use().plus(self, times)


FUNCTIONS = {"sweep": "heartbeat-check", "heartbeat": "heartbeat", "work": "worker"}


class CountedHub:
    """Counts the tasks that a world spawns, and for how long each lasts, by the function that they stand for."""

    def __init__(self, hub: Hub, use: Use) -> None:
        self._use = use
        inner = hub.spawn

        def spawn(name: str, work: Any, **more: Any) -> None:
            function = FUNCTIONS.get(name.split()[0], "other")

            def timed() -> None:
                began = hub.now
                try:
                    work()
                finally:
                    seconds = max(prices.REQUEST_SECONDS_LEAST, hub.now - began)
                    use.requests[function] = use.requests.get(function, 0.0) + 1
                    use.seconds[function] = use.seconds.get(function, 0.0) + seconds

            inner(name, timed, **more)

        hub.spawn = spawn  # type: ignore[method-assign]


def used(machines: int, seconds: float) -> Use:
    """What so many machines that run used within so many seconds; the renting itself is left out."""
    world = World(seed=machines, weather=Weather())
    use = Use()
    counted = Counted(world.store)
    world.ports = replace(world.ports, store=counted)
    CountedHub(world.hub, use)
    world.start_schedule(seconds=58.0, every_seconds=3.0)
    for number in range(machines):
        provision.request(replace(world.ports, store=world.store.quiet), f"m{number}", SPEC, requested_by="bench")
    world.hub.run(world.hub.now + 900.0)
    running = world.store.quiet.find(Machine, Query(limit=1000))
    assert all(m.state is MachineState.RUNNING for m in running), [m.state for m in running]
    before = replace(use, reads=counted.reads, writes=counted.writes, requests=dict(use.requests),
                     seconds=dict(use.seconds))  # fmt: skip
    world.hub.run(world.hub.now + seconds)
    after = replace(use, reads=counted.reads, writes=counted.writes)
    return after - before


def month_usd(use: Use, *, free: bool) -> dict[str, float]:
    """A month's bill by what it is for. `free`: less Google's free tier."""
    days = prices.DAYS
    reads, writes, deletes = use.reads, use.writes, use.deletes
    vcpu = gib = requests = 0.0
    memory = {d.name: d.memory_mib for d in load(ROOT / "functions")}
    for name, seconds in use.seconds.items():
        mib = memory.get(name, 512)
        vcpu += seconds * prices.VCPU_OF_MIB[mib]
        gib += seconds * mib / 1024
        requests += use.requests[name]
    tib = 2 * use.messages * prices.PUBSUB_BYTES_LEAST / 2**40
    jobs = 2.0
    if free:
        reads = max(0.0, reads - prices.FIRESTORE_READS_FREE_PER_DAY * days)
        writes = max(0.0, writes - prices.FIRESTORE_WRITES_FREE_PER_DAY * days)
        deletes = max(0.0, deletes - prices.FIRESTORE_DELETES_FREE_PER_DAY * days)
        vcpu = max(0.0, vcpu - prices.VCPU_SECONDS_FREE_PER_MONTH)
        gib = max(0.0, gib - prices.GIB_SECONDS_FREE_PER_MONTH)
        requests = max(0.0, requests - prices.REQUESTS_FREE_PER_MONTH)
        tib = max(0.0, tib - prices.PUBSUB_TIB_FREE_PER_MONTH)
        jobs = 0.0
    firestore = reads * prices.FIRESTORE_READ + writes * prices.FIRESTORE_WRITE + deletes * prices.FIRESTORE_DELETE
    return {
        "Firestore": firestore,
        "functions": vcpu * prices.VCPU_SECOND + gib * prices.GIB_SECOND + requests * prices.REQUEST,
        "Pub/Sub": tib * prices.PUBSUB_TIB,
        "Scheduler": jobs * prices.SCHEDULER_JOB_PER_MONTH,
    }


def main() -> int:
    """Measure, print and save; answers with the exit status."""
    parser = argparse.ArgumentParser(prog="bench_control_plane", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a shorter time: to see that it works")
    seconds = 3600.0 if parser.parse_args().small else 4 * 3600.0
    logging.disable(logging.CRITICAL)
    few, many = 1, 5
    one, several = used(few, seconds), used(many, seconds)
    times = MONTH_SECONDS / seconds
    each = (several - one).scaled(times / (many - few))
    whatever = one.scaled(times).plus(each, -few)
    figures = [
        Figure(name="a machine's month: documents read", value=each.reads, unit=""),
        Figure(name="a machine's month: documents written", value=each.writes, unit=""),
        Figure(name="a machine's month: requests", value=sum(each.requests.values()), unit=""),
        Figure(name="sweeping for a month, whatever there is: documents read", value=whatever.reads, unit=""),
        Figure(name="  seconds of heartbeat-check", value=whatever.seconds.get("heartbeat-check", 0.0), unit="s"),
    ]
    for machines in FLEETS:
        use = whatever.plus(each, machines)
        full, rest = month_usd(use, free=False), month_usd(use, free=True)
        parts = ", ".join(f"{name} ${usd:,.2f}" for name, usd in full.items() if usd >= 0.005)
        figures += [
            Figure(name=f"{machines:,} machines for a month ({parts})", value=sum(full.values()), unit="$"),
            Figure(name="  a machine, less the free tier", value=sum(rest.values()) / machines, unit="$"),
        ]
    show(f"The control plane's own bill, list prices of {prices.AS_OF}", figures)
    save(REPORT, figures, prices=list(prices.SOURCES), as_of=prices.AS_OF)
    conclude(REPORT, figures, "in virtual time")
    return 0


if __name__ == "__main__":
    sys.exit(main())
