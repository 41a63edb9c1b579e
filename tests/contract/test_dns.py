"""Both DNS adapters keep the port's contract, against their providers' APIs as published."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.oauth2 import service_account

from dumont.adapters.cloud_dns import SCOPE, CloudDns
from dumont.adapters.cloudflare import Cloudflare
from dumont.domain.errors import DnsRefused, DnsUnavailable
from dumont.domain.records import SshEndpoint
from dumont.domain.routing import DnsRemove, Route, dns_change
from dumont.optional_ports import Dns
from tests.contract.dns_servers import TOKEN, CloudDnsServer, CloudflareServer
from tests.contract.scripted_http import Said, ScriptedServer, said

NAME = "trainer.gpu.example.com"


@dataclass
class Rig:
    """An adapter, the provider behind it, and what it was asked."""

    dns: Dns
    provider: CloudDnsServer | CloudflareServer
    http: ScriptedServer


@pytest.fixture(scope="module")
def signing_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def cloud_dns(url: str, signing_key: str, *, call_seconds: float = 10.0, zone: str = "gpu") -> CloudDns:
    """With a service account's own credentials, which ask the test's server for their token."""
    account = {
        "type": "service_account", "client_email": "dumont@pro.iam.gserviceaccount.com", "private_key": signing_key,
        "token_uri": f"{url}/token",
    }  # fmt: skip
    make: Any = service_account.Credentials.from_service_account_info
    return CloudDns("pro", zone, url=url, credentials=make(account, scopes=[SCOPE]), call_seconds=call_seconds)


def cloudflare(url: str, *, token: str = TOKEN, call_seconds: float = 10.0, zone: str = "zone1") -> Cloudflare:
    return Cloudflare(token, zone, url=f"{url}/client/v4", call_seconds=call_seconds)


@pytest.fixture(params=["Cloud DNS", "Cloudflare"])
def rig(request: pytest.FixtureRequest, signing_key: str) -> Iterator[Rig]:
    provider = CloudDnsServer() if request.param == "Cloud DNS" else CloudflareServer()
    with ScriptedServer(provider) as http:
        adapter = cloud_dns(http.url, signing_key) if request.param == "Cloud DNS" else cloudflare(http.url)
        yield Rig(adapter, provider, http)
        adapter.close()


def test_a_name_is_made_and_made_again_without_a_second_change(rig: Rig) -> None:
    for _ in range(2):
        rig.dns.upsert(NAME, "A", ["192.0.2.7"], 60)
    assert rig.provider.zone() == {(NAME, "A"): (60, ("192.0.2.7",))}
    assert rig.provider.changes == 1


def test_a_name_that_moves_has_its_new_values_and_no_others_in_one_change(rig: Rig) -> None:
    rig.provider.put(NAME, "A", 300, "192.0.2.1", "192.0.2.2", "192.0.2.3")
    rig.dns.upsert(NAME, "A", ["192.0.2.3", "192.0.2.4"], 60)
    assert rig.provider.zone() == {(NAME, "A"): (60, ("192.0.2.3", "192.0.2.4"))}
    assert rig.provider.changes == 1


@pytest.mark.parametrize("before", ["A", "AAAA", "CNAME"])
@pytest.mark.parametrize(("kind", "value"), [("A", "192.0.2.7"), ("AAAA", "2001:db8::7"), ("CNAME", "ssh4.vast.ai")])
def test_a_name_leads_to_one_place_whatever_kind_it_was(rig: Rig, before: str, kind: Any, value: str) -> None:
    had = {"A": "192.0.2.1", "AAAA": "2001:db8::1", "CNAME": "old.example."}[before]
    rig.provider.put(NAME, before, 60, had)
    rig.dns.upsert(NAME, kind, [value], 60)
    assert rig.provider.zone() == {(NAME, kind): (60, (value,))}


def test_what_has_another_name_or_purpose_is_not_touched(rig: Rig) -> None:
    """Mistake 5: touch only what is ours."""
    rig.provider.put("other.gpu.example.com", "A", 300, "192.0.2.1")
    rig.provider.put(NAME, "TXT", 300, '"theirs"')
    rig.dns.upsert(NAME, "A", ["192.0.2.7"], 60)
    rig.dns.remove(NAME, "A")
    assert set(rig.provider.zone()) == {("other.gpu.example.com", "A"), (NAME, "TXT")}


def test_a_service_record_keeps_its_port(rig: Rig) -> None:
    service = f"_ssh._tcp.{NAME}"
    for port in (40123, 40123, 7):
        rig.dns.upsert(service, "SRV", [f"0 0 {port} {NAME}"], 60)
    assert rig.provider.zone() == {(service, "SRV"): (60, (f"0 0 7 {NAME}",))}
    assert rig.provider.changes == 2


def test_removing_what_is_not_there_succeeds_and_changes_nothing(rig: Rig) -> None:
    rig.dns.remove(NAME, "A")
    assert rig.provider.changes == 0
    rig.dns.upsert(NAME, "A", ["192.0.2.7"], 60)
    for _ in range(2):
        rig.dns.remove(NAME, "A")
    assert rig.provider.zone() == {}


def test_a_route_that_moves_and_ends_is_followed(rig: Rig) -> None:
    """The steps that the domain asks for, carried out."""
    before: Route | None = None
    for host in ("192.0.2.7", "ssh4.vast.ai", "2001:db8::1", None):
        ssh = SshEndpoint(host=host, port=40000) if host is not None else None
        after = Route(id="trainer", epoch=1, ssh=ssh, updated_at=1.0)
        for step in dns_change(before, after, "gpu.example.com", ttl_seconds=60):
            if isinstance(step, DnsRemove):
                rig.dns.remove(step.name, step.kind)
            else:
                rig.dns.upsert(step.name, step.kind, step.values, step.ttl_seconds)
        names = {name for name, _ in rig.provider.zone()}
        assert names == ({NAME, f"_ssh._tcp.{NAME}"} if host is not None else set())
        before = after


def test_who_changes_the_name_meanwhile_does_not_leave_both_values(rig: Rig) -> None:
    rig.provider.put(NAME, "A", 60, "192.0.2.1")

    def meanwhile() -> None:
        rig.provider.before_change = lambda: None
        rig.dns.upsert(NAME, "A", ["192.0.2.99"], 60)

    rig.provider.before_change = meanwhile
    rig.dns.upsert(NAME, "A", ["192.0.2.7"], 60)
    assert rig.provider.zone() == {(NAME, "A"): (60, ("192.0.2.7",))}


def test_a_change_whose_answer_is_lost_is_found_made(rig: Rig) -> None:
    rig.provider.lost = 1
    rig.dns.upsert(NAME, "A", ["192.0.2.7"], 60)
    assert rig.provider.zone() == {(NAME, "A"): (60, ("192.0.2.7",))}
    assert rig.provider.changes == 1


def test_errors_in_passing_are_outlived(rig: Rig) -> None:
    rig.dns.upsert(NAME, "A", ["192.0.2.1"], 60)
    rig.provider.answers = [said(503, {}), Said(body=None), said(429, {}, Retry_After="0.3")]
    rig.dns.upsert(NAME, "A", ["192.0.2.7"], 60)
    assert rig.provider.zone() == {(NAME, "A"): (60, ("192.0.2.7",))}


def test_an_unreadable_list_is_not_an_empty_one(rig: Rig) -> None:
    """Mistake 2."""
    rig.dns.upsert(NAME, "A", ["192.0.2.1"], 60)
    for nonsense in (said(200, {}), said(200, []), Said(200, b"<html>"), said(200, {"success": True, "result": None})):
        rig.provider.answers = [nonsense]
        rig.dns.upsert(NAME, "A", ["192.0.2.7"], 60)
        rig.dns.upsert(NAME, "A", ["192.0.2.1"], 60)
    assert rig.provider.zone() == {(NAME, "A"): (60, ("192.0.2.1",))}


def test_a_provider_that_stays_away_is_said_so_in_time(signing_key: str) -> None:
    with ScriptedServer(lambda _: said(503, {})) as http:
        for adapter in (cloud_dns(http.url, signing_key, call_seconds=1.0), cloudflare(http.url, call_seconds=1.0)):
            with pytest.raises(DnsUnavailable):
                adapter.upsert(NAME, "A", ["192.0.2.7"], 60)
            adapter.close()


def test_a_zone_that_is_not_there_is_refused_at_once(signing_key: str) -> None:
    with ScriptedServer(CloudDnsServer()) as http:
        adapter = cloud_dns(http.url, signing_key, zone="other")
        with pytest.raises(DnsRefused, match="does not exist"):
            adapter.remove(NAME, "A")
        adapter.close()
    with ScriptedServer(CloudflareServer()) as http:
        other = cloudflare(http.url, zone="other")
        with pytest.raises(DnsRefused, match="7003"):
            other.remove(NAME, "A")
        assert len(http.asked) == 1
        other.close()


def test_a_ttl_below_cloudflares_least_is_raised_to_it() -> None:
    provider = CloudflareServer()
    with ScriptedServer(provider) as http:
        adapter = cloudflare(http.url)
        for _ in range(2):
            adapter.upsert(NAME, "A", ["192.0.2.7"], 30)
        assert provider.zone() == {(NAME, "A"): (60, ("192.0.2.7",))}
        assert provider.changes == 1
        assert all(record["proxied"] is False for record in provider.records.values())
        adapter.close()


# --- Secrets ------------------------------------------------------------------------------------------------------


def test_one_token_serves_many_calls_and_appears_nowhere(
    rig: Rig, caplog: pytest.LogCaptureFixture, signing_key: str
) -> None:
    caplog.set_level(logging.DEBUG)
    for last in (7, 8):
        rig.dns.upsert(NAME, "A", [f"192.0.2.{last}"], 60)
    if isinstance(rig.provider, CloudDnsServer):
        assert rig.provider.tokens == 1
    ours = " ".join(r.getMessage() for r in caplog.records if r.name.startswith(("httpx", "dumont")))
    shown = f"{ours} {rig.dns!r} {[asked.path for asked in rig.http.asked]}"
    for secret in (TOKEN, "ya29.secret", signing_key[40:80]):
        assert secret not in shown


def test_a_provider_that_quotes_the_token_is_not_repeated() -> None:
    with ScriptedServer(CloudflareServer()) as http:
        adapter = cloudflare(http.url, token="wrong-but-still-secret")
        with pytest.raises(DnsRefused) as refused:
            adapter.upsert(NAME, "A", ["192.0.2.7"], 60)
        assert "wrong-but-still-secret" not in str(refused.value)
        adapter.close()


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "ümlaut"])
def test_a_token_that_is_none_is_refused_before_it_is_sent_and_not_quoted(token: str) -> None:
    with pytest.raises(DnsRefused) as refused:
        Cloudflare(token, "zone1")
    assert not token or token not in str(refused.value)


def test_a_token_server_that_refuses_us_is_a_refusal_without_its_words(signing_key: str) -> None:
    def answer(asked: Any) -> Said:
        return said(400, {"error": "invalid_grant", "error_description": "quoting ya29.secret"})

    with ScriptedServer(answer) as http:
        adapter = cloud_dns(http.url, signing_key)
        with pytest.raises(DnsRefused) as refused:
            adapter.remove(NAME, "A")
        assert "ya29.secret" not in str(refused.value)
        adapter.close()
