"""How often one key may change things or ask the gateway, and one address try keys: counted in the store, so that it
holds across instances. A change or a wrong key costs one read and one write; the gateway's requests are many, and for
them units are taken ahead; reads and heartbeats are not counted, and cost nothing.

The `limits` package would leave us the same work: each of its strategies is its store's, and ours it does not know.
Its import takes 0.4 s of a cold start's 0.6.
"""

from __future__ import annotations

import ipaddress
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

from flask import Request

from dumont.domain.errors import UserError
from dumont.domain.quotas import Quota, Spent, Verdict, spend
from dumont.ports import Store, Transaction

SUBJECTS_MOST = 10_000
"""How many are kept in memory at once; with more, all are forgotten, which costs a read each."""
AHEAD_PART = 20
"""Who asks often takes this part of what is left at once. Of a quota of 6,000 a minute that is 300: one read and one
write for up to 300 requests, and at most 150 in the minute that uses it all up. What one process has taken and not used
is lost to the others until the minute ends: with n processes someone may be refused n twentieths early, never late."""


class TooManyRequests(UserError):
    """The quota is used up; nothing was done."""

    status = 429
    code = "too_many_requests"

    def __init__(self, verdict: Verdict, what: str) -> None:
        wait = _whole(verdict.retry_after_seconds)
        super().__init__(f"too many {what}: {verdict.quota.units} in a minute are taken", hint=f"try again in {wait} s")
        self.verdict = verdict


@dataclass
class _Ahead:
    """Units that were taken in a window and not used yet, and how many there were left then besides."""

    window: int
    units: int
    left: int

    def verdict(self, quota: Quota, now: float) -> Verdict:
        """Of one that was just used."""
        ends = (self.window + 1) * quota.seconds
        return Verdict(
            quota=quota, allowed=True, taken=1, remaining=self.units + self.left, reset_seconds=max(0.0, ends - now)
        )


class Limiter:
    """Counts for one process. Safe across threads."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._refused_until: dict[str, float] = {}
        self._here: dict[str, Spent] = {}
        self._ahead: dict[str, _Ahead] = {}

    def spend(self, store: Store, quota: Quota, who: str, *, part: int = 0) -> Verdict:
        """One unit of a quota that all instances share; or with `part` that part of what is left. Raises `StoreError`.

        Who is refused is remembered here until there is something for him again: a flood costs the store nothing.
        """
        subject, now = f"{quota.name}.{who}", self._now()
        with self._lock:
            until = self._refused_until.get(subject, 0.0)
        if now < until:
            return Verdict(quota=quota, allowed=False, reset_seconds=until - now, retry_after_seconds=until - now)

        def work(tx: Transaction) -> Verdict:
            spent, verdict = spend(tx.get(Spent, subject), subject, quota, now, part=part)
            if verdict.allowed:
                tx.put(spent)
            return verdict

        verdict = store.transact(work)
        if not verdict.allowed:
            with self._lock:
                _make_room(self._refused_until)
                self._refused_until[subject] = now + verdict.retry_after_seconds
        return verdict

    def spend_often(self, store: Store, quota: Quota, who: str) -> Verdict:
        """One unit of a quota that all instances share, for what is asked many times a second. Raises `StoreError`."""
        subject, now = f"{quota.name}.{who}", self._now()
        window = int(now // quota.seconds)
        with self._lock:
            held = self._ahead.get(subject)
            if held is not None and held.window == window and held.units > 0:
                held.units -= 1
                return held.verdict(quota, now)
        verdict = self.spend(store, quota, who, part=AHEAD_PART)
        if verdict.allowed:
            with self._lock:
                held = self._ahead.get(subject)
                # Of two threads that ask the store at once each brings its units.
                before = held.units if held is not None and held.window == window else 0
                _make_room(self._ahead)
                left = verdict.remaining - (verdict.taken - 1)
                self._ahead[subject] = _Ahead(window=window, units=before + verdict.taken - 1, left=left)
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


def _make_room(kept: dict[str, float] | dict[str, Spent] | dict[str, _Ahead]) -> None:
    if len(kept) >= SUBJECTS_MOST:
        kept.clear()


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))
