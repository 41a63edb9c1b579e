"""What goes wrong on the market: on request, for the next so many times, or by chance, from the seed."""

from __future__ import annotations

import fnmatch
import random
from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

BOOT_KINDS = frozenset(
    {
        "boot_never_ends", "oci_error", "bad_image", "dies", "offline", "network_cut", "hung", "ssh_dead", "no_gpu",
        "wrong_gpu", "bid_lost",
    }
)  # fmt: skip
"""What befalls an instance. With `instance_id` or `label` at once (or `after_seconds` from now); otherwise, or with
`at_create`, decided at a create, and `after_seconds` then counts from when it runs.

- `dies`: the container exits; its processes are killed, and the market says so.
- `hung`: its processes are killed at once, and the market goes on saying "running"; after `seconds`, "offline".
- `network_cut`: nothing goes in or out, SSH neither answers nor refuses, the processes run on and the market goes on
  saying "running". After `seconds` everything passes again.
- `offline`: the same, but the market says "offline" meanwhile.
- `bid_lost`: stopped, as when somebody else bids more.
"""

CREATE_KINDS = frozenset({"offer_gone", "out_of_credit", "bid_too_low"})
"""How a create is refused. `bid_too_low` leaves a stopped instance that bills its disk."""

START_KINDS = frozenset({"resume_refused"})
"""A start that finds the GPU taken. It stays queued, and starts after `seconds` (never, if that is absent)."""

DESTROY_KINDS = frozenset({"destroy_lags"})
"""A destroy that is answered at once and done only after `seconds`; until then the instance is there, and bills."""

LIST_KINDS = frozenset({"list_truncated", "list_error_200"})
"""A listing that leaves out all but `keep` rows and does not say so, or an error under status 200."""

REQUEST_KINDS = frozenset({"rate_limited", "server_error", "lost_answer", "slow"})
"""What befalls any request, or those to one `endpoint`. `lost_answer`: the effect is done and no answer comes; the
connection is closed, or with `seconds` it is held open for so long first. `slow`: the answer comes after `seconds`."""

KINDS = BOOT_KINDS | CREATE_KINDS | START_KINDS | DESTROY_KINDS | LIST_KINDS | REQUEST_KINDS

Seconds = Annotated[float, Meta(ge=0)]


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One fault on request. It befalls the next `count` cases that match what it names (null: each one)."""

    kind: str
    count: Annotated[int, Meta(ge=1)] | None = 1
    ask_id: int | None = None
    machine_id: int | None = None
    instance_id: int | None = None
    label: str | None = None
    """Of the instance; "*" stands for anything: "*.trainer.2.*"."""
    at_create: bool = False
    """Wait for a create, though instances of that label are there."""
    outlives_destroy: bool = False
    """Of a cut network or a lost host: a destroy, which cannot reach the machine, ends the rental at once and the
    machine's processes only when its network is back."""
    endpoint: str | None = None
    """search, create, list, show, update, reboot, destroy, bid, logs, command, ssh, user or keys."""
    status: int | None = None
    after_seconds: Seconds | None = None
    seconds: Seconds | None = None
    retry_after_seconds: Seconds | None = None
    keep: Annotated[int, Meta(ge=0)] = 0
    gpu: str = "NVIDIA GeForce GTX 1080 Ti"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no such fault; there are: {', '.join(sorted(KINDS))}")

    def names(self, label: str | None) -> bool:
        """Whether an instance of that label is one that it may befall, as far as labels go."""
        return self.label is None or fnmatch.fnmatchcase(label or "", self.label)


class FaultRate(msgspec.Struct, frozen=True, kw_only=True):
    """A fault by chance: its probability in each case, and the range that its times are drawn from, in seconds."""

    kind: str
    probability: Annotated[float, Meta(ge=0, le=1)]
    after_seconds: tuple[float, float] = (30.0, 3600.0)
    seconds: tuple[float, float] | None = None
    endpoint: str | None = None
    status: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no such fault; there are: {', '.join(sorted(KINDS))}")

    def draw(self, rng: random.Random) -> Fault | None:
        """The fault, if chance has it so. It draws the same number of times either way: cases stay independent."""
        hit = rng.random() < self.probability
        after = rng.uniform(*self.after_seconds)
        seconds = rng.uniform(*self.seconds) if self.seconds else None
        if not hit:
            return None
        return Fault(kind=self.kind, after_seconds=after, seconds=seconds, endpoint=self.endpoint, status=self.status)


class Faults:
    """The faults on request that are still to befall, and the rates of those by chance."""

    def __init__(self, rates: Iterable[FaultRate] = ()) -> None:
        self.rates = tuple(rates)
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Let a fault wait for its case."""
        self._waiting.append(fault)

    def clear(self) -> None:
        """Forget the faults that wait. What has befallen stays."""
        self._waiting.clear()

    def waiting(self) -> list[Fault]:
        """The faults that wait."""
        return list(self._waiting)

    def take(
        self,
        kinds: frozenset[str],
        *,
        rng: random.Random,
        ask_id: int | None = None,
        machine_id: int | None = None,
        instance_id: int | None = None,
        label: str | None = None,
        endpoint: str | None = None,
    ) -> Fault | None:
        """The fault of these kinds that befalls this case, if one does; it is then used up once."""
        case = {"ask_id": ask_id, "machine_id": machine_id, "instance_id": instance_id, "endpoint": endpoint}
        for index, fault in enumerate(self._waiting):
            if fault.kind not in kinds:
                continue
            if any(getattr(fault, key) not in (None, value) for key, value in case.items()):
                continue
            if not fault.names(label):
                continue
            if fault.count is not None:
                fault.count -= 1
                if fault.count <= 0:
                    del self._waiting[index]
            return fault
        drawn = [
            rate.draw(rng)
            for rate in self.rates
            if rate.kind in kinds and (rate.endpoint is None or rate.endpoint == endpoint)
        ]
        return next((fault for fault in drawn if fault is not None), None)
