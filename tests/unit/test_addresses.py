"""Where webhooks may go: the public internet, however an address is written or wrapped, and nowhere else."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.domain.addresses import fault, kind_of, parse
from dumont.domain.errors import InvalidInput

INSIDE_4 = [
    "0.0.0.0",  # noqa: S104 - to be refused
    "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "169.254.169.254",
    "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.168.1.1", "198.18.0.1", "198.51.100.1",
    "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "168.63.129.16",
    "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.175.48.1",
]  # fmt: skip
INSIDE_6 = [
    "::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "fd20:ce::254", "ff02::1",
    "2001:db8::1", "2001::1", "2001:10::1", "3fff::1", "100::1", "5f00::1", "64:ff9b:1::1",
    "2620:4f:8000::1", "2606:4700:4700::1111%eth0",
]  # fmt: skip
INSIDE_NAMES = ("local", "localhost", "internal", "lan", "intranet", "home.arpa", "onion", "invalid", "test")
OUTSIDE = ["1.1.1.1", "8.8.8.8", "93.184.215.14", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "2a00:1450::1"]

PRIVATE_4 = ("10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
private_4 = st.one_of(*(st.ip_addresses(network=network) for network in PRIVATE_4))


@pytest.mark.parametrize("address", INSIDE_4 + INSIDE_6)
def test_an_address_that_is_not_the_internets_is_refused(address: str) -> None:
    assert kind_of(address)
    parse("https://hook.example.com/")
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(InvalidInput) as refused:
        parse(f"https://{host}/")
    assert refused.value.field == "url"


@pytest.mark.parametrize("address", OUTSIDE)
def test_an_address_of_the_internet_may_be_sent_to(address: str) -> None:
    assert kind_of(address) == ""
    host = f"[{address}]" if ":" in address else address
    assert parse(f"https://{host}/x").host == address


@given(private_4)
def test_a_private_address_stays_private_however_it_is_wrapped(inner: ipaddress.IPv4Address) -> None:
    number = int(inner)
    wrapped: list[ipaddress.IPv6Address] = [
        ipaddress.IPv6Address((0xFFFF << 32) | number),  # mapped
        ipaddress.IPv6Address((0x2002 << 112) | (number << 80) | 1),  # 6to4
        ipaddress.IPv6Address((0x64FF9B << 96) | number),  # NAT64
        ipaddress.IPv6Address((0x26064700 << 96) | (0x5EFE << 32) | number),  # ISATAP, of a private address
        ipaddress.IPv6Address((0x26064700 << 96) | (0x02005EFE << 32) | number),  # and of a public one
        ipaddress.IPv6Address(number),  # compatible
        ipaddress.IPv6Address((0x20010000 << 96) | (number ^ 0xFFFFFFFF)),  # Teredo
    ]
    for address in (inner, *wrapped):
        assert kind_of(str(address)), address
        assert kind_of(address.exploded), address


@given(st.ip_addresses())
def test_what_python_knows_as_special_is_refused_too(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    special = address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
    if special or address.is_reserved or address.is_unspecified or not address.is_global:
        mapped = isinstance(address, ipaddress.IPv6Address) and (
            address.ipv4_mapped or address.exploded[:9] == "0064:ff9b"
        )
        assert kind_of(str(address)) or mapped


@given(st.lists(st.ip_addresses(network="8.8.8.0/24").map(str), min_size=1), private_4.map(str), st.randoms())
def test_one_private_address_among_many_is_enough(public: list[str], private: str, random: object) -> None:
    target = parse("https://hook.example.com/")
    assert fault(target, public) == ""
    for place in range(len(public) + 1):
        assert fault(target, [*public[:place], private, *public[place:]])
    assert fault(target, [])
    assert fault(target, ["not an address"])


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://hook.example.com/", "not https"),
        ("ftp://hook.example.com/", "not https"),
        ("file:///etc/passwd", "not https"),
        ("hook.example.com", "not https"),
        ("https://", "no host"),
        ("https:///x", "no host"),
        ("https://user:secret@hook.example.com/", "credentials"),
        ("https://user@hook.example.com/", "credentials"),
        ("https://@hook.example.com/", "credentials"),
        ("https://1.1.1.1\\@10.0.0.1/", "characters"),
        ("https://hook.example.com /", "characters"),
        ("https://hook.example.com/\r\nHost: x", "characters"),
        ("https://höök.example.com/", "characters"),
        ("https://ｈook.example.com/", "characters"),
        ("https://hook.example.com/#part", "fragment"),
        ("https://hook.example.com/#", "fragment"),
        ("https://hook.example.com:22/", "port"),
        ("https://hook.example.com:80/", "port"),
        ("https://hook.example.com:1023/", "port"),
        ("https://hook.example.com:0/", "port"),
        ("https://hook.example.com:99999/", "read"),
        ("https://hook.example.com:x/", "read"),
        ("https://[::1/", "read"),
        ("https://localhost/", "no host"),
        ("https://metadata/", "no host"),
        ("https://metadata.google.internal/", "not the internet's"),
        *((f"https://printer.{name}/", "not the internet's") for name in INSIDE_NAMES),
        ("https://127.1/", "more than one way"),
        ("https://2130706433/", "more than one way"),
        ("https://0x7f000001/", "more than one way"),
        ("https://0x7f.0.0.1/", "more than one way"),
        ("https://0177.0.0.1/", "more than one way"),
        ("https://10.0.0.01/", "more than one way"),
        ("https://hook.example.com./", "no host"),
        ("https://-hook.example.com/", "no host"),
        ("https://hook..example.com/", "no host"),
        ("https://hook.example.com/" + "x" * 2048, "2048"),
        ("", "2048"),
    ],
)
def test_a_url_that_is_not_sent_to_says_why(url: str, why: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(url)
    assert why in str(refused.value)
    assert refused.value.field == "url"


@given(st.text(max_size=60))
def test_whatever_is_written_is_a_target_or_refused(text: str) -> None:
    for url in (text, f"https://{text}", f"https://hook.example.com{text}"):
        try:
            target = parse(url)
        except InvalidInput:
            continue
        assert target.tls
        assert target.url.isascii()
        assert target.port == 443 or target.port >= 1024


def test_a_target_is_what_its_url_says() -> None:
    target = parse("https://Hook.Example.com:8443/a/b?token=x")
    assert (target.host, target.port, target.tls) == ("hook.example.com", 8443, True)
    assert target.url == "https://Hook.Example.com:8443/a/b?token=x"


def test_loopback_is_for_a_local_cloud_alone() -> None:
    for url in ("http://127.0.0.1:9000/x", "http://localhost:9000/x", "http://[::1]:9000/", "https://localhost/"):
        with pytest.raises(InvalidInput):
            parse(url)
        target = parse(url, loopback=True)
        assert fault(target, ["127.0.0.1", "::1"], loopback=True) == ""
        assert fault(target, ["127.0.0.1"])
        assert fault(target, ["10.0.0.1"], loopback=True)
    assert fault(parse("http://localhost/", loopback=True), ["1.1.1.1"], loopback=True), "http to the internet"
    for url in ("http://10.0.0.1/", "http://hook.example.com/", "https://10.0.0.1/", "http://169.254.169.254/",
                "https://localhost:0/"):  # fmt: skip
        with pytest.raises(InvalidInput):
            parse(url, loopback=True)
