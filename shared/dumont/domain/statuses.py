"""A provider's word on an instance, in our words."""

from __future__ import annotations

import enum

import msgspec

from dumont.domain.records import SshEndpoint


class InstanceStatus(enum.StrEnum):
    """The states that matter to us. `provider.get` raises `NotFound` for an instance that is gone."""

    STARTING = "starting"  # created, pulling its image, booting: it may yet run
    RUNNING = "running"
    STOPPED = "stopped"  # not running, its disk billed: stopped, outbid, or exited
    BROKEN = "broken"  # it will never run: a broken host, a bad image
    OFFLINE = "offline"  # its host is lost to the provider
    UNKNOWN = "unknown"  # the provider does not say, or says what we do not know


class ProviderInstance(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An instance as its provider describes it; None is unknown."""

    id: str
    status: InstanceStatus
    label: str | None = None
    status_message: str = ""
    ssh: SshEndpoint | None = None
    started_at: float | None = None
    gpu: str | None = None
    machine_id: str | None = None
    host_id: str | None = None
    total_usd_per_hour: float | None = None
