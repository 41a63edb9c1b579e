"""The SSH server of a simulated machine: root by public key, commands, shells, SFTP, SCP and port forwarding."""

from __future__ import annotations

import socket

import asyncssh

from dumont.local.machine.folder import MachineFolder
from dumont.local.machine.session import Process, run_session

LOGIN_SECONDS = 30
SERVER_VERSION = "OpenSSH_8.9p1"


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
        return True

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

    def __init__(self, folder: MachineFolder, listener: socket.socket) -> None:
        self._folder = folder
        self._listener = listener
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._acceptor: asyncssh.SSHAcceptor | None = None

    async def open(self) -> None:
        """Let people in from now on."""
        if self._acceptor is not None:
            return

        async def serve(process: Process) -> None:
            await run_session(process, self._folder)

        self._acceptor = await asyncssh.listen(
            sock=self._listener,
            backlog=128,
            server_factory=lambda: _Server(self._folder, self._connections),
            server_host_keys=[str(self._folder.host_key)],
            server_version=SERVER_VERSION,
            process_factory=serve,
            sftp_factory=True,
            allow_scp=True,
            encoding=None,
            line_editor=False,
            login_timeout=LOGIN_SECONDS,
            password_auth=False,
            kbdint_auth=False,
            gss_host=None,
        )

    def close(self) -> None:
        """Refuse everyone, and break off who is in."""
        if self._acceptor is not None:
            self._acceptor.close()
        for connection in list(self._connections):
            connection.abort()
