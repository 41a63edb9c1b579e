"""SSH servers for the shell's contract, OpenSSH's own and one in this process, and a wire that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import psutil

from dumont.domain.records import SshEndpoint
from tests import waiting

DEADLINE_SECONDS = 30.0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, and not for ever."""
    waiting.wait_for(condition, what, seconds=DEADLINE_SECONDS)


def answers(port: int) -> bool:
    """Whether someone listens on the port and speaks SSH."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- OpenSSH ------------------------------------------------------------------------------------------------------


def sshd_path() -> str | None:
    """Where sshd is; it asks for its whole path, and is seldom on a user's PATH."""
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def openssh(folder: Path, authorized: str, key_types: tuple[str, ...] = ("ed25519",)) -> Iterator[SshEndpoint]:
    """sshd as the user who runs the tests, letting one key in."""
    sshd = sshd_path()
    assert sshd is not None
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    (folder / "authorized_keys").write_text(f"{authorized}\n")
    lines = [
        "ListenAddress 127.0.0.1",
        f"AuthorizedKeysFile {folder / 'authorized_keys'}",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "UsePAM no",
        "StrictModes no",
        "PermitRootLogin prohibit-password",
        "PidFile none",
        f"SetEnv HOME={folder}",  # whatever the user's own shell files do is no part of this
    ]
    for kind in key_types:
        path = folder / f"host_{kind}"
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path)], check=True)
        lines.append(f"HostKey {path}")
    config = folder / "sshd_config"
    config.write_text("\n".join(lines) + "\n")
    if os.geteuid() == 0:  # as root, and only then, it insists on this one
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sshd, "-D", "-e", "-f", str(config), "-p", str(port)], stderr=log)
    try:
        wait_until(lambda: answers(port) or process.poll() is not None, "sshd answers")
        assert process.poll() is None, (folder / "log").read_text()
        yield SshEndpoint(host="127.0.0.1", port=port, user=getpass.getuser())
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.kill()
        process.wait(DEADLINE_SECONDS)
        left = [*children, *_commands_by(port)]
        for child in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(left, timeout=DEADLINE_SECONDS)


def _commands_by(port: int) -> Iterator[psutil.Process]:
    """What was started through the server on this port: a command outlives its session, as nobody's child."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("SSH_CONNECTION", "").endswith(f" {port}"):
                yield process


# --- asyncssh -----------------------------------------------------------------------------------------------------


class InProcessServer:
    """An asyncssh server in a thread; it counts who tried to log in."""

    def __init__(self, authorized: str, key_types: tuple[str, ...]) -> None:
        self.logins_begun = 0
        self._authorized = asyncssh.import_public_key(authorized).public_data
        self._key_types = key_types
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._commands: set[asyncio.subprocess.Process] = set()

    def __enter__(self) -> SshEndpoint:
        self._thread.start()
        self._acceptor = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(DEADLINE_SECONDS)
        return SshEndpoint(host="127.0.0.1", port=self._acceptor.get_port())

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(DEADLINE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_SECONDS)
        self._loop.close()

    async def _listen(self) -> Any:
        outer = self

        class Server(asyncssh.SSHServer):
            def begin_auth(self, _: str) -> bool:
                outer.logins_begun += 1
                return True

            def public_key_auth_supported(self) -> bool:
                return True

            def validate_public_key(self, _: str, key: Any) -> bool:
                return bool(key.public_data == outer._authorized)

            def connection_requested(self, *_: object) -> bool:
                return True

        kinds = {"ed25519": "ssh-ed25519", "ecdsa": "ecdsa-sha2-nistp256"}
        return await asyncssh.create_server(
            Server,
            "127.0.0.1",
            0,
            server_host_keys=[asyncssh.generate_private_key(kinds[kind]) for kind in self._key_types],
            process_factory=self._run,
            encoding=None,
        )

    async def _run(self, process: Any) -> None:
        pipe = asyncio.subprocess.PIPE
        command = await asyncio.create_subprocess_shell(
            process.command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
        self._commands.add(command)

        async def feed() -> None:
            assert command.stdin is not None
            with contextlib.suppress(ConnectionError):
                while piece := await process.stdin.read(65_536):
                    command.stdin.write(piece)
                    await command.stdin.drain()
            command.stdin.close()

        async def drain(source: Any, target: Any) -> None:
            while piece := await source.read(65_536):
                target.write(piece)
                await target.drain()

        feeding = asyncio.ensure_future(feed())
        try:
            await asyncio.gather(drain(command.stdout, process.stdout), drain(command.stderr, process.stderr))
            status = await command.wait()
            if status < 0:
                process.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
            else:
                process.exit(status)
        except (asyncssh.Error, ConnectionError):
            self._kill(command)  # the client went
        finally:
            feeding.cancel()

    def _kill(self, command: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)

    async def _close(self) -> None:
        self._acceptor.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for command in self._commands:
            self._kill(command)
            assert command.stdin is not None
            command.stdin.close()
            await command.communicate()


@contextlib.contextmanager
def asyncssh_server(folder: Path, authorized: str, key_types: tuple[str, ...] = ("ed25519",)) -> Iterator[SshEndpoint]:
    """An asyncssh server that runs commands by the shell, letting one key in. `folder` is not used."""
    with InProcessServer(authorized, key_types) as endpoint:
        yield endpoint


# --- The wire -----------------------------------------------------------------------------------------------------


class Wire:
    """Passes bytes on to a server, until it is cut, or falls silent."""

    def __init__(self, target: SshEndpoint) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._open = threading.Event()
        self._open.set()
        self.endpoint = SshEndpoint(host="127.0.0.1", port=self._listener.getsockname()[1], user=target.user)
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._open.set()
        self.cut()

    def silence(self) -> None:
        """Pass nothing on any more, and keep every connection."""
        self._open.clear()

    def cut(self) -> None:
        """Break every connection."""
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection((self._target.host, self._target.port))
                self._sockets += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65_536):
                self._open.wait()
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)
