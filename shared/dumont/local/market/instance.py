"""A rented instance, as the market keeps it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dumont.local.market.catalogue import Ask
from dumont.local.market.lifecycle import OFFLINE, Phase, Timeline
from dumont.local.market.refusals import invalid_args

DISK_GB_LEAST = 8
LABEL_LENGTH_MOST = 256
IMAGE_LENGTH_MOST = 1024
SCRIPT_LENGTH_MOST = 4096
ENVIRONMENT_LENGTH_MOST = 32768
PORTS_MOST = 64


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a create asks for, checked."""

    image: str
    disk_gb: float
    label: str | None
    env: Mapping[str, str]
    """Variables, and flags such as "-p 8080:8080" with the value "1"."""
    onstart: str
    args: tuple[str, ...]
    runtype: str
    bid_usd_per_hour: float | None
    stopped: bool

    @property
    def variables(self) -> dict[str, str]:
        """Of `env`, the environment variables."""
        return {name: value for name, value in self.env.items() if not name.startswith("-")}

    @property
    def ports(self) -> list[str]:
        """Of `env`, the ports to map, as "8080/tcp"."""
        found = []
        for flag in self.env:
            if flag.startswith("-p "):
                inside = flag.removeprefix("-p ").split(":")[-1].strip()
                found.append(inside if "/" in inside else f"{inside}/tcp")
        return found


def read_order(body: Mapping[str, Any], ask: Ask) -> Order:
    """Check a create's body by Vast.ai's limits. Raises `Refused` (400)."""
    image = body.get("image") or ("" if not body.get("template_hash_id") else "vastai/base-image")
    if not isinstance(image, str) or not image or len(image) > IMAGE_LENGTH_MOST:
        raise invalid_args(f"'image' is required and has at most {IMAGE_LENGTH_MOST} characters")
    disk_gb = _number(body.get("disk", 10), "disk")
    if disk_gb < DISK_GB_LEAST or disk_gb > ask.disk_gb:
        raise invalid_args(f"'disk' must be {DISK_GB_LEAST} to {ask.disk_gb} GB")
    label = body.get("label")
    if label is not None and (not isinstance(label, str) or len(label) > LABEL_LENGTH_MOST):
        raise invalid_args(f"'label' has at most {LABEL_LENGTH_MOST} characters")
    env = _environment(body.get("env") or {})
    onstart, args = body.get("onstart") or "", tuple(str(arg) for arg in body.get("args") or ())
    if len(onstart) + sum(map(len, args)) > SCRIPT_LENGTH_MOST:
        raise invalid_args(f"'onstart' and 'args' together have at most {SCRIPT_LENGTH_MOST} characters")
    price = body.get("price")
    bid = None if price is None else _number(price, "price")
    if bid is not None and not 0.001 <= bid <= 128.0:
        raise invalid_args("'price' must be 0.001 to 128")
    order = Order(
        image=image,
        disk_gb=disk_gb,
        label=label,
        env=env,
        onstart=onstart,
        args=args,
        runtype=str(body.get("runtype") or ("args" if args else "ssh")),
        bid_usd_per_hour=bid,
        stopped=body.get("target_state") == "stopped",
    )
    if len(order.ports) > PORTS_MOST:
        raise invalid_args(f"at most {PORTS_MOST} ports can be mapped")
    return order


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise invalid_args(f"'{name}' must be a number")
    try:
        return float(value)
    except ValueError:
        raise invalid_args(f"'{name}' must be a number") from None


def _from_flags(words: list[str]) -> dict[str, str]:
    found = {}
    for flag, value in zip(words[::2], words[1::2], strict=False):
        if flag in ("-e", "--env"):
            name, _, content = value.partition("=")
            found[name] = content
        else:
            found[f"{flag} {value}"] = "1"
    return found


def _environment(env: Any) -> dict[str, str]:
    if isinstance(env, str):  # docker's flags, as the docs have them: "-e A=1 -p 8080:8080"
        env = _from_flags(shlex.split(env))
    if not isinstance(env, Mapping):
        raise invalid_args("'env' must be an object")
    pairs_of_text = {str(name): str(value) for name, value in env.items()}
    if sum(len(name) + len(value) for name, value in pairs_of_text.items()) > ENVIRONMENT_LENGTH_MOST:
        raise invalid_args(f"'env' has at most {ENVIRONMENT_LENGTH_MOST} characters")
    return pairs_of_text


@dataclass(kw_only=True)
class Instance:
    """One rental, from its creation on. Times are seconds since the epoch; money is USD."""

    id: int
    ask: Ask
    order: Order
    label: str | None
    created_at: float
    timeline: Timeline
    container_key: str
    """What `CONTAINER_API_KEY` holds inside: it may start, stop and destroy this instance alone."""
    gpu_usd_per_hour: float
    bid_usd_per_hour: float | None = None
    keys: dict[int, str] = field(default_factory=dict)
    """The SSH keys that are attached, by their ids."""
    endpoint: tuple[str, int] | None = None
    """Where its SSH server answers, once somebody has said so."""
    nowhere: tuple[str, int] | None = None
    """An address that looks like one, for as long as there is no other."""
    ssh_dead_from: float | None = None
    no_gpu_from: float | None = None
    shown_gpu: str | None = None
    """The GPU that nvidia-smi shows, where it is not the one that was offered."""
    cuts: list[tuple[float, float]] = field(default_factory=list)
    """From when to when its network is cut, beside the times in which its host is offline."""
    kills: list[float] = field(default_factory=list)
    """When its processes ended though the market did not end them. The next start brings them back."""
    outlives_destroy: bool = False
    """Whether a destroy ends its processes only when its network works."""
    destroyed_at: float | None = None
    settled_until: float = 0.0
    gpu_usd: float = 0.0
    storage_usd: float = 0.0
    gpu_seconds: float = 0.0

    @property
    def storage_usd_per_hour(self) -> float:
        """What its disk bills."""
        return self.ask.storage_usd_per_hour(self.order.disk_gb)

    @property
    def interruptible(self) -> bool:
        """Whether it was rented with a bid."""
        return self.bid_usd_per_hour is not None

    def phase(self, now: float) -> Phase:
        """What Vast.ai says of it now."""
        return self.timeline.at(now)

    def exists(self, now: float) -> bool:
        """Whether it is there at a moment: created, and not destroyed yet."""
        return self.created_at <= now and (self.destroyed_at is None or now < self.destroyed_at)

    def container_since(self, now: float) -> float | None:
        """When the container whose processes run now was started; None if none run. Those of a host that is offline or
        cut off run on.
        """
        since = self.timeline.container_since(now)
        return None if since is None or any(since <= kill <= now for kill in self.kills) else since

    def will_have_container(self, now: float) -> bool:
        """Whether its processes run now, or are planned to."""
        planned = [phase.at for phase in self.timeline.all() if phase.at > now]
        return any(self.container_since(moment) is not None for moment in [now, *planned])

    def network_works(self, now: float) -> bool:
        """Whether anything goes in or out of it."""
        return self.phase(now).actual != OFFLINE and not any(start <= now < end for start, end in self.cuts)

    def network_changes(self) -> Iterator[float]:
        """When cuts of its network begin and end."""
        for cut in self.cuts:
            yield from cut

    def ssh_serves(self, now: float) -> bool:
        """Whether its SSH server is there, for those whom the network lets through."""
        return self.container_since(now) is not None and (self.ssh_dead_from is None or now < self.ssh_dead_from)

    def ssh_works(self, now: float) -> bool:
        """Whether its SSH server should answer."""
        return self.phase(now).running and self.ssh_serves(now) and self.network_works(now)

    def reaches_out(self, now: float) -> bool:
        """Whether what its processes send arrives."""
        return self.container_since(now) is not None and self.network_works(now)

    def gpu_works(self, now: float) -> bool:
        """Whether nvidia-smi should find the driver."""
        return self.no_gpu_from is None or now < self.no_gpu_from
