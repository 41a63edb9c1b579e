"""An agent as a real process in a home of its own, and the control plane and provider that it talks to."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil

from dumont.agent import boot, tokens
from tests import waiting

SECONDS_MOST = 30.0
PYTHON = os.environ.get("DUMONT_AGENT_PYTHON", sys.executable)
"""Which Python runs the agents: set it to see them under another version."""


def wait_for(condition: Callable[[], Any], what: str, seconds: float = SECONDS_MOST) -> Any:
    """The condition's first true value; fails if that takes too long."""
    return waiting.wait_for(condition, what, seconds=seconds)


@dataclass
class Seen:
    """One request."""

    at: float
    method: str
    path: str
    token: str
    body: dict[str, Any]
    content: bytes
    answered: bool = True


def serve(run: str, **fields: Any) -> dict[str, Any]:
    """An answer that wants a workload."""
    spec = {"run": run, "restart": "always", "health": "", "stop_seconds": 5.0}
    spec |= {name: fields.pop(name) for name in list(fields) if name in spec}
    return answer("serve", workload=spec, **fields)


def answer(state: str, **fields: Any) -> dict[str, Any]:
    """An answer to a heartbeat, each 0.1 s and without a lease."""
    made = {"state": state, "epoch": 1, "interval_seconds": 0.1, "lease_seconds": 0.0, "workload": None}
    return {**made, "destroy": False, **fields}


class ControlPlane:
    """Answers heartbeats with `says`: an answer, or (status, body), or None to hang until `release`. Serves `program`
    at /agent, and is the provider's API for DELETE, answering with `provider_says` in turn.
    """

    def __init__(self) -> None:
        self.says: dict[str, Any] | tuple[int, bytes] | None = answer("wait")
        self.program = boot.agent_file()
        self.provider_says: list[tuple[int, bytes]] = []
        self.requests: list[Seen] = []
        self.release = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def beats(self) -> list[Seen]:
        return [seen for seen in list(self.requests) if seen.path.endswith("/heartbeat")]

    @property
    def last(self) -> dict[str, Any]:
        """The latest heartbeat's body."""
        return self.beats[-1].body if self.beats else {}

    def workload(self) -> dict[str, Any]:
        """The workload as the latest heartbeat tells of it."""
        return dict(self.last.get("workload", {}))

    def wait_state(self, *states: str) -> dict[str, Any]:
        """The workload's report, once its state is one of these."""
        return dict(wait_for(lambda: (w := self.workload()).get("state") in states and w, f"the workload is {states}"))

    def start(self) -> None:
        plane = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                plane._answer(self)

            do_GET = do_DELETE = do_POST  # noqa: N815 - http.server's names

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """An agent that is killed breaks its connections."""

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Gone: connections are refused. `start` brings it back at the same place."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        content = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        token = (handler.headers.get("Authorization") or "").removeprefix("Bearer ")
        body = json.loads(content) if content else {}
        seen = Seen(time.monotonic(), handler.command, handler.path, token, body, content)
        says = self.says
        seen.answered = isinstance(says, dict)
        self.requests.append(seen)
        if handler.command == "GET":
            self._send(handler, 200, self.program)
        elif handler.command == "DELETE":
            self._send(handler, *self.provider_says.pop(0))
        elif says is None:
            self.release.wait(SECONDS_MOST)
            self._send(handler, 503, b"")
        else:
            self._send(handler, *(says if isinstance(says, tuple) else (200, json.dumps(says).encode())))

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
        with contextlib.suppress(OSError):
            handler.send_response(status)
            if 300 <= status < 400:
                handler.send_header("Location", "/elsewhere")
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)


@dataclass
class Host:
    """A machine: a home, and whatever runs in it."""

    home: Path
    plane: ControlPlane
    environment: dict[str, str] = field(default_factory=dict)
    path: str = "/usr/bin:/bin"

    def __post_init__(self) -> None:
        self.programs = self.home.parent / "bin"
        self.programs.mkdir(exist_ok=True)
        self.home.mkdir(exist_ok=True)
        self.program("python3", f'exec {PYTHON} "$@"')

    @property
    def workspace(self) -> Path:
        return self.home / "workspace"

    @property
    def folder(self) -> Path:
        return self.home / ".dumont" / "agent"

    def program(self, name: str, script: str) -> None:
        """Put a program first on PATH."""
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def config(self, **fields: Any) -> boot.AgentConfig:
        made: dict[str, Any] = {
            "url": self.plane.url,
            "interval_seconds": 0.1,
            "machine": "trainer",
            "epoch": 1,
            "instance": f"dumont.test.trainer.1.{self.home.parent.name}",
            **fields,
        }
        return boot.AgentConfig(token=tokens.make(b"secret", made["machine"], made["epoch"], made["instance"]), **made)

    def start(self, *options: str, **fields: Any) -> subprocess.Popen[bytes]:
        """The agent, in the foreground."""
        self.folder.mkdir(parents=True, exist_ok=True)
        program, config = self.folder / "agent.pyz", self.folder / "config.json"
        program.write_bytes(boot.agent_file())
        config.touch(mode=0o600)
        config.write_text(boot._config_json(self.config(**fields)))
        words = [PYTHON, "-IS", str(program), *options, str(config)]
        return subprocess.Popen(words, env=self.env(), cwd=self.home, stdin=subprocess.DEVNULL)

    def env(self) -> dict[str, str]:
        return {"HOME": str(self.home), "PATH": f"{self.programs}:{self.path}", "LANG": "C.UTF-8", **self.environment}

    def shell(self, script: str, *shell: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a script to its end, from a file."""
        file = self.home.parent / "script.sh"
        file.write_text(script)
        words = [*(shell or ("/bin/sh",)), str(file)]
        return subprocess.run(
            words, input=stdin, env=self.env(), cwd=self.home, capture_output=True, timeout=40, check=False
        )

    def run(self, command: str, *, stdin: bytes = b"", timeout_seconds: float = 30.0) -> boot.Result:
        """A shell session on this host, as `push` needs it."""
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            input=stdin, env=self.env(), cwd=self.home, capture_output=True, timeout=timeout_seconds, check=False,
        )  # fmt: skip
        return _Result(done.returncode, done.stdout, done.stderr)

    def processes(self) -> list[psutil.Process]:
        """All that runs on this machine."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("HOME") == str(self.home) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def agents(self) -> list[psutil.Process]:
        return [p for p in self.processes() if any(word.endswith(".pyz") for word in words(p))]

    def others(self) -> list[psutil.Process]:
        """The workload's processes."""
        return [p for p in self.processes() if not any(word.endswith(".pyz") for word in words(p))]

    def log(self, name: str = ".dumont/workload.log") -> str:
        path = self.home / name
        return path.read_text() if path.exists() else ""

    def kill(self) -> None:
        """SIGKILL for everything. Those that nobody reaps stay as zombies, which `processes` does not count."""
        pause = threading.Event()
        while found := self.processes():
            for process in found:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            pause.wait(0.01)


@dataclass(frozen=True)
class _Result:
    exit_status: int
    stdout: bytes
    stderr: bytes


def words(process: psutil.Process) -> list[str]:
    """Its command line; none if it has ended."""
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


@contextlib.contextmanager
def host(folder: Path) -> Iterator[Host]:
    """A machine and its control plane; nothing is left of them."""
    plane = ControlPlane()
    plane.start()
    made = Host(folder / "home", plane)
    try:
        yield made
    finally:
        plane.release.set()
        made.kill()
        plane.stop()
