"""Slack as our client sees it: its Web API and response URLs on a port of this machine, with faults on request."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]
TOKEN = "xoxb-1-a-token-of-tests"
CHANNEL = "C0ALERTS1"


@dataclass
class Fault:
    """What the next `count` calls of a method get in place of an answer. `done`: it has its effect all the same."""

    method: str
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: str = "oops"
    count: int = 1
    done: bool = False
    hang_up: bool = False


@dataclass
class Slack:
    """What was posted, by channel and ts; what was sent to response URLs; the calls in their order."""

    url: str = ""
    posted: dict[str, Json] = field(default_factory=dict)
    replies: list[Json] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    _ts: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def api_url(self) -> str:
        return f"{self.url}/api/"

    def reply_url(self, name: str = "1") -> str:
        """A request's own URL."""
        return f"{self.url}/commands/T1/{name}/secret"

    def messages(self, channel: str = CHANNEL) -> list[Json]:
        """What stands in a channel now, in order."""
        with self.changed:
            return [dict(m) for key, m in sorted(self.posted.items()) if m["channel"] == channel]

    def wait(self, what: Any, seconds: float = 30.0) -> Any:
        """The first true answer of `what`, looked at after each call."""
        with self.changed:
            found = self.changed.wait_for(what, seconds)
        assert found, f"not within {seconds} s; Slack was called {self.calls}"
        return found

    def _call(self, method: str, body: Json, token: str) -> Json:
        if token != f"Bearer {TOKEN}":
            return {"ok": False, "error": "invalid_auth"}
        if not str(body.get("channel", "")).startswith(("C", "U", "D")):
            return {"ok": False, "error": "channel_not_found"}
        match method:
            case "chat.postMessage":
                ts = f"1800000000.{next(self._ts):06d}"
                self.posted[ts] = body | {"ts": ts}
                return {"ok": True, "channel": body["channel"], "ts": ts}
            case "chat.update":
                if body.get("ts") not in self.posted:
                    return {"ok": False, "error": "message_not_found"}
                self.posted[body["ts"]] |= body
                return {"ok": True, "channel": body["channel"], "ts": body["ts"]}
            case "conversations.history":
                found = [m for m in self.posted.values() if m["channel"] == body["channel"]]
                return {"ok": True, "messages": sorted(found, key=lambda m: m["ts"], reverse=True)[: body["limit"]]}
        return {"ok": False, "error": "unknown_method"}

    def answer(self, path: str, body: Json, token: str) -> tuple[int, dict[str, str], str] | None:
        """Status, headers and body of an answer; None: hang up."""
        method = path.removeprefix("/api/") if path.startswith("/api/") else path.strip("/").split("/")[0]
        with self.changed:
            self.calls.append(method)
            fault = next((f for f in self.faults if f.method == method and f.count > 0), None)
            said = None
            if fault is None or fault.done:
                if path.startswith("/api/"):
                    said = json.dumps(self._call(method, body, token))
                else:
                    self.replies.append(body | {"path": path})
                    said = "ok"
            self.changed.notify_all()
            if fault is not None:
                fault.count -= 1
                return None if fault.hang_up else (fault.status, fault.headers, fault.body)
            return 200, {}, said or ""


@contextmanager
def slack_server() -> Iterator[Slack]:
    """A running one."""
    slack = Slack()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
            answer = slack.answer(self.path, body, self.headers.get("Authorization", ""))
            if answer is None:
                self.close_connection = True
                return
            status, headers, text = answer
            data = text.encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    slack.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield slack
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
