"""The market's API behind a real port: HTTP/1.1 with keep-alive, a thread a connection.

It is the standard library's server rather than a WSGI one, because a lost answer must close the connection with
nothing said, which WSGI has no word for.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from dumont.local.market.api import BODY_BYTES_MOST, Answer, Request
from dumont.local.market.control import PREFIX

BACKLOG = 512
IDLE_SECONDS = 75.0

Handle = Callable[[Request], Answer]
Control = Callable[[str, str, bytes], Answer]


class HttpServer(ThreadingHTTPServer):
    """A server on loopback whose `close` also ends the connections that clients keep alive, and slow answers.

    `handle` and `control` are called by many threads at once.
    """

    daemon_threads = True
    request_queue_size = BACKLOG

    def __init__(self, handle: Handle, control: Control, port: int) -> None:
        """Port 0 picks a free one."""
        self.handle_api = handle
        self.handle_control = control
        self.closing = threading.Event()
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="market-http", daemon=True)

    def start(self) -> None:
        """Serve, in a thread of its own."""
        self._thread.start()

    def close(self) -> None:
        """Stop serving, and hang up on everyone."""
        self.closing.set()
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.server_close()
        for connection in list(self.connections):
            _hang_up(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may go at any moment; anything else is a defect, and is shown."""
        if not self.closing.is_set():
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: HttpServer
    protocol_version = "HTTP/1.1"
    server_version = "DumontMarket"
    timeout = IDLE_SECONDS
    # Otherwise an answer can wait 40 ms for the client's ACK of the one before.
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def handle(self) -> None:
        """Answer requests until either side closes."""
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            self.close_connection = True  # the client went

    def _answer(self) -> None:
        length = self.headers.get("Content-Length") or "0"
        if not length.isdigit() or int(length) > BODY_BYTES_MOST or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            self.send_error(413 if length.isdigit() else 400)
            return
        body = self.rfile.read(int(length))
        parts = urlsplit(self.path)
        if parts.path.startswith(PREFIX):
            if not ipaddress.ip_address(self.client_address[0]).is_loopback:
                self.send_error(403)
                return
            answer = self.server.handle_control(self.command, parts.path, body)
        else:
            answer = self.server.handle_api(
                Request(
                    method=self.command,
                    path=parts.path,
                    query=dict(parse_qsl(parts.query, keep_blank_values=True)),
                    body=body,
                    key=_key(self.headers.get("Authorization", "")),
                    base_url=f"http://{self.headers.get('Host', '127.0.0.1')}",
                )
            )
        self._send(answer)

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 - http.server's own names

    def _send(self, answer: Answer) -> None:
        if answer.delay_seconds:
            self.server.closing.wait(answer.delay_seconds)
        if answer.lost:
            self.close_connection = True
            _hang_up(self.connection)
            return
        self.send_response(answer.status)
        # Exactly so, without a charset: the official CLI compares the whole header.
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *_: object) -> None:
        """Requests are kept by the API itself, for `/_market/calls`."""


def _key(authorization: str) -> str:
    scheme, _, key = authorization.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other side was quicker
