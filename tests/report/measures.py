"""Watches a world of the simulation and writes down what the report is made of; the world goes on as it would have.

It draws nothing, pauses nothing and commits nothing. What it reads in the end is the truth, as the market has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from dumont.domain.reaping import held_by
from dumont.domain.records import Instance, InstanceState, Machine, MachineState, Operation, OperationKind
from dumont.local.market.instance import Instance as MarketInstance
from tests.benchmarks.bench_control_plane import Use
from tests.report.counting import CountedBus, CountedStore, count_invocations
from tests.simulation.world import World

BUSY, AT_REST = "busy", "at rest"


@dataclass
class Served:
    """A machine served on an instance (its label) from a moment on; `end` is None while it still does."""

    machine: str
    label: str
    start: float
    stateless: bool
    end: float | None = None


@dataclass
class Moved:
    """A failover that a silence began: when it was suspected, and when the machine's epoch was raised, if it was."""

    machine: str
    label: str
    suspected_at: float
    epoch: int
    fenced_at: float | None = None
    forced: bool = False
    agent_lived: bool = True
    """Whether the agent's process ran when the epoch was raised."""


@dataclass
class Spans:
    """When nobody wanted an instance: stretches, and since when that is so now."""

    since: float | None = None
    done: list[tuple[float, float]] = field(default_factory=list)

    def turn(self, wanted: bool, now: float) -> None:
        """From now on it is wanted, or not."""
        if wanted and self.since is not None:
            self.done.append((self.since, now))
            self.since = None
        elif not wanted and self.since is None:
            self.since = now


class Measures:
    """Of one world; `watch` is for `history.run`."""

    def __init__(self) -> None:
        self.served: list[Served] = []
        self.moved: dict[str, Moved] = {}
        self.unwanted: dict[str, Spans] = {}
        self.books: dict[str, Instance] = {}
        self.use: dict[str, Use] = {BUSY: Use(), AT_REST: Use()}
        self.spent_seconds: dict[str, float] = {BUSY: 0.0, AT_REST: 0.0}
        self._open: dict[str, Operation] = {}
        self._held: dict[str, frozenset[str]] = {}
        self._serving: dict[str, Served] = {}

    def watch(self, world: World) -> None:
        """Listen to a world, before or while things happen in it."""
        self.world = world
        self.began = self._mark = world.hub.now
        world.store.on_commit(_both(world.store.told, self._committed))
        world.ports = replace(
            world.ports,
            store=CountedStore(world.ports.store, self._bucket),
            bus=CountedBus(world.ports.bus, self._bucket),
        )
        count_invocations(world.hub, self._bucket)

    def count_from_now(self) -> None:
        """Forget what was counted: the time in which a fleet is rented is no part of its month."""
        self.began = self._mark = self.world.hub.now
        self.use = {BUSY: Use(), AT_REST: Use()}
        self.spent_seconds = {BUSY: 0.0, AT_REST: 0.0}

    def instance(self, label: str) -> MarketInstance | None:
        """What the market rented under a record's label."""
        record = self.books.get(label)
        if record is None or record.provider_instance_id is None:
            return None
        return next((i for i in self.world.market.ever() if str(i.id) == record.provider_instance_id), None)

    def settle(self) -> None:
        """Count time up to now."""
        now = self.world.hub.now
        self.spent_seconds[BUSY if self._open else AT_REST] += now - self._mark
        self._mark = now

    # --- What is committed ----------------------------------------------------------------------------------------

    def _bucket(self) -> Use:
        return self.use[BUSY if self._open else AT_REST]

    def _committed(self, _collection: str, before: Any, after: Any) -> None:
        use = self._bucket()
        if after is None:
            use.deletes += 1
        else:
            use.writes += 1
        record = after if after is not None else before
        if isinstance(record, Machine):
            self._machine(record, gone=after is None)
        elif isinstance(record, Operation):
            self._operation(record, gone=after is None)
        elif isinstance(record, Instance) and after is not None:
            self.books[record.id] = record
            self._judge(record.id)

    def _machine(self, machine: Machine, *, gone: bool) -> None:
        now = self.world.hub.now
        serves = machine.instance_id if machine.state is MachineState.RUNNING and not gone else None
        current = self._serving.get(machine.id)
        if current is not None and current.label != serves:
            current.end = now
            del self._serving[machine.id]
        if serves is not None and (current is None or current.label != serves):
            current = self._serving[machine.id] = Served(machine.id, serves, now, machine.spec.stateless)
            self.served.append(current)
        held = frozenset[str]() if gone else held_by(machine)
        changed = held ^ self._held.get(machine.id, frozenset())
        self._held[machine.id] = held
        for label in changed:
            self._judge(label)

    def _operation(self, op: Operation, *, gone: bool) -> None:
        now, was_open = self.world.hub.now, op.id in self._open
        if op.open and not gone:
            if not self._open:
                self.settle()
            self._open[op.id] = op
        elif was_open:
            if len(self._open) == 1:
                self.settle()
            del self._open[op.id]
        if was_open != (op.id in self._open):
            for label in [i.id for i in self.books.values() if i.operation_id == op.id]:
                self._judge(label)
        if op.kind is not OperationKind.FAILOVER or op.suspect_instance_id is None:
            return
        moved = self.moved.get(op.id)
        if moved is None:
            moved = self.moved[op.id] = Moved(op.machine, op.suspect_instance_id, now, op.epoch)
        moved.forced = moved.forced or op.forced
        if moved.fenced_at is None and op.epoch > moved.epoch:
            moved.fenced_at = now
            suspect = self.instance(op.suspect_instance_id)
            moved.agent_lived = suspect is not None and self.world.agents.lives(suspect.id)

    def _judge(self, label: str) -> None:
        """Somebody wants what a machine has, and what an open operation answers for and has not given up."""
        record = self.books.get(label)
        if record is None:
            return
        held = any(label in held for held in self._held.values())
        kept = record.open and record.state is not InstanceState.RELEASING
        self.unwanted.setdefault(label, Spans()).turn(
            held or (kept and record.operation_id in self._open), self.world.hub.now
        )


def _both(
    first: Callable[[str, Any, Any], None] | None, second: Callable[[str, Any, Any], None]
) -> Callable[[str, Any, Any], None]:
    def told(collection: str, before: Any, after: Any) -> None:
        if first is not None:
            first(collection, before, after)
        second(collection, before, after)

    return told
