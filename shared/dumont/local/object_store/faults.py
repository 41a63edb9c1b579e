"""What goes wrong on request, and how slow the line is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

OPERATIONS = (
    *("upload", "start", "upload_part", "finish", "cancel", "list_parts"),
    *("download", "head", "list", "hide", "delete", "authorize", "upload_url", "bucket", "key"),
)
"""The names of what both APIs can be asked for, in faults and in counts. `bucket` and `key` are all calls on them."""

_SLICE_SECONDS = 0.02
_SLICE_BYTES_MIN, _SLICE_BYTES_MAX = 4096, 1 << 20
_DEBT_SECONDS_MIN = 0.002

AtLeastOne = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[float, Meta(ge=0)]


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One fault. It befalls each `every`-th request that matches, `count` times (null: without end).

    - `unavailable`: `status` (503) before anything is done
    - `error_after`: the request is done, and answered with `status`
    - `reset`: the connection is reset after `at_byte` bytes of the content, sent or received; with nothing to send or
      receive, once the request is done
    - `damage`: the byte of the object at `at_byte` (negative: from its end) is read with one bit flipped
    - `lost`: the object is not there: not to be read nor, unless `listed`, listed. It has no `count`: it stays until
      the faults are cleared
    """

    kind: Literal["unavailable", "error_after", "reset", "damage", "lost"]
    operation: str | None = None
    name_prefix: str | None = None
    every: AtLeastOne = 1
    count: AtLeastOne | None = 1
    status: Annotated[int, Meta(ge=400, le=599)] = 503
    retry_after_seconds: NotNegative | None = None
    at_byte: int = 0
    listed: bool = False
    seen: int = 0
    """How many requests matched so far; the store counts."""

    def __post_init__(self) -> None:
        if self.operation is not None and self.operation not in OPERATIONS:
            raise ValueError(f"no such operation; there are: {', '.join(OPERATIONS)}")

    def matches(self, operation: str, name: str | None) -> bool:
        """Whether it may befall a request of that kind, for an object of that name."""
        if self.operation not in (None, operation):
            return False
        return self.name_prefix is None or (name is not None and name.startswith(self.name_prefix))


class Faults:
    """The faults that wait for their case."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Let a fault wait."""
        with self._lock:
            self._waiting.append(fault)

    def clear(self) -> None:
        """Forget them all."""
        with self._lock:
            self._waiting.clear()

    def waiting(self) -> list[Fault]:
        """Those that wait, with what they have counted."""
        with self._lock:
            return [msgspec.structs.replace(fault) for fault in self._waiting]

    def take(
        self, kind: str, operation: str, name: str | None, fits: Callable[[Fault], bool] | None = None
    ) -> Fault | None:
        """The fault of this kind that befalls this request, if one does; it is then used up once."""
        with self._lock:
            for fault in self._waiting:
                if fault.kind != kind or not fault.matches(operation, name) or (fits and not fits(fault)):
                    continue
                fault.seen += 1
                if fault.seen % fault.every:
                    continue
                if fault.count is not None:
                    fault.count -= 1
                    if not fault.count:
                        self._waiting.remove(fault)
                        return msgspec.structs.replace(fault, count=1)
                return msgspec.structs.replace(fault)
        return None

    def is_lost(self, name: str, *, listing: bool = False) -> bool:
        """Whether an object is to be taken for lost, when it is read or listed."""
        operation = "list" if listing else "download"
        with self._lock:
            return any(
                fault.kind == "lost" and not (listing and fault.listed) and fault.matches(operation, name)
                for fault in self._waiting
            )


class Pace(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """How slow the line is. None: as fast as it goes. One stream is one request's or one answer's content."""

    stream_megabytes_per_second: Annotated[float, Meta(gt=0)] | None = None
    total_megabytes_per_second: Annotated[float, Meta(gt=0)] | None = None
    first_byte_seconds: NotNegative = 0.0


class Line:
    """The line that all content goes over, in both directions, and its pace."""

    def __init__(self, wait: Callable[[float], object]) -> None:
        """`wait` sleeps, and less long if the server closes."""
        self.pace = Pace()
        self.wait = wait
        self._lock = threading.Lock()
        self._total_free_at = 0.0

    def stream(self) -> Stream:
        """A new stream, at the pace of now."""
        return Stream(self, self.pace)

    def spend_of_total(self, count: int, rate: float, now: float) -> float:
        """When the line has carried so many bytes more."""
        with self._lock:
            self._total_free_at = max(self._total_free_at, now) + count / rate
            return self._total_free_at


class Stream:
    """One content on its way."""

    def __init__(self, line: Line, pace: Pace) -> None:
        self._line = line
        self._own = None if pace.stream_megabytes_per_second is None else pace.stream_megabytes_per_second * 1e6
        self._total = None if pace.total_megabytes_per_second is None else pace.total_megabytes_per_second * 1e6
        self._free_at = 0.0
        rates = [rate for rate in (self._own, self._total) if rate is not None]
        self.is_held_back = bool(rates)
        small = int(min(rates, default=0.0) * _SLICE_SECONDS)
        self.slice_bytes = min(max(small, _SLICE_BYTES_MIN), _SLICE_BYTES_MAX) if rates else _SLICE_BYTES_MAX
        """How much to move at once, so that a slow line flows rather than drips."""

    def spend(self, count: int) -> None:
        """Wait until so many bytes have had their time."""
        if not self.is_held_back or not count:
            return
        now = time.monotonic()
        until = now
        if self._own is not None:
            self._free_at = max(self._free_at, now) + count / self._own
            until = self._free_at
        if self._total is not None:
            until = max(until, self._line.spend_of_total(count, self._total, now))
        if until - now > _DEBT_SECONDS_MIN:
            self._line.wait(until - now)
