"""The way from the real Vast adapter to the simulated market, and what is lost on it.

In the place of httpx's client, and of nothing above it: to make and parse a URL, headers and a response for each of the
million calls of a run took a fifth of its time. The adapter's contract tests have the real client.
"""

from __future__ import annotations

import json as json_text
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from dumont.local.market.api import Request

if TYPE_CHECKING:
    from tests.simulation.world import World

MARKET_URL = "http://market"


class _Asked:
    """A request, as far as the adapter and the market need it."""

    __slots__ = ("content", "extensions", "key", "method", "path", "query")

    def __init__(self, method: str, path: str, query: dict[str, str], content: bytes, key: str) -> None:
        self.method, self.path, self.query, self.content, self.key = method, path, query, content, key
        self.extensions: dict[str, Any] = {}


class _Answered:
    """A response, as far as the adapter needs it."""

    __slots__ = ("content", "headers", "status_code")

    def __init__(self, status_code: int, content: bytes) -> None:
        self.status_code, self.content = status_code, content
        self.headers: dict[str, str] = {}

    def iter_bytes(self) -> Iterator[bytes]:
        yield self.content

    def close(self) -> None:
        pass


class MarketClient(httpx.Client):
    """Carries the adapter's requests to the simulated market; what is lost on the way is lost here."""

    def __init__(self, world: World) -> None:
        self._world = world  # no transport, and nothing to be closed

    def build_request(  # type: ignore[override]
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Mapping[str, object] | None = None,
        headers: Mapping[str, str],
    ) -> _Asked:
        """What `send` takes."""
        content = b"" if json is None else json_text.dumps(json).encode()
        query = {name: value for name, value in (params or {}).items() if value}
        key = headers["Authorization"].removeprefix("Bearer ")
        return _Asked(method, url.removeprefix(MARKET_URL), query, content, key)

    def send(self, request: _Asked, **_how: object) -> _Answered:  # type: ignore[override]
        """The market's answer, unless the weather has another. Raises `httpx.TransportError`."""
        world, rng, weather = self._world, self._world.hub.rng, self._world.weather
        path = request.path
        world.hub.pause(f"market.{request.method} {path}", rng.expovariate(1 / 0.3))
        if world.outages.away("market", world.hub.now) or rng.random() < weather.request_lost:
            raise httpx.ConnectTimeout("lost on the way there")
        if rng.random() < weather.server_error:
            status = rng.choice([500, 502, 503])
            return _Answered(status, rng.choice([b"", b"<html>oops</html>", b"{"]))
        if rng.random() < weather.too_frequent:
            return _Answered(429, b"API requests too frequent: endpoint threshold=2.0")
        answer = world.api.handle(
            Request(method=request.method, path=path, query=request.query, body=request.content, key=request.key),
            world.hub.now,
        )
        if request.method != "GET":
            world.changed = world.market_changed = True
            world.agents.look()
            if answer.status == 200 and b'"state"' in request.content:
                world.orders[int(path.split("/")[-2])] = json_text.loads(request.content)["state"]
        world.hub.pause(f"market.answer {path}", rng.expovariate(1 / 0.05))
        if answer.lost or rng.random() < weather.answer_lost:
            raise httpx.ReadTimeout("lost on the way back")
        return _Answered(
            answer.status, self._listing(answer.body) if path.startswith("/api/v1/instances") else answer.body
        )

    def _listing(self, body: bytes) -> bytes:
        rng, weather = self._world.hub.rng, self._world.weather
        if rng.random() < weather.list_garbage:
            return rng.choice([b"{}", b"null", b'{"success":false,"error":"internal"}', b'{"instances":null}'])
        if rng.random() >= weather.list_lags:
            return body
        page = msgspec.json.decode(body)
        newest = self._world.hub.now - rng.uniform(1.0, 45.0)
        page["instances"] = [row for row in page["instances"] if row["start_date"] < newest]
        page["instances_found"] = page["total_instances"] = len(page["instances"])
        return msgspec.json.encode(page)
