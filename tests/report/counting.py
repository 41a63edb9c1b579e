"""Ports that count what the published prices bill, and pass everything on as it came."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from dumont.domain.records import Record
from dumont.ports import Bus, Query, Store, Transaction
from tests.benchmarks import google_prices as prices
from tests.benchmarks.bench_control_plane import Use
from tests.simulation.hub import Hub

R = TypeVar("R", bound=Record)
T = TypeVar("T")
Bucket = Callable[[], Use]
"""Where what happens now is to be counted."""

FUNCTIONS = {"sweep": "heartbeat-check", "heartbeat": "heartbeat", "work": "worker"}
"""First word of a task's name → the function that it stands for; any other is a user's request."""
USERS = "requests of users"


class CountedStore:
    """Counts documents read: one a record, at least one a query. What is written is counted where it is committed."""

    def __init__(self, inner: Store, bucket: Bucket) -> None:
        self._inner, self._bucket = inner, bucket

    def get(self, kind: type[R], record_id: str) -> R | None:
        self._bucket().reads += 1
        return self._inner.get(kind, record_id)

    def find(self, kind: type[R], query: Query) -> list[R]:
        found = self._inner.find(kind, query)
        self._bucket().reads += max(1, len(found))
        return found

    def transact(self, work: Callable[[Transaction], T]) -> T:
        return self._inner.transact(lambda tx: work(_CountedTransaction(tx, self._bucket)))


class _CountedTransaction:
    def __init__(self, inner: Transaction, bucket: Bucket) -> None:
        self._inner, self._bucket = inner, bucket

    def get(self, kind: type[R], record_id: str) -> R | None:
        self._bucket().reads += 1
        return self._inner.get(kind, record_id)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class CountedBus:
    """Counts messages that were sent, those that the weather loses included: they are billed, too."""

    def __init__(self, inner: Bus, bucket: Bucket) -> None:
        self._inner, self._bucket = inner, bucket

    def publish(self, topic: str, message: Mapping[str, str]) -> None:
        self._bucket().messages += 1
        self._inner.publish(topic, message)


def count_invocations(hub: Hub, bucket: Bucket) -> None:
    """Count the tasks of a hub by function, and how long each lasts: at least what a request is billed for."""
    inner = hub.spawn

    def spawn(name: str, work: Callable[[], None], **more: Any) -> None:
        function = FUNCTIONS.get(name.split()[0], USERS)

        def timed() -> None:
            began = hub.now
            try:
                work()
            finally:
                use = bucket()
                use.requests[function] = use.requests.get(function, 0.0) + 1
                seconds = max(prices.REQUEST_SECONDS_LEAST, hub.now - began)
                use.seconds[function] = use.seconds.get(function, 0.0) + seconds

        inner(name, timed, **more)

    hub.spawn = spawn  # type: ignore[method-assign]
