"""A `Dns` on one managed zone of Google Cloud DNS, over its REST API (v1).

A change there lists record sets to delete, exactly as they are, and to add, and is made as a whole or not at all: 412
(conditionNotMet) where one to delete is not so any more, 409 (alreadyExists) where one to add is there. So it is read,
changed, and, if someone came between, read again.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import google.auth
import google.auth.transport.requests
import httpx
import requests
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError, TransportError

from dumont.adapters.dns_http import CALL_SECONDS, Again, ask, persistently, rows, same_values
from dumont.domain.errors import DnsRefused
from dumont.domain.routing import ADDRESS_KINDS, DnsKind

SCOPE = "https://www.googleapis.com/auth/ndev.clouddns.readwrite"
PAGES_MAX = 20


class CloudDns:
    """Safe for several threads. `zone` is the managed zone's name or id, not its domain; `credentials` default to the
    environment's (Application Default Credentials).
    """

    def __init__(
        self,
        project: str,
        zone: str,
        *,
        url: str = "https://dns.googleapis.com",
        credentials: Credentials | None = None,
        call_seconds: float = CALL_SECONDS,
    ) -> None:
        self._url = f"{url.rstrip('/')}/dns/v1/projects/{quote(project, safe='')}/managedZones/{quote(zone, safe='')}"
        self._given = credentials
        self._call_seconds = call_seconds
        self._lock = threading.Lock()

    def upsert(self, name: str, kind: DnsKind, values: Sequence[str], ttl_seconds: int) -> None:
        """See `Dns.upsert`; one change, made as a whole."""
        name = f"{name.rstrip('.')}."
        wished = {
            "name": name,
            "type": kind,
            "ttl": ttl_seconds,
            "rrdatas": [v if kind in ("A", "AAAA") else f"{v.rstrip('.')}." for v in values],
        }

        def attempt(until: float) -> None:
            there = self._there(name, until)
            replaced = [r for r in there if r.get("type") == kind or _rivals(kind, r.get("type"))]
            if len(replaced) == 1 and _is_as(replaced[0], wished):
                return
            self._change([_exactly(r) for r in replaced], [wished], until)

        persistently(attempt, call_seconds=self._call_seconds)

    def remove(self, name: str, kind: DnsKind) -> None:
        """See `Dns.remove`."""
        name = f"{name.rstrip('.')}."

        def attempt(until: float) -> None:
            there = [r for r in self._there(name, until) if r.get("type") == kind]
            if there:
                self._change([_exactly(r) for r in there], [], until)

        persistently(attempt, call_seconds=self._call_seconds)

    def _there(self, name: str, until: float) -> list[dict[str, Any]]:
        """Each record set of a name."""
        found: list[dict[str, Any]] = []
        params = {"name": name}
        for _ in range(PAGES_MAX):
            status, answer = ask(
                self._client, "GET", f"{self._url}/rrsets", token=self._token(), until=until, params=params
            )
            _check(status, answer)
            # The list is left out where it is empty; an answer that is none of Cloud DNS's is not empty.
            if "rrsets" in answer or answer.get("kind") != "dns#resourceRecordSetsListResponse":
                found += rows(answer, "rrsets")
            page = answer.get("nextPageToken")
            if not page:
                return [r for r in found if str(r.get("name", "")).casefold() == name.casefold()]
            params["pageToken"] = str(page)
        raise DnsRefused("the list of the zone's records does not end")

    def _change(self, deletions: list[dict[str, Any]], additions: list[dict[str, Any]], until: float) -> None:
        body = {"kind": "dns#change", "deletions": deletions, "additions": additions}
        status, answer = ask(self._client, "POST", f"{self._url}/changes", token=self._token(), until=until, body=body)
        if status in (409, 412):
            raise Again("the records were changed meanwhile")
        _check(status, answer)

    def _token(self) -> str:
        with self._lock:
            try:
                if not self._credentials.valid:
                    with requests.Session() as session:
                        self._credentials.refresh(_Bounded(session))  # type: ignore[no-untyped-call]
            except GoogleAuthError as error:
                # Its own text may quote the answer of the token's server.
                if error.retryable or isinstance(error, TransportError):
                    raise Again(f"no token: {type(error).__name__}") from None
                raise DnsRefused(f"no token for Cloud DNS: {type(error).__name__}") from None
            return str(self._credentials.token)

    @functools.cached_property
    def _credentials(self) -> Credentials:
        return self._given if self._given is not None else google.auth.default(scopes=[SCOPE])[0]

    @functools.cached_property
    def _client(self) -> httpx.Client:
        return httpx.Client()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


class _Bounded(google.auth.transport.requests.Request):
    """google-auth waits up to 120 s for a token by itself."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **(kwargs | {"timeout": 8.0}))  # type: ignore[no-untyped-call]


def _rivals(kind: str, other: object) -> bool:
    return kind in ADDRESS_KINDS and other in ADDRESS_KINDS


def _exactly(record: dict[str, Any]) -> dict[str, Any]:
    """A record set as a deletion must state it; what it is signed with is Google's."""
    return {
        name: value for name, value in record.items() if name in ("name", "type", "ttl", "rrdatas", "routingPolicy")
    }


def _is_as(record: dict[str, Any], wished: dict[str, Any]) -> bool:
    values = record.get("rrdatas")
    return (
        record.get("type") == wished["type"]
        and record.get("ttl") == wished["ttl"]
        and isinstance(values, list)
        and same_values(str(wished["type"]), [str(v) for v in values], wished["rrdatas"])
    )


def _check(status: int, answer: dict[str, Any]) -> None:
    if 200 <= status < 300:
        return
    error = answer.get("error")
    said = error.get("message") if isinstance(error, dict) else None
    raise DnsRefused(f"Cloud DNS: status {status}: {str(said or 'no reason')[:200]}")
