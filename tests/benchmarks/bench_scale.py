"""Scale: what a sweep costs over 10,000 machines of which ten are due, and how many heartbeats one process bears.

    python -m tests.benchmarks.bench_scale [--small]

Both stores in one run: SQLite, and Google's Firestore emulator where it is installed (its times are the emulator's,
its reads and writes are what Firestore bills).
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace

from dumont.adapters.clock import SystemClock, SystemIds
from dumont.adapters.firestore_store import FirestoreStore
from dumont.adapters.sqlite_store import SqliteStore
from dumont.agent import tokens
from dumont.agent.tokens import AgentIdentity
from dumont.domain.heartbeats import GpuUse, Heartbeat, Readings, Report, WorkloadSeen
from dumont.domain.names import shard_of
from dumont.domain.offers import Offer
from dumont.domain.records import Instance, InstanceState, Machine, MachineState, Operation, OperationKind, Record
from dumont.domain.specs import MachineSpec
from dumont.local.emulators import EmulatorMissing, FirestoreEmulator
from dumont.operations import heartbeats
from dumont.operations.sweep import sweep
from dumont.ports import Clock, Ports, Query, Shell, Store, Transaction
from tests.benchmarks.figures import ROOT, Figure, conclude, percentile, save, show

REPORT = ROOT / "build/benchmarks/scale.json"
DUE = 10
HEARTBEATS_GOAL_PER_SECOND = 1000.0
OFFER = Offer(provider="vast", id="1", gpu="RTX 4090", gpu_usd_per_hour=0.3, storage_usd_per_gb_hour=0.0002)
SPEC = MachineSpec(gpu="RTX 4090", run="python serve.py")
SECRET = b"s" * 32
R = TypeVar("R", bound=Record)
T = TypeVar("T")


class Counted:
    """A store that counts what Firestore bills: documents read (at least one a query) and written."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self.reads = self.writes = 0

    def get(self, kind: type[R], record_id: str) -> R | None:
        self.reads += 1
        return self._inner.get(kind, record_id)

    def find(self, kind: type[R], query: Query) -> list[R]:
        found = self._inner.find(kind, query)
        self.reads += max(1, len(found))
        return found

    def transact(self, work: Callable[[Transaction], T]) -> T:
        return self._inner.transact(lambda tx: work(_CountedTransaction(tx, self)))


class _CountedTransaction:
    def __init__(self, inner: Transaction, counts: Counted) -> None:
        self._inner, self._counts = inner, counts

    def get(self, kind: type[R], record_id: str) -> R | None:
        self._counts.reads += 1
        return self._inner.get(kind, record_id)

    def put(self, record: Record) -> None:
        self._counts.writes += 1
        self._inner.put(record)

    def create(self, record: Record) -> None:
        self._counts.writes += 1
        self._inner.create(record)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Published:
    """A bus that takes every message."""

    def __init__(self) -> None:
        self.count = 0

    def publish(self, topic: str, message: object) -> None:  # noqa: ARG002
        self.count += 1


class StillClock:
    """Time stands while sweeps are measured: on a slow store more would come due from one to the next."""

    def __init__(self, at: float) -> None:
        self._at = at

    def now(self) -> float:
        return self._at

    def sleep(self, seconds: float) -> None:
        raise RuntimeError(f"a pass does not wait, and this one wants to for {seconds} s")


def _no_shell() -> Shell:
    raise RuntimeError("no shell here")


def ports_of(store: Store, clock: Clock) -> Ports:
    return Ports(
        store=store, bus=Published(), providers={}, make_shell=_no_shell, clock=clock, ids=SystemIds(),
        deployment="main",
    )  # fmt: skip


def fill(store: Store, machines: int, now: float) -> None:
    """Machines that run and were heard just now; of ten an operation is due."""
    for first in range(0, machines, 100):
        records: list[Record] = []
        for number in range(first, min(first + 100, machines)):
            name, label = f"m{number:05d}", f"dumont.main.m{number:05d}.1.x"
            shard = shard_of(name)
            due = number % (machines // DUE) == 0
            records += [
                Machine(
                    id=name, spec=SPEC, state=MachineState.RUNNING, epoch=1, created_at=now, updated_at=now,
                    instance_id=label, operation_id=f"op-{number}" if due else None, deadline=now + 3600, shard=shard,
                ),
                Instance(
                    id=label, machine=name, epoch=1, rented_by="op-0", operation_id="op-0", provider="vast",
                    offer=OFFER, disk_gb=20.0, state=InstanceState.PROVEN, intended_at=now, created_at=now,
                    booted_at=now, proven_at=now,
                ),
                Heartbeat(
                    id=label, machine=name, epoch=1, boot_id="boot", sequence=1, received_at=now,
                    deadline=now + 3600, shard=shard,
                ),
            ]  # fmt: skip
            if due:
                records.append(
                    Operation(
                        id=f"op-{number}",
                        kind=OperationKind.SNAPSHOT,
                        machine=name,
                        epoch=1,
                        phase="start",
                        created_at=now,
                        updated_at=now,
                        requested_by="bench",
                        deadline=now - 1,
                        shard=shard,
                    )
                )
        _put(store, records)


def _put(store: Store, records: Sequence[Record]) -> None:
    def work(tx: Transaction) -> None:
        for record in records:
            tx.put(record)

    store.transact(work)


def sweeps(name: str, store: Store, machines: int, rounds: int) -> list[Figure]:
    """One sweep with ten due, several times over; and one with nothing due."""
    now = time.time()
    fill(store, machines, now)
    counted = Counted(store)
    ports = ports_of(counted, StillClock(now))
    due = [op for op in store.find(Operation, Query(limit=machines)) if op.deadline is not None]
    sweep(ports)  # the slow look is behind it for a minute
    seconds, reads, writes, woken = [], 0, 0, 0
    for _ in range(rounds):
        _put(store, [replace(op, deadline=now - 1) for op in due])
        counted.reads = counted.writes = 0
        began = time.perf_counter()
        woken = sweep(ports).operations
        seconds.append(time.perf_counter() - began)
        reads, writes = counted.reads, counted.writes
    counted.reads = counted.writes = 0
    began = time.perf_counter()
    sweep(ports)
    idle_seconds, idle_reads = time.perf_counter() - began, counted.reads
    of = f"{name}, {machines:,} machines"
    return [
        Figure(name=f"{of}: one sweep, {woken} due, p50 of {rounds}", value=statistics.median(seconds), unit="s"),
        Figure(name="  documents read", value=reads, unit=""),
        Figure(name="  documents written", value=writes, unit=""),
        Figure(name="  one sweep, nothing due", value=idle_seconds, unit="s"),
        Figure(name="  documents read", value=idle_reads, unit="", goal=10.0),
    ]  # fmt: skip


def report_of(number: int, sequence: int) -> Report:
    gpus = (GpuUse(utilization_percent=97.0, memory_used_mib=20_000.0, memory_total_mib=24_564.0),)
    readings = Readings(gpus=gpus, cpu_percent=12.0, disk_free_gib=80.0, network_receive_bytes_per_second=1e5,
                        network_send_bytes_per_second=1e5, ssh_sessions=0, user_processes=number % 3)  # fmt: skip
    return Report(boot_id="boot", sequence=sequence, readings=readings, workload=WorkloadSeen(state="healthy"))


def beats(name: str, store: Store, machines: int, seconds: float, threads: int) -> list[Figure]:
    """As many heartbeats as go through in so long: the token checked, one transaction each, synced to the disk."""
    ports = ports_of(store, SystemClock())
    names = [(f"m{n:05d}", f"dumont.main.m{n:05d}.1.x") for n in range(machines)]
    signed = [tokens.make(SECRET, machine, 1, label) for machine, label in names]
    latencies: list[float] = []
    over = time.perf_counter() + seconds

    def work(lane: int) -> None:
        mine: list[float] = []
        sequence = 2
        while True:
            for number in range(lane, machines, threads):
                began = time.perf_counter()
                if began > over:
                    latencies.extend(mine)
                    return
                identity = tokens.read(SECRET, signed[number])
                assert isinstance(identity, AgentIdentity)
                heartbeats.receive(ports, identity, report_of(number, sequence))
                mine.append(time.perf_counter() - began)
            sequence += 1

    began = time.perf_counter()
    lanes = [threading.Thread(target=work, args=(lane,)) for lane in range(threads)]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    rate = len(latencies) / (time.perf_counter() - began)
    short = max(0.0, HEARTBEATS_GOAL_PER_SECOND / rate) if rate else float("inf")
    return [
        Figure(name=f"{name}: heartbeats a second, one process, {threads} threads", value=rate, unit="/s"),
        Figure(name="  1,000 a second is so many times that", value=short, unit="×", goal=1.0),
        Figure(name="  one heartbeat: p50", value=percentile(latencies, 0.5) * 1000, unit="ms"),
        Figure(name="  one heartbeat: p99", value=percentile(latencies, 0.99) * 1000, unit="ms"),
    ]


@contextlib.contextmanager
def stores(say: Callable[[str], None]) -> Iterator[dict[str, Store]]:
    """SQLite in a file, and the Firestore emulator if it can be had."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="dumont-bench-"))
        found: dict[str, Store] = {"SQLite": SqliteStore(Path(folder) / "store.sqlite3")}
        try:
            emulator = stack.enter_context(FirestoreEmulator())
            found["Firestore emulator"] = FirestoreStore(f"bench-{uuid.uuid4().hex[:8]}", emulator_host=emulator.host)
        except EmulatorMissing as reason:
            say(f"without Firestore: {reason}")
        yield found


def main() -> int:
    """Measure, print and save; answers with the exit status."""
    parser = argparse.ArgumentParser(prog="bench_scale", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--small", action="store_true", help="fewer machines: to see that it works")
    small = parser.parse_args().small
    machines, rounds, seconds = (300, 3, 1.0) if small else (10_000, 9, 10.0)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    taken: dict[str, list[Figure]] = collections.defaultdict(list)
    with stores(say) as found:
        for name, store in found.items():
            say(f"{name}: {machines:,} machines are written, then swept")
            taken["A sweep"] += sweeps(name, store, machines, rounds)
            say(f"{name}: heartbeats for {seconds:g} s")
            for threads in (1, 8):
                taken["Heartbeats"] += beats(name, store, machines, seconds, threads)
    for title, figures in taken.items():
        show(title, figures)
    every = [figure for figures in taken.values() for figure in figures]
    save(REPORT, every, machines=machines)
    conclude(REPORT, every, "both stores in one run")
    return 0


if __name__ == "__main__":
    sys.exit(main())
