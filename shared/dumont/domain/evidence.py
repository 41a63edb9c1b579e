"""What was seen of an instance whose heartbeat is missed: one look, from three sides."""

from __future__ import annotations

from typing import Literal

import msgspec

ProviderWord = Literal["running", "starting", "stopped", "broken", "offline", "gone", "unknown"]
"""The provider's word: an `InstanceStatus`, or "gone"; "unknown" also where it did not answer."""

ShellWord = Literal["answers", "refuses", "silent", "unknown"]
"""SSH: a session was opened; the host answered and did not let us in; nothing answered; it could not be tried."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One look. Times in seconds since the epoch."""

    at: float
    heartbeat_at: float | None = None
    """The last heartbeat that was received by then."""
    provider: ProviderWord = "unknown"
    shell: ShellWord = "unknown"
    notice: str = ""
    """What the provider told us by itself: "outbid", "contract_end"."""
    fleet_silent: int = 0
    fleet_heard: int = 0
    """How many machines missed their heartbeats then, and how many did not."""
    failovers_at: tuple[float, ...] = ()
    """When this machine was failed over within the last day."""
