"""Virtual time: one thread, one seed, one history. Tasks are greenlets that yield at every port call.

At a yield, others run; there a task may be delayed, frozen past its lease, or die for good. Nothing here knows what
the tasks do.
"""

from __future__ import annotations

import functools
import heapq
import math
import random
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

import greenlet

CALLS_PER_SECOND = 1 / 0.03
"""A port call takes 30 ms in the mean."""


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
        self._until = start
        self._running: Task | None = None
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
                self._running = task  # what it calls on its way out is to die, too
                runner.throw(Died)
        self._running = None
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
        task.resume = functools.partial(self._switch, runner, task)
        self.at(self.now, task.resume)

    @property
    def task(self) -> Task | None:
        """The invocation that runs now; None between them."""
        return self._running

    def pause(self, call: str, seconds: float | None = None) -> None:
        """A port call of the running task: time passes, others run. Outside a task nothing happens."""
        task = self._running
        if task is None:
            return
        if task.dead:
            raise Died
        task.calls += 1
        self.port_calls += 1
        if task.name != "sweep":
            self.counted_calls += 1
            self.counted.append((task.name, call))
            if self.counted_calls == self.kill_at:
                self._kill(task, call)
        if task.dies_at is not None and task.calls >= task.dies_at:
            self._kill(task, call)
        draw = self._random
        if seconds is None:
            seconds = -math.log(1.0 - draw()) / CALLS_PER_SECOND  # `expovariate`, without a call
            if self.freeze_share and draw() < self.freeze_share:
                frozen_seconds = self.rng.uniform(50.0, 200.0)
                seconds += frozen_seconds
                self.on_freeze(frozen_seconds)
        now = self.now
        when = now + seconds
        if when < now:
            when = now
        self._count = count = self._count + 1
        turn = (when, draw(), count, task.resume)
        heap = self._heap
        if when > self._until or (heap and heap[0] < turn):
            heapq.heappush(heap, turn)
            self._main.switch()
            return
        # Nobody else comes before: the event ends here and the task goes on with the next one, as if it had been away.
        self.events += 1
        try:
            self.after_event()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the code under test must not hear of it
            self._main.throw(error)
        if heap and heap[0] < turn:
            heapq.heappush(heap, turn)
            self._main.switch()
        else:
            self.now = when

    def run(self, until: float) -> None:
        """Let everything happen that falls before `until`."""
        heap = self._heap
        self._until = until
        while heap and heap[0][0] <= until:
            when, _, _, what = heapq.heappop(heap)
            if when > self.now:
                self.now = when
            what()
            self.events += 1
            self.after_event()
        self.now = max(self.now, until)

    def _kill(self, task: Task, call: str) -> None:
        task.dead = True
        task.trace.append(f"died before {call}")
        raise Died

    def _switch(self, runner: greenlet.greenlet, task: Task) -> None:
        if not runner.dead:
            self._running = task
            try:
                runner.switch()
            finally:
                self._running = None
        if runner.dead:
            self._tasks.pop(runner, None)


def close_all() -> None:
    """Close each hub that nobody has closed."""
    for hub in list(_OPEN):
        hub.close()
