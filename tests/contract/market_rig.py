"""What the provider's contract needs around it: time that passes at once, and the market's own controls."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from typing import Any

from dumont.adapters.vast import Vast
from dumont.domain.offers import Offer, OfferQuery
from dumont.local.market.server import MarketServer
from dumont.ports import InstanceStatus, ProviderInstance, Rental

KEY = "k" * 64
EVERYTHING = OfferQuery(verified_only=False)


class VirtualClock:
    """Time that passes only where someone sleeps."""

    def __init__(self) -> None:
        self._now = 1_790_000_000.0
        self._lock = threading.Lock()
        self.slept: list[float] = []

    def now(self) -> float:
        with self._lock:
            return self._now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self._now += seconds
            self.slept.append(seconds)


def rental(label: str = "dumont.test.trainer.1.a", bid: float | None = None) -> Rental:
    return Rental(label=label, image="pytorch/pytorch:latest", disk_gb=20, bid_usd_per_hour=bid)


def cheapest(vast: Vast, query: OfferQuery = EVERYTHING) -> Offer:
    return min(vast.search(query), key=lambda offer: (offer.gpu_usd_per_hour, offer.id))


def ask_control(market: MarketServer, method: str, name: str, body: object = None) -> Any:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", market.port)) as connection:
        connection.request(method, f"/_market/{name}", json.dumps(body))
        response = connection.getresponse()
        answer = json.loads(response.read())
        assert response.status == 200, answer
        return answer


def inject(market: MarketServer, kind: str, **details: object) -> None:
    ask_control(market, "POST", "faults", {"kind": kind, **details})


def calls(market: MarketServer, endpoint: str) -> int:
    return sum(1 for call in ask_control(market, "GET", "calls")["calls"] if call["endpoint"] == endpoint)


def until(clock: VirtualClock, vast: Vast, instance_id: str, status: InstanceStatus) -> ProviderInstance:
    """The instance once it has that status; a virtual hour is more than any boot or start takes."""
    for _ in range(720):
        instance = vast.get(instance_id)
        if instance.status is status:
            return instance
        clock.sleep(5.0)
    raise AssertionError(f"not {status} within an hour, but {instance}")
