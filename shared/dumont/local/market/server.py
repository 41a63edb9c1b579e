"""The simulated market, running: HTTP in front, real machines behind, the pure market between them under one lock."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

from dumont.local.market.api import Answer, Api, Request
from dumont.local.market.control import control
from dumont.local.market.core import FIRST_INSTANCE_ID, Market
from dumont.local.market.faults import FaultRate
from dumont.local.market.http import HttpServer
from dumont.local.market.lifecycle import BOOTS
from dumont.local.market.limits import RateLimits
from dumont.local.market.machines import Machines
from dumont.local.market.webhooks import Webhooks
from dumont.ports import Clock

IDS_COUNTED_FROM = 1_760_000_000


class MarketServer:
    """Vast.ai's API on a port of loopback, over simulated machines with real SSH servers.

    `folder` holds the machines' disks. `time_scale` multiplies how long boots, starts and stops take, and never what
    is billed; `boots` is one of `lifecycle.BOOTS`. With `machines` False, instances are rows in answers only.
    """

    def __init__(
        self,
        *,
        folder: Path,
        clock: Clock,
        api_keys: Iterable[str],
        port: int = 0,
        seed: int = 0,
        time_scale: float = 1.0,
        boots: str = "fast",
        credit_usd: float = 100.0,
        fault_rates: Iterable[FaultRate] = (),
        limits: RateLimits | None = None,
        machines: bool = True,
    ) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        now = clock.now()
        self.market = Market(
            seed=seed,
            opened_at=now,
            time_scale=time_scale,
            durations=BOOTS[boots],
            credit_usd=credit_usd,
            fault_rates=fault_rates,
            real_machines=machines,
            # What a market that ran before called its instances must not be one of ours: clients' books outlive us.
            first_instance_id=FIRST_INSTANCE_ID + max(0, int(now) - IDS_COUNTED_FROM),
        )
        self._machines = Machines(self.market, self._lock, clock, folder) if machines else None
        self._api = Api(
            self.market,
            api_keys,
            limits=limits,
            read_log=self._machines.read_log if self._machines else None,
            execute=self._machines.execute if self._machines else None,
        )
        self._webhooks = Webhooks(self.market, self._lock, clock)
        self._http = HttpServer(self._handle, self._control, port)

    @property
    def port(self) -> int:
        """The port, the picked one if none was asked for."""
        return int(self._http.server_port)

    @property
    def url(self) -> str:
        """What VAST_URL should be."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Open the market."""
        if self._machines:
            self._machines.start(self.url)
        self._webhooks.start(lambda: self._api.webhook)
        self._http.start()

    def close(self) -> None:
        """Close it. No process of any machine is left; their disks stay until a market opens in this folder again."""
        self._http.close()
        self._webhooks.close()
        if self._machines:
            self._machines.close()

    def __enter__(self) -> MarketServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _handle(self, request: Request) -> Answer:
        with self._lock:
            answer = self._api.handle(request, self._clock.now())
        self._look()
        return answer

    def _control(self, method: str, path: str, body: bytes) -> Answer:
        with self._lock:
            answer = control(self._api, method, path, body, self._clock.now())
        self._look()
        return answer

    def _look(self) -> None:
        if self._machines:
            self._machines.look()
