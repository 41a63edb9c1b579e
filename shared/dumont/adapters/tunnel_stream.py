"""One TCP connection on a machine, through SSH, as httpcore's network: HTTP over it is httpcore's own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import httpcore
import paramiko
from paramiko.ssh_exception import SSHException

from dumont.adapters.ssh import ParamikoSession
from dumont.domain.errors import ShellRefused, ShellUnreachable

WINDOW_BYTES = 8 << 20
"""What may be under way to us, unread: at 100 ms there and back it allows 80 MB/s."""
OPEN_SECONDS = 10.0


class PortClosed(httpcore.ConnectError):
    """The host answers, and nothing listens on that port of it. Nothing was sent."""


class HostSilent(httpcore.ConnectError):
    """The host does not answer over SSH. Nothing was sent."""


class ChannelStream(httpcore.NetworkStream):
    """A channel's bytes, without TLS: SSH carries them. `heard` is called at each sign of life."""

    def __init__(self, channel: paramiko.Channel, heard: Callable[[], None]) -> None:
        self._channel = channel
        self._heard = heard

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next bytes; b"" at their end. Raises `httpcore.ReadTimeout`, or `ReadError` where no end was said: a
        broken connection must not pass for the end of an answer."""
        self._channel.settimeout(timeout)
        try:
            data = self._channel.recv(max_bytes)
        except TimeoutError as problem:
            raise httpcore.ReadTimeout("the machine was silent for too long") from problem
        except (OSError, SSHException, EOFError) as problem:
            raise httpcore.ReadError(str(problem)) from problem
        if not data and not self._channel.eof_received and not self._closed_in_order():
            raise httpcore.ReadError("the connection to the machine broke")
        if data:
            self._heard()
        return data

    def _closed_in_order(self) -> bool:
        # Servers may close a channel without a word of its end before; a transport that broke has an exception.
        transport = self._channel.get_transport()
        return transport.is_active() and transport.get_exception() is None

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send it all. Raises `httpcore.WriteTimeout` or `WriteError`."""
        self._channel.settimeout(timeout)
        try:
            self._channel.sendall(buffer)
        except TimeoutError as problem:
            raise httpcore.WriteTimeout("the machine took nothing for too long") from problem
        except (OSError, SSHException, EOFError) as problem:
            raise httpcore.WriteError(str(problem)) from problem

    def close(self) -> None:
        """Close it, and not the connection that it shares."""
        with contextlib.suppress(OSError, SSHException, EOFError):
            self._channel.close()

    def get_extra_info(self, info: str) -> Any:
        """`is_readable`: of a connection at rest, that the other side has closed it."""
        if info == "is_readable":
            return self._channel.recv_ready() or self._channel.closed or bool(self._channel.eof_received)
        return None


class ChannelBackend(httpcore.NetworkBackend):
    """Connections to ports of one machine's loopback, through one SSH connection."""

    def __init__(self, session: ParamikoSession, heard: Callable[[], None]) -> None:
        self._session = session
        self._heard = heard

    def connect_tcp(
        self,
        host: str,  # noqa: ARG002 - always the machine's own loopback
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        """A connection to a port. Raises `PortClosed` or `HostSilent`."""
        try:
            channel = self._session.open_channel(
                port, window_bytes=WINDOW_BYTES, timeout_seconds=OPEN_SECONDS if timeout is None else timeout
            )
        except ShellRefused as problem:
            self._heard()
            raise PortClosed(str(problem)) from problem
        except ShellUnreachable as problem:
            raise HostSilent(str(problem)) from problem
        self._heard()
        return ChannelStream(channel, self._heard)

    def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        """Not offered."""
        raise httpcore.ConnectError(f"no unix socket is reached through a tunnel: {path[:100]}")
