"""Virtual time: one thread, one seed, one history. Tasks are greenlets that yield at every port call.

At a yield, others run; there a task may be delayed, frozen past its lease, or die for good. Nothing here knows what
the tasks do.
"""

from __future__ import annotations

import functools
import heapq
import random
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

import greenlet


class Died(BaseException):
    """A process ended in the middle: no `except Exception` sees it, and no port answers it any more."""


_OPEN: weakref.WeakSet[Hub] = weakref.WeakSet()
"""Those whose tasks have not been ended."""


@dataclass
class Task:
    """One invocation. `dies_at` is the number of the port call at which it ends (None: it lives)."""

    name: str
    dies_at: int | None = None
    calls: int = 0
    dead: bool = False
    trace: list[str] = field(default_factory=list)
    claims_as: list[str] = field(default_factory=list)
    """By which ids it holds operations."""
    failures: int = 0
    """How often the store did not answer it."""
    resume: Callable[[], None] = lambda: None
    """What goes on with it: made once, since it is what most events are."""


class Hub:
    """The event loop of a history. `after_event` runs after each event: the place for invariants."""

    def __init__(self, seed: int, *, start: float = 1_750_000_000.0) -> None:
        self.rng = random.Random(f"hub/{seed}")
        self._random = self.rng.random
        self.now = start
        self.after_event: Callable[[], None] = lambda: None
        self.on_freeze: Callable[[float], None] = lambda _seconds: None
        self.freeze_share = 0.0
        """How often a task is suspended at a port call for longer than any lease."""
        self.kill_at: int | None = None
        """The port call, counted over all tasks but sweeps, at which whoever makes it dies."""
        self.counted_calls = 0
        self.counted: list[tuple[str, str]] = []
        """Each counted call: who made it, and which."""
        self.events = 0
        self.port_calls = 0
        self._heap: list[tuple[float, float, int, Callable[[], None]]] = []
        self._count = 0
        self._tasks: dict[greenlet.greenlet, Task] = {}
        self._main = greenlet.getcurrent()
        _OPEN.add(self)

    def close(self) -> None:
        """End what is still suspended. The collector does not see into a suspended greenlet's frames: each would hold
        its whole world for ever."""
        self._heap.clear()
        for runner, task in list(self._tasks.items()):
            task.dead = True
            if runner:
                runner.throw(Died)
        self._tasks.clear()
        _OPEN.discard(self)

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Have something happen; what falls on one moment happens in an order that the seed draws."""
        self._count += 1
        now = self.now
        heapq.heappush(self._heap, (when if when > now else now, self._random(), self._count, what))

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        """Have something happen so much later."""
        self.at(self.now + seconds, what)

    def spawn(
        self,
        name: str,
        work: Callable[[], None],
        *,
        dies_at: int | None = None,
        ended: Callable[[Exception | None], None] = lambda _error: None,
    ) -> None:
        """Start a task now. `ended` hears how it ended, unless it died: a dead process tells nobody."""
        task = Task(name, dies_at)

        def body() -> None:
            try:
                work()
            except Died:
                task.dead = True
            except Exception as error:  # noqa: BLE001 - as a platform does: whatever it is, the bus hears of it
                ended(error)
            else:
                ended(None)

        runner = greenlet.greenlet(body, parent=self._main)
        self._tasks[runner] = task
        task.resume = functools.partial(self._switch, runner)
        self.at(self.now, task.resume)

    @property
    def task(self) -> Task | None:
        """The invocation that runs now; None between them."""
        return self._tasks.get(greenlet.getcurrent())

    def pause(self, call: str, seconds: float | None = None) -> None:
        """A port call of the running task: time passes, others run. Outside a task nothing happens."""
        current = greenlet.getcurrent()
        task = self._tasks.get(current)
        if task is None:
            return
        if task.dead:
            raise Died
        task.calls += 1
        self.port_calls += 1
        if task.name != "sweep":
            self.counted_calls += 1
            self.counted.append((task.name, call))
        killed = task.name != "sweep" and self.counted_calls == self.kill_at
        if killed or (task.dies_at is not None and task.calls >= task.dies_at):
            task.dead = True
            task.trace.append(f"died before {call}")
            raise Died
        wait = seconds if seconds is not None else self.rng.expovariate(1 / 0.03)
        if seconds is None and self.freeze_share and self._random() < self.freeze_share:
            frozen_seconds = self.rng.uniform(50.0, 200.0)
            wait += frozen_seconds
            self.on_freeze(frozen_seconds)
        self.at(self.now + wait, task.resume)
        self._main.switch()

    def run(self, until: float) -> None:
        """Let everything happen that falls before `until`."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            when, _, _, what = heapq.heappop(heap)
            if when > self.now:
                self.now = when
            what()
            self.events += 1
            self.after_event()
        self.now = max(self.now, until)

    def _switch(self, runner: greenlet.greenlet) -> None:
        if not runner.dead:
            runner.switch()
        if runner.dead:
            self._tasks.pop(runner, None)


def close_all() -> None:
    """Close each hub that nobody has closed."""
    for hub in list(_OPEN):
        hub.close()
