"""The simulated market's notices: signed and delivered as Vast.ai does, at least once."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from dumont.local.market.core import Market
from dumont.local.market.misfortunes import OUTBID
from dumont.ports import Clock

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.1
TIMEOUT_SECONDS = 10.0
ATTEMPTS_MOST = 5
USER_ID = 4711


class Destination(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where notices go, and what they are signed with."""

    url: str
    secret: str

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://127.0.0.1", "http://localhost")):
            raise ValueError("the simulated market tells only who is on this machine")


class Webhooks:
    """Tells of each instance that is outbid, once it is. `look` is asked under the market's lock."""

    def __init__(self, market: Market, lock: threading.RLock, clock: Clock) -> None:
        self._market, self._lock, self._clock = market, lock, clock
        self._told: set[tuple[int, float]] = set()
        self._destination: Callable[[], Destination | None] = lambda: None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="market-webhooks", daemon=True)

    def start(self, destination: Callable[[], Destination | None]) -> None:
        """Begin to look."""
        self._destination = destination
        self._thread.start()

    def close(self) -> None:
        """Tell no more."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(TIMEOUT_SECONDS)

    def _run(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            destination = self._destination()
            if destination is None:
                continue
            for instance_id in self._outbid():
                body = _body(instance_id, self._clock.now())
                sender = threading.Thread(target=self._deliver, args=(destination, body), daemon=True)
                sender.start()

    def _outbid(self) -> list[int]:
        with self._lock:
            now = self._clock.now()
            found = []
            for instance in self._market.live(now):
                phase = instance.phase(now)
                if phase.message == OUTBID and (instance.id, phase.at) not in self._told:
                    self._told.add((instance.id, phase.at))
                    found.append(instance.id)
            return found

    def _deliver(self, destination: Destination, body: dict[str, Any]) -> None:
        for attempt in range(1, ATTEMPTS_MOST + 1):
            if send(destination, body, self._clock.now(), attempt=attempt):
                return
            if self._closed.wait(0.5 * 2**attempt):
                return
        log.warning("a notice was not delivered", extra={"event": body["event_id"]})


def _body(instance_id: int, now: float) -> dict[str, Any]:
    return {
        "event_id": str(uuid.uuid4()),
        "user_id": USER_ID,
        "notif_type": "outbid",
        "subject": f"Instance {instance_id} was outbid",
        "message": f"Your interruptible instance {instance_id} was outbid and has been stopped. Its data is kept.",
        "timestamp": int(now),
    }


def send(destination: Destination, body: dict[str, Any], now: float, *, attempt: int = 1) -> bool:
    """Deliver one notice; whether it was taken (any 2xx)."""
    raw = json.dumps(body).encode()
    timestamp = str(int(now))
    signed = hmac.new(destination.secret.encode(), timestamp.encode() + b"." + raw, hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/json",
        "X-Vast-Event-Id": str(body["event_id"]),
        "X-Vast-Delivery-Attempt": str(attempt),
        "X-Vast-Timestamp": timestamp,
        "X-Vast-Signature-256": f"sha256={signed}",
    }
    request = urllib.request.Request(destination.url, data=raw, headers=headers, method="POST")  # noqa: S310 - loopback
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
            return bool(200 <= answer.status < 300)
    except (urllib.error.URLError, OSError):
        return False
