"""Vast.ai's HTTP API around a market, without HTTP: a request in, an answer out, no I/O and no clock.

`server` puts it behind a port. A simulation calls `handle` itself, as from an `httpx.MockTransport`, and honours the
answer's `lost` and `delay_seconds`, so that the real client meets the same faults in virtual time.
"""

from __future__ import annotations

import functools
import json
import random
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from dumont.local.market.access import Access
from dumont.local.market.core import Market
from dumont.local.market.faults import Fault
from dumont.local.market.handlers import Handlers
from dumont.local.market.limits import RateLimits
from dumont.local.market.refusals import Refused
from dumont.local.market.webhooks import Destination

BODY_BYTES_MOST = 1_000_000
CALLS_KEPT = 10_000


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it came. `path` has no query; `base_url`, how the caller reached us, has no slash at its end."""

    method: str
    path: str
    query: Mapping[str, str] = {}
    body: bytes = b""
    key: str = ""
    base_url: str = "http://127.0.0.1"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What goes back. `lost`: nothing does, and after `delay_seconds` the connection is closed."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = {}
    lost: bool = False
    delay_seconds: float = 0.0


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was answered, for tests to look at."""

    at: float
    method: str
    path: str
    endpoint: str
    status: int
    lost: bool


Route = tuple[str, re.Pattern[str], str, str]


def _route(method: str, path: str, endpoint: str, handler: str) -> Route:
    pattern = re.sub(r"<(\w+)>", r"(?P<\1>\\d+)", path)
    return method, re.compile(f"^{pattern}/?$"), endpoint, handler


ROUTES: tuple[Route, ...] = (
    _route("POST", "/api/v0/bundles", "search", "search"),
    _route("GET", "/api/v0/bundles", "search", "search_by_query"),
    _route("PUT", "/api/v0/search/asks", "search", "search_asks"),
    _route("PUT", "/api/v0/asks/<id>", "create", "create"),
    _route("GET", "/api/v1/instances", "list", "list_instances"),
    _route("GET", "/api/v0/instances", "list", "list_deprecated"),
    _route("PUT", "/api/v0/instances", "update", "update_several"),
    _route("DELETE", "/api/v0/instances", "destroy", "destroy_several"),
    _route("GET", "/api/v0/instances/filters", "show", "instance_filters"),
    _route("GET", "/api/v0/instances/pending-price-increases", "show", "price_increases"),
    _route("GET", "/api/v0/instances/balance/<id>", "show", "deposit"),
    _route("GET", "/api/v0/instances/<id>", "show", "show"),
    _route("PUT", "/api/v0/instances/<id>", "update", "update"),
    _route("DELETE", "/api/v0/instances/<id>", "destroy", "destroy"),
    _route("PUT", "/api/v0/instances/reboot/<id>", "reboot", "reboot"),
    _route("PUT", "/api/v0/instances/recycle/<id>", "reboot", "recycle"),
    _route("PUT", "/api/v0/instances/bid_price/<id>", "bid", "change_bid"),
    _route("PUT", "/api/v0/instances/request_logs/<id>", "logs", "request_logs"),
    _route("PUT", "/api/v0/instances/command/<id>", "command", "execute"),
    _route("GET", "/api/v0/instances/<id>/ssh", "ssh", "instance_keys"),
    _route("POST", "/api/v0/instances/<id>/ssh", "ssh", "attach_key"),
    _route("DELETE", "/api/v0/instances/<id>/ssh/<key_id>", "ssh", "detach_key"),
    _route("GET", "/api/v0/ssh", "ssh", "account_keys"),
    _route("POST", "/api/v0/ssh", "ssh", "add_account_key"),
    _route("PUT", "/api/v0/ssh/<id>", "ssh", "change_account_key"),
    _route("DELETE", "/api/v0/ssh/<id>", "ssh", "delete_account_key"),
    _route("GET", "/api/v0/users/current", "user", "user"),
    _route("GET", "/api/v0/charges", "charges", "charges"),
    _route("GET", "/api/v0/auth/apikeys", "keys", "api_keys"),
    _route("POST", "/api/v0/auth/apikeys", "keys", "create_api_key"),
    _route("DELETE", "/api/v0/auth/apikeys/<id>", "keys", "delete_api_key"),
    _route("POST", "/api/v0/volumes/search", "search", "search_volumes"),
    _route("GET", "/api/v0/volumes", "list", "volumes"),
    _route("GET", "/api/v0/machines/<id>/reports", "show", "reports"),
)

_OPEN = re.compile(r"^(/api/v0)?/gpu_names/unique/?$")
_RESULT = re.compile(r"^/results/(?P<token>[0-9a-f]{32})\.log$")


@functools.lru_cache(maxsize=1024)
def _find_route(method: str, path: str) -> tuple[str, str, dict[str, int]] | None:
    """The endpoint that a request is for, its handler's name, and the ids in its path."""
    for of_method, pattern, endpoint, handler in ROUTES:
        if of_method == method and (match := pattern.match(path)):
            return endpoint, handler, {name: int(value) for name, value in match.groupdict().items()}
    return None


class Api:
    """The API of one market. Not thread-safe: one request at a time, whose effects are then complete."""

    def __init__(
        self,
        market: Market,
        account_keys: Iterable[str],
        *,
        limits: RateLimits | None = None,
        read_log: Callable[[int, bool], str] | None = None,
        execute: Callable[[int, list[str]], str] | None = None,
    ) -> None:
        """`read_log` and `execute` reach an instance's real machine, where there is one."""
        self.market = market
        self.access = Access(account_keys, market)
        self.limits = limits or RateLimits()
        self.calls: list[Call] = []
        self.webhook: Destination | None = None
        """Where the account's notices go."""
        self._handlers = Handlers(market, self.access, read_log=read_log, execute=execute)
        self._rng = random.Random(f"requests/{market.seed}")

    def handle(self, request: Request, now: float) -> Answer:
        """Answer a request."""
        if _OPEN.match(request.path):
            return _json(200, {"gpu_names": self._handlers.gpu_names()})
        result = _RESULT.match(request.path)
        if result and request.method == "GET":
            return self._result(result["token"])
        endpoint, answer = self._answered(request, now)
        answer = self._befallen(answer, endpoint)
        del self.calls[: max(0, len(self.calls) - CALLS_KEPT)]
        self.calls.append(
            Call(
                at=now,
                method=request.method,
                path=request.path,
                endpoint=endpoint,
                status=answer.status,
                lost=answer.lost,
            )
        )
        return answer

    def _answered(self, request: Request, now: float) -> tuple[str, Answer]:
        found = _find_route(request.method, request.path)
        endpoint = found[0] if found else "unknown"
        try:
            if found is None:
                self.access.check(request.key, "misc", now, instance_id=None, changes_state=False)
                raise Refused(404, "not_found", "The simulated market has no such endpoint.")
            handler_name, ids = found[1:]
            body = _body(request.body)
            self.access.check(
                request.key,
                endpoint,
                now,
                instance_id=ids.get("id"),
                changes_state=set(body) == {"state"},
            )
            refusal = self._refused_first(request.key, endpoint, now)
            if refusal is not None:
                return endpoint, refusal
            handler: Callable[..., dict[str, Any] | list[Any]] = getattr(self._handlers, handler_name)
            return endpoint, _json(200, handler(now=now, body=body, request=request, **ids))
        except Refused as refused:
            return endpoint, _json(refused.status, refused.body())

    def _refused_first(self, key: str, endpoint: str, now: float) -> Answer | None:
        """An answer that comes before any effect: a rate limit, or an error of the server's own."""
        threshold = self.limits.threshold_passed(key, endpoint, now)
        if threshold is not None:
            return too_frequent(threshold, None)
        fault = self._take("rate_limited", endpoint)
        if fault is not None:
            return too_frequent(self.limits.least_seconds.get(endpoint, 1.0), fault.retry_after_seconds)
        fault = self._take("server_error", endpoint)
        if fault is not None:
            body = {"success": False, "error": "internal_error", "msg": "Internal server error"}
            return _json(fault.status or 500, body)
        return None

    def _befallen(self, answer: Answer, endpoint: str) -> Answer:
        """What becomes of an answer once its effect is done."""
        slow = self._take("slow", endpoint)
        if slow is not None:
            answer = msgspec.structs.replace(answer, delay_seconds=slow.seconds or 1.0)
        lost = self._take("lost_answer", endpoint)
        if lost is not None:
            answer = msgspec.structs.replace(answer, lost=True, delay_seconds=lost.seconds or 0.0)
        return answer

    def _take(self, kind: str, endpoint: str) -> Fault | None:
        return self.market.faults.take(frozenset({kind}), rng=self._rng, endpoint=endpoint)

    def _result(self, token: str) -> Answer:
        text = self._handlers.results.get(token)
        if text is None:
            return _json(404, {"success": False, "error": "not_found", "msg": "No such result."})
        return Answer(status=200, body=text.encode(), content_type="text/plain; charset=utf-8")


def too_frequent(threshold_seconds: float, retry_after_seconds: float | None) -> Answer:
    """Vast.ai's 429, which usually has no Retry-After."""
    detail = f"API requests too frequent endpoint threshold={threshold_seconds}"
    headers = {} if retry_after_seconds is None else {"Retry-After": f"{retry_after_seconds:g}"}
    answer = _json(429, {"detail": detail})
    return msgspec.structs.replace(answer, headers=headers)


def _json(status: int, body: Any) -> Answer:
    return Answer(status=status, body=msgspec.json.encode(body))


def _body(raw: bytes) -> dict[str, Any]:
    if len(raw) > BODY_BYTES_MOST:
        raise Refused(413, "invalid_args", "The body is too large.")
    if not raw:
        return {}
    try:
        body = json.loads(raw)
    except ValueError:
        raise Refused(400, "invalid_request", "Invalid json body") from None
    if not isinstance(body, dict):
        raise Refused(400, "invalid_request", "Invalid json body")
    return body
