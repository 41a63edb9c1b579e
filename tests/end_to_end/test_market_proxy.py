"""The HTTP proxy of a simulated machine: bytes pass unchanged, and what is refused says so."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dumont.local.machine.process import bound_listener
from dumont.local.machine.proxy import Proxy
from dumont.local.machine.wire import Door, Wire


class Origin:
    """A server that says what it got: method, path, Host, and its body's length and hash."""

    def __init__(self) -> None:
        self.connections = 0
        origin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                origin.connections += 1
                super().setup()

            def do_POST(self) -> None:
                if self.path == "/refused":
                    self.close_connection = True
                    self._say(b"too large", 413)
                    self._body()  # what a polite server does: hanging up on what is under way would take its word back
                    return
                body = self._chunks() if "Transfer-Encoding" in self.headers else self._body()
                ours = "proxy-connection" in {name.lower() for name in self.headers}
                said = f"{self.path} {len(body)} {hashlib.sha256(body).hexdigest()} {self.headers['Host']} {ours}"
                self._say(said.encode(), 200)

            def do_GET(self) -> None:
                self._say(b"x" * int(self.path.rsplit("/", 1)[-1]), 200)

            def _body(self) -> bytes:
                return self.rfile.read(int(self.headers["Content-Length"]))

            def _chunks(self) -> bytes:
                found = b""
                while length := int(self.rfile.readline(), 16):
                    found += self.rfile.read(length)
                    self.rfile.readline()
                self.rfile.readline()
                return found

            def _say(self, body: bytes, status: int) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def origin() -> Iterator[Origin]:
    made = Origin()
    yield made
    made.close()


@pytest.fixture
def proxy() -> Iterator[http.client.HTTPConnection]:
    """A connection to a proxy that runs in a thread's event loop."""
    listener = bound_listener()
    started, loop = threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        wire = Wire()
        door = Door(listener, wire, Proxy(wire).serve)
        door.open()
        started.set()
        await stop.wait()
        door.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert started.wait(5)
    host, port = listener.getsockname()
    with contextlib.closing(http.client.HTTPConnection(host, port, timeout=5)) as connection:
        yield connection
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


def post(proxy: http.client.HTTPConnection, url: str, body: object, **headers: str) -> tuple[int, str]:
    proxy.request("POST", url, body, headers)  # type: ignore[arg-type]
    answer = proxy.getresponse()
    return answer.status, answer.read().decode()


def test_a_body_arrives_whole_whatever_its_length(proxy: http.client.HTTPConnection, origin: Origin) -> None:
    for length in (0, 1, 300_000, 5_000_000):
        body = os.urandom(length)
        expected = f"/a?b=c%20d {length} {hashlib.sha256(body).hexdigest()} 127.0.0.1:{origin.port} False"
        assert post(proxy, f"{origin.url}/a?b=c%20d", body, **{"Proxy-Connection": "keep-alive"}) == (200, expected)
    assert origin.connections == 1, "it is kept alive"


def test_a_body_in_chunks_arrives_whole(proxy: http.client.HTTPConnection, origin: Origin) -> None:
    chunks = [os.urandom(70_000) for _ in range(20)]
    status, said = post(proxy, f"{origin.url}/chunks", iter(chunks))
    assert status == 200
    assert hashlib.sha256(b"".join(chunks)).hexdigest() in said
    assert post(proxy, f"{origin.url}/after", b"x")[0] == 200, "the next request begins where the last one ended"


def test_a_long_answer_arrives_whole(proxy: http.client.HTTPConnection, origin: Origin) -> None:
    proxy.request("GET", f"{origin.url}/20000000")
    assert len(proxy.getresponse().read()) == 20_000_000


def test_one_connection_may_reach_several_servers(proxy: http.client.HTTPConnection, origin: Origin) -> None:
    other = Origin()
    try:
        for each in (origin, other, origin):
            assert f"127.0.0.1:{each.port}" in post(proxy, f"{each.url}/", b"x")[1]
        assert (origin.connections, other.connections) == (2, 1)
    finally:
        other.close()


def test_what_a_server_says_before_it_has_the_body_arrives(proxy: http.client.HTTPConnection, origin: Origin) -> None:
    proxy.putrequest("POST", f"{origin.url}/refused", skip_host=True)
    proxy.putheader("Content-Length", "50000000")
    proxy.endheaders()
    proxy.send(b"x" * 1_000_000)
    answer = proxy.getresponse()
    assert (answer.status, answer.read()) == (413, b"too large")


def test_a_server_that_is_not_there_is_a_bad_gateway(proxy: http.client.HTTPConnection) -> None:
    with contextlib.closing(bound_listener()) as nobody:
        host, port = nobody.getsockname()
        assert post(proxy, f"http://{host}:{port}/", b"")[0] == 502
        proxy.close()
        proxy.set_tunnel(host, port)
        with pytest.raises(OSError, match="502"):
            proxy.connect()


@pytest.mark.parametrize("target", ["/", "https://127.0.0.1/", "ftp://127.0.0.1/", "http://127.0.0.1:port/"])
def test_what_is_not_for_a_proxy_is_refused(proxy: http.client.HTTPConnection, target: str) -> None:
    assert post(proxy, target, b"")[0] == 400
