"""SSH by paramiko, with nothing taken from the machine it runs on: no agent, no ~/.ssh, no known_hosts.

Hosts are hostile: each wait is bounded, output is cut, and a host that was seen before must show the key that it
showed then before it learns who we are.
"""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paramiko.ssh_exception import ChannelException, IncompatiblePeer, SSHException

from dumont.domain.errors import HostKeyChanged, InvalidInput, ShellError, ShellRefused, ShellUnreachable
from dumont.domain.records import SshEndpoint
from dumont.ports import CommandResult

OUTPUT_BYTES_MAX = 2 << 20
"""Of each stream of a command; what comes after is read, so that the command can end, and dropped."""

_PIECE_BYTES = 32_768
_CLOSE_SECONDS = 0.5
_DEAD_PEER_MILLISECONDS = 60_000
_KEEPALIVE_SECONDS = 15

# Each failure reaches our caller as a typed error; paramiko's own tracebacks of it would only fill the log.
_PARAMIKO_LOG = "dumont.paramiko"
logging.getLogger(_PARAMIKO_LOG).setLevel(logging.CRITICAL)


def generate_key() -> tuple[str, str]:
    """A new ed25519 key: the private one as OpenSSH PEM, the public one as a line of authorized_keys."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private.decode(), public.decode()


class ParamikoShell:
    """`dumont.ports.Shell`."""

    public_key: str

    def __init__(self, private_key_text: str) -> None:
        """Raises `InvalidInput` for what is no unencrypted ed25519 key in OpenSSH's format."""
        self._key = _read_key(private_key_text)
        self.public_key = f"{self._key.get_name()} {self._key.get_base64()}"

    def connect(self, endpoint: SshEndpoint, *, host_key: str | None, timeout_seconds: float = 10.0) -> ParamikoSession:
        """Connect, check the host's key, log in. See `dumont.ports.Shell`."""
        ends = time.monotonic() + timeout_seconds
        connection = _dial(endpoint, ends)
        transport = _transport(connection, timeout_seconds)
        try:
            with _unreachable_when_over(transport, connection, ends, f"{_address(endpoint)} did not finish in time"):
                seen = _negotiate(transport, host_key, timeout_seconds)
                _log_in(transport, endpoint.user, self._key)
        except ShellError:
            _end(transport, connection)
            raise
        return ParamikoSession(transport, connection, seen)


class ParamikoSession:
    """`dumont.ports.ShellSession`. One command at a time; after `ShellUnreachable` it is closed."""

    host_key: str

    def __init__(self, transport: paramiko.Transport, connection: socket.socket, host_key: str) -> None:
        self._transport = transport
        self._connection = connection
        self.host_key = host_key

    def run(self, command: str, *, stdin: bytes = b"", timeout_seconds: float = 30.0) -> CommandResult:
        """Run a command. See `dumont.ports.ShellSession`."""
        stdout, stderr = _Capped(), _Capped()
        status = self.stream(command, stdout.write, stderr.write, stdin=stdin, timeout_seconds=timeout_seconds)
        return CommandResult(exit_status=status, stdout=bytes(stdout.content), stderr=bytes(stderr.content))

    def stream(
        self,
        command: str,
        on_stdout: Callable[[bytes], object],
        on_stderr: Callable[[bytes], object],
        *,
        stdin: bytes = b"",
        timeout_seconds: float | None = None,
    ) -> int:
        """Run a command, handing its output over as it comes (stderr from another thread); its exit status, or −1
        if a signal ended it. Raises `ShellUnreachable` if the connection breaks, or time (None: no bound) is up, and
        whatever the two functions raise.
        """
        transport = self._transport
        ends = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        over = f"the command did not end within {timeout_seconds} s"
        try:
            with _unreachable_when_over(transport, self._connection, ends, over):
                channel = transport.open_session()
                channel.exec_command(command)
                status = _pump(channel, stdin, on_stdout, on_stderr)
                if _was_cut(transport, channel, status):
                    raise ShellUnreachable("the connection broke before the command ended")
                channel.close()
                return status
        except _ReaderFailed as failed:
            self.close()
            raise failed.__cause__ or failed from None
        except BaseException:
            # Whatever stopped us (Ctrl-C included), a command half fed and half read is not to be gone on with.
            self.close()
            raise

    def open_channel(self, port: int, *, window_bytes: int, timeout_seconds: float) -> paramiko.Channel:
        """A connection from the host to a port of its own loopback (direct-tcpip), beside whatever else goes on.

        Raises `ShellRefused` if nothing listens there or forwarding is forbidden, `ShellUnreachable` otherwise.
        """
        try:
            return self._transport.open_channel(
                "direct-tcpip",
                ("127.0.0.1", port),
                ("127.0.0.1", 0),
                window_size=window_bytes,
                timeout=timeout_seconds,
            )
        except ChannelException as problem:
            raise ShellRefused(f"port {port}: {problem.text or 'refused'}") from problem
        except (SSHException, OSError, EOFError) as problem:
            raise ShellUnreachable(f"port {port}: {problem}") from problem

    def ask_for_a_sign(self) -> None:
        """Return once the host has answered, or the connection has ended; for a thread that can be waited for."""
        with contextlib.suppress(SSHException, OSError, EOFError):
            self._transport.global_request("keepalive@openssh.com", wait=True)

    @property
    def is_open(self) -> bool:
        """Whether the connection stands, as far as this side knows."""
        return self._transport.is_active()

    def close(self) -> None:
        """Close the connection; what still runs there loses its terminal, and may go on."""
        _end(self._transport, self._connection)

    def __enter__(self) -> ParamikoSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def stream(
    endpoint: SshEndpoint,
    host_key: str | None,
    private_key_text: str,
    command: str,
    stdout: BinaryIO,
    stderr: BinaryIO,
    *,
    stdin: bytes = b"",
    connect_seconds: float = 10.0,
) -> int:
    """Connect, run one command for as long as it takes, and write its output as it comes; its exit status."""

    def writer(target: BinaryIO) -> Callable[[bytes], None]:
        def write(piece: bytes) -> None:
            target.write(piece)
            target.flush()

        return write

    with ParamikoShell(private_key_text).connect(
        endpoint, host_key=host_key, timeout_seconds=connect_seconds
    ) as session:
        return session.stream(command, writer(stdout), writer(stderr), stdin=stdin)


# --- Connecting ---------------------------------------------------------------------------------------------------


def _read_key(private_key_text: str) -> paramiko.Ed25519Key:
    try:
        # A variable or a secret's version often loses the last line's end.
        return paramiko.Ed25519Key.from_private_key(io.StringIO(private_key_text.strip() + "\n"))
    except (SSHException, ValueError, IndexError, TypeError):
        # Not its text, and not as its cause: it may quote the key.
        raise InvalidInput(
            "is no unencrypted ed25519 key in OpenSSH's format",
            field="DUMONT_SSH_PRIVATE_KEY",
            hint="make one: ssh-keygen -t ed25519 -N ''",
        ) from None


def _address(endpoint: SshEndpoint) -> str:
    return f"{endpoint.host}:{endpoint.port}"


def _dial(endpoint: SshEndpoint, ends: float) -> socket.socket:
    try:
        connection = socket.create_connection((endpoint.host, endpoint.port), timeout=max(0.1, ends - time.monotonic()))
    except (OSError, UnicodeError, OverflowError) as problem:
        raise ShellUnreachable(f"{_address(endpoint)}: {problem}") from problem
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: a host that vanished is noticed once something is sent to it
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_PEER_MILLISECONDS)
    return connection


def _transport(connection: socket.socket, timeout_seconds: float) -> paramiko.Transport:
    transport = paramiko.Transport(connection)
    transport.set_log_channel(_PARAMIKO_LOG)
    transport.banner_timeout = timeout_seconds
    transport.handshake_timeout = timeout_seconds
    transport.auth_timeout = timeout_seconds
    return transport


def _negotiate(transport: paramiko.Transport, pinned: str | None, timeout_seconds: float) -> str:
    """Agree on keys; the host's, as OpenSSH writes it. Raises `HostKeyChanged` if it is not the pinned one."""
    if pinned is not None:
        # A host has a key of each type: asked for the type that was pinned, an honest one shows the same again.
        kind = pinned.split(maxsplit=1)[0] if pinned.strip() else ""
        wanted = ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,)
        try:
            transport.get_security_options().key_types = wanted
        except ValueError:
            raise HostKeyChanged(f"the pinned key is of an unknown type: {kind[:40]!r}") from None
    try:
        transport.start_client(timeout=timeout_seconds)
        key = transport.get_remote_server_key()
    except IncompatiblePeer as problem:
        if pinned is not None and "host key" in str(problem):
            raise HostKeyChanged("the host no longer has a key of the pinned type") from problem
        raise
    seen = f"{key.get_name()} {key.get_base64()}"
    if pinned is not None and seen.split() != pinned.split()[:2]:
        raise HostKeyChanged(f"the host shows another {key.get_name()} key than the pinned one")
    return seen


def _log_in(transport: paramiko.Transport, user: str, key: paramiko.PKey) -> None:
    try:
        further = transport.auth_publickey(user, key)
    except paramiko.BadAuthenticationType as problem:
        raise ShellRefused("the host takes no keys") from problem
    except paramiko.AuthenticationException as problem:
        # paramiko says the same of a refusal and of a connection that broke; but after a refusal it still stands.
        if not transport.is_active():
            raise ShellUnreachable(f"the connection broke while logging in: {problem}") from problem
        raise ShellRefused(f"the host refused our key for {user}") from problem
    if further:
        raise ShellRefused("the host wants more than a key")
    transport.set_keepalive(_KEEPALIVE_SECONDS)


# --- Running ------------------------------------------------------------------------------------------------------


class _Capped:
    """Output, up to the limit."""

    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, piece: bytes) -> None:
        self.content += piece[: OUTPUT_BYTES_MAX - len(self.content)]


def _pump(
    channel: paramiko.Channel,
    stdin: bytes,
    on_stdout: Callable[[bytes], object],
    on_stderr: Callable[[bytes], object],
) -> int:
    """Feed stdin and drain both outputs at once: a command blocks while nobody reads any one of them."""
    failures: list[Exception] = []

    def drain_stderr() -> None:
        try:
            _drain(channel.recv_stderr, on_stderr)
        except (_ReaderFailed, SSHException, OSError) as problem:  # raised below, in the thread that waits
            failures.append(problem)
            channel.close()  # or the command would wait for ever for someone to read on

    threads = [
        threading.Thread(target=drain_stderr, daemon=True),
        threading.Thread(target=_feed, args=(channel, stdin), daemon=True),
    ]
    for thread in threads:
        thread.start()
    _drain(channel.recv, on_stdout)
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return channel.recv_exit_status()


class _ReaderFailed(Exception):
    """Whoever takes the output raised its cause: not the host's failure, whatever its type."""


def _drain(read: Callable[[int], bytes], hand_over: Callable[[bytes], object]) -> None:
    while piece := read(_PIECE_BYTES):
        try:
            hand_over(piece)
        except Exception as problem:
            raise _ReaderFailed from problem


def _feed(channel: paramiko.Channel, stdin: bytes) -> None:
    # A command need not read its input to the end: that it stops listening is not its failure.
    with contextlib.suppress(OSError, SSHException, EOFError):
        channel.sendall(stdin)
        channel.shutdown_write()


def _was_cut(transport: paramiko.Transport, channel: paramiko.Channel, status: int) -> bool:
    """Whether the connection ended before the command did: what was read may lack its end then.

    A command ended by a signal has no exit status either, but its connection stands.
    """
    if channel.eof_received and status != -1:
        return False
    # Kept before a connection that breaks closes its channels. Not every server says that output ends before it
    # closes a channel properly (asyncssh does not), so that the end of output alone tells nothing.
    if transport.get_exception() is not None:
        return True
    if status == -1:
        transport.join(_CLOSE_SECONDS)  # one that ends in an orderly way closes its channels first
    return not transport.is_active()


@contextlib.contextmanager
def _unreachable_when_over(
    transport: paramiko.Transport, connection: socket.socket, ends: float | None, message: str
) -> Iterator[None]:
    """Cut the connection at `ends` (monotonic), and turn what paramiko raises into `ShellUnreachable`.

    Some of paramiko's waits have no bound, or pass theirs in silence; all of them end when the connection does.
    """
    over = threading.Event()

    def cut() -> None:
        over.set()
        _end(transport, connection)

    timer = None
    if ends is not None:
        timer = threading.Timer(max(0.0, ends - time.monotonic()), cut)
        timer.daemon = True
        timer.start()
    try:
        yield
    except HostKeyChanged:
        raise
    except ShellError as problem:
        if not over.is_set():
            raise
        raise ShellUnreachable(message) from problem
    except (SSHException, OSError, EOFError) as problem:
        raise ShellUnreachable(message if over.is_set() else f"{type(problem).__name__}: {problem}") from problem
    finally:
        if timer is not None:
            timer.cancel()
    if over.is_set():
        raise ShellUnreachable(message)


def _end(transport: paramiko.Transport, connection: socket.socket) -> None:
    """Close a connection, whatever state it is in, without waiting for the other side."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    transport.close()
    connection.close()
