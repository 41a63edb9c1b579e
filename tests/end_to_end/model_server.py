"""The workload of the gateway's tests: a small HTTP server that speaks as a machine's program would, OpenAI's shape
included. Standard library only: simulated machines run it as it is.

    python3 model_server.py PORT [SECONDS BEFORE IT LISTENS]
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

WORDS = ["wake", " and", " answer", " in", " pieces"]


class Handler(BaseHTTPRequestHandler):
    """Answers by path."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def do_GET(self) -> None:
        """Everything, whatever the method."""
        parts = urlsplit(self.path)
        asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        body = self._body()
        match parts.path:
            case "/echo":
                self._json({"method": self.command, "target": self.path, "headers": dict(self.headers.items()),
                            "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest(),
                            "instance": os.environ.get("DUMONT_WORKLOAD", "")})  # fmt: skip
            case "/noise":
                self._noise(int(asked["bytes"]), int(asked.get("seed", 0)))
            case "/events":
                self._events(int(asked.get("count", 5)), float(asked.get("seconds", 0.1)))
            case "/slow":
                time.sleep(float(asked["seconds"]))
                self._json({"slept": True})
            case "/moved":
                self._empty(302, Location="/echo", Set_Cookie="a=b; Path=/; Domain=example.com; HttpOnly")
            case "/dies":
                self.close_connection = True
            case "/half":
                self._start(200, "text/plain", Content_Length="1000")
                self.wfile.write(b"half")
                self.close_connection = True
            case "/v1/chat/completions":
                self._chat(json.loads(body))
            case "/v1/embeddings":
                rows = [{"object": "embedding", "index": 0, "embedding": [0.25, 0.5]}]
                usage = {"prompt_tokens": 1, "total_tokens": 1}
                self._json({"object": "list", "data": rows, "model": json.loads(body)["model"], "usage": usage})
            case _:
                self._json({"error": "not here"}, 404)

    do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = do_GET  # noqa: N815 - the base class's names

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.rfile.readline().strip() or b"0", 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _start(self, status: int, media_type: str, **headers: str) -> None:
        self.send_response(status)
        if media_type:
            self.send_header("Content-Type", media_type)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def _empty(self, status: int, **headers: str) -> None:
        self._start(status, "", Content_Length="0", **headers)

    def _json(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self._start(status, "application/json", Content_Length=str(len(data)))
        if self.command != "HEAD":
            self.wfile.write(data)

    def _noise(self, count: int, seed: int) -> None:
        self._start(200, "application/octet-stream", Content_Length=str(count))
        block = bytes((i * 7 + seed) % 251 for i in range(65536))
        while count > 0:
            self.wfile.write(block[:count])
            count -= len(block)

    def _piece(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _events(self, count: int, seconds: float) -> None:
        self._start(200, "text/event-stream", Transfer_Encoding="chunked")
        for number in range(count):
            self._piece(f"data: {number} {time.time()}\n\n".encode())
            time.sleep(seconds)
        self._piece(b"")

    def _chat(self, asked: dict[str, Any]) -> None:
        if asked["model"] == "broken":
            self._json({"error": {"message": "it broke", "type": "server_error", "param": None, "code": None}}, 400)
            return
        common = {"id": "chatcmpl-1", "created": int(time.time()), "model": asked["model"]}
        if not asked.get("stream"):
            message = {"role": "assistant", "content": "".join(WORDS)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": len(WORDS), "total_tokens": len(WORDS) + 1}
            self._json({**common, "object": "chat.completion", "choices": [choice], "usage": usage})
            return
        self._start(200, "text/event-stream", Transfer_Encoding="chunked")
        for word in WORDS:
            choice = {"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}
            piece = {**common, "object": "chat.completion.chunk", "choices": [choice]}
            self._piece(f"data: {json.dumps(piece)}\n\n".encode())
            time.sleep(0.1)
        self._piece(b"data: [DONE]\n\n")
        self._piece(b"")


class Server(ThreadingHTTPServer):
    """A server whose port can be had again at once, and that takes many callers at once."""

    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    if len(sys.argv) > 2:
        time.sleep(float(sys.argv[2]))
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
