"""The end of a fenced host: its own instance destroyed with the key that its provider gave to it alone."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dumont.agent.host.transport import Transport

PROVIDER_URL = "https://console.vast.ai"
PAUSE_SECONDS_FIRST, PAUSE_SECONDS_MOST = 5.0, 60.0
GONE_WORD = "no_such_instance"


def instance_key(environment: Mapping[str, str], first_process: Path = Path("/proc/1/environ")) -> dict[str, str]:
    """The provider's variables. One that was started over SSH has them not, and looks in the container's own."""
    found = dict(environment)
    if "CONTAINER_API_KEY" not in found:
        try:
            pairs = first_process.read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            pairs = []  # not ours to read
        for name, _, value in (pair.partition("=") for pair in pairs if pair.startswith(("CONTAINER_", "VAST_"))):
            found[name] = value
    names = ("CONTAINER_ID", "CONTAINER_API_KEY", "VAST_CONTAINERLABEL", "VAST_URL")
    return {name: found[name] for name in names if found.get(name)}


def destroy_request(key: Mapping[str, str]) -> tuple[str, str] | None:
    """The URL to DELETE and its token; None if this machine has no such key."""
    label = key.get("VAST_CONTAINERLABEL", "")
    number = key.get("CONTAINER_ID") or (label[2:] if label.startswith("C.") else "")
    token = key.get("CONTAINER_API_KEY", "")
    if not (number.isascii() and number.isdigit()) or not (token.isascii() and token.isprintable()) or not token:
        return None
    base = key.get("VAST_URL", PROVIDER_URL).rstrip("/")
    return (f"{base}/api/v0/instances/{number}/", token) if base.startswith(("https://", "http://")) else None


def accepted(status: int, body: bytes) -> bool:
    """Whether the provider says that the instance goes, or is gone."""
    try:
        given = json.loads(body)
    except ValueError:
        given = {}
    if not isinstance(given, dict):
        return False
    return (status == 200 and given.get("success") is True) or (status == 404 and GONE_WORD in json.dumps(given))


class Farewell:
    """Asks for the destruction again and again while it is ordered: only the machine's own end shows that it worked."""

    def __init__(
        self,
        transport: Transport,
        *,
        ordered: Callable[[], bool],
        say: Callable[[str], None],
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """`ordered` says whether it is still to happen, and nothing of the workload is left."""
        self._transport = transport
        self._ordered = ordered
        self._say = say
        self._environment = environment
        self._closed = threading.Event()

    def run(self) -> None:
        """Look each second; ask with growing pauses."""
        pause = PAUSE_SECONDS_FIRST
        while not self._closed.wait(1.0):
            if not self._ordered():
                pause = PAUSE_SECONDS_FIRST
                continue
            request = destroy_request(instance_key(self._environment))
            if request is None:
                self._say("told to destroy this instance, and there is no key for it")
            else:
                got = self._transport.send("DELETE", request[0], request[1], b"{}")
                done = not isinstance(got, str) and accepted(*got)
                self._say("asked the provider to destroy this instance" + ("" if done else ": refused"))
            self._closed.wait(pause)
            pause = min(PAUSE_SECONDS_MOST, pause * 2)

    def close(self) -> None:
        """Ask no more."""
        self._closed.set()
