"""DNS follows routes. It is in no transaction, so whoever writes it looks at the route again afterwards."""

from __future__ import annotations

import logging

from dumont.domain.errors import DnsError
from dumont.domain.routing import DnsUpsert, Route, dns_change
from dumont.optional_ports import Dns
from dumont.ports import Ports

log = logging.getLogger(__name__)

ROUNDS_MOST = 4


def follow(ports: Ports, name: str) -> bool:
    """Let a machine's DNS records lead where its route does. True if they do now.

    Two writers may overtake each other: the one that is late must not leave an old address behind, so each writes
    until the route is still, after its write, what it wrote. A DNS that does not answer is logged, and holds nothing
    up: `dumont ssh` asks the control plane, not DNS.
    """
    if ports.make_dns is None or not ports.dns_zone:
        return True
    try:
        dns = ports.make_dns()
        route = ports.store.get(Route, name)
        for _ in range(ROUNDS_MOST):
            if route is None or route.ssh is None:
                return True  # it leads nowhere for a while: the old address is left until there is a new one
            _write(dns, route, ports.dns_zone)
            now = ports.store.get(Route, name)
            if now == route:
                return True
            route = now
    except DnsError as error:
        log.error("DNS does not follow", extra={"machine": name, "error": str(error)})
    return False


def forget(ports: Ports, name: str) -> None:
    """Remove a destroyed machine's records: its address will be a stranger's."""
    if ports.make_dns is None or not ports.dns_zone:
        return
    try:
        dns = ports.make_dns()
        for kind in ("A", "AAAA", "CNAME"):
            dns.remove(f"{name}.{ports.dns_zone}", kind)
        dns.remove(f"_ssh._tcp.{name}.{ports.dns_zone}", "SRV")
    except DnsError as error:
        log.error("DNS records were not removed", extra={"machine": name, "error": str(error)})


def _write(dns: Dns, route: Route, zone: str) -> None:
    for step in dns_change(None, route, zone):
        if isinstance(step, DnsUpsert):
            dns.upsert(step.name, step.kind, step.values, step.ttl_seconds)
        else:
            dns.remove(step.name, step.kind)
