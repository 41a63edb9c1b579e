"""The process of one simulated machine: its on-start script, its SSH server, and its end with all that it started."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Mapping

import psutil

from dumont.local.machine import proxy
from dumont.local.machine.folder import MachineFolder, shell
from dumont.local.machine.ssh_server import SshServer
from dumont.local.machine.wire import Door, Wire

PR_SET_CHILD_SUBREAPER = 36
REAP_SECONDS = 5.0


def adopt_orphans() -> None:
    """Become the parent of whatever our descendants leave behind, so that a process tree is all there is to kill.

    Elsewhere than on Linux this does nothing, and a command that makes a daemon of itself outlives its machine.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_descendants(pid: int) -> None:
    """SIGKILL everything that a process started, until nothing is left. The process itself should be stopped or us."""
    try:
        root = psutil.Process(pid)
        while living := [p for p in root.children(recursive=True) if _is_alive(p)]:
            for process in living:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(living, timeout=0.01)
    except psutil.NoSuchProcess:
        return  # it ended meanwhile; what it left behind was adopted by its own parent


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class MachineProcess:
    """Runs a machine until its control pipe says so or breaks."""

    def __init__(self, folder: MachineFolder, listener: socket.socket, control: int) -> None:
        """`listener` is bound and not listening yet; on `control` come words, a line each: "boot" runs the on-start
        script, "open" and "deaf" open and close SSH, "cut" and "mend" are of the network.
        """
        self._folder = folder
        self._listener = listener
        self._control = control
        self._own: set[asyncio.Task[None]] = set()

    def run(self) -> None:
        """Run to the end. Nothing that the machine started is left then."""
        adopt_orphans()
        os.chdir(self._folder.home)  # where SFTP's relative paths begin
        try:
            asyncio.run(self._main())
        finally:
            kill_descendants(os.getpid())

    async def _main(self) -> None:
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        pipe = os.fdopen(self._control, "rb", buffering=0)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        wire = Wire()
        outward = bound_listener()
        environment = _of_the_network(self._listener, outward)
        server = SshServer(self._folder, self._listener, wire, environment)
        way_out = Door(outward, wire, proxy.Proxy(wire).serve)
        way_out.open()
        reaping = asyncio.create_task(self._reap_adopted())
        try:
            while line := await reader.readline():
                match line.strip():
                    case b"boot":
                        self._own.add(asyncio.create_task(self._run_on_start(environment)))
                    case b"open":
                        server.open()
                    case b"deaf":
                        server.close()
                    case b"cut":
                        wire.cut()
                    case b"mend":
                        wire.mend()
        finally:
            reaping.cancel()
            way_out.close()
            server.close()

    async def _run_on_start(self, environment: Mapping[str, str]) -> None:
        with self._folder.log.open("ab") as log:  # what a container with SSH prints first
            log.write(b"Server listening on 0.0.0.0 port 22.\n")
        script = self._folder.read_spec().on_start
        if not script:
            return
        file = self._folder.path / "onstart.sh"
        file.write_text(script)
        with self._folder.log.open("ab") as log:
            child = await asyncio.create_subprocess_exec(
                shell(),
                str(file),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**self._folder.environment(), **environment},
                cwd=self._folder.home,
                start_new_session=True,
            )
        await child.wait()

    @staticmethod
    async def _reap_adopted() -> None:
        """Take note of the deaths of adopted processes, which would stay zombies.

        Only of those that were zombies at the look before too: asyncio takes note of its own children's within
        milliseconds, and would not learn their exit status if we were first.
        """
        seen: set[int] = set()
        while True:
            await asyncio.sleep(REAP_SECONDS)
            dead = {p.pid for p in psutil.Process().children() if p.is_running() and not _is_alive(p)}
            for pid in dead & seen:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            seen = dead - seen


def _of_the_network(ssh: socket.socket, outward: socket.socket) -> dict[str, str]:
    """What a container's environment says of its network, by Vast.ai's names, and the only way out of it."""
    host, port = ssh.getsockname()
    return {
        "PUBLIC_IPADDR": str(host),
        "VAST_TCP_PORT_22": str(port),
        **proxy.environment(*outward.getsockname()),
    }


def bound_listener(port: int = 0) -> socket.socket:
    """A socket on loopback that holds a port and refuses connections until someone listens on it."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    return listener


def reset_signals() -> None:
    """After a fork: signals as a fresh process has them."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
