"""How often one key may change things, and one address try keys: counted in the store, so that it holds across
instances, with one read and one write for each; reads and heartbeats are not counted, and cost nothing.

The `limits` package would leave us the same work: each of its strategies is its store's, and ours it does not know.
Its import takes 0.4 s of a cold start's 0.6.
"""

from __future__ import annotations

import ipaddress
import math
import threading
from collections.abc import Callable

from flask import Request

from dumont.domain.errors import UserError
from dumont.domain.quotas import Quota, Spent, Verdict, spend
from dumont.ports import Store, Transaction

SUBJECTS_MOST = 10_000
"""How many are kept in memory at once; with more, all are forgotten, which costs a read each."""


class TooManyRequests(UserError):
    """The quota is used up; nothing was done."""

    status = 429
    code = "too_many_requests"

    def __init__(self, verdict: Verdict, what: str) -> None:
        wait = _whole(verdict.retry_after_seconds)
        super().__init__(f"too many {what}: {verdict.quota.units} in a minute are taken", hint=f"try again in {wait} s")
        self.verdict = verdict


class Limiter:
    """Counts for one process. Safe across threads."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._refused_until: dict[str, float] = {}
        self._here: dict[str, Spent] = {}

    def spend(self, store: Store, quota: Quota, who: str) -> Verdict:
        """One unit of a quota that all instances share. Raises `StoreError`.

        Who is refused is remembered here until there is something for him again: a flood costs the store nothing.
        """
        subject, now = f"{quota.name}.{who}", self._now()
        with self._lock:
            until = self._refused_until.get(subject, 0.0)
        if now < until:
            return Verdict(quota=quota, allowed=False, reset_seconds=until - now, retry_after_seconds=until - now)

        def work(tx: Transaction) -> Verdict:
            spent, verdict = spend(tx.get(Spent, subject), subject, quota, now)
            if verdict.allowed:
                tx.put(spent)
            return verdict

        verdict = store.transact(work)
        if not verdict.allowed:
            with self._lock:
                _make_room(self._refused_until)
                self._refused_until[subject] = now + verdict.retry_after_seconds
        return verdict

    def spend_here(self, quota: Quota, who: str) -> Verdict:
        """One unit of a quota of this process's own: for functions that may not write."""
        subject = f"{quota.name}.{who}"
        with self._lock:
            spent, verdict = spend(self._here.get(subject), subject, quota, self._now())
            _make_room(self._here)
            self._here[subject] = spent
        return verdict


def fields(verdict: Verdict) -> dict[str, str]:
    """The header fields that tell a caller of a quota (draft-ietf-httpapi-ratelimit-headers-10)."""
    quota = verdict.quota
    told = {
        "RateLimit-Policy": f'"{quota.name}";q={quota.units};w={_whole(quota.seconds)}',
        "RateLimit": f'"{quota.name}";r={verdict.remaining};t={_whole(verdict.reset_seconds)}',
    }
    return told if verdict.allowed else told | {"Retry-After": str(_whole(verdict.retry_after_seconds))}


def address_of(request: Request, proxies: int) -> str:
    """Whom a request comes from: the address that the first of so many proxies of ours saw; of IPv6 its /64, which
    is what one subscriber has. What stands further left in `X-Forwarded-For` anybody may have written."""
    text = request.remote_addr or ""
    if proxies > 0:
        seen = [part.strip() for part in ",".join(request.headers.getlist("X-Forwarded-For")).split(",")]
        text = seen[-proxies] if len(seen) >= proxies else ""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    mapped = address.ipv4_mapped
    if mapped is not None:
        return str(mapped)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)).network_address)


def _make_room(kept: dict[str, float] | dict[str, Spent]) -> None:
    if len(kept) >= SUBJECTS_MOST:
        kept.clear()


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))
