"""What the tests of machines that lose their network or their life share: whom they send to, and how it is seen."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.end_to_end.market_support import Rig, wait_for

BEATS = """
import http.client, os, time, urllib.request
url = os.environ["BEATS_URL"]
kept = None
while True:
    with open("count", "a") as file:
        file.write("x")
    try:
        if os.environ.get("KEPT"):
            host, _, port = os.environ["http_proxy"].removeprefix("http://").partition(":")
            kept = kept or http.client.HTTPConnection(host, int(port), timeout=60)
            kept.request("GET", f"{url}/kept/{os.getpid()}")
            kept.getresponse().read()
        else:
            urllib.request.urlopen(f"{url}/beat/{os.getpid()}", timeout=0.5).read()
    except OSError:
        kept = None
    time.sleep(0.05)
"""


class Plane:
    """Something that machines send to: it remembers the paths that were asked for."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.connections = 0
        paths, plane = self.paths, self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                plane.connections += 1
                super().setup()

            def do_GET(self) -> None:
                paths.append(self.path)
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def beats(self) -> bool:
        """Whether anything arrives from now on."""
        count = len(self.paths)
        return holds(lambda: len(self.paths) == count, 1.0) is False


def holds(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether a condition holds for so long without a gap."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not condition():
            return False
        time.sleep(0.02)
    return True


def beating(rig: Rig, plane: Plane, **env: str) -> int:
    """A running instance whose on-start script leaves a process behind that sends beats."""
    script = f"echo started >> starts; cat > beats.py <<'END'\n{BEATS}\nEND\nsetsid nohup python3 beats.py &\n"
    instance = rig.create(
        onstart=script, env={"BEATS_URL": plane.url, **env}, label=f"t.{len(rig.bill()['instances'])}"
    )
    rig.until(instance, "running")
    wait_for(lambda: plane.paths, "the first beat")
    return instance


def run(rig: Rig, row: dict[str, Any], command: str) -> str:
    async def once() -> str:
        async with rig.login(row) as connection:
            return str((await connection.run(command)).stdout)

    return asyncio.run(once())


def accepts(row: dict[str, Any], seconds: float = 0.5) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((row["ssh_host"], row["ssh_port"]), seconds):
        return True
    return False


def says_its_name(row: dict[str, Any], seconds: float = 0.5) -> bool:
    """Whether an SSH server answers."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection((row["ssh_host"], row["ssh_port"]), seconds) as connection,
    ):
        connection.settimeout(seconds)
        return connection.recv(4) == b"SSH-"
    return False


def status(rig: Rig, instance: int) -> str | None:
    row = rig.row(instance)
    assert row is not None
    found: str | None = row["actual_status"]
    return found


def count(rig: Rig, instance: int) -> int:
    """How often the machine's process went round."""
    return (rig.folder / str(instance) / "home" / "count").stat().st_size


def mend(rig: Rig, **named: Any) -> list[int]:
    answer = rig.http.post("/_market/mend", json=named)
    assert answer.status_code == 200, answer.text
    ids: list[int] = answer.json()["instance_ids"]
    return ids


def pids(plane: Plane) -> set[str]:
    return {path.rsplit("/", 1)[-1] for path in plane.paths}


# --- The network is cut -------------------------------------------------------------------------------------------
