"""Signed HTTP with an S3 server: bounded in time and size, retried, its errors typed."""

from __future__ import annotations

import functools
import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit
from xml.etree import ElementTree as Xml

import httpx

from dumont.adapters import sigv4
from dumont.domain.errors import BlobDamaged, BlobError, BlobNotFound, BlobRefused, BlobTooLarge, BlobUnavailable
from dumont.ports import CALL_SECONDS_MAX, Clock

BUDGET_SECONDS = CALL_SECONDS_MAX - 1.0
"""For one call of the port, however many requests it takes."""

ATTEMPTS_MAX = 5
BACKOFF_SECONDS = 0.25
LISTING_BYTES_MAX = 16 << 20
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_STEP_SHARE, _READ_SHARE = 1 / 9, 1 / 3  # of the time left: an attempt without an answer leaves time for another
_ERROR_BYTES_MAX = 64 << 10

logging.getLogger("httpx").setLevel(logging.WARNING)


@dataclass(frozen=True)
class Answer:
    """An answer of status 2xx, or 404 where that was asked for."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class NotImplementedByStore(BlobRefused):
    """The server does not know this call."""


class S3Http:
    """Requests to one bucket of an S3 server, path style. Safe for several threads."""

    def __init__(
        self,
        endpoint: str,
        bucket: str,
        key_id: str,
        secret: str,
        region: str,
        *,
        clock: Clock,
        client: httpx.Client | None = None,
    ) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._host = urlsplit(self._endpoint).netloc
        self._bucket = bucket
        self._key_id, self._secret, self._region = key_id, secret, region
        self._clock = clock
        self._given_client = client

    @functools.cached_property
    def _client(self) -> httpx.Client:
        # Loading certificates takes 0.1 s and more: only functions that talk to the store pay for it.
        return self._given_client if self._given_client is not None else httpx.Client()

    def deadline(self) -> float:
        """When a call of the port that begins now must have ended."""
        return self._clock.now() + BUDGET_SECONDS

    def call(
        self,
        method: str,
        key: str,
        what: str,
        *,
        deadline: float,
        query: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        bytes_max: int = LISTING_BYTES_MAX,
        may_be_missing: bool = False,
        check: Callable[[Answer], None] | None = None,
    ) -> Answer:
        """The answer, or a `BlobError`; every call here may be made again. `key` "" is the bucket itself. `check`
        may find the answer unusable, by a `BlobDamaged`.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                answer = self._once(
                    method, key, what, list(query), body, headers or {}, bytes_max, deadline, may_be_missing
                )
                if check:
                    check(answer)
                return answer
            except (BlobUnavailable, BlobDamaged) as problem:
                wait = max(BACKOFF_SECONDS * 2 ** (attempt - 1), getattr(problem, "retry_after_seconds", 0.0))
                if attempt >= ATTEMPTS_MAX or self._clock.now() + wait >= deadline:
                    raise
                self._clock.sleep(wait)

    def _once(
        self,
        method: str,
        key: str,
        what: str,
        query: list[tuple[str, str]],
        body: bytes,
        extra: Mapping[str, str],
        bytes_max: int,
        deadline: float,
        may_be_missing: bool,
    ) -> Answer:
        left = deadline - self._clock.now()
        if left <= 0:
            raise BlobUnavailable(f"{what}: no time is left for another request")
        path = f"/{self._bucket}/{key}" if key else f"/{self._bucket}"
        signed = {
            "host": self._host,
            "x-amz-content-sha256": hashlib.sha256(body).hexdigest(),
            "x-amz-date": sigv4.amz_date(self._clock.now()),
            **extra,
        }
        authorization = sigv4.authorization(
            self._key_id,
            self._secret,
            region=self._region,
            method=method,
            path=path,
            query=query,
            headers=signed,
        )
        asked = sigv4.canonical_query(query)
        url = self._endpoint + sigv4.canonical_path(path) + (f"?{asked}" if asked else "")
        read = left * _READ_SHARE
        try:
            request = self._client.build_request(
                method,
                url,
                content=body or None,
                headers={**signed, "authorization": authorization},
                timeout=httpx.Timeout(left * _STEP_SHARE, read=read),
            )
            response = self._client.send(request, stream=True, follow_redirects=False)
            try:
                limit = bytes_max if response.is_success else _ERROR_BYTES_MAX
                content = _read(response, what, limit, time.monotonic() + left - read)
            finally:
                response.close()
        except httpx.HTTPError as problem:
            raise BlobUnavailable(f"{what}: {type(problem).__name__}") from None
        if response.is_success or (may_be_missing and response.status_code == 404):
            return Answer(response.status_code, content, response.headers)
        raise _error(response, content, what)


def _read(response: httpx.Response, what: str, bytes_max: int, last_piece_begins: float) -> bytes:
    said = int(response.headers.get("Content-Length", -1))
    is_head = response.request.method == "HEAD"
    if said > bytes_max and not is_head:
        raise BlobTooLarge(f"{what}: {said} bytes, of at most {bytes_max}")
    content = bytearray()
    for piece in response.iter_raw():
        content += piece
        if len(content) > bytes_max:
            raise BlobTooLarge(f"{what}: more than {bytes_max} bytes")
        if time.monotonic() > last_piece_begins:
            raise BlobUnavailable(f"{what}: the answer did not end in time")
    return bytes(content)


def _error(response: httpx.Response, content: bytes, what: str) -> BlobError:
    status = response.status_code
    code = error_code(content)
    text = f"{what}: status {status} {code}".rstrip()
    if status in _TRANSIENT:
        unavailable = BlobUnavailable(text)
        try:
            seconds = float(response.headers.get("Retry-After", 0))
        except ValueError:
            seconds = 0.0  # a date: the usual wait will do
        unavailable.retry_after_seconds = max(0.0, seconds)  # type: ignore[attr-defined]
        return unavailable
    if status == 404 and code != "NoSuchBucket":
        return BlobNotFound(text)
    if status in (405, 501):
        return NotImplementedByStore(text)
    return BlobRefused(text)


def error_code(content: bytes) -> str:
    """S3's code of an error: a word. Nothing else of an answer goes into messages, for some quote what was signed."""
    try:
        code = Xml.fromstring(content).findtext("Code") or ""  # noqa: S314 - see the import
    except Xml.ParseError:
        return ""
    return code if code.isalnum() else ""
