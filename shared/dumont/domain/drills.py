"""What a rehearsal showed: how long a real failover would have taken, and what it would have cost. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from dumont.domain import costs, detection
from dumont.domain.heartbeats import missed_after_seconds
from dumont.domain.records import Instance, MachineSpec, Operation

SWEEP_SECONDS = 3.0
"""Between two looks for missed heartbeats, as deployed."""
SHELL_SECONDS = 3.0
LEASE_MARGIN_SECONDS = 3.0


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds and USD of a cold failover begun now. All but detection, confirmation and lease were measured.

    `detect`: from a host's death until its silence is looked into, on average. `confirm`: where its provider still
    says "running", so that SSH must fail twice. `ready`: from the fence until a host had the files, each byte read
    back. `lease`: what the replacement waits at most, for a host that is only cut off; none where its provider says
    that it does not run. `serves`: all together, from the death until the machine serves again; `serves_at_most` with
    the lease. `cost_usd`: of all rentals of the race until then.
    """

    detect_seconds: float
    confirm_seconds: float
    ready_seconds: float
    lease_seconds: float
    serves_seconds: float
    serves_at_most_seconds: float
    cost_usd: float
    byte_for_byte: bool = False
    """Whether every file was read back from the new host's disk and is as its manifest says."""


def rehearsal(
    op: Operation, spec: MachineSpec, winner: Instance, instances: Sequence[Instance], now: float
) -> Rehearsal:
    """What a rehearsal comes to, at the moment from which its winner would serve."""
    detect = spec.heartbeat_seconds / 2 + (missed_after_seconds(spec.heartbeat_seconds) - spec.heartbeat_seconds)
    detect += SWEEP_SECONDS / 2
    confirm = detection.SHELL_TRIES * SHELL_SECONDS + (detection.SHELL_TRIES - 1) * detection.LOOK_AGAIN_SECONDS
    ready = now - op.created_at
    heard_before = spec.heartbeat_seconds / 2
    lease_ends = spec.fence_after_seconds + LEASE_MARGIN_SECONDS - heard_before if spec.run else 0.0
    lease = max(0.0, lease_ends - (detect + confirm + ready)) if spec.fence_after_seconds > 0 else 0.0
    serves = detect + confirm + ready
    return Rehearsal(
        detect_seconds=round(detect, 3),
        confirm_seconds=round(confirm, 3),
        ready_seconds=round(ready, 3),
        lease_seconds=round(lease, 3),
        serves_seconds=round(serves, 3),
        serves_at_most_seconds=round(serves + lease, 3),
        cost_usd=round(costs.total([i for i in instances if i.rented_by == op.id], now).total_usd, 6),
        byte_for_byte=op.snapshot_id is not None and winner.restored_snapshot_id == op.snapshot_id,
    )
