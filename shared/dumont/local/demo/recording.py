"""What the demo saw, before anything is made of it. Times are seconds since the epoch; money is USD."""

from __future__ import annotations

import msgspec

from dumont.domain.offers import Offer
from dumont.domain.records import GpuReading, Instance, Proof


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of the main path: a step that the user waited for."""

    name: str
    started_at: float
    ended_at: float


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that the demo made sure of, and what it saw."""

    name: str
    ok: bool
    seen: str = ""


class MarketBill(msgspec.Struct, frozen=True, kw_only=True):
    """What the market says that one rental cost."""

    instance_id: str
    gpu_usd: float
    storage_usd: float

    @property
    def total_usd(self) -> float:
        """Both together."""
        return self.gpu_usd + self.storage_usd


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """One line on what was rented, or saved."""

    name: str
    value: str


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """The whole run. `spans` may overlap; `instances` are all rentals, the winner's among them.

    `started_at` to `ended_at` is the job, from the first search to the last proof that everything is gone;
    `demo_seconds` also counts starting and stopping the local cloud.
    """

    machine: str
    started_at: float
    ended_at: float
    demo_seconds: float
    time_scale: float
    spans: tuple[Span, ...]
    instances: tuple[Instance, ...]
    checks: tuple[Check, ...]
    winner_id: str | None = None
    proof: Proof | None = None
    gpus: tuple[GpuReading, ...] = ()
    bills: tuple[MarketBill, ...] = ()
    offers_found: int = 0
    output: tuple[str, ...] = ()
    """What the command on the machine wrote, line by line."""
    saved: tuple[Resource, ...] = ()
    """What was saved and restored: its bytes, and how fast."""
    moved: tuple[Resource, ...] = ()
    """The host's death, and how the machine came back."""
    slept: tuple[Resource, ...] = ()
    """Its sleep, and the request that woke it."""
    savings: tuple[Resource, ...] = ()
    """What was saved, each with its formula."""
    served_ids: tuple[str, ...] = ()
    """The rentals that backed the machine, one after the other."""

    @property
    def winner(self) -> Instance | None:
        """The rental that won the race, the last one if there were several."""
        return next((i for i in self.instances if i.id == self.winner_id), None)

    @property
    def offer(self) -> Offer | None:
        """The winner's offer."""
        return self.winner.offer if self.winner else None
