"""A real function behind functions-framework and waitress, and what tests know of what it heard."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import functions_framework
import waitress
from cloudevents.http import CloudEvent
from waitress import wasyncore

HERE = Path(__file__)


class Listener:
    """Hears one topic. The first `failures` deliveries of each message raise; a `gate` that is shut holds all back."""

    def __init__(self, *, failures: int = 0) -> None:
        self.failures = failures
        self.gate = threading.Event()
        self.gate.set()
        self.events: list[CloudEvent] = []
        self.at_once_most = 0
        self._at_once = 0
        self._changed = threading.Condition()

    @property
    def messages(self) -> list[dict[str, str]]:
        """The messages of all deliveries, failed ones too."""
        with self._changed:
            return [json.loads(base64.b64decode(event.data["message"]["data"])) for event in self.events]

    @property
    def waiting(self) -> int:
        """How many deliveries are in the function now."""
        return self._at_once

    def wait_until(self, condition: Any, timeout_seconds: float = 20.0) -> None:
        """Wait until the condition holds; it is asked again at each delivery's begin and end."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout_seconds), f"heard only {self.messages}"

    def hear(self, event: CloudEvent) -> None:
        with self._changed:
            earlier = sum(1 for heard in self.events if heard["id"] == event["id"])
            self.events.append(event)
            self._at_once += 1
            self.at_once_most = max(self.at_once_most, self._at_once)
            self._changed.notify_all()
        self.gate.wait(20)
        with self._changed:
            self._at_once -= 1
            self._changed.notify_all()
        if earlier < self.failures:
            raise RuntimeError("told to fail")


LISTENERS: dict[str, Listener] = {}
"""Topic → its listener: all functions of a test run are in this process."""


@functions_framework.cloud_event
def listen(event: CloudEvent) -> None:
    from tests.contract.listening import LISTENERS as OURS

    OURS[event["source"].rsplit("/", 1)[-1]].hear(event)


@contextlib.contextmanager
def serving(app: Any, *, threads: int = 8) -> Iterator[str]:
    """The URL of a WSGI application while it is served on a free port."""
    sockets: dict[int, Any] = {}
    server = waitress.create_server(app, host="127.0.0.1", port=0, threads=threads, map=sockets)
    thread = threading.Thread(target=server.run, name="waitress")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.effective_port}"
    finally:
        # In the server's own thread: it may be in a select on these sockets.
        server.trigger.pull_trigger(lambda: wasyncore.close_all(sockets, ignore_all=True))
        thread.join(20)
        server.task_dispatcher.shutdown()
        assert not thread.is_alive()


@contextlib.contextmanager
def function_serving() -> Iterator[str]:
    """The URL of the function `listen`."""
    create_app: Any = functions_framework.create_app
    app = create_app(target="listen", source=str(HERE), signature_type="cloudevent")
    with serving(app) as url:
        yield url
