"""Whether the workload is well: the verdict, which is pure, and the checks, which are not."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dumont.agent.host.children import Children

if TYPE_CHECKING:
    from collections.abc import Callable

CHECK_SECONDS_MOST = 5.0
EAGER_SECONDS, CALM_SECONDS = 1.0, 5.0
"""Between checks: until the first success, as someone waits for it; and after that."""
START_SECONDS = 120.0
"""Failures before the first success count for nothing so long: models take their time to load."""
FAILURES = 3


class Health:
    """A running verdict on one run of the workload."""

    def __init__(self, now: float) -> None:
        self.well_since: float | None = None
        self._started_at = now
        self._failures = 0
        self._failure = ""

    def saw(self, now: float, failure: str | None) -> None:
        """Take a check's outcome in; None is success."""
        if failure is None:
            self._failures, self._failure = 0, ""
            if self.well_since is None:
                self.well_since = now
            return
        self._failure = failure
        if self.well_since is not None or now >= self._started_at + START_SECONDS:
            self._failures += 1
        if self._failures >= FAILURES:
            self.well_since = None

    def judge(self) -> tuple[str, str]:
        """The workload's state and what is wrong."""
        if self.well_since is not None:
            return "healthy", self._failure
        if self._failures >= FAILURES:
            return "unhealthy", self._failure
        return "starting", self._failure

    def pause_seconds(self) -> float:
        """How long until the next check."""
        return CALM_SECONDS if self.well_since is not None else EAGER_SECONDS


class Check(NamedTuple):
    """A check taken apart: `kind` is http, port or command."""

    kind: str
    port: int = 0
    path: str = "/"
    command: str = ""


def read_check(text: str) -> Check | None:
    """`http:PORT/path`, `port:PORT` or `command:…`; None for what this agent does not know."""
    kind, _, rest = text.partition(":")
    if kind == "command" and rest.strip():
        return Check("command", command=rest)
    port, slash, path = rest.partition("/")
    if kind not in ("http", "port") or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        return None
    if not (path.isascii() and path.isprintable()) or " " in path or (slash and kind == "port"):
        return None
    return Check(kind, port=int(port), path=f"/{path}")


def run_check(check: Check, children: Children, folder: Path) -> str | None:
    """Run it once; why it failed, or None. Ends within some `CHECK_SECONDS_MOST`."""
    runners: dict[str, Callable[[], str | None]] = {
        "http": lambda: _http(check),
        "port": lambda: _port(check),
        "command": lambda: _command(check, children, folder),
    }
    return runners[check.kind]()


def _http(check: Check) -> str | None:
    # No proxy, whatever the environment says: the workload is on this machine.
    connection = http.client.HTTPConnection("127.0.0.1", check.port, timeout=CHECK_SECONDS_MOST)
    try:
        connection.request("GET", check.path, headers={"User-Agent": "dumont-agent"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as failure:
        return f"port {check.port}: {type(failure).__name__}"
    finally:
        connection.close()
    return None if 200 <= status < 400 else f"HTTP status {status}"


def _port(check: Check) -> str | None:
    try:
        socket.create_connection(("127.0.0.1", check.port), timeout=CHECK_SECONDS_MOST).close()
    except OSError as failure:
        return f"port {check.port}: {type(failure).__name__}"
    return None


def _command(check: Check, children: Children, folder: Path) -> str | None:
    outcome = children.run(["/bin/sh", "-c", check.command], CHECK_SECONDS_MOST, folder=folder)
    if outcome is None:
        return f"the check did not end within {CHECK_SECONDS_MOST:.0f} s"
    return None if outcome.status == 0 else f"the check's exit status {outcome.status}"
