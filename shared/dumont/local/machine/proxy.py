"""The HTTP forward proxy through which a machine reaches the world: CONNECT, and absolute addresses over plain HTTP.

It exists so that a cut of the machine's network also cuts what the machine itself sends. It changes nothing but the
request's first line, and keeps connections alive as both sides wish.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from urllib.parse import urlsplit

from dumont.local.machine.wire import CHUNK_BYTES, Stream, Wire

CONNECT_SECONDS = 10.0
LAST_ANSWER_SECONDS = 2.0
OWN_HEADERS = frozenset({b"proxy-connection", b"proxy-authorization"})
"""What clients say to a proxy, and not to the server behind it."""


def environment(host: str, port: int) -> dict[str, str]:
    """The variables that make programs use a proxy, for every address there is."""
    url = f"http://{host}:{port}"
    names = ("http_proxy", "https_proxy", "all_proxy")
    found = {spelled: url for name in names for spelled in (name, name.upper())}
    return found | {"no_proxy": "", "NO_PROXY": ""}


class Malformed(Exception):
    """A request that is none."""


class Unreachable(Exception):
    """The server that a request is for cannot be connected to."""


@dataclass(frozen=True)
class _Head:
    """A request's head, read."""

    method: str
    target: str
    version: str
    headers: tuple[bytes, ...]

    def header(self, name: str) -> str:
        """A header's value; empty if it is not there."""
        for line in self.headers:
            found, _, value = line.partition(b":")
            if found.strip().lower() == name.encode():
                return value.strip().decode("latin-1")
        return ""

    @property
    def origin(self) -> tuple[str, int]:
        """Host and port of the server behind. Raises `Malformed`."""
        connect = self.method == "CONNECT"
        try:
            parts = urlsplit(f"//{self.target}" if connect else self.target)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise Malformed(str(error)) from error
        if host is None or (parts.scheme != ("" if connect else "http")):
            raise Malformed("a proxy takes absolute http addresses, or CONNECT")
        return host, port or (443 if connect else 80)

    def forwarded(self) -> bytes:
        """The head as the server behind it should see it."""
        parts = urlsplit(self.target)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        kept = [line for line in self.headers if line.partition(b":")[0].strip().lower() not in OWN_HEADERS]
        return b"\r\n".join([f"{self.method} {path} {self.version}".encode("latin-1"), *kept, b"", b""])


class Proxy:
    """Serves one machine's programs."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client until either side closes."""
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            try:
                head = await _read_head(reader)
                if head.method == "CONNECT":
                    await self._tunnel(head, (reader, writer))
                else:
                    await self._requests(head, (reader, writer))
            except Malformed as malformed:
                await self._refuse(writer, "400 Bad Request", str(malformed))
            except Unreachable as unreachable:
                await self._refuse(writer, "502 Bad Gateway", str(unreachable))

    async def _tunnel(self, head: _Head, client: Stream) -> None:
        server = await self._connect(head.origin)
        client[1].write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await self._wire.join(client, server)

    async def _requests(self, head: _Head, client: Stream) -> None:
        """Carry requests, one after the other. Answers need not be read for that: a client that sends another request
        has had its answer.
        """
        origin = head.origin
        server = await self._connect(origin)
        answers = asyncio.ensure_future(self._answers(server[0], client[1]))
        try:
            while True:
                await self._wire.whole()
                server[1].write(head.forwarded())
                try:
                    await self._body(head, client[0], server[1])
                except ConnectionError:
                    # It wants no more of the body, and may have said why.
                    await asyncio.wait({answers}, timeout=LAST_ANSWER_SECONDS)
                    return
                next_head = asyncio.ensure_future(_read_head(client[0]))
                # The server may hang up first: then so do we, as the client would see it without us.
                await asyncio.wait({next_head, answers}, return_when=asyncio.FIRST_COMPLETED)
                if not next_head.done():
                    next_head.cancel()
                    return
                head = next_head.result()
                if head.origin != origin:
                    answers.cancel()
                    server[1].close()
                    origin = head.origin
                    server = await self._connect(origin)
                    answers = asyncio.ensure_future(self._answers(server[0], client[1]))
        finally:
            answers.cancel()
            server[1].close()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await self._wire.pump(reader, writer)

    async def _body(self, head: _Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if "chunked" in head.header("transfer-encoding").lower():
            while True:
                size = await reader.readuntil(b"\r\n")
                length = _number(size.split(b";")[0].strip(), 16)
                writer.write(size)
                await self._carry(length, reader, writer)
                if not length:
                    break
                writer.write(await reader.readexactly(2))
            while (trailer := await reader.readuntil(b"\r\n")) != b"\r\n":
                writer.write(trailer)
            writer.write(b"\r\n")
        else:
            await self._carry(_number(head.header("content-length").encode() or b"0", 10), reader, writer)
        await writer.drain()

    async def _carry(self, length: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while length:
            data = await reader.read(min(length, CHUNK_BYTES))
            if not data:
                raise asyncio.IncompleteReadError(b"", length)
            await self._wire.whole()
            writer.write(data)
            await writer.drain()
            length -= len(data)

    async def _connect(self, origin: tuple[str, int]) -> Stream:
        await self._wire.whole()
        try:
            return await asyncio.wait_for(asyncio.open_connection(*origin, limit=CHUNK_BYTES), CONNECT_SECONDS)
        except (OSError, TimeoutError) as error:
            raise Unreachable(f"no connection to {origin[0]}:{origin[1]}: {type(error).__name__}") from error

    async def _refuse(self, writer: asyncio.StreamWriter, status: str, why: str) -> None:
        body = f"{why}\n".encode()
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        with contextlib.suppress(OSError):
            writer.write(head.encode() + body)
            await writer.drain()


async def _read_head(reader: asyncio.StreamReader) -> _Head:
    raw = await reader.readuntil(b"\r\n\r\n")
    first, *headers = raw[:-4].split(b"\r\n")
    words = first.decode("latin-1").split(" ")
    if len(words) != 3:
        raise Malformed("not a request of HTTP/1")
    return _Head(words[0].upper(), words[1], words[2], tuple(headers))


def _number(text: bytes, base: int) -> int:
    try:
        return int(text, base)
    except ValueError as error:
        raise Malformed("not a length") from error
