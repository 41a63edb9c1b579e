"""Ports for tests that need a store and a clock, and nothing of the world."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from dumont.domain.errors import BusUnavailable, ShellUnreachable
from dumont.ports import Ports, Shell, Store, Transaction

T = TypeVar("T")


class ManualClock:
    """A clock that a test turns."""

    def __init__(self, now: float) -> None:
        self.moment = now

    def now(self) -> float:
        return self.moment

    def sleep(self, seconds: float) -> None:
        self.moment += seconds


class CountedIds:
    """Identifiers 1, 2, 3, …"""

    def __init__(self) -> None:
        self._count = 0

    def new(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}-{self._count}"

    def random_bytes(self, count: int) -> bytes:
        return bytes(count)


class FrozenBefore:
    """A store whose client is frozen before a transaction, its first if not another, while something happens."""

    def __init__(self, inner: Store, meanwhile: Callable[[], object], *, after: int = 0) -> None:
        self._inner, self._meanwhile, self._after = inner, meanwhile, after
        self.get, self.find = inner.get, inner.find

    def transact(self, work: Callable[[Transaction], T]) -> T:
        if self._after == 0:
            self._meanwhile()
        self._after -= 1
        return self._inner.transact(work)


class NoBus:
    """Publishes nothing."""

    def publish(self, topic: str, message: Mapping[str, str]) -> None:
        raise BusUnavailable(f"no bus here for {topic}: {dict(message)}")


def _no_shell() -> Shell:
    raise ShellUnreachable("no shell here")


def make_ports(store: Store, clock: ManualClock) -> Ports:
    return Ports(
        store=store, bus=NoBus(), providers={}, make_shell=_no_shell, clock=clock, ids=CountedIds(), deployment="main"
    )
