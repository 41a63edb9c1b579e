"""S3 servers for the engine's tests: moto's, and a small one that checks signatures and fails on request."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from dumont.agent.engine import StoreSpec

KEY_ID, SECRET = "test-key", "test-secret"
BUCKET = "bucket"


class StrictS3:
    """Objects in memory behind real HTTP. It checks each request's signature and body hash, as B2 and AWS do.

    `fault` may answer a request (method, key) with an HTTP status, or -1 to drop the connection; `allow` refuses by
    returning False, as a restricted key would. `puts` has what was stored: (key, size), in order.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.puts: list[tuple[str, int]] = []
        self.fault: Callable[[str, str], int] = lambda _method, _key: 0
        self.allow: Callable[[str, str], bool] = lambda _method, _key: True
        self.lock = threading.Lock()
        self.url = ""

    def spec(self, client: str) -> StoreSpec:
        return StoreSpec(
            "s3", endpoint=self.url, bucket=BUCKET, key_id=KEY_ID, secret=SECRET, region="eu-test-1", client=client
        )


@contextlib.contextmanager
def strict_s3() -> Iterator[StrictS3]:
    server = StrictS3()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            key = self.path.partition(f"/{BUCKET}/")[2]
            if not self.passes("PUT", key, body):
                return
            with server.lock:
                server.objects[key] = body
                server.puts.append((key, len(body)))
            self.answer(200, b"", {"etag": f'"{hashlib.md5(body).hexdigest()}"'})  # noqa: S324 - what S3 answers

        def do_GET(self) -> None:
            key = self.path.partition(f"/{BUCKET}/")[2]
            if not self.passes("GET", key, b""):
                return
            content = server.objects.get(key)
            if content is None:
                self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
                return
            total, status, extra = len(content), 200, {}
            if asked := self.headers.get("range"):
                first, _, last = asked.removeprefix("bytes=").partition("-")
                end = min(int(last), total - 1)
                content, status = content[int(first) : end + 1], 206
                extra = {"content-range": f"bytes {first}-{end}/{total}"}
            moment = {"last-modified": "Sun, 22 Nov 2026 05:00:00 GMT", "etag": '"e"'}
            self.answer(status, content, {**extra, **moment})

        def passes(self, method: str, key: str, body: bytes) -> bool:
            fault = server.fault(method, key)
            if fault < 0:
                self.close_connection = True
                self.connection.close()
                return False
            if fault:
                self.answer(fault, b"<Error><Code>InternalError</Code></Error>")
                return False
            if not signature_fits(self, body) or not server.allow(method, key):
                self.answer(403, b"<Error><Code>AccessDenied</Code></Error>")
                return False
            return True

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            del format, args

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    server.url = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


def signature_fits(handler: BaseHTTPRequestHandler, body: bytes) -> bool:
    """AWS Signature Version 4, computed anew from what arrived."""
    fields = dict(
        part.strip().split("=", 1)
        for part in handler.headers.get("authorization", "AWS4-HMAC-SHA256 ").split(" ", 1)[1].split(",")
        if "=" in part
    )
    declared = handler.headers.get("x-amz-content-sha256", "")
    if declared != hashlib.sha256(body).hexdigest() or "Credential" not in fields:
        return False
    key_id, day, region, service, _ = fields["Credential"].split("/")
    names = fields["SignedHeaders"].split(";")
    headers = "".join(f"{name}:{' '.join(handler.headers.get(name, '').split())}\n" for name in names)
    path, _, query = handler.path.partition("?")
    canonical = "\n".join((handler.command, path, query, headers, ";".join(names), declared))
    scope = f"{day}/{region}/{service}/aws4_request"
    text = "\n".join(
        ("AWS4-HMAC-SHA256", handler.headers["x-amz-date"], scope, hashlib.sha256(canonical.encode()).hexdigest())
    )
    key = f"AWS4{SECRET}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    expected = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    return key_id == KEY_ID and hmac.compare_digest(expected, fields["Signature"])


@contextlib.contextmanager
def moto_s3() -> Iterator[str]:
    """moto's server with an empty bucket; its URL."""
    server_module = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client(
        "s3", endpoint_url=url, aws_access_key_id=KEY_ID, aws_secret_access_key=SECRET, region_name="us-east-1"
    )
    client.create_bucket(Bucket=BUCKET)
    try:
        yield url
    finally:
        server.stop()
