"""What a user asks for when they name a machine: its GPU, its image, its workload, its policies."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from dumont.domain.offers import GpuName, OfferQuery, Positive, PositiveInt, Share

_HEALTH = r"^$|^port:\d{1,5}$|^http:\d{1,5}(/[!-~]*)?$|^command:.+$"

PublicKey = Annotated[str, Meta(min_length=16, max_length=4096)]
IdleSignal = Literal["gpu_use", "gpu_memory", "cpu", "network", "disk_writes", "ssh_sessions", "user_processes"]
"""What a heartbeat tells of use; `domain.idle` says how each is read."""
Percent = Annotated[float, Meta(ge=0, le=100)]
BytesPerSecond = Annotated[float, Meta(ge=0, le=1e12)]
ModelName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$")]
When = Annotated[str, Meta(min_length=1, max_length=120)]
"""A moment that comes again, as `domain.timetable` reads it: "weekdays 08:45", "daily 22:00", "45 8 * * 1-5"."""


class MachineSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a user asks for. The price counts GPU and disk together, before bandwidth."""

    gpu: GpuName | None = None
    gpu_count: PositiveInt = 1
    min_vram_gib: Annotated[float, Meta(ge=0, le=100_000)] | None = None
    max_price_usd_per_hour: Positive | None = None
    min_reliability: Share | None = 0.95
    min_download_mbps: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    min_cuda: Annotated[float, Meta(ge=0, le=1000)] | None = None
    region: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    verified_only: bool = True
    interruptible: bool = False
    disk_gb: Annotated[float, Meta(ge=8, le=10_000)] = 20.0
    image: Annotated[str, Meta(min_length=1, max_length=1024)] = "pytorch/pytorch:latest"
    workspace: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_./-]{1,256}$")] = "workspace"
    race_width: Annotated[int, Meta(ge=1, le=5)] = 3
    snapshot_every_minutes: Annotated[float, Meta(ge=1, le=100_000)] | None = None
    verify_every_days: Annotated[float, Meta(ge=0.01, le=3650)] | None = 7.0
    """Where snapshots are taken by themselves: how often the newest good one is read back whole; None: never."""
    keep_last: Annotated[int, Meta(ge=1, le=1000)] = 3
    """Retention: so many of the newest snapshots stay, and the newest of each of the last hours and days that have one.
    The newest good one stays whatever these say, and what `dumont snapshot keep` keeps."""
    keep_hourly: Annotated[int, Meta(ge=0, le=10_000)] = 24
    keep_daily: Annotated[int, Meta(ge=0, le=10_000)] = 7
    snapshot_md5: Literal["all", "small"] = "all"
    """Which files a snapshot has the MD5 of, beside their BLAKE3: all, or those up to 16 MiB. MD5 takes one core a file
    at 0.5 GB/s, and a large file that changed at all is hashed whole: it is most of a snapshot's time."""
    boot_timeout_seconds: Annotated[float, Meta(ge=1, le=7200)] = 600.0
    ssh_timeout_seconds: Annotated[float, Meta(ge=1, le=3600)] = 120.0
    """How long after the provider says "running" SSH may take; 12.4 s was seen usual, 47 s now and then."""
    job_hours: Annotated[float, Meta(gt=0, le=8760)] = 1.0
    budget_usd: Positive | None = None
    """A hard cap on what this machine may spend; when it is reached the machine is destroyed, workspace included."""
    run: Annotated[str, Meta(max_length=4096)] = ""
    """The workload: a command that the agent keeps running in the workspace, on whichever host serves."""
    restart: Literal["always", "on-failure", "never"] = "always"
    max_restarts: Annotated[int, Meta(ge=0, le=1000)] | None = None
    """How often one host starts it again by `restart`; None: without end."""
    health: Annotated[
        str, Meta(pattern=r"^$|^port:\d{1,5}$|^http:\d{1,5}(/[!-~]*)?$|^command:.+$", max_length=1024)
    ] = ""
    """How the workload's health is looked at: "port:8000", "http:8000/health" or "command:…"; "" is not at all."""
    heartbeat_seconds: Annotated[float, Meta(ge=0.2, le=60)] = 5.0
    fence_after_seconds: Annotated[float, Meta(ge=0, le=86400)] = 30.0
    """A host that hears nothing from us for so long stops its workload; a replacement serves no earlier than that after
    the old host's last word, unless the provider says that it does not run. 0: it never stops by itself, and a
    replacement serves only once the provider says so."""
    failover: Literal["auto", "off"] = "auto"
    stateless: bool = False
    """Nothing in the workspace is worth waiting for: a host that dies before the first snapshot is replaced empty."""
    spare: Literal["none", "stopped", "running"] = "none"
    """A second host, kept restored to the last snapshot: it takes over in seconds, and bills (stopped: its disk)."""
    spare_refresh_minutes: Annotated[float, Meta(ge=1, le=100_000)] = 60.0
    """A stopped spare is started, restored and stopped again (its GPU bills meanwhile) only once the newest snapshot is
    so much younger than what it has. A running one is refreshed after each snapshot."""
    max_failovers_per_day: Annotated[int, Meta(ge=0, le=1000)] = 24
    ssh_public_keys: Annotated[tuple[PublicKey, ...], Meta(max_length=8)] = ()
    idle_after_minutes: Annotated[float, Meta(gt=0, le=100_000)] | None = None
    """So long must it be idle, by all signals and without a doubt, to sleep by itself; 15 is usual, less than 3 takes a
    pause for an end. None: it never sleeps by itself."""
    idle_gpu_percent: Percent = 5.0
    idle_gpu_memory_mib: Annotated[float, Meta(ge=0, le=1e7)] = 16.0
    """A GPU whose used memory changes by more than this from one heartbeat to the next is in use."""
    idle_cpu_percent: Percent = 10.0
    idle_network_bytes_per_second: BytesPerSecond = 20_000.0
    """Both ways together. A heartbeat each 5 s is below 1,000."""
    idle_disk_bytes_per_second: BytesPerSecond = 200_000.0
    idle_user_processes: Annotated[int, Meta(ge=0, le=100_000)] = 0
    """So many processes besides those that ran before it served (the image's own) are not taken for use."""
    idle_ignore: Annotated[tuple[IdleSignal, ...], Meta(max_length=8)] = ()
    """Signals that do not count on this machine, because its host never tells them or its image never rests."""
    idle_workload_counts: bool = False
    """Whether the workload is use by running. A job's always is; a server's is not, or it would never sleep."""
    sleep_tier: Literal["auto", "pause", "hibernate"] = "auto"
    """How it sleeps by itself: stopped (its disk bills, and its GPU may be gone), released, or what costs least."""
    wake_wait_usd_per_hour: Annotated[float, Meta(ge=0, le=1e6)] = 1.0
    """What an hour of waiting for a wake is worth to whoever waits: weighed against what sleeping saves."""
    wake_at: Annotated[tuple[When, ...], Meta(max_length=16)] = ()
    sleep_at: Annotated[tuple[When, ...], Meta(max_length=16)] = ()
    time_zone: Annotated[str, Meta(min_length=1, max_length=64)] = "UTC"
    """The IANA zone of `wake_at` and `sleep_at`, such as Europe/Berlin."""
    models: Annotated[tuple[ModelName, ...], Meta(max_length=16)] = ()
    """The models that its workload serves in OpenAI's shape at `model_port`, by the names that callers use."""
    model_port: Annotated[int, Meta(ge=1, le=65535)] = 8000

    def query(self) -> OfferQuery:
        """The filters that this machine's offers must pass."""
        return OfferQuery(
            gpu=self.gpu,
            gpu_count=self.gpu_count,
            min_vram_gib=self.min_vram_gib,
            max_price_usd_per_hour=self.max_price_usd_per_hour,
            min_reliability=self.min_reliability,
            min_download_mbps=self.min_download_mbps,
            min_cuda=self.min_cuda,
            region=self.region,
            verified_only=self.verified_only,
            interruptible=self.interruptible,
            disk_gb=self.disk_gb,
            job_hours=self.job_hours,
            limit=200,
        )
