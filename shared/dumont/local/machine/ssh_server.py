"""The SSH server of a simulated machine: root by public key, commands, shells, SFTP, SCP and port forwarding."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Mapping

import asyncssh

from dumont.local.machine.folder import MachineFolder
from dumont.local.machine.session import Process, run_session
from dumont.local.machine.wire import Door, Wire

LOGIN_SECONDS = 30
SERVER_VERSION = "OpenSSH_8.9p1"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class _Server(asyncssh.SSHServer):
    def __init__(self, folder: MachineFolder, connections: set[asyncssh.SSHServerConnection]) -> None:
        self._folder = folder
        self._connections = connections
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncssh's own signature
        if self._connection is not None:
            self._connections.discard(self._connection)

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        # Read at each login: a key that is attached or detached counts at once, as on the market.
        return username == "root" and key.public_data in _allowed(self._folder.authorized_keys.read_text())

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:  # noqa: ARG002
        # Its own loopback alone: elsewhere the machine's network would have to be gone through, with its faults.
        return dest_host in LOOPBACK

    def server_requested(self, listen_host: str, listen_port: int) -> bool:  # noqa: ARG002
        return True


def _allowed(text: str) -> set[bytes]:
    found = set()
    for line in text.splitlines():
        try:
            found.add(asyncssh.import_public_key(line).public_data)
        except asyncssh.KeyImportError:
            continue  # whatever was attached that is no key lets nobody in
    return found


class SshServer:
    """The server of one machine, on a socket that is bound already and refuses everyone until `open`."""

    def __init__(
        self, folder: MachineFolder, listener: socket.socket, wire: Wire, environment: Mapping[str, str]
    ) -> None:
        """`environment` is what commands have beside what the folder says."""
        self._folder = folder
        self._wire = wire
        self._environment = dict(environment)
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._door = Door(listener, wire, self._serve)

    def open(self) -> None:
        """Let people in from now on."""
        self._door.open()

    def close(self) -> None:
        """Refuse everyone, and break off who is in."""
        self._door.close()
        for connection in list(self._connections):
            connection.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The server sits behind a pair of sockets, and not on the port itself: so the wire between them can be cut.
        near, far = socket.socketpair()
        far.setblocking(False)
        inside = await asyncio.open_connection(sock=near)
        talking = asyncio.ensure_future(self._talk(far))
        try:
            await self._wire.join((reader, writer), inside)
        finally:
            talking.cancel()

    async def _talk(self, connection: socket.socket) -> None:
        async def run(process: Process) -> None:
            await run_session(process, self._folder, self._environment)

        # Who fails to log in, or goes before that, was told by the protocol itself.
        with contextlib.suppress(asyncssh.Error, OSError):
            await asyncssh.run_server(
                connection,
                server_factory=lambda: _Server(self._folder, self._connections),
                server_host_keys=[str(self._folder.host_key)],
                server_version=SERVER_VERSION,
                process_factory=run,
                sftp_factory=True,
                allow_scp=True,
                encoding=None,
                line_editor=False,
                login_timeout=LOGIN_SECONDS,
                password_auth=False,
                kbdint_auth=False,
                gss_host=None,
            )
