"""Where a machine's name leads: its route, and what DNS and OpenSSH are told of it. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import ClassVar, Literal

import msgspec
from msgspec.structs import replace

from dumont.domain.records import Record, SshEndpoint

DNS_TTL_SECONDS = 30
"""How long resolvers may keep an old address. Some providers allow no less than 60 (see their adapters)."""

AddressKind = Literal["A", "AAAA", "CNAME"]
DnsKind = Literal["A", "AAAA", "CNAME", "SRV"]
ADDRESS_KINDS: tuple[AddressKind, ...] = ("A", "AAAA", "CNAME")


class Route(Record, frozen=True, kw_only=True):
    """Where a machine is now; `id` is its name. Written in the transaction that makes its epoch serve.

    `ssh` None: it leads nowhere now. `host_key` as OpenSSH writes it, the one that the proof saw. `ports`: a port of
    the machine ("8000/tcp") → where it answers ("192.0.2.7:40123").
    """

    collection: ClassVar[str] = "routes"

    epoch: int
    instance_id: str | None = None
    ssh: SshEndpoint | None = None
    host_key: str | None = None
    ports: dict[str, str] = msgspec.field(default_factory=dict)
    updated_at: float


def newer(before: Route | None, after: Route) -> Route:
    """The route to keep: never that of an older epoch (invariant 1), however late its writer comes."""
    if before is not None and (after.epoch, after.updated_at) < (before.epoch, before.updated_at):
        return before
    return after


def closed(route: Route, now: float) -> Route:
    """The route of a machine that leads nowhere any more: hibernated, destroyed."""
    return replace(route, instance_id=None, ssh=None, host_key=None, ports={}, updated_at=now)


# --- DNS ----------------------------------------------------------------------------------------------------------


class DnsUpsert(msgspec.Struct, frozen=True, kw_only=True):
    """Make a name's records of a kind these and no others; see `Dns.upsert`."""

    name: str
    kind: DnsKind
    values: tuple[str, ...]
    ttl_seconds: int = DNS_TTL_SECONDS


class DnsRemove(msgspec.Struct, frozen=True, kw_only=True):
    """Remove a name's records of a kind."""

    name: str
    kind: DnsKind


DnsStep = DnsUpsert | DnsRemove


def dns_change(
    before: Route | None, after: Route | None, zone: str, *, ttl_seconds: int = DNS_TTL_SECONDS
) -> tuple[DnsStep, ...]:
    """What DNS must be told when a route changes: nothing if it leads where it did.

    NAME.zone is the host's address (A, AAAA, or CNAME if the market gave a name), and _ssh._tcp.NAME.zone an SRV
    record with its port. The address comes first: who reads between the two connects to a port that is refused, never
    to a stranger's.
    """
    had, has = _records(before, zone, ttl_seconds), _records(after, zone, ttl_seconds)
    steps: list[DnsStep] = [step for step in has if step not in had]
    replaced = {(step.name, step.kind in ADDRESS_KINDS) for step in has}
    # An upsert of an address replaces those of other kinds too, so only what has no successor is removed.
    steps += [
        DnsRemove(name=step.name, kind=step.kind)
        for step in had
        if (step.name, step.kind in ADDRESS_KINDS) not in replaced
    ]
    return tuple(steps)


def _records(route: Route | None, zone: str, ttl_seconds: int) -> tuple[DnsUpsert, ...]:
    if route is None or route.ssh is None:
        return ()
    kind = address_kind(route.ssh.host)
    if kind is None:
        return ()
    name = f"{route.id}.{zone.strip('.')}"
    # An SRV record's target must not be an alias (RFC 2782), so for a CNAME it is what the alias stands for.
    target = route.ssh.host.strip(".") if kind == "CNAME" else name
    return (
        DnsUpsert(name=name, kind=kind, values=(route.ssh.host.strip("."),), ttl_seconds=ttl_seconds),
        DnsUpsert(
            name=f"_ssh._tcp.{name}",
            kind="SRV",
            values=(f"0 0 {route.ssh.port} {target}",),
            ttl_seconds=ttl_seconds,
        ),
    )


_HOST_NAME = re.compile(r"(?=.{1,253}$)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z][A-Za-z0-9-]{0,61}\.?")


def address_kind(host: str) -> AddressKind | None:
    """The kind of record that stands for a host; None for what a hostile market may have put there instead of one."""
    try:
        return "A" if ipaddress.ip_address(host).version == 4 else "AAAA"
    except ValueError:
        return "CNAME" if _HOST_NAME.fullmatch(host) else None


# --- OpenSSH ------------------------------------------------------------------------------------------------------

PROXY_COMMAND = "dumont ssh-proxy %n"
KNOWN_HOSTS = "~/.dumont/known_hosts"


def ssh_config(
    routes: Iterable[Route],
    command: str = PROXY_COMMAND,
    *,
    known_hosts: str = KNOWN_HOSTS,
    identity: str | None = None,
) -> str:
    """Text for ~/.ssh/config: `ssh NAME` connects through `command` (%n: the name) to where NAME is now.

    No address stands in it, so that it stays true when a machine moves. The host's key is looked up by the machine's
    name in `known_hosts` alone. OpenSSH reads that file once the connection stands, so a `command` that writes it
    first, from the route that it connects to, has it pinned to that very host.
    """
    blocks = []
    for route in sorted(routes, key=lambda r: r.id):
        options = {
            "HostKeyAlias": route.id,
            "User": _quoted(route.ssh.user if route.ssh is not None else "root"),
            "ProxyCommand": command,
            "UserKnownHostsFile": _quoted(known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "UpdateHostKeys": "no",
            "CheckHostIP": "no",
            # Hosts are hostile: nothing of this machine's is lent to them.
            "ForwardAgent": "no",
            "ForwardX11": "no",
            "ControlPath": "none",
            "ServerAliveInterval": "15",
        }
        if identity is not None:
            options |= {"IdentityFile": _quoted(identity), "IdentitiesOnly": "yes"}
        lines = [f"Host {route.id}", *(f"    {option} {value}" for option, value in options.items())]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def known_hosts_text(routes: Iterable[Route]) -> str:
    """The known_hosts file that goes with `ssh_config`: a line for each machine whose key was seen."""
    pinned = {route.id: route.host_key for route in routes if route.host_key and _HOST_KEY.fullmatch(route.host_key)}
    return "".join(f"{name} {key}\n" for name, key in sorted(pinned.items()))


_HOST_KEY = re.compile(r"[a-z0-9@.-]+ [A-Za-z0-9+/]+=*")


def _quoted(value: str) -> str:
    """A value for OpenSSH's configuration: quoted, with % as itself. Raises `ValueError` for what it cannot hold."""
    if any(sign in value for sign in '"\n\r\0'):
        raise ValueError("an OpenSSH configuration cannot hold this value")
    return '"' + value.replace("%", "%%") + '"'
