"""The turns of an instance's life, as its bill sees them: when it began to boot, run, stop; and how sure we are."""

from __future__ import annotations

import enum

import msgspec


class Billed(enum.StrEnum):
    """What bills: the GPU only while RUNNING, the disk in every state but OFFLINE (Vast.ai; reference, billing)."""

    BOOTING = "booting"
    RUNNING = "running"
    STOPPED = "stopped"  # by its provider, or by itself: it may run again without our asking
    PAUSED = "paused"  # by us, and its provider said so: it runs again only if we start it
    OFFLINE = "offline"  # its host is lost to the provider, which bills nothing meanwhile


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """From about `at` on it was in this state: not yet at `after`, already at `seen_at`; nobody says when."""

    state: Billed
    after: float
    seen_at: float

    @property
    def at(self) -> float:
        """Half-way between the two: over many turns the errors cancel."""
        return (self.after + self.seen_at) / 2


class Traffic(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Bytes over a host's network, as its agent's readings add up to; and up to when."""

    received_bytes: float = 0.0
    sent_bytes: float = 0.0
    at: float = 0.0
