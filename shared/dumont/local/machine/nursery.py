"""The parent of all simulated machines: it has everything imported, so that a machine is a fork and starts in some ms.

It reads commands on its standard input, JSON a line, and writes events on its standard output, "ready" first:

    {"do": "spawn", "name": …, "folder": …}     → {"event": "spawned", "name": …, "port": …}
    {"do": "say", "name": …, "word": "open"}
    {"do": "kill", "name": …}                   → {"event": "gone", "name": …}, as also when a machine ends by itself

When its input ends, whoever started it is gone: it kills every machine with all that it started, and ends. Should
it be killed itself, each machine sees its own control pipe break and does the same.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from dumont.local.machine.folder import MachineFolder
from dumont.local.machine.process import (
    MachineProcess,
    adopt_orphans,
    bound_listener,
    kill_descendants,
    reset_signals,
)


@dataclass(frozen=True)
class _Machine:
    name: str
    pid: int
    control: int


class Nursery:
    """The machines, by name and by process."""

    def __init__(self, commands: int, events: int) -> None:
        self._commands = commands
        self._events = events
        self._machines: dict[str, _Machine] = {}
        self._wake_out, self._wake_in = os.pipe()

    def run(self) -> None:
        """Serve until the input ends. Then nothing is left."""
        adopt_orphans()
        os.set_blocking(self._wake_in, False)
        os.set_blocking(self._wake_out, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_in)
        gc.collect()
        gc.freeze()  # what is imported stays shared between the machines
        selector = selectors.DefaultSelector()
        selector.register(self._commands, selectors.EVENT_READ)
        selector.register(self._wake_out, selectors.EVENT_READ)
        self._tell({"event": "ready"})
        rest = b""
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if self._wake_out in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_out, 4096)
                self._reap()
            if self._commands in ready:
                data = os.read(self._commands, 65536)
                if not data:
                    break
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._do(json.loads(line))
        for name in list(self._machines):
            self._kill(name)
        kill_descendants(os.getpid())

    def _do(self, command: dict[str, Any]) -> None:
        name = command["name"]
        match command["do"]:
            case "spawn":
                self._spawn(name, MachineFolder(Path(command["folder"])))
            case "say" if name in self._machines:
                # It may have ended this very moment; then its end is what counts.
                with contextlib.suppress(BrokenPipeError):
                    os.write(self._machines[name].control, command["word"].encode() + b"\n")
            case "kill":
                self._kill(name)

    def _spawn(self, name: str, folder: MachineFolder) -> None:
        listener = bound_listener()
        control_out, control_in = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._become_machine(folder, listener, control_out, control_in)
        os.close(control_out)
        port = listener.getsockname()[1]
        listener.close()
        self._machines[name] = _Machine(name, pid, control_in)
        self._tell({"event": "spawned", "name": name, "port": port})

    def _become_machine(self, folder: MachineFolder, listener: Any, control_out: int, control_in: int) -> None:
        """In the forked process: run the machine, and never come back."""
        status = 1
        try:
            reset_signals()
            os.setsid()
            # Another machine's pipe held open here would keep it from seeing that the nursery is gone.
            for fd in (control_in, self._commands, self._wake_in, self._wake_out):
                os.close(fd)
            for other in self._machines.values():
                os.close(other.control)
            with folder.log.open("ab") as log:
                nothing = os.open(os.devnull, os.O_RDONLY)
                for source, target in ((nothing, 0), (log.fileno(), 1), (log.fileno(), 2)):
                    os.dup2(source, target)
            if self._events not in (0, 1, 2):
                os.close(self._events)
            MachineProcess(folder, listener, control_out).run()
            status = 0
        finally:
            os._exit(status)

    def _kill(self, name: str) -> None:
        machine = self._machines.get(name)
        if machine is None:
            return
        # Stopped first, so that it starts nothing while what it started is being killed.
        os.kill(machine.pid, signal.SIGSTOP)
        kill_descendants(machine.pid)
        os.kill(machine.pid, signal.SIGKILL)
        os.waitpid(machine.pid, 0)
        self._forget(machine)

    def _forget(self, machine: _Machine) -> None:
        del self._machines[machine.name]
        os.close(machine.control)
        self._tell({"event": "gone", "name": machine.name})

    def _reap(self) -> None:
        """Take note of machines that ended by themselves; kill what a machine that was killed has left to us."""
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                break
            ended = next((machine for machine in self._machines.values() if machine.pid == pid), None)
            if ended is not None:
                self._forget(ended)
        ours = {machine.pid for machine in self._machines.values()}
        for orphan in psutil.Process().children():
            if orphan.pid not in ours:
                kill_descendants(orphan.pid)
                with contextlib.suppress(psutil.NoSuchProcess):
                    orphan.kill()

    def _tell(self, event: dict[str, Any]) -> None:
        # Nobody listens any more when the input's end is about to be seen too.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._events, json.dumps(event).encode() + b"\n")


def main() -> int:
    """Run a nursery on the standard streams."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    commands, events = os.dup(0), os.dup(1)
    os.set_inheritable(commands, False)
    Nursery(commands, events).run()
    return 0
