"""Ports that a deployment may do without: names in DNS, and a schedule of sweeps that can be paused."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from dumont.domain.reconciling import Charged
from dumont.domain.routing import DnsKind


class Dns(Protocol):
    """One zone of a DNS provider. Each call raises a `DnsError`, and ends within `CALL_SECONDS_MAX`.

    Names are absolute, values as in a zone file (RFC 1035; "0 0 2222 host.example" for SRV); trailing dots may be
    left out in both. Nothing but the named records is touched.
    """

    def upsert(self, name: str, kind: DnsKind, values: Sequence[str], ttl_seconds: int) -> None:
        """Make the name's records of this kind these and no others, in one step where the provider can.

        A name leads to one place: an A, AAAA or CNAME record replaces those of the other two. Twice is once.
        """
        ...

    def remove(self, name: str, kind: DnsKind) -> None:
        """Remove the name's records of this kind; of none, this succeeds."""
        ...


class ScheduleState(enum.StrEnum):
    """OTHER: the scheduler stopped it by itself, or says what we do not know."""

    RUNNING = "running"
    PAUSED = "paused"
    OTHER = "other"


class SweepSchedule(Protocol):
    """What starts `heartbeat-check` each minute. Each call raises a `ScheduleError`, and ends within 30 s."""

    def pause(self) -> None:
        """Start nothing more until `resume`; a sweep that has been started goes on. Twice is once."""
        ...

    def resume(self) -> None:
        """Start it each minute again. Twice is once."""
        ...

    def state(self) -> ScheduleState:
        """How it stands."""
        ...


@runtime_checkable
class ChargesShown(Protocol):
    """A provider that shows what it has charged. Raises a `ProviderError`, and ends within `CALL_SECONDS_MAX`."""

    def charges(self, from_time: float, to_time: float) -> list[Charged]:
        """What it has charged, in all, for each instance that existed within this time, from all pages. Raises rather
        than answer with a part. Charges may lag behind by hours.
        """
        ...


__all__ = ["ChargesShown", "Dns", "DnsKind", "ScheduleState", "SweepSchedule"]
