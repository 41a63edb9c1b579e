"""What happened in a history, for a person to read: wishes, invocations and their deaths, effects, changes of state."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from dumont.domain.budgets import Budget
from dumont.domain.jobs import Job
from dumont.domain.records import Instance, Machine, Operation
from dumont.domain.snapshots import Snapshot
from dumont.local.market.api import Request
from tests.simulation.hub import Died
from tests.simulation.world import World

SHOWN: dict[str, tuple[type[Any], tuple[str, ...]]] = {
    Machine.collection: (Machine, ("state", "epoch", "instance_id", "spare_instance_id", "paused_instance_id")),
    Operation.collection: (Operation, ("state", "phase", "snapshot_id", "discard")),
    Instance.collection: (Instance, ("state", "provider_instance_id", "restored_snapshot_id")),
    Snapshot.collection: (Snapshot, ("state",)),
    Job.collection: (Job, ("state",)),
    Budget.collection: (Budget, ("reached_at",)),
}
"""Records by collection: the fields whose changes are told."""
NOISE = ("heartbeat", "sweep", "reconcile")
"""Invocations that are told of only when they die."""


class Line(NamedTuple):
    """Seconds since the history began, who, what."""

    at: float
    who: str
    what: str

    def __str__(self) -> str:
        return f"{self.at:9.1f}  {self.who:<34} {self.what}"


class Timeline:
    """Writes down what happens; `watch` is for `history.run`."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self._began = 0.0

    def watch(self, world: World) -> None:
        """Listen to a world, which goes on as it would have."""
        self._began = world.hub.now
        self._world = world
        world.hub.spawn = functools.partial(self._spawn, world.hub.spawn)  # type: ignore[method-assign]
        world.hub.on_freeze = functools.partial(self._froze, world.hub.on_freeze)
        world.api.handle = functools.partial(self._market, world.api.handle)  # type: ignore[method-assign]
        world.store.on_commit(self._committed)
        for what, start, seconds in world.outages.all():
            self.lines.append(Line(start - self._began, "outage", f"{what} is away for {seconds:.0f} s"))

    def told(self, most: int = 0, about: str = "") -> list[str]:
        """The lines in their order. Of more than `most`, those stay that name what `about` names, the last before the
        others."""
        lines = sorted((line for line in self.lines if line.at <= self._now()), key=lambda line: line.at)
        if not most or len(lines) <= most:
            return [str(line) for line in lines]
        names = {word.strip("',:()") for word in about.split()} & self._names()
        named = [i for i, line in enumerate(lines) if any(name in f"{line.who} {line.what}" for name in names)]
        kept = set(named[-(most - 1) :])
        for i in range(len(lines) - 1, -1, -1):
            if len(kept) >= most - 1:
                break
            kept.add(i)
        return [f"{len(lines) - len(kept)} lines are left out", *(str(lines[i]) for i in sorted(kept))]

    def _names(self) -> set[str]:
        quiet = self._world.store.quiet
        return {key for kind, _ in SHOWN.values() for key in quiet._collections.get(kind.collection, {})}

    def _now(self) -> float:
        return self._world.hub.now - self._began

    def _add(self, who: str, what: str) -> None:
        self.lines.append(Line(self._now(), who, what))

    def _spawn(self, real: Callable[..., None], name: str, work: Callable[[], None], **more: Any) -> None:
        quiet = name.startswith(NOISE)

        def told() -> None:
            began = self._now()
            if not quiet:
                self._add(name, "begins")
            try:
                work()
            except Died:
                self._add(name, f"dies, {self._now() - began:.1f} s after it began")
                raise
            except Exception as error:
                self._add(name, f"ends with {type(error).__name__}: {error}"[:140])
                raise
            if not quiet:
                self._add(name, "ends")

        real(name, told, **more)

    def _froze(self, real: Callable[[float], None], seconds: float) -> None:
        self._add("an invocation", f"is frozen for {seconds:.0f} s")
        real(seconds)

    def _market(self, real: Callable[..., Any], request: Request, now: float) -> Any:
        answer = real(request, now)
        if request.method != "GET":
            body = json.loads(request.body) if request.body else {}
            said = body.get("label") or body.get("state") or ""
            self._add("market", f"{request.method} {request.path} {said} → {answer.status}".replace("  ", " "))
        return answer

    def _committed(self, collection: str, before: Any, after: Any) -> None:
        if collection not in SHOWN:
            return
        fields = SHOWN[collection][1]
        if after is None:
            self._add(before.id, "is deleted")
            return
        changed = [f for f in fields if getattr(after, f) != getattr(before, f, None)]
        problem = getattr(after, "problem", None) if "state" in changed else None
        if changed:
            words = ", ".join(f"{f}={_plain(getattr(after, f))}" for f in changed)
            who = f"{after.kind} {after.machine} {after.id}" if isinstance(after, Operation) else after.id
            self._add(who, words + (f" ({problem.code})" if problem is not None else ""))


def _plain(value: object) -> str:
    return str(getattr(value, "value", value))
