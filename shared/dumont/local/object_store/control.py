"""The control endpoints, under `/_store/`: for tests and demonstrations on one machine. Only loopback reaches them."""

from __future__ import annotations

import json
import threading
from typing import Any

import msgspec

from dumont.local.object_store.faults import Fault, Faults, Line, Pace
from dumont.local.object_store.http import Answer, Request
from dumont.local.object_store.refusals import Refused

_BODY_BYTES_MAX = 1 << 20


class Counts:
    """How many requests of each kind came, what they carried, and how many failed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[str, dict[str, int]] = {}

    def add(self, request: Request, answer: Answer) -> None:
        """Count a request that is about to be answered."""
        with self._lock:
            row = self._rows.setdefault(
                request.operation or "refused", {"requests": 0, "failed": 0, "bytes_in": 0, "bytes_out": 0}
            )
            row["requests"] += 1
            row["failed"] += answer.status >= 400
            row["bytes_in"] += request.body.length - request.body.left
            row["bytes_out"] += answer.content.size if answer.content and request.method != "HEAD" else 0

    def rows(self) -> dict[str, dict[str, int]]:
        """The counts by operation."""
        with self._lock:
            return {operation: dict(row) for operation, row in self._rows.items()}

    def clear(self) -> None:
        """Begin again."""
        with self._lock:
            self._rows.clear()


class Control:
    """Answers to:

    - GET, POST (a `Fault`), DELETE `faults`
    - GET, POST (a `Pace`), DELETE `pace`
    - GET, DELETE `counts`
    """

    def __init__(self, faults: Faults, line: Line, counts: Counts) -> None:
        self._faults = faults
        self._line = line
        self._counts = counts

    def handle(self, request: Request) -> Answer:
        """Answer a request, or raise `Refused`."""
        body = request.body.read_all(_BODY_BYTES_MAX) if request.body.length else b""
        try:
            told = self._act(request.method, request.path.removeprefix("/_store/").strip("/"), body)
        except msgspec.DecodeError as malformed:
            raise Refused(400, "bad_request", str(malformed)) from None
        return Answer(body=json.dumps(told).encode())

    def refusal(self, refused: Refused, _: Request) -> Answer:
        """How it says no."""
        return Answer(refused.status, json.dumps({"success": False, "error": refused.message}).encode())

    def _act(self, method: str, name: str, body: bytes) -> Any:
        match method, name:
            case "GET", "faults":
                return {"faults": msgspec.to_builtins(self._faults.waiting())}
            case "POST", "faults":
                self._faults.add(msgspec.json.decode(body, type=Fault))
            case "DELETE", "faults":
                self._faults.clear()
            case "GET", "pace":
                return msgspec.to_builtins(self._line.pace)
            case "POST", "pace":
                self._line.pace = msgspec.json.decode(body, type=Pace)
            case "DELETE", "pace":
                self._line.pace = Pace()
            case "GET", "counts":
                return {"counts": self._counts.rows()}
            case "DELETE", "counts":
                self._counts.clear()
            case _:
                raise Refused(404, "not_found", "the local object store has no such control")
        return {"success": True}
