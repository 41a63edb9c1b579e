"""What is noted of callers without a write for each: when a key was used last, and how many proofs did not hold."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from msgspec.structs import replace

from dumont.domain.audit import KEPT_SECONDS, AuditEntry
from dumont.domain.errors import StoreError
from dumont.domain.keys import USE_NOTED_SECONDS, ApiKey
from dumont.operations import keys
from dumont.ports import Ports, Transaction

log = logging.getLogger(__name__)

REFUSALS_NOTED_SECONDS = 60.0
HOUR_SECONDS = 3600.0
KEYS_MOST = 10_000


class KeyUses:
    """When this process has seen which key. Safe across threads; `now` is a clock of seconds since the epoch."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._noted: dict[str, float] = {}

    def note(self, ports: Ports, key: ApiKey) -> None:
        """Note that a key is used: one write a key in about an hour, however many processes see it."""
        now = self._now()
        if not key.id or (ports.bootstrap_key is not None and key.id == ports.bootstrap_key.id):
            return
        if now - max(key.last_used_at or 0.0, self._noted.get(key.id, 0.0)) < USE_NOTED_SECONDS:
            return
        with self._lock:
            if len(self._noted) >= KEYS_MOST:
                self._noted.clear()
            self._noted[key.id] = now
        # Nobody is refused because it cannot be noted; another process, or this one in an hour, tries again.
        try:
            keys.note_use(ports, key.id)
        except StoreError as error:
            log.warning("a key's use was not noted", extra={"key": key.id, "error": str(error)[:200]})


class Refusals:
    """Proofs that did not hold: counted in memory, and added to the hour's entry of the audit log once a minute.

    A process that ends takes less than a minute's count with it: that is the price of a flood of wrong keys costing the
    store one write a minute and process.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        # Apart by whether they can be written down: in the local cloud all functions are one process.
        self._count = {True: 0, False: 0}
        self._told_at = {True: float("-inf"), False: float("-inf")}

    def note(self, ports: Ports | None, address: str) -> None:
        """One more, from this address. `ports` None: of a function that may not write, whose log alone says it."""
        now, may_write = self._now(), ports is not None
        with self._lock:
            self._count[may_write] += 1
            if now - self._told_at[may_write] < REFUSALS_NOTED_SECONDS:
                return
            count, self._count[may_write], self._told_at[may_write] = self._count[may_write], 0, now
        log.warning("wrong keys were tried", extra={"count": count, "last_address": address})
        if ports is None:
            return
        try:
            ports.store.transact(lambda tx: _add(tx, count, address, now))
        except StoreError as error:
            with self._lock:
                self._count[may_write] += count
            log.warning("wrong keys were not counted", extra={"count": count, "error": str(error)[:200]})


def _add(tx: Transaction, count: int, address: str, now: float) -> None:
    """The hour's entry, for the whole deployment, with so many more in it."""
    entry_id = f"refused-{int(now // HOUR_SECONDS)}"
    before = tx.get(AuditEntry, entry_id)
    if before is not None:
        tx.put(replace(before, at=max(before.at, now), count=before.count + count, address=address))
        return
    tx.put(
        AuditEntry(
            id=entry_id, at=now, who="", name="nobody", what="wrong keys or tokens", address=address, status=401,
            code="wrong_key", count=count, expires_at=now + KEPT_SECONDS,
        )
    )  # fmt: skip
