"""The world around the operations: store, bus, market, machines, clock. The code under test is the real one.

The market is the simulated one, reached by the real Vast adapter through `wire`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dumont.adapters import encoding
from dumont.adapters.memory_store import MemoryStore
from dumont.adapters.store_rules import Key
from dumont.adapters.vast import Vast
from dumont.adapters.vast_read import ssh_of
from dumont.domain.errors import BusUnavailable, StoreUnavailable
from dumont.domain.records import Operation, SshEndpoint
from dumont.local.market.api import Api
from dumont.local.market.core import Market
from dumont.local.market.instance import Instance as MarketInstance
from dumont.local.market.lifecycle import Durations
from dumont.local.market.rows import instance_row
from dumont.operations.runner import run_operation
from dumont.operations.sweep import sweep_for
from dumont.operations.workflows import WORKFLOWS
from dumont.ports import EngineFiles, Ports, Transaction
from tests.simulation.agents import SECRET, SimAgents
from tests.simulation.broken import Broken
from tests.simulation.engine import SimBlobs, SimEngines
from tests.simulation.hub import Hub
from tests.simulation.leases import taken_from_its_holder
from tests.simulation.shell import OUR_KEY as OUR_KEY
from tests.simulation.shell import SimShell
from tests.simulation.use import Use
from tests.simulation.weather import Outages as Outages
from tests.simulation.weather import Weather as Weather
from tests.simulation.wire import MARKET_URL, MarketClient

if TYPE_CHECKING:
    from tests.simulation.days import SimSchedule

KEY = "k" * 64
UNWATCHED = frozenset({"heartbeats", "schedules", "prices"})
"""Collections that no invariant looks at."""
DEPLOYMENT = "sim"
_STORE_CALLS = {call: f"store.{call}" for call in ("get", "find", "commit")}


class SimClock:
    """The hub's time."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def now(self) -> float:
        return self._hub.now

    def sleep(self, seconds: float) -> None:
        self._hub.pause("sleep", seconds)


class SimIds:
    """Ids that the seed draws."""

    def __init__(self, seed: int, hub: Hub) -> None:
        self._rng = random.Random(f"ids/{seed}")
        self._hub = hub

    def new(self, prefix: str) -> str:
        made = f"{prefix}-{self._rng.getrandbits(64):016x}"
        if prefix == "inv" and (task := self._hub.task) is not None:
            task.claims_as.append(made)
        return made

    def random_bytes(self, count: int) -> bytes:
        # A proof writes a MiB; that it is random matters to hosts, of which none here guesses.
        return self._rng.randbytes(min(count, 64))


class _Noticed(MemoryStore):
    """Says when something was committed that an invariant is about: heartbeats, most of all commits, are not."""

    def __init__(self, pause: Callable[[str], None], committed: Callable[[], None]) -> None:
        super().__init__(pause=pause)
        self.committed = committed
        self.told: Callable[[str, Any, Any], None] | None = None
        self.rewrite: Callable[[Key, str | None], str | None] | None = None
        self.judge: Callable[[Any, Any], None] = lambda _before, _after: None
        """Given each operation that is written, as it was and as it is."""
        self.unread: set[Key] = set()
        """What was written over by a transaction that had not read it."""

    def _commit(self, versions: dict[Key, int], writes: dict[Key, Any]) -> bool:
        if self.rewrite is not None and self._current(versions):
            writes = {key: self.rewrite(key, text) for key, text in writes.items()}
        before = {
            key: self._collections.get(key[0], {}).get(key[1])
            for key in writes
            if self.told or key[0] == Operation.collection
        }
        if not super()._commit(versions, writes):
            return False
        for key, record in before.items():
            if key[0] == Operation.collection:
                self.judge(record, writes[key])
        if self.told is not None:
            for key, record in before.items():
                self.told(key[0], record, writes[key])
        self.unread |= {key for key in writes.keys() - versions.keys() if self._versions[key] > 1 and writes[key]}
        for collection, _ in writes:
            if collection not in UNWATCHED:
                self.committed()
                break
        return True

    def _current(self, versions: dict[Key, int]) -> bool:
        """Whether a commit of what was read so will pass: nobody runs between this and that."""
        return all(self._versions.get(key, 0) == version for key, version in versions.items())


class SimStore:
    """The memory store, which yields at each call, and now and then does not answer."""

    def __init__(self, hub: Hub, weather: Weather, outages: Outages, committed: Callable[[], None]) -> None:
        self._hub, self._weather, self._outages = hub, weather, outages.of("store")
        self._random = hub.rng.random
        self._in_task = _Noticed(self._pause, committed)
        self.quiet = MemoryStore()
        # One state, two doors: the world looks without time passing.
        self.quiet.__dict__.update(
            {k: v for k, v in self._in_task.__dict__.items() if k not in ("_pause", "committed", "told")}
        )

    def _pause(self, call: str) -> None:
        hub = self._hub
        hub.pause(_STORE_CALLS[call])
        if (
            self._outages and any(start <= hub.now < end for start, end in self._outages)
        ) or self._random() < self._weather.store_away:
            raise self._failed("the store does not answer")

    def get(self, kind: Any, record_id: str) -> Any:
        return self._in_task.get(kind, record_id)

    def find(self, kind: Any, query: Any) -> Any:
        return self._in_task.find(kind, query)

    @property
    def unread(self) -> set[Key]:
        """What was written over by a transaction that had not read it."""
        return self._in_task.unread

    @property
    def told(self) -> Callable[[str, Any, Any], None] | None:
        """Who is told of what is written."""
        return self._in_task.told

    def on_commit(self, told: Callable[[str, Any, Any], None]) -> None:
        """Tell of each record that is written: its collection, what it was, and what it is now."""
        self._in_task.told = told

    def on_operation(self, judge: Callable[[Any, Any], None]) -> None:
        """Have each operation that is written judged, as it was and as it is."""
        self._in_task.judge = judge

    def as_documents(self, rewrite: Callable[[Key, str | None], str | None]) -> None:
        """Keep records as JSON, each as `rewrite` makes it of what is to be committed; None: it is deleted."""
        for store in (self._in_task, self.quiet):
            store._serialise = True
        for records in self.quiet._collections.values():
            records.update({record_id: encoding.to_json(record) for record_id, record in records.items()})
        self._in_task.rewrite = rewrite

    def transact(self, work: Callable[[Transaction], Any]) -> Any:
        result = self._in_task.transact(work)
        # The commit is done; here its answer may be lost, or the process may die before it hears.
        self._hub.pause("store.committed", 0.0)
        if self._random() < self._weather.commit_unknown:
            raise self._failed("the commit's answer was lost")
        return result

    def _failed(self, why: str) -> StoreUnavailable:
        if (task := self._hub.task) is not None:
            task.failures += 1
        return StoreUnavailable(why)


class SimBus:
    """Delivers to workers: once, twice, late, or never; what fails is delivered again, a few times."""

    ATTEMPTS = 5

    def __init__(self, world: World) -> None:
        self._world = world

    def publish(self, topic: str, message: Mapping[str, str]) -> None:
        world = self._world
        world.hub.pause(f"bus.publish {topic}")
        rng, weather = world.hub.rng, world.weather
        if world.outages.away("bus", world.hub.now):
            raise BusUnavailable("the bus does not answer")
        if rng.random() < weather.message_lost:
            return
        for _ in range(2 if rng.random() < weather.message_twice else 1):
            delay = rng.uniform(30, 600) if rng.random() < weather.message_late else rng.expovariate(1 / 0.05)
            world.hub.after(delay, lambda: self._deliver(message["operation_id"], 1))

    def _deliver(self, operation_id: str, attempt: int) -> None:
        world = self._world

        def ended(error: Exception | None) -> None:
            world.let_go_of(operation_id)
            if error is not None and not world.expected(error):
                world.defects.append(error)
            if error is not None and attempt < self.ATTEMPTS:
                world.hub.after(0.5 * 2**attempt, lambda: self._deliver(operation_id, attempt + 1))

        world.hub.spawn(
            f"work {operation_id}",
            lambda: _run(world.ports, operation_id),
            dies_at=world.death(),
            ended=ended,
        )


def _run(ports: Ports, operation_id: str) -> None:
    run_operation(ports, operation_id, WORKFLOWS)


@dataclass
class World:
    """Everything of one history."""

    seed: int
    weather: Weather
    durations: Durations | None = None
    """How long boots, starts and stops take on the market; None: as usual."""
    hub: Hub = field(init=False)
    deaths: Callable[[], int | None] | None = None
    changed: bool = True
    """Whether anything had an effect since the invariants were last looked at."""
    market_changed: bool = True
    """Whether that was one on the market."""
    defects: list[Exception] = field(default_factory=list)
    files: dict[int, dict[str, bytes]] = field(default_factory=dict)
    saved: dict[str, dict[str, str]] = field(default_factory=dict)
    """Snapshot → what was in the workspace when its engine copied it."""
    orders: dict[int, str] = field(default_factory=dict)
    """Instance → what we last told its provider to do with it: "running" or "stopped"."""
    uses: dict[int, Use] | None = None
    """Of each instance whose agent was heard, whether it is used; None where nobody looks."""
    freezes: bool = False
    """Whether invocations are frozen for longer than their leases, now and then."""
    long_leases: bool = False
    """Whether workloads outlive their hosts' silence for long."""
    replaced: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Machine, and what a restore has just put something else in the place of."""
    schedule: SimSchedule | None = None
    """What starts the sweeps, where it can be paused."""

    def __post_init__(self) -> None:
        self.hub = Hub(self.seed)
        self.outages = Outages()
        self._endpoints: dict[int, SshEndpoint | None] = {}
        # Until its lease runs out, nobody can take the work of a frozen worker over: to the rest it is an outage.
        self.hub.on_freeze = lambda seconds: self.outages.add("worker", self.hub.now, seconds)
        self.market = Market(seed=self.seed, opened_at=self.hub.now, durations=self.durations)
        self.api = Api(self.market, [KEY])
        self.store = SimStore(self.hub, self.weather, self.outages, self._change)
        self.store.on_operation(self._judge_lease)
        clock = SimClock(self.hub)
        vast = Vast(KEY, MARKET_URL, clock=clock, client=MarketClient(self))
        shell = SimShell(self)
        self.blobs = SimBlobs(self)
        self.engines = SimEngines(self, self.blobs)
        self.ports = Ports(
            store=self.store,
            bus=SimBus(self),
            providers={"vast": vast},
            make_shell=lambda: shell,
            clock=clock,
            ids=SimIds(self.seed, self.hub),
            deployment=DEPLOYMENT,
            make_blobs=lambda: self.blobs,
            data_key=lambda machine: machine.encode().ljust(32, b"k"),
            engine=lambda: EngineFiles(program=b"engine", wheels=b"wheels"),
            public_url="http://functions",
            agent_secret=lambda: SECRET,
        )
        self.agents = SimAgents(self)

    def _change(self) -> None:
        self.changed = True

    def _judge_lease(self, before: Any, after: Any) -> None:
        broken = taken_from_its_holder(before, after, self.hub.task, self.hub.now)
        if broken is not None:
            self.defects.append(broken)

    def start_schedule(self, *, seconds: float = 55.0, every_seconds: float = 7.0) -> None:
        """Cloud Scheduler: a sweep is started each minute, and may die like any invocation. It looks as often as is
        said, for so long; deployed, every 3 s for nearly the minute."""

        def tick() -> None:
            if self.schedule is None or not self.schedule.paused:
                self.start_sweep(seconds=seconds, every_seconds=every_seconds)
            self.hub.after(60.0, tick)

        tick()
        self.agents.start()

    def start_sweep(self, *, seconds: float, every_seconds: float) -> None:
        """Cloud Scheduler calls the sweep, if it is not away."""
        if not self.outages.away("scheduler", self.hub.now):
            self.hub.spawn(
                "sweep",
                lambda: _sweep(self.ports, seconds, every_seconds),
                dies_at=self.death(),
                ended=lambda error: self._sweep_ended(error),
            )

    def _sweep_ended(self, error: Exception | None) -> None:
        if error is not None and not self.expected(error):
            self.defects.append(error)

    def death(self) -> int | None:
        """At which port call the next invocation dies."""
        if self.deaths is not None:
            return self.deaths()
        if self.hub.rng.random() < self.weather.dies:
            return self.hub.rng.randint(1, 40)
        return None

    def expected(self, error: Exception) -> bool:
        """Errors that the world itself caused; any other is a defect of the code under test."""
        from dumont.domain.errors import Contention, StoreError

        return isinstance(error, StoreError | Contention)

    def reachable(self, instance: MarketInstance) -> bool:
        """Whether an instance's SSH answers now."""
        return instance.exists(self.hub.now) and instance.ssh_works(self.hub.now)

    def at_endpoint(self, endpoint: SshEndpoint) -> MarketInstance | None:
        """The instance that the market says is there."""
        now, market = self.hub.now, self.market
        for instance in market.live(now):
            if not instance.phase(now).running:
                continue
            if instance.id not in self._endpoints:  # it stays the same for as long as there is an instance
                self._endpoints[instance.id] = ssh_of(instance_row(instance, now, market.opened_at))
            if self._endpoints[instance.id] == endpoint:
                return instance
        return None

    def whole(self, snapshot_id: str) -> dict[str, str]:
        """The files that a snapshot holds in truth: none, if the object store has not all of it as it was sent."""
        return self.saved.get(snapshot_id, {}) if self.blobs.is_whole(snapshot_id) else {}

    def use_of(self, instance: MarketInstance) -> Use | None:
        """Whether an instance is used, if this history has that."""
        if self.uses is None:
            return None
        if instance.id not in self.uses:
            self.uses[instance.id] = Use(self.seed, instance.id, self.hub.now)
        return self.uses[instance.id]

    def let_go_of(self, operation_id: str) -> None:
        """Whoever ends without dying gives its lease back: kept, it holds everybody off until it runs out. If the store
        failed it once it was answered when it tried again."""
        task, op = self.hub.task, self.store.quiet.get(Operation, operation_id)
        if task is not None and task.failures < 2 and op is not None and op.open and op.lease_owner in task.claims_as:
            self.defects.append(Broken(f"liveness: {op.lease_owner} has ended, and holds {op.kind} {op.id}"))

    def calm(self) -> None:
        """From now on nothing goes wrong any more."""
        for name in Weather.__dataclass_fields__:
            setattr(self.weather, name, 0.0)
        self.hub.freeze_share = 0.0
        self.market.faults.clear()
        self.market.faults.rates = ()
        self.deaths = lambda: None


def _sweep(ports: Ports, seconds: float, every_seconds: float) -> None:
    sweep_for(ports, seconds=seconds, every_seconds=every_seconds)
