"""A `Dns` on one zone of Cloudflare's API (v4).

It keeps each value as a record of its own. A batch is made as a whole or not at all, deletions first, so that a change
is one batch. Records are never proxied: Cloudflare's proxy does not carry SSH.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import httpx

from dumont.adapters.dns_http import CALL_SECONDS, Again, ask, persistently, plain, rows
from dumont.domain.errors import DnsRefused
from dumont.domain.routing import ADDRESS_KINDS, DnsKind

TTL_SECONDS_MIN = 60
"""The least that zones of most plans allow; less is refused."""
COMMENT = "Made by Dumont"
PER_PAGE = 100
PAGES_MAX = 20

# "A record with the same settings already exists", "An identical record already exists", "Record does not exist",
# "An A, AAAA, or CNAME record with that host already exists": someone else changed it since we read.
_CHANGED_MEANWHILE = frozenset({81057, 81058, 81044, 81053})


class Cloudflare:
    """Safe for several threads. `token` is an API token with DNS Write on the zone."""

    def __init__(
        self,
        token: str,
        zone_id: str,
        *,
        url: str = "https://api.cloudflare.com/client/v4",
        call_seconds: float = CALL_SECONDS,
    ) -> None:
        """Raises `DnsRefused` for a token that is none: the HTTP library would quote it in its complaint."""
        token = token.strip()
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise DnsRefused("the API token is empty or malformed")
        self._bearer = token
        self._url = f"{url.rstrip('/')}/zones/{quote(zone_id, safe='')}/dns_records"
        self._call_seconds = call_seconds

    def upsert(self, name: str, kind: DnsKind, values: Sequence[str], ttl_seconds: int) -> None:
        """See `Dns.upsert`; one batch."""
        name = name.rstrip(".")
        ttl = max(ttl_seconds, TTL_SECONDS_MIN)

        def attempt(until: float) -> None:
            there = self._there(name, until)
            missing = {plain(kind, value): _wished(name, kind, value, ttl) for value in values}
            free: list[str] = []
            for record in there:
                if record.get("type") == kind:
                    value = plain(kind, _value_of(record))
                    as_wished = record.get("ttl") == ttl and record.get("proxied") is not True
                    if value in missing and as_wished:
                        del missing[value]
                    else:
                        free.append(str(record.get("id")))
                elif kind in ADDRESS_KINDS and record.get("type") in ADDRESS_KINDS:
                    free.append(str(record.get("id")))
            self._batch(free, list(missing.values()), until)

        persistently(attempt, call_seconds=self._call_seconds)

    def remove(self, name: str, kind: DnsKind) -> None:
        """See `Dns.remove`."""
        name = name.rstrip(".")

        def attempt(until: float) -> None:
            there = self._there(name, until)
            self._batch([str(r.get("id")) for r in there if r.get("type") == kind], [], until)

        persistently(attempt, call_seconds=self._call_seconds)

    def _there(self, name: str, until: float) -> list[dict[str, Any]]:
        """Each record of a name, from all pages; that it is of the name is checked again here."""
        found: list[dict[str, Any]] = []
        for page in range(1, PAGES_MAX + 1):
            params = {"name.exact": name, "per_page": str(PER_PAGE), "page": str(page)}
            answer = self._ask("GET", self._url, until, params=params)
            some = rows(answer, "result")
            found += some
            info = answer.get("result_info")
            pages = info.get("total_pages") if isinstance(info, dict) else None
            if page >= pages if isinstance(pages, int) else len(some) < PER_PAGE:
                return [r for r in found if str(r.get("name", "")).rstrip(".").casefold() == name.casefold()]
        raise DnsRefused("the list of the zone's records does not end")

    def _batch(self, deletions: list[str], posts: list[dict[str, Any]], until: float) -> None:
        if not deletions and not posts:
            return
        body: dict[str, Any] = {}
        if deletions:
            body["deletes"] = [{"id": record_id} for record_id in deletions]
        if posts:
            body["posts"] = posts
        self._ask("POST", f"{self._url}/batch", until, body=body)

    def _ask(
        self, method: str, url: str, until: float, *, params: dict[str, str] | None = None, body: object = None
    ) -> dict[str, Any]:
        status, answer = ask(self._client, method, url, token=self._bearer, until=until, params=params, body=body)
        if 200 <= status < 300 and answer.get("success") is True:
            return answer
        errors = answer.get("errors")
        listed = [e for e in errors if isinstance(e, dict)] if isinstance(errors, list) else []
        if any(error.get("code") in _CHANGED_MEANWHILE for error in listed):
            raise Again("the records were changed meanwhile")
        if 200 <= status < 300 and not listed:
            raise Again("the answer cannot be read")
        said = "; ".join(f"{e.get('code')} {e.get('message')}" for e in listed)[:200] or "no reason"
        raise DnsRefused(f"Cloudflare: status {status}: {said}".replace(self._bearer, "[token]"))

    @functools.cached_property
    def _client(self) -> httpx.Client:
        return httpx.Client()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _wished(name: str, kind: DnsKind, value: str, ttl: int) -> dict[str, Any]:
    record: dict[str, Any] = {"name": name, "type": kind, "ttl": ttl, "comment": COMMENT}
    if kind != "SRV":
        return record | {"content": value.rstrip(".") if kind == "CNAME" else value, "proxied": False}
    priority, weight, port, target = value.split()
    data = {"priority": int(priority), "weight": int(weight), "port": int(port), "target": target.rstrip(".")}
    return record | {"data": data}


def _value_of(record: dict[str, Any]) -> str:
    """A record's value as a zone file has it."""
    data = record.get("data")
    if record.get("type") == "SRV" and isinstance(data, dict):
        return f"{data.get('priority')} {data.get('weight')} {data.get('port')} {data.get('target')}"
    return str(record.get("content", ""))
