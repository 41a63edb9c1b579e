"""What happens to our instances that tells something of their hosts: boots, proofs, lies, deaths, speeds. Pure."""

from __future__ import annotations

import enum

import msgspec

from dumont.domain import gpus
from dumont.domain.offers import Offer
from dumont.domain.records import Instance, InstanceState, Proof


class HostEventKind(enum.StrEnum):
    """What was seen of a host."""

    BOOTED = "booted"
    BOOT_FAILED = "boot_failed"
    PROVED = "proved"
    PROOF_FAILED = "proof_failed"
    LIED = "lied"
    SERVED = "served"
    DIED = "died"
    RESTORED = "restored"


class HostEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One thing seen. `key` is the same each time that the same thing is told, so that twice counts once.

    `seconds`: of a boot how long it took, of serving how long it lasted. `mbps`: what a restore reached. `reason` is
    a short code.
    """

    kind: HostEventKind
    key: str
    seconds: float = 0.0
    mbps: float = 0.0
    reason: str = ""


NOT_BOOTED = frozenset({"host_broken", "host_offline", "stopped", "boot_timeout", "vanished"})
"""Problems of an instance that never ran which are its host's doing; a lost race, or an offer gone, is not."""
NOT_PROVEN = NOT_BOOTED | {"ssh_dead", "proof_failed"}
DEATHS = NOT_BOOTED | {"lost", "ssh_dead"}
"""Problems of an instance that served: its host's, not a lost bid's or its user's."""

_ENDED = (InstanceState.RELEASING, InstanceState.GONE, InstanceState.LOST)


def events_between(before: Instance, after: Instance, now: float) -> tuple[HostEvent, ...]:
    """What one change of an instance tells of its host; to be noted in the transaction that writes the change."""
    if before.state in _ENDED or before.state is after.state:
        return ()
    events: list[HostEvent] = []

    def tell(kind: HostEventKind, *, seconds: float = 0.0, reason: str = "") -> None:
        events.append(HostEvent(kind=kind, key=f"{after.id}.{kind.value}", seconds=seconds, reason=reason))

    if before.state in (InstanceState.INTENDED, InstanceState.CREATED) and after.state in (
        InstanceState.BOOTED,
        InstanceState.PROVEN,
    ):
        began = after.created_at if after.created_at is not None else after.intended_at
        if after.turns and after.woken_at is not None:
            began = after.woken_at  # what it slept was no boot
        ended = after.booted_at if after.booted_at is not None else now
        tell(HostEventKind.BOOTED, seconds=max(0.0, ended - began))
    if after.state is InstanceState.PROVEN:
        tell(HostEventKind.PROVED)
    if after.state in _ENDED:
        reason = after.problem.code if after.problem is not None else ""
        if before.state is InstanceState.PROVEN:
            since = before.proven_at if before.proven_at is not None else now
            tell(HostEventKind.SERVED, seconds=max(0.0, now - since))
            if reason in DEATHS:
                tell(HostEventKind.DIED, reason=reason)
        elif before.state is InstanceState.BOOTED and reason in NOT_PROVEN:
            tell(HostEventKind.PROOF_FAILED, reason=reason)
            lie = lie_in(after.proof, after.offer, after.disk_gb) if after.proof is not None else ""
            if lie:
                tell(HostEventKind.LIED, reason=lie)
        elif reason in NOT_BOOTED and after.created_at is not None:
            tell(HostEventKind.BOOT_FAILED, reason=reason)
    return tuple(events)


VRAM_SHARE_MIN = 0.9  # as the proof has it: drivers report a little less than the data sheet
DISK_SHARE_MIN = 0.5  # the image itself lies on the rented disk


def lie_in(proof: Proof, offer: Offer, disk_gb: float) -> str:
    """Where a failed proof shows less than was offered: "gpu_count", "gpu_model", "vram", "disk"; "" where it does not.

    What could not be read is no lie: a broken driver is a broken host, which is another thing.
    """
    if proof.ok:
        return ""
    if proof.gpus:
        if len(proof.gpus) < offer.gpu_count:
            return "gpu_count"
        if not all(gpus.same_model(reading.model, offer.gpu) for reading in proof.gpus):
            return "gpu_model"
        floor_mib = (offer.vram_gib or 0.0) * 1024 * VRAM_SHARE_MIN
        if any(reading.vram_mib is not None and reading.vram_mib < floor_mib for reading in proof.gpus):
            return "vram"
    if proof.disk_free_gb is not None and proof.disk_free_gb < disk_gb * DISK_SHARE_MIN:
        return "disk"
    return ""


RESTORE_SECONDS_MIN = 5.0  # shorter ones measure our own set-up
LIE_SHARE = 0.1
LIE_MBPS_MAX = 500.0


def restored(key: str, offer: Offer, *, received_bytes: int, seconds: float) -> tuple[HostEvent, ...]:
    """A restore's speed, and a lie where it reached less than a tenth of what was offered. `key`: the operation's id.

    Offers above 500 Mbit/s are held to that: beyond it the object store or our own engine may be what limits.
    """
    if seconds < RESTORE_SECONDS_MIN or received_bytes <= 0:
        return ()
    mbps = received_bytes * 8 / 1e6 / seconds
    speed = HostEvent(kind=HostEventKind.RESTORED, key=f"{key}.restored", mbps=mbps)
    if mbps < min(offer.download_mbps or 0.0, LIE_MBPS_MAX) * LIE_SHARE:
        return (speed, HostEvent(kind=HostEventKind.LIED, key=f"{key}.lied", reason="bandwidth"))
    return (speed,)
