"""HTTP/1.1 with keep-alive on a port of loopback, a thread a connection; contents go out by `sendfile`."""

from __future__ import annotations

import ipaddress
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from dumont.local.object_store.body import Body
from dumont.local.object_store.faults import Fault, Line, Stream
from dumont.local.object_store.refusals import Broken

BACKLOG = 4096
IDLE_SECONDS = 75.0


@dataclass
class Request:
    """A request. `path` and `query` are decoded; `headers` has names in lower case."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: Mapping[str, str]
    body: Body
    base_url: str
    operation: str = ""
    name: str | None = None
    """What is asked for, in the words of `faults`, and the object's name: filled in on the way, for the counts."""
    fails_after: Fault | None = None
    breaks_at: Fault | None = None

    def get(self, name: str) -> str | None:
        """The first parameter of that name in the query."""
        return next((value for key, value in self.query if key == name), None)


@dataclass
class Content:
    """A part of an object: files with offset and count, in order; `damaged` is the place of a byte to be spoilt."""

    pieces: list[tuple[Path, int, int]]
    damaged: int | None = None
    break_after: int | None = None

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return sum(count for _, _, count in self.pieces)


@dataclass
class Answer:
    """An answer. With `content`, that is the body. For HEAD, `length` is said and nothing sent."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    content: Content | None = None
    length: int | None = None


Handle = Callable[[Request], Answer]


class HttpServer(ThreadingHTTPServer):
    """A server whose `close` also hangs up on everyone. `handle` is called by many threads at once."""

    daemon_threads = True
    request_queue_size = BACKLOG

    def __init__(self, handle: Handle, port: int, host: str = "127.0.0.1") -> None:
        """Port 0 picks a free one."""
        self.handle = handle
        self.closing = threading.Event()
        self.line = Line(self.closing.wait)
        self.connections: set[socket.socket] = set()
        super().__init__((host, port), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="object-store", daemon=True)

    def start(self) -> None:
        """Serve, in a thread of its own."""
        self._thread.start()

    def close(self) -> None:
        """Stop serving, and hang up."""
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
    server_version = "DumontObjectStore"
    timeout = IDLE_SECONDS
    # Otherwise an answer can wait 40 ms for the client's ACK of the one before.
    disable_nagle_algorithm = True
    _asks_first = False

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
        except Broken:
            self.close_connection = True
            self._reset()

    def handle_expect_100(self) -> bool:
        """Wait with "go on" until somebody wants the body: a refusal then costs the client no upload."""
        self._asks_first = True
        return True

    def _serve(self) -> None:
        asks_first, self._asks_first = self._asks_first, False
        length = self.headers.get("Content-Length") or "0"
        # Content comes with its length here. `requests`, and so b2sdk, says both of an empty file, and sends nothing.
        is_chunked = "Transfer-Encoding" in self.headers and self.headers.get("Content-Length") != "0"
        if not length.isdigit() or is_chunked:
            self.close_connection = True
            self.send_error(411)
            return
        stream = self.server.line.stream()

        def begin() -> None:
            if asks_first:
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")

        body = Body(cast(BufferedReader, self.rfile), int(length), begin, stream)
        parts = urlsplit(self.path)
        try:
            request = Request(
                method=self.command,
                path=unquote(parts.path, errors="strict"),
                query=parse_qsl(parts.query, keep_blank_values=True, errors="strict"),
                headers={name.lower(): value for name, value in self.headers.items()},
                body=body,
                base_url=f"http://{self.headers.get('Host', '127.0.0.1')}",
            )
        except UnicodeDecodeError:
            self.close_connection = True
            self.send_error(400)
            return
        if request.path.startswith("/_store/") and not ipaddress.ip_address(self.client_address[0]).is_loopback:
            self.close_connection = True
            self.send_error(403)
            return
        answer = self.server.handle(request)
        if body.left:
            if asks_first and not body.begun:
                self.close_connection = True  # whether the client still sends its body, nobody can know
            else:
                body.drain()
        self._send(answer, stream)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - http.server's own names

    def _send(self, answer: Answer, stream: Stream) -> None:
        content = answer.content
        first = content.pieces[0][0].open("rb") if content and content.pieces and self.command != "HEAD" else None
        try:
            size = content.size if content else len(answer.body)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.status not in (204, 304):
                self.send_header("Content-Type", answer.content_type)
                self.send_header("Content-Length", str(size if answer.length is None else answer.length))
            if self.close_connection:
                self.send_header("Connection", "close")
            if self.server.line.pace.first_byte_seconds:
                self.server.closing.wait(self.server.line.pace.first_byte_seconds)
            self.end_headers()
            if self.command == "HEAD":
                return
            if content and first:
                self._send_content(content, first, stream)
            elif answer.body:
                self.wfile.write(answer.body)
        finally:
            if first:
                first.close()

    def _send_content(self, content: Content, first: BinaryIO, stream: Stream) -> None:
        sent = 0
        for index, (path, offset, count) in enumerate(content.pieces):
            with first if index == 0 else path.open("rb") as file:
                end = offset + count
                while offset < end:
                    step = end - offset if not stream.is_held_back else min(end - offset, stream.slice_bytes)
                    if content.break_after is not None:
                        step = min(step, content.break_after - sent)
                        if step <= 0:
                            raise Broken
                    self._send_slice(content, file, offset, step, sent)
                    stream.spend(step)
                    offset += step
                    sent += step

    def _send_slice(self, content: Content, file: BinaryIO, offset: int, count: int, sent: int) -> None:
        spoilt = content.damaged
        if spoilt is None or not sent <= spoilt < sent + count:
            if self.connection.sendfile(file, offset, count) != count:
                raise ConnectionError("the content is shorter than was said")
            return
        before = spoilt - sent
        self.connection.sendfile(file, offset, before) if before else None
        file.seek(offset + before)
        self.connection.sendall(bytes([file.read(1)[0] ^ 0x01]))
        if count > before + 1:
            self.connection.sendfile(file, offset + before + 1, count - before - 1)

    def _reset(self) -> None:
        # Lingering for no time makes the close a reset, where the client would else see a plain end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, *_: object) -> None:
        """Requests are counted by the store, for `/_store/counts`."""


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other side was quicker
