"""Where a name leads: routes that never go back, what DNS is told, and what OpenSSH is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dumont.domain.records import SshEndpoint
from dumont.domain.routing import (
    DnsRemove,
    DnsUpsert,
    Route,
    address_kind,
    closed,
    dns_change,
    known_hosts_text,
    newer,
    ssh_config,
)

ZONE = "gpu.example.com"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHqZ"


def route(host: str | None = "192.0.2.7", port: int = 40123, **changes: object) -> Route:
    ssh = SshEndpoint(host=host, port=port) if host is not None else None
    return replace(Route(id="trainer", epoch=1, instance_id="i", ssh=ssh, host_key=KEY, updated_at=10.0), **changes)


hosts = st.sampled_from([None, "192.0.2.7", "192.0.2.8", "2001:db8::1", "ssh4.vast.ai", "host.example."])
routes = st.none() | st.builds(route, hosts, st.integers(1, 3), epoch=st.integers(1, 4), updated_at=st.floats(0, 9))


def test_a_route_of_an_older_epoch_never_replaces_a_newer_one() -> None:
    """Invariant 1, for those who look a machine up."""
    old, new = route(epoch=1, updated_at=99.0), route(epoch=2, updated_at=1.0)
    assert newer(old, new) is new
    assert newer(new, old) is new
    assert newer(None, old) is old


@given(st.lists(routes.filter(lambda r: r is not None), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_order_in_which_routes_are_written_does_not_matter(some: list[Route], chance: object) -> None:
    shuffled = list(some)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    ends = []
    for written in (some, shuffled):
        kept: Route | None = None
        for one in written:
            kept = newer(kept, one)
        assert kept is not None
        ends.append((kept.epoch, kept.updated_at))
    assert ends[0] == ends[1]


# --- DNS ----------------------------------------------------------------------------------------------------------


def test_a_new_route_is_an_address_and_its_port() -> None:
    assert dns_change(None, route(), ZONE) == (
        DnsUpsert(name="trainer.gpu.example.com", kind="A", values=("192.0.2.7",)),
        DnsUpsert(name="_ssh._tcp.trainer.gpu.example.com", kind="SRV", values=("0 0 40123 trainer.gpu.example.com",)),
    )


def test_a_name_of_the_markets_is_an_alias_whose_service_names_what_it_stands_for() -> None:
    alias, service = dns_change(None, route("ssh4.vast.ai"), ZONE)
    assert (alias.kind, alias.values) == ("CNAME", ("ssh4.vast.ai",))  # type: ignore[union-attr]
    assert service.values == ("0 0 40123 ssh4.vast.ai",)  # type: ignore[union-attr]


def test_a_move_tells_only_what_changed() -> None:
    assert dns_change(route(), route(epoch=2), ZONE) == ()
    (port,) = dns_change(route(), route(port=2), ZONE)
    assert port.kind == "SRV"
    assert [s.kind for s in dns_change(route(), route("2001:db8::1"), ZONE)] == ["AAAA"]


def test_a_route_that_ends_leaves_nothing_in_dns() -> None:
    assert dns_change(route(), closed(route(), 20.0), ZONE) == (
        DnsRemove(name="trainer.gpu.example.com", kind="A"),
        DnsRemove(name="_ssh._tcp.trainer.gpu.example.com", kind="SRV"),
    )


@given(st.lists(routes, max_size=6))
def test_dns_ends_up_as_the_last_route_says_however_it_came_there(path: list[Route | None]) -> None:
    """Applied to a zone that keeps to the port's contract, step by step."""
    zone: dict[tuple[str, str], tuple[str, ...]] = {}
    before: Route | None = None
    for after in path:
        for step in dns_change(before, after, ZONE):
            if isinstance(step, DnsRemove):
                zone.pop((step.name, step.kind), None)
                continue
            if step.kind != "SRV":
                for rival in ("A", "AAAA", "CNAME"):
                    zone.pop((step.name, rival), None)
            zone[step.name, step.kind] = step.values
        before = after
    wished = {(s.name, s.kind): s.values for s in dns_change(None, before, ZONE) if isinstance(s, DnsUpsert)}
    assert zone == wished


@pytest.mark.parametrize(
    "host", ["", "localhost", "a b.example", "x\ny.example", "-a.example", "a..b", "1.2.3", "é.example"]
)
def test_what_is_no_host_is_not_put_into_dns(host: str) -> None:
    assert address_kind(host) is None
    assert dns_change(None, route(host), ZONE) == ()


# --- OpenSSH ------------------------------------------------------------------------------------------------------


def test_the_configuration_names_no_address_and_trusts_the_machines_name_alone() -> None:
    text = ssh_config([route(), route(id="ada")])
    assert "192.0.2.7" not in text
    assert text.index("Host ada") < text.index("Host trainer")
    assert "HostKeyAlias trainer" in text
    assert "ProxyCommand dumont ssh-proxy %n" in text
    assert ssh_config([]) == ""


def test_a_moved_machine_has_the_same_configuration() -> None:
    assert ssh_config([route()]) == ssh_config([route("192.0.2.99", 1, epoch=7, host_key="ssh-rsa AAAA")])


def test_known_hosts_pins_each_machines_key_to_its_name_and_takes_no_second_line() -> None:
    assert known_hosts_text([route(), route(id="ada", host_key=None)]) == f"trainer {KEY}\n"
    assert known_hosts_text([route(host_key=f"{KEY}\n* {KEY}")]) == ""


@pytest.mark.parametrize("path", ['a"b', "a\nb"])
def test_a_path_that_would_end_the_line_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="cannot hold"):
        ssh_config([route()], known_hosts=path)


@pytest.mark.skipif(shutil.which("ssh") is None, reason="OpenSSH's client is not installed")
def test_openssh_reads_it_as_it_was_meant(tmp_path: Path) -> None:
    folder = tmp_path / "with space and 100%"
    folder.mkdir()
    file = tmp_path / "config"
    file.write_text(ssh_config([route()], known_hosts=str(folder / "known_hosts"), identity=str(folder / "key")))
    done = subprocess.run(["ssh", "-G", "-F", file, "trainer"], capture_output=True, text=True, check=True, timeout=20)
    read = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert read["hostkeyalias"] == "trainer"
    assert read["user"] == "root"
    assert read["stricthostkeychecking"] == "true"
    assert read["proxycommand"] == "dumont ssh-proxy %n"
    assert read["identitiesonly"] == "yes"
    assert read["forwardagent"] == "no"
    assert "with space and 100%" in read["userknownhostsfile"]
