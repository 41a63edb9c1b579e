"""Ports that a deployment may do without: names in DNS, a schedule of sweeps that can be paused, a chat to tell, and
what carries webhooks out."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from dumont.domain.addresses import Target
from dumont.domain.messages import Message
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


class Notifier(Protocol):
    """A chat. Each call raises `NotTold` or `NotTellable`, and ends within 15 s."""

    edits: bool
    """Whether what was posted can be changed."""

    def post(self, message: Message, *, key: str) -> str:
        """Send it, and answer with what it can be edited by; `key` is put where `find` finds it. Never tried again
        inside: a second try may be a second message."""
        ...

    def edit(self, reference: str, message: Message) -> None:
        """Put it in the place of what was posted."""
        ...

    def find(self, key: str, since: float) -> str | None:
        """What was posted with this key since then; None where there is none, or it cannot be looked for."""
        ...


class Posted(msgspec.Struct, frozen=True, kw_only=True):
    """A receiver's answer: its status, and how long it asks us to wait, if it does."""

    status: int
    retry_after_seconds: float = 0.0


class Courier(Protocol):
    """What carries webhooks to addresses of the internet. Each call raises `NotDelivered`, and ends within 20 s."""

    def resolve(self, host: str) -> Sequence[str]:
        """All addresses that a name leads to now; an address leads to itself."""
        ...

    def post(self, target: Target, addresses: Sequence[str], headers: Mapping[str, str], body: bytes) -> Posted:
        """POST to a target at one of these addresses, whatever its name leads to by now, with TLS for its name. A
        redirect is an answer like any other: it is not followed. Never tried again inside."""
        ...


__all__ = ["ChargesShown", "Courier", "Dns", "DnsKind", "Notifier", "Posted", "ScheduleState", "SweepSchedule"]
