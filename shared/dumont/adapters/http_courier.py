"""Webhooks out over HTTP: names looked up once, connections to the addresses that were looked at and to no other.

httpcore is used without httpx above it: nothing here follows a redirect, keeps a cookie, reads a proxy from the
environment, or unpacks what is compressed. Its network backend is where a name would be looked up a second time: ours
connects to the addresses that it was given instead. The URL stays as it is, so that `Host`, the name that TLS asks for
and the name that the certificate is checked against are the URL's.
"""

from __future__ import annotations

import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpcore

from dumont.domain.addresses import Target
from dumont.domain.errors import NotDelivered
from dumont.domain.subscriptions import ANSWER_SECONDS
from dumont.optional_ports import Posted

RESOLVE_SECONDS = 4.0
CONNECT_SECONDS = 5.0
BODY_BYTES_MOST = 4096
"""Of an answer's body so much is read, so that a receiver that writes a line is not cut off, and thrown away."""

Resolve = Callable[[str], Sequence[str]]


def look_up(host: str) -> list[str]:
    """The addresses of a name, IPv4 first, as the system's resolver has them. Raises `NotDelivered`, after
    `RESOLVE_SECONDS` at the latest: the resolver itself has no limit that can be set."""
    answers: queue.Queue[list[str] | OSError] = queue.Queue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            answers.put(error if isinstance(error, OSError) else OSError(str(error)))
        else:
            answers.put(list(dict.fromkeys(str(address[0]) for *_, address in found)))

    threading.Thread(target=ask, name="look up", daemon=True).start()
    try:
        answer = answers.get(timeout=RESOLVE_SECONDS)
    except queue.Empty:
        raise NotDelivered(f"its name was not looked up within {RESOLVE_SECONDS:g} s") from None
    if isinstance(answer, OSError):
        raise NotDelivered("its name leads nowhere") from None
    return sorted(answer, key=lambda address: ":" in address)


class HttpCourier:
    """`Courier`. `resolve` looks names up; `context` is what TLS trusts, by default what httpx does."""

    def __init__(
        self,
        resolve: Resolve = look_up,
        *,
        context: ssl.SSLContext | None = None,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._resolve = resolve
        self._context = context
        self._answer_seconds = answer_seconds

    def resolve(self, host: str) -> Sequence[str]:
        """All addresses that a name leads to now."""
        return self._resolve(host)

    def post(self, target: Target, addresses: Sequence[str], headers: Mapping[str, str], body: bytes) -> Posted:
        """One POST, from the connection to the answer's status within `answer_seconds` in all."""
        if self._context is None:
            import httpx

            self._context = httpx.create_ssl_context()
        until = time.monotonic() + self._answer_seconds
        timeouts = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), self._answer_seconds)}
        sent = [("Host", _host(target)), *headers.items(), ("Content-Length", str(len(body)))]
        try:
            with (
                httpcore.ConnectionPool(
                    ssl_context=self._context, network_backend=_Pinned(addresses, until), max_connections=1, retries=0
                ) as pool,
                pool.stream("POST", _url(target), headers=sent, content=body, extensions=timeouts) as response,
            ):
                posted = Posted(status=response.status, retry_after_seconds=_retry_after(response.headers))
                _read_some(response)
                return posted
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError, ValueError) as error:
            raise NotDelivered(_why(error)) from None


def _url(target: Target) -> httpcore.URL:
    """In its parts: httpcore's own reading of a text loses what follows a semicolon in the last part of the path."""
    parts = urlsplit(target.url)
    query = f"?{parts.query}" if parts.query else ""
    return httpcore.URL(scheme=parts.scheme, host=target.host, port=target.port, target=f"{parts.path or '/'}{query}")


def _host(target: Target) -> str:
    name = f"[{target.host}]" if ":" in target.host else target.host
    return name if target.port == (443 if target.tls else 80) else f"{name}:{target.port}"


def _read_some(response: httpcore.Response) -> None:
    count = 0
    try:
        for chunk in response.iter_stream():
            count += len(chunk)
            if count >= BODY_BYTES_MOST:
                return
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError):
        return  # its status is the answer: what becomes of the body after it is the receiver's affair


def _retry_after(headers: Iterable[tuple[bytes, bytes]]) -> float:
    """The seconds of Retry-After; 0 where there are none. A date says no more than our own schedule does."""
    for name, value in headers:
        if name.lower() == b"retry-after" and value.strip().isdigit() and len(value.strip()) <= 9:
            return float(value.strip())
    return 0.0


def _why(error: Exception) -> str:
    """Why there was no answer, without the URL."""
    if isinstance(error, httpcore.TimeoutException):
        return "no answer in time"
    words = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in words:
        return f"its certificate does not hold: {words.partition('failed: ')[2].partition(' (_ssl')[0][:200]}"
    if isinstance(error, httpcore.ProtocolError):
        return "what answers speaks no HTTP"
    return f"no connection: {words[:200]}" if words else "no connection"


class _Pinned(httpcore.NetworkBackend):
    """Connects to the first of some addresses that answers, whatever name is asked for."""

    def __init__(self, addresses: Sequence[str], until: float) -> None:
        self._addresses = addresses
        self._until = until
        self._network = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        del host, timeout
        failed: Exception = httpcore.ConnectError("no address")
        for address in self._addresses:
            try:
                stream = self._network.connect_tcp(
                    address, port, min(CONNECT_SECONDS, _left(self._until)), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
            else:
                return _Bounded(stream, self._until)
        raise failed

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        del timeout, socket_options
        raise httpcore.ConnectError(f"webhooks go to no socket such as {path}")


class _Bounded(httpcore.NetworkStream):
    """A stream that ends at a moment, however little at a time its other end sends: limits on each read would let it go
    on for ever."""

    def __init__(self, stream: httpcore.NetworkStream, until: float) -> None:
        self._stream = stream
        self._until = until

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        del timeout
        return self._stream.read(max_bytes, _left(self._until))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        del timeout
        self._stream.write(buffer, _left(self._until))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        del timeout
        return _Bounded(self._stream.start_tls(ssl_context, server_hostname, _left(self._until)), self._until)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the time is up")
    return left
