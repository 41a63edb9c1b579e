"""One command or one interactive shell on a simulated machine, run as a real process and piped to its SSH channel."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import struct
import termios
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import asyncssh

from dumont.local.machine.folder import MachineFolder, shell

CHUNK_BYTES = 64 * 1024
HANG_UP_SECONDS = 0.2
"""How long a command has after SIGHUP, once its connection is gone, before SIGKILL."""

Process = asyncssh.SSHServerProcess[bytes]


async def run_session(process: Process, folder: MachineFolder, environment_beside: Mapping[str, str]) -> None:
    """Run what the client asked for until it ends or the client goes; then nothing of its process group is left."""
    environment = {**folder.environment(), **environment_beside}
    environment.update({str(name): str(value) for name, value in process.env.items()})
    command = [shell(), "-c", process.command] if process.command is not None else [shell()]
    if process.term_type is not None:
        environment["TERM"] = process.term_type
        session: _PipeSession | _TerminalSession = _TerminalSession(process, command, environment, folder.home)
    else:
        session = _PipeSession(process, command, environment, folder.home)
    await session.run()


class _Session:
    """What both kinds share: the process in a session of its own, its signals, and its end."""

    def __init__(self, process: Process, command: list[str], environment: dict[str, str], home: Path) -> None:
        self._process = process
        self._command = command
        self._environment = environment
        self._home = home
        self._child: asyncio.subprocess.Process | None = None

    async def _spawn(
        self, stdin: int, stdout: int, stderr: int, preexec: Callable[[], None] | None = None
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self._command,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=self._environment,
            cwd=self._home,
            start_new_session=True,
            preexec_fn=preexec,
            limit=CHUNK_BYTES,
        )

    async def _finish(self, child: asyncio.subprocess.Process, work: asyncio.Future[Any]) -> None:
        """Wait for the command's end, or the client's; tell the client how it ended."""
        gone: asyncio.Future[Any] = asyncio.ensure_future(self._process.wait_closed())
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await self._hang_up(child)
                return
            await work
            status = await child.wait()
            if status < 0:
                self._process.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
            else:
                self._process.exit(status)
        finally:
            work.cancel()
            gone.cancel()

    async def _hang_up(self, child: asyncio.subprocess.Process) -> None:
        self._signal(child, signal.SIGHUP)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(child.wait(), HANG_UP_SECONDS)
        self._signal(child, signal.SIGKILL)
        await child.wait()

    @staticmethod
    def _signal(child: asyncio.subprocess.Process, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)

    async def _read_input(self, child: asyncio.subprocess.Process) -> bytes | None:
        """The next input; b"" at its end. A signal, a break or a new window size is acted upon, and gives None."""
        try:
            return await self._process.stdin.read(CHUNK_BYTES)
        except asyncssh.SignalReceived as received:
            number = getattr(signal, f"SIG{received.signal}", None)
            if number is not None:
                self._signal(child, number)
        except asyncssh.BreakReceived:
            self._signal(child, signal.SIGINT)
        except asyncssh.TerminalSizeChanged as changed:
            self._resize(changed.width, changed.height)
        return None

    def _resize(self, width: int, height: int) -> None:
        """Only a terminal has a size."""


class _PipeSession(_Session):
    """Without a terminal: three pipes, each streamed as it comes."""

    async def run(self) -> None:
        """Run the command to its end."""
        pipe = asyncio.subprocess.PIPE
        child = await self._spawn(pipe, pipe, pipe)
        feeding = asyncio.ensure_future(self._feed(child))
        assert child.stdout is not None  # noqa: S101 - they are pipes
        assert child.stderr is not None  # noqa: S101
        outputs = asyncio.gather(
            self._drain(child.stdout, self._process.stdout),
            self._drain(child.stderr, self._process.stderr),
            child.wait(),
        )
        try:
            await self._finish(child, outputs)
        finally:
            feeding.cancel()

    async def _feed(self, child: asyncio.subprocess.Process) -> None:
        assert child.stdin is not None  # noqa: S101 - it is a pipe
        try:
            while (data := await self._read_input(child)) != b"":
                if data is not None:
                    child.stdin.write(data)
                    await child.stdin.drain()
            child.stdin.close()
        except (BrokenPipeError, ConnectionResetError, asyncssh.ConnectionLost):
            return  # the command does not read on, or the client is gone: `_finish` sees to it

    @staticmethod
    async def _drain(source: asyncio.StreamReader, sink: asyncssh.SSHWriter[bytes]) -> None:
        try:
            while data := await source.read(CHUNK_BYTES):
                sink.write(data)
                await sink.drain()
        except (BrokenPipeError, ConnectionError, asyncssh.ConnectionLost):
            return  # the client is gone


class _TerminalSession(_Session):
    """With a terminal: a real pty, whose other end is the channel."""

    _terminal = -1

    async def run(self) -> None:
        """Run the shell or command to its end."""
        self._terminal, inside = os.openpty()
        os.set_blocking(self._terminal, False)
        width, height = self._process.term_size[:2]
        self._resize(width, height)
        try:
            child = await self._spawn(inside, inside, inside, _take_terminal)
        finally:
            os.close(inside)
        feeding = asyncio.ensure_future(self._feed(child))
        try:
            await self._finish(child, asyncio.ensure_future(self._show(child)))
        finally:
            feeding.cancel()
            asyncio.get_running_loop().remove_reader(self._terminal)
            asyncio.get_running_loop().remove_writer(self._terminal)
            os.close(self._terminal)

    def _resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height or 24, width or 80, 0, 0))

    async def _feed(self, child: asyncio.subprocess.Process) -> None:
        while (data := await self._read_input(child)) != b"":
            while data:
                await self._ready(asyncio.get_running_loop().add_writer)
                with contextlib.suppress(BlockingIOError):
                    data = data[os.write(self._terminal, data) :]
        with contextlib.suppress(OSError):
            os.write(self._terminal, b"\x04")  # the client's end of input is a terminal's Ctrl-D

    async def _show(self, child: asyncio.subprocess.Process) -> None:
        ended = asyncio.ensure_future(child.wait())
        try:
            while True:
                readable = asyncio.ensure_future(self._ready(asyncio.get_running_loop().add_reader))
                await asyncio.wait({readable, ended}, return_when=asyncio.FIRST_COMPLETED)
                readable.cancel()
                try:
                    data = os.read(self._terminal, CHUNK_BYTES)
                except BlockingIOError:
                    if ended.done():
                        return
                    continue
                except OSError:
                    return  # EIO: nobody holds the terminal's other end any more
                if not data:
                    return
                self._process.stdout.write(data)
                await self._process.stdout.drain()
        except (BrokenPipeError, ConnectionError, asyncssh.ConnectionLost):
            return  # the client is gone
        finally:
            ended.cancel()

    async def _ready(self, watch: Callable[..., None]) -> None:
        """Wait until the terminal can be read or written."""
        event = asyncio.Event()
        watch(self._terminal, event.set)
        try:
            await event.wait()
        finally:
            loop = asyncio.get_running_loop()
            (loop.remove_reader if watch == loop.add_reader else loop.remove_writer)(self._terminal)


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
