"""DNS follows a machine's route, and a late writer leaves no old address behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from dumont.adapters.clock import SystemClock, SystemIds
from dumont.adapters.memory_store import MemoryStore
from dumont.domain.errors import DnsUnavailable, ShellError
from dumont.domain.records import SshEndpoint
from dumont.domain.routing import DnsKind, Route
from dumont.operations import naming
from dumont.ports import Ports, Shell

ROUTE = Route(id="ada", epoch=1, instance_id="a", ssh=SshEndpoint(host="192.0.2.1", port=22), updated_at=1.0)


class Zone:
    """A DNS zone in memory; `meanwhile` happens during its next write."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], tuple[str, ...]] = {}
        self.meanwhile: Callable[[], None] | None = None
        self.away = False

    def upsert(self, name: str, kind: DnsKind, values: Sequence[str], ttl_seconds: int) -> None:
        assert ttl_seconds <= 60
        if self.away:
            raise DnsUnavailable("it does not answer")
        self.records[name, kind] = tuple(values)
        if self.meanwhile is not None:
            happens, self.meanwhile = self.meanwhile, None
            happens()

    def remove(self, name: str, kind: DnsKind) -> None:
        self.records.pop((name, kind), None)


def _no_shell() -> Shell:
    raise ShellError("none is needed")


def world() -> tuple[Ports, MemoryStore, Zone]:
    store, zone = MemoryStore(), Zone()
    ports = Ports(
        store=store, bus=_NoBus(), providers={}, make_shell=_no_shell, clock=SystemClock(), ids=SystemIds(),
        deployment="test", make_dns=lambda: zone, dns_zone="gpu.example",
    )  # fmt: skip
    store.transact(lambda tx: tx.put(ROUTE))
    return ports, store, zone


class _NoBus:
    def publish(self, topic: str, message: object) -> None:
        raise AssertionError(f"nothing is published, and not to {topic}: {message}")


def test_the_name_leads_to_the_host_and_its_port() -> None:
    ports, _, zone = world()
    assert naming.follow(ports, "ada")
    assert zone.records["ada.gpu.example", "A"] == ("192.0.2.1",)
    assert zone.records["_ssh._tcp.ada.gpu.example", "SRV"] == ("0 0 22 ada.gpu.example",)


def test_a_machine_that_moves_during_the_write_is_followed() -> None:
    ports, store, zone = world()
    moved = replace(ROUTE, epoch=2, ssh=SshEndpoint(host="192.0.2.2", port=2222), updated_at=2.0)
    zone.meanwhile = lambda: store.transact(lambda tx: tx.put(moved))
    assert naming.follow(ports, "ada")
    assert zone.records["ada.gpu.example", "A"] == ("192.0.2.2",)


def test_a_dns_that_is_away_holds_nothing_up() -> None:
    ports, _, zone = world()
    zone.away = True
    assert not naming.follow(ports, "ada")


def test_a_destroyed_machine_leaves_no_name_behind() -> None:
    ports, _, zone = world()
    naming.follow(ports, "ada")
    naming.forget(ports, "ada")
    assert zone.records == {}
