"""A simulated market behind a real port, and the adapter that talks to it, for whichever contract asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dumont.adapters.vast import Vast
from dumont.local.market.server import MarketServer
from tests.contract.market_rig import KEY, VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def market(clock: VirtualClock, tmp_path: Path) -> Iterator[MarketServer]:
    with MarketServer(folder=tmp_path, clock=clock, api_keys=[KEY], machines=False) as server:
        yield server


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client() as shared:
        yield shared


@pytest.fixture
def vast(clock: VirtualClock, market: MarketServer, client: httpx.Client) -> Vast:
    return Vast(KEY, market.url, clock=clock, client=client)
