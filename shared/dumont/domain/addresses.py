"""Which addresses webhooks may be sent to: the public internet's, and nobody's inside. Pure.

A URL that a user names is fetched by us, from within a cloud: it must not lead to what only we can reach (SSRF). The
name in it is looked up when it is registered and again at each try, each address that it has is looked at, and the
connection goes to one of those addresses and no other.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

import msgspec

from dumont.domain.errors import InvalidInput

URL_CHARACTERS_MOST = 2048
HTTPS_PORT = 443
LOWEST_OTHER_PORT = 1024
"""Below it are the ports of services that are no webhook's: mail, SSH, DNS."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_REFUSED_4 = tuple(
    (ipaddress.IPv4Network(network), why)
    for network, why in (
        # https://www.iana.org/assignments/iana-ipv4-special-registry
        ("0.0.0.0/8", "unspecified"), ("10.0.0.0/8", "private"), ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"), ("169.254.0.0/16", "link-local"), ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"), ("192.0.2.0/24", "documentation"), ("192.31.196.0/24", "reserved"),
        ("192.52.193.0/24", "reserved"), ("192.88.99.0/24", "reserved"), ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "reserved"), ("198.18.0.0/15", "benchmarking"), ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"), ("224.0.0.0/4", "multicast"), ("240.0.0.0/4", "reserved"),
        # Azure's metadata and DNS, at an address that no registry knows as special:
        # https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
        ("168.63.129.16/32", "metadata"),
    )
)  # fmt: skip
_GLOBAL_6 = ipaddress.IPv6Network("2000::/3")
"""The only IPv6 that is handed out for use on the internet; loopback, link-local, unique local (and with them the
metadata addresses of Google and Amazon) and multicast lie outside."""
_REFUSED_6 = tuple(
    (ipaddress.IPv6Network(network), why)
    for network, why in (
        # https://www.iana.org/assignments/iana-ipv6-special-registry; 2001::/23 has Teredo, which names a relay
        ("2001::/23", "reserved"), ("2001:db8::/32", "documentation"), ("2620:4f:8000::/48", "reserved"),
        ("3fff::/20", "documentation"),
    )
)  # fmt: skip
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_ISATAP = (0x00005EFE, 0x02005EFE)

_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_NAME = re.compile(rf"^(?=.{{1,253}}$){_LABEL}(\.{_LABEL})+$")
_NUMBERLIKE = re.compile(r"(^|\.)(0x[0-9a-f]*|[0-9]+)$")
_INSIDE = (".local", ".localhost", ".internal", ".lan", ".intranet", ".home.arpa", ".onion", ".invalid", ".test")


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where a webhook goes. `host` is a name in lower case, or an address without brackets."""

    url: str
    host: str
    port: int
    tls: bool


def parse(url: str, *, loopback: bool = False) -> Target:
    """The target of a URL. Raises `InvalidInput` for one that is not sent to, whatever its name leads to.

    `loopback`: the local cloud lets its user's own machine be told, by http, too.
    """
    if not url or len(url) > URL_CHARACTERS_MOST:
        raise _refused(f"has 1 to {URL_CHARACTERS_MOST} characters")
    # Two readers of one URL must not see two hosts: what they are known to differ about is not let in.
    if not url.isascii() or any(c <= " " or c in '\\"<>^`{|}\x7f' for c in url):
        raise _refused("has characters that no URL has", hint="write a name of other letters as xn--…")
    try:
        parts = urlsplit(url)
        port, host = parts.port, (parts.hostname or "").lower()
    except ValueError:
        raise _refused("cannot be read") from None
    if "@" in parts.netloc:
        raise _refused("holds credentials", hint="each message is signed: that is its proof")
    if parts.fragment or url.endswith("#"):
        raise _refused("has a fragment, which no server sees")
    if parts.scheme == "http":
        if not (loopback and _is_loopback(host)):
            raise _refused("is not https", hint="http is for the loopback of a local cloud")
        return Target(url=url, host=host, port=port if port is not None else 80, tls=False)
    if parts.scheme != "https":
        raise _refused("is not https")
    local = loopback and _is_loopback(host)
    if not local:
        _check_host(host)
    chosen = port if port is not None else HTTPS_PORT
    if not local and chosen != HTTPS_PORT and chosen < LOWEST_OTHER_PORT:
        raise _refused(f"names a port that is no webhook's: {HTTPS_PORT}, or {LOWEST_OTHER_PORT} and more")
    if chosen == 0:
        raise _refused("names port 0")
    return Target(url=url, host=host, port=chosen, tls=True)


def fault(target: Target, addresses: Iterable[str], *, loopback: bool = False) -> str:
    """Why none of a target's addresses may be sent to; "" if all may. One that may not is enough to refuse: whoever
    answers with both hopes for a second look."""
    found = list(addresses)
    if not found:
        return "its name leads nowhere"
    for text in found:
        why = kind_of(text)
        if why == "loopback" and loopback:
            continue
        if why:
            return f"its name leads to an address that is not the internet's ({why})"
        if not target.tls:
            return "http is for loopback alone"
    return ""


def kind_of(text: str) -> str:
    """What an address is, if it is not the public internet's, in a word; "" for one that is."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "not an address"
    if isinstance(address, ipaddress.IPv4Address):
        return _kind_of_4(address)
    inner = _embedded(address)
    if inner is not None and (why := _kind_of_4(inner)):
        return why
    if address.ipv4_mapped is not None or address in _NAT64:
        return ""
    if address.is_loopback:
        return "loopback"
    if address.scope_id is not None or address not in _GLOBAL_6:
        return "multicast" if address.is_multicast else "link-local" if address.is_link_local else "private or reserved"
    return next((why for network, why in _REFUSED_6 if address in network), "")


def _kind_of_4(address: ipaddress.IPv4Address) -> str:
    return next((why for network, why in _REFUSED_4 if address in network), "")


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for: what is sent to the one arrives at the other."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    low = int(address) & 0xFFFFFFFFFFFFFFFF
    if address in _NAT64 or low >> 32 in _ISATAP:
        return ipaddress.IPv4Address(low & 0xFFFFFFFF)
    return None


def _check_host(host: str) -> None:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        if why := kind_of(host):
            raise _refused(f"leads to an address that is not the internet's ({why})", code="address_refused")
        return
    # "127.1", "2130706433" and "0x7f.0.0.1" are names to one reader, and 127.0.0.1 to another.
    if _NUMBERLIKE.search(host):
        raise _refused("names an address in a form that is read in more than one way")
    if not _NAME.fullmatch(host):
        raise _refused("names no host of the internet")
    if host.endswith(_INSIDE):
        raise _refused("names a host that is not the internet's", code="address_refused")


def _is_loopback(host: str) -> bool:
    return host == "localhost" or kind_of(host) == "loopback"


def _refused(what: str, *, code: str | None = None, hint: str = "") -> InvalidInput:
    return InvalidInput(what, field="url", code=code, hint=hint)
