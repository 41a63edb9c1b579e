"""What a machine's bytes go through, in and out, so that its network can be cut while its processes run on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

CHUNK_BYTES = 256 * 1024
BACKLOG = 128
FILLERS = 2
"""Linux lets one connection more than the backlog into a listener's queue; the second is there to be sure."""

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Wire:
    """A machine's connection to the world. While it is cut nothing passes, and nobody is told: as with a real one,
    what was sent meanwhile arrives afterwards, if whoever sent it still holds the connection.
    """

    def __init__(self) -> None:
        self._whole = asyncio.Event()
        self._whole.set()
        self._doors: list[Door] = []

    def cut(self) -> None:
        """Let nothing pass from now on."""
        if not self._whole.is_set():
            return
        self._whole.clear()
        for door in self._doors:
            door.shut()

    def mend(self) -> None:
        """Let everything pass again."""
        if self._whole.is_set():
            return
        self._whole.set()
        for door in self._doors:
            door.unshut()

    async def whole(self) -> None:
        """Wait until things pass."""
        await self._whole.wait()

    def add(self, door: Door) -> None:
        """A door is on this wire from now on: it is shut while that is cut, and lets people in while it is whole."""
        self._doors.append(door)
        if self._whole.is_set():
            door.unshut()
        else:
            door.shut()

    def remove(self, door: Door) -> None:
        """A door is closed for good."""
        with contextlib.suppress(ValueError):
            self._doors.remove(door)

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry bytes one way until their end, which is carried too."""
        while data := await reader.read(CHUNK_BYTES):
            await self.whole()
            writer.write(data)
            await writer.drain()
        await self.whole()
        if writer.can_write_eof():
            writer.write_eof()

    async def join(self, one: Stream, other: Stream) -> None:
        """Carry bytes both ways until both have ended, or either breaks. Both are closed then."""
        ways = [
            asyncio.ensure_future(self.pump(one[0], other[1])),
            asyncio.ensure_future(self.pump(other[0], one[1])),
        ]
        try:
            with contextlib.suppress(OSError):
                await asyncio.gather(*ways)
        finally:
            for way in ways:
                way.cancel()
            for _, writer in (one, other):
                writer.close()


class Door:
    """A port that serves each connection in a task of its own. While the wire is cut nobody is let in: those who
    connect hang, as with a host that answers no packet.
    """

    def __init__(self, listener: socket.socket, wire: Wire, serve: Serve) -> None:
        """`listener` is bound. It refuses everyone until `open`."""
        self._listener = listener
        self._wire = wire
        self._serve = serve
        self._accepting: asyncio.Task[None] | None = None
        self._fillers: list[socket.socket] = []
        self._served: set[asyncio.Task[None]] = set()
        self._is_open = False

    def open(self) -> None:
        """Let people in from now on."""
        if self._is_open:
            return
        self._is_open = True
        self._listener.setblocking(False)
        self._wire.add(self)

    def close(self) -> None:
        """Refuse everyone from now on, and hang up on those who are in."""
        self._wire.remove(self)
        self._stop_accepting()
        self._drop_fillers()
        self._listener.close()
        for task in self._served:
            task.cancel()

    def shut(self) -> None:
        """Neither let in nor refuse. On Linux a full queue drops whatever asks for a connection; where it does not,
        those who connect are connected and hear nothing.
        """
        self._stop_accepting()
        self._listener.listen(0)
        for _ in range(FILLERS):
            filler = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            filler.setblocking(False)
            filler.connect_ex(self._listener.getsockname())
            self._fillers.append(filler)

    def unshut(self) -> None:
        """Let people in again, those first who have waited."""
        self._listener.listen(BACKLOG)
        self._drop_fillers()
        self._stop_accepting()
        self._accepting = asyncio.ensure_future(self._accept())

    def _stop_accepting(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
            self._accepting = None

    def _drop_fillers(self) -> None:
        for filler in self._fillers:
            filler.close()
        self._fillers.clear()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(self._listener)
            task = asyncio.ensure_future(self._one(connection))
            self._served.add(task)
            task.add_done_callback(self._served.discard)

    async def _one(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection, limit=CHUNK_BYTES)
        try:
            with contextlib.suppress(OSError):
                await self._serve(reader, writer)
        finally:
            writer.close()
