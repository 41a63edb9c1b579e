"""What sleeping and waking cost on one machine: prices, times, odds; each figure with where it is from. Pure."""

from __future__ import annotations

import msgspec

from dumont.domain.object_store_prices import STORAGE_USD_PER_GB_MONTH
from dumont.domain.offers import HOURS_PER_MONTH, Offer
from dumont.domain.specs import MachineSpec

GB = 1e9
SECONDS_PER_HOUR = 3600.0

ASSUMED_DISK_USD_PER_GB_MONTH = 0.20
"""Of an offer that states none: about what Vast.ai's hosts ask; unknown is not free."""
SNAPSHOT_SECONDS = 10.0
SNAPSHOT_BYTES_PER_SECOND = 60e6
RESTORE_BYTES_PER_SECOND = 150e6
"""The system before this one: 4.2 GB saved in 71 s, restored in 28 s."""
RESUME_SECONDS = 25.0
"""A stopped Vast.ai instance to SSH and nvidia-smi: 5–15 s, other runs 30–47 s."""
RESUME_GIVEN_UP_SECONDS = 60.0
"""`domain.failover.RESUME_SECONDS`: so long is a resume waited for before a race is begun."""
RESUME_ODDS = 0.8
"""That a stopped instance's GPU is still free: an assumption, until this machine's own resumes are counted."""
BOOT_SECONDS = 75.0
"""One rental from the market to its proof, 72.8 s boot measured; a race is often faster."""


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the arithmetic: what, how it is made up, and its value in one of the units."""

    what: str
    how: str
    usd: float | None = None
    usd_per_hour: float | None = None
    seconds: float | None = None
    times: float | None = None


class Tariff(msgspec.Struct, frozen=True, kw_only=True):
    """What the tiers cost. Rates are per hour of being in a state; `…_seconds` are how long one waits.

    `upload_usd` and `download_usd` are for the snapshot's way out and the restore's way in; `resume_odds` is how likely
    a stopped instance starts again.
    """

    gpu_usd_per_hour: float
    disk_usd_per_hour: float
    kept_usd_per_hour: float = 0.0
    snapshot_seconds: float = SNAPSHOT_SECONDS
    resume_seconds: float = RESUME_SECONDS
    resume_given_up_seconds: float = RESUME_GIVEN_UP_SECONDS
    resume_odds: float = RESUME_ODDS
    wake_seconds: float = BOOT_SECONDS
    upload_usd: float = 0.0
    download_usd: float = 0.0
    waiting_usd_per_hour: float = 0.0
    may_pause: bool = True

    @property
    def awake_usd_per_hour(self) -> float:
        """GPU and disk."""
        return self.gpu_usd_per_hour + self.disk_usd_per_hour

    @property
    def paused_usd_per_hour(self) -> float:
        """The stopped instance's disk, and the snapshot that was taken before."""
        return self.disk_usd_per_hour + self.kept_usd_per_hour

    @property
    def hibernated_usd_per_hour(self) -> float:
        """The snapshot alone."""
        return self.kept_usd_per_hour

    @property
    def snapshot_usd(self) -> float:
        """Saving all first: the GPU bills meanwhile, and nobody waits."""
        return self.snapshot_seconds * self.awake_usd_per_hour / SECONDS_PER_HOUR + self.upload_usd

    @property
    def waking_usd_per_second(self) -> float:
        """While a machine wakes it bills, and somebody waits."""
        return (self.awake_usd_per_hour + self.waiting_usd_per_hour) / SECONDS_PER_HOUR

    @property
    def wake_usd(self) -> float:
        """Another host: boot, proof, restore."""
        return self.wake_seconds * self.waking_usd_per_second + self.download_usd

    @property
    def resume_usd(self) -> float:
        """Starting the stopped one, or, where its GPU is gone, waiting in vain and then another host."""
        in_vain = self.resume_given_up_seconds * self.waiting_usd_per_hour / SECONDS_PER_HOUR + self.wake_usd
        resumed = self.resume_seconds * self.waking_usd_per_second
        return self.resume_odds * resumed + (1 - self.resume_odds) * in_vain

    @property
    def pause_usd(self) -> float:
        """To pause and come back."""
        return self.snapshot_usd + self.resume_usd

    @property
    def hibernate_usd(self) -> float:
        """To hibernate and come back."""
        return self.snapshot_usd + self.wake_usd

    def rows(self) -> tuple[Row, ...]:
        """The arithmetic so far."""
        gpu, disk, kept = self.gpu_usd_per_hour, self.disk_usd_per_hour, self.kept_usd_per_hour
        odds = f"{self.resume_odds:.0%}"
        return (
            Row(what="awake", how=f"GPU ${gpu:.4f} + disk ${disk:.4f}", usd_per_hour=self.awake_usd_per_hour),
            Row(what="paused", how=f"disk ${disk:.4f} + snapshot ${kept:.4f}", usd_per_hour=self.paused_usd_per_hour),
            Row(what="hibernated", how=f"snapshot ${kept:.4f}", usd_per_hour=self.hibernated_usd_per_hour),
            Row(
                what="to save",
                how=f"{self.snapshot_seconds:.0f} s awake + upload ${self.upload_usd:.4f}",
                usd=self.snapshot_usd,
            ),
            Row(
                what="to wake elsewhere",
                how=f"{self.wake_seconds:.0f} s awake and waited for at ${self.waiting_usd_per_hour:.2f}/h "
                f"+ download ${self.download_usd:.4f}",
                usd=self.wake_usd,
            ),
            Row(
                what="to resume",
                how=f"{odds}: {self.resume_seconds:.0f} s; else {self.resume_given_up_seconds:.0f} s in vain, "
                "then elsewhere",
                usd=self.resume_usd,
            ),
            Row(what="a pause", how="to save + to resume", usd=self.pause_usd if self.may_pause else None),
            Row(what="a hibernation", how="to save + to wake elsewhere", usd=self.hibernate_usd),
        )


def tariff_of(
    offer: Offer,
    spec: MachineSpec,
    *,
    workspace_bytes: float = 0.0,
    changed_bytes: float | None = None,
    kept_bytes: float | None = None,
    resume_odds: float | None = None,
    wake_seconds: float | None = None,
) -> Tariff:
    """The tariff of a machine on its present host. `workspace_bytes` are restored at a wake, `changed_bytes` (None: all
    of it) saved before a sleep, `kept_bytes` (None: the workspace's) lie in the object store. `wake_seconds` as this
    machine's own wakes took, without the restore.
    """
    changed = workspace_bytes if changed_bytes is None else changed_bytes
    kept_gb = (workspace_bytes if kept_bytes is None else kept_bytes) / GB
    disk_price = offer.storage_usd_per_gb_hour
    if disk_price is None:
        disk_price = ASSUMED_DISK_USD_PER_GB_MONTH / HOURS_PER_MONTH
    boot = BOOT_SECONDS if wake_seconds is None else wake_seconds
    return Tariff(
        gpu_usd_per_hour=offer.gpu_usd_per_hour,
        disk_usd_per_hour=spec.disk_gb * disk_price,
        kept_usd_per_hour=kept_gb * STORAGE_USD_PER_GB_MONTH / HOURS_PER_MONTH,
        snapshot_seconds=SNAPSHOT_SECONDS + changed / SNAPSHOT_BYTES_PER_SECOND,
        resume_odds=RESUME_ODDS if resume_odds is None else resume_odds,
        wake_seconds=boot + workspace_bytes / RESTORE_BYTES_PER_SECOND,
        upload_usd=changed / GB * (offer.upload_usd_per_gb or 0.0),
        download_usd=workspace_bytes / GB * (offer.download_usd_per_gb or 0.0),
        waiting_usd_per_hour=spec.wake_wait_usd_per_hour,
    )
