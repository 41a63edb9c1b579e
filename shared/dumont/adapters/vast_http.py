"""HTTP with Vast.ai: bounded in time and size, typed errors, retries only where they cannot do harm.

The API key goes into one header of requests to the configured origin, and nowhere else.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from dumont.adapters.vast_errors import PROVIDER, Answer, error_of, is_success, read_answer
from dumont.domain.errors import AuthError, InvalidRequest, ProviderDown, ProviderError, RateLimited
from dumont.ports import CALL_SECONDS_MAX, Clock

BUDGET_SECONDS = CALL_SECONDS_MAX - 1.0
"""For one call of the port, however many requests it takes."""

ATTEMPTS_MAX = 3
BACKOFF_SECONDS = 0.5
WAIT_SECONDS_MIN = 0.25
WAIT_REMEMBERED_SECONDS_MAX = 60.0
ANSWER_BYTES_MAX = 16 << 20

_STEP_SHARE = 1 / 9  # of the time left, each: for a free connection, for connecting, for sending
_READ_SHARE = 1 / 3  # of the time left: for the answer's head, and again for a piece of its body

# httpx logs each URL at INFO, and a log's URL is signed: whoever reads it can read the log.
logging.getLogger("httpx").setLevel(logging.WARNING)


class VastHttp:
    """Requests to one Vast.ai account. Safe for several threads."""

    def __init__(self, api_key: str, url: str, *, clock: Clock, client: httpx.Client | None = None) -> None:
        """Raises `AuthError` for a key that is none: the HTTP library would quote it in its complaint."""
        key = api_key.strip()
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise AuthError("the API key is empty or malformed", provider=PROVIDER)
        self._key = key
        self._url = url.rstrip("/")
        self._clock = clock
        self._given_client = client
        self._not_before: dict[str, float] = {}

    @functools.cached_property
    def _client(self) -> httpx.Client:
        # Loading certificates takes 0.1 s and more: only functions that talk to the market pay for it.
        return self._given_client if self._given_client is not None else httpx.Client()

    def deadline(self) -> float:
        """When a call of the port that begins now must have ended."""
        return self._clock.now() + BUDGET_SECONDS

    def call(
        self,
        method: str,
        path: str,
        endpoint: str,
        *,
        deadline: float,
        body: Mapping[str, object] | None = None,
        params: Mapping[str, str] | None = None,
        repeatable: bool = False,
        missing: type[ProviderError] = InvalidRequest,
    ) -> dict[str, Any]:
        """The answer's object if Vast says that it did what was asked; else raises a typed `ProviderError`.

        `endpoint` names what Vast limits the frequency of. Only a `repeatable` call is tried again, and within
        `deadline`: after no answer, an unreadable one, a 5xx, or (having waited as asked) a 429. `missing`: see
        `vast_errors.error_of`.
        """
        attempts = 0
        while True:
            self._wait_for(endpoint, deadline, repeatable=repeatable)
            try:
                answer = self._once(method, path, body, params, deadline)
                if is_success(answer):
                    return answer.body or {}
                error = error_of(answer, endpoint, self._clock.now(), missing=missing)
            except ProviderDown as down:
                error = down
            error = self._without_key(error)
            if isinstance(error, RateLimited):
                wait = max(error.retry_after_seconds, WAIT_SECONDS_MIN)
                self._not_before[endpoint] = self._clock.now() + min(wait, WAIT_REMEMBERED_SECONDS_MAX)
            elif isinstance(error, ProviderDown):
                attempts += 1
                wait = BACKOFF_SECONDS * 2 ** (attempts - 1)
            else:
                raise error
            if not repeatable or attempts >= ATTEMPTS_MAX or self._clock.now() + wait >= deadline:
                raise error
            self._clock.sleep(wait)

    def fetch_text(self, url: str, *, deadline: float) -> str | None:
        """What lies at a URL that Vast gave, or None if it is not there (yet). No key is sent: it is another origin."""
        try:
            if urlsplit(url).scheme not in {"https", urlsplit(self._url).scheme}:
                raise ProviderDown("logs: the result's URL is of another scheme", provider=PROVIDER)
            answer = self._send(httpx.Request("GET", url), deadline)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as problem:
            # Not its text: that may hold the URL, which is signed.
            raise ProviderDown(f"logs: {type(problem).__name__}", provider=PROVIDER) from None
        return answer.text if answer.status == 200 else None

    def _wait_for(self, endpoint: str, deadline: float, *, repeatable: bool) -> None:
        """Keep to what an endpoint asked for the last time, in whichever call that was."""
        now = self._clock.now()
        wait = self._not_before.get(endpoint, 0.0) - now
        if wait <= 0:
            return
        if not repeatable or now + wait >= deadline:
            raise RateLimited(
                f"{endpoint}: asked to wait by an earlier answer", provider=PROVIDER, retry_after_seconds=wait
            )
        self._clock.sleep(wait)

    def _once(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None,
        params: Mapping[str, str] | None,
        deadline: float,
    ) -> Answer:
        try:
            request = self._client.build_request(
                method,
                self._url + path,
                params=params,
                json=body,
                headers={
                    "Authorization": f"Bearer {self._key}",
                    "Accept": "application/json",
                    "User-Agent": "dumont",
                },
            )
            return self._send(request, deadline)
        except (httpx.HTTPError, httpx.InvalidURL) as problem:
            raise ProviderDown(f"no answer: {type(problem).__name__}: {problem}", provider=PROVIDER) from None

    def _send(self, request: httpx.Request, deadline: float) -> Answer:
        left = deadline - self._clock.now()
        if left <= 0:
            raise ProviderDown("no time is left for another request", provider=PROVIDER)
        # httpx bounds each wait, not the whole. These shares add up to what is left, at worst; and an attempt that
        # gets no answer leaves time for another.
        read = left * _READ_SHARE
        timeout = httpx.Timeout(left * _STEP_SHARE, read=read)
        request.extensions = {**request.extensions, "timeout": timeout.as_dict()}
        last_piece_begins = time.monotonic() + left - read
        response = self._client.send(request, stream=True, follow_redirects=False)
        try:
            content = bytearray()
            for piece in response.iter_bytes():
                content += piece
                if len(content) > ANSWER_BYTES_MAX:
                    raise ProviderDown(f"the answer is longer than {ANSWER_BYTES_MAX} bytes", provider=PROVIDER)
                if time.monotonic() > last_piece_begins:
                    raise ProviderDown("the answer did not end in time", provider=PROVIDER)
        finally:
            response.close()
        return read_answer(response.status_code, bytes(content), response.headers.get("Retry-After"))

    def _without_key(self, error: ProviderError) -> ProviderError:
        """The error, with the key struck out should the provider quote it."""
        error.args = tuple(a.replace(self._key, "[key]") if isinstance(a, str) else a for a in error.args)
        return error
