"""Any S3 with the standard library alone: Signature Version 4 over http.client, one connection a thread.

Bodies carry their MD5 and are signed by their SHA-256; both are checked by the store.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import ssl
import threading
import time
import urllib.parse
from typing import Any

from .errors import BadJob, StoreMissing, StoreRefused, StoreUnavailable
from .hashing import new_md5
from .job import StoreSpec
from .stores import Store, retried

TIMEOUT_SECONDS = 60.0
_EMPTY = hashlib.sha256(b"").hexdigest()


class PureS3(Store):
    """A bucket, addressed by path."""

    def __init__(self, spec: StoreSpec) -> None:
        parts = urllib.parse.urlsplit(spec.endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadJob("store.endpoint is an http or https URL")
        self._spec = spec
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._netloc = parts.netloc
        self._base = parts.path.rstrip("/") + "/" + spec.bucket + "/"
        self._local = threading.local()

    def put(self, key: str, data: memoryview) -> str:
        digest = new_md5(data)  # S3's own check of the transfer
        headers = {
            "content-length": str(len(data)),
            "content-md5": base64.b64encode(digest.digest()).decode(),
            "content-type": "application/octet-stream",
        }
        payload = hashlib.sha256(data).hexdigest()
        retried(key, lambda: self._request("PUT", key, headers, payload, data))
        return digest.hexdigest()

    def get(self, key: str) -> bytes:
        return retried(key, lambda: self._request("GET", key, {}, _EMPTY, None))

    def get_range(self, key: str, offset: int, length: int) -> memoryview:
        headers = {"range": f"bytes={offset}-{offset + length - 1}"}
        return memoryview(retried(key, lambda: self._request("GET", key, headers, _EMPTY, None)))

    def _request(self, method: str, key: str, headers: dict[str, str], payload: str, body: memoryview | None) -> bytes:
        path = urllib.parse.quote(self._base + key, safe="/-_.~")
        signed = signed_headers(self._spec, method, self._netloc, path, headers, payload, time.gmtime())
        connection = self._connection()
        try:
            connection.request(method, path, body=body, headers=signed)
            answer = connection.getresponse()
            content: bytes = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._local.connection = None
            connection.close()
            raise StoreUnavailable(f"{key}: {type(error).__name__}") from None
        if answer.will_close:
            self._local.connection = None
            connection.close()
        if answer.status in (200, 206):
            return content
        if answer.status in (401, 403):
            raise StoreRefused(f"{key}: the key does not allow this (HTTP {answer.status})")
        if answer.status == 404:
            raise StoreMissing(f"{key}: there is no such object")
        if answer.status in (408, 429) or answer.status >= 500 or b"BadDigest" in content:
            raise StoreUnavailable(f"{key}: HTTP {answer.status}")
        raise StoreRefused(f"{key}: HTTP {answer.status}")

    def _connection(self) -> Any:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            if self._secure:
                context = ssl.create_default_context()
                connection = http.client.HTTPSConnection(
                    self._host, self._port, timeout=TIMEOUT_SECONDS, context=context
                )
            else:
                connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_SECONDS)
            self._local.connection = connection
        return connection


def signed_headers(
    spec: StoreSpec,
    method: str,
    host: str,
    path: str,
    headers: dict[str, str],
    payload_sha256: str,
    now: time.struct_time,
) -> dict[str, str]:
    """The headers with AWS Signature Version 4's added; `path` is quoted already, and there is no query."""
    moment = time.strftime("%Y%m%dT%H%M%SZ", now)
    day = moment[:8]
    all_headers = {**headers, "host": host, "x-amz-date": moment, "x-amz-content-sha256": payload_sha256}
    if spec.session_token:
        all_headers["x-amz-security-token"] = spec.session_token
    names = sorted(all_headers)
    lines = "".join(f"{name}:{all_headers[name].strip()}\n" for name in names)
    canonical = "\n".join((method, path, "", lines, ";".join(names), payload_sha256))
    scope = f"{day}/{spec.region}/s3/aws4_request"
    text = "\n".join(("AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = ("AWS4" + spec.secret).encode()
    for part in (day, spec.region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    credential = f"AWS4-HMAC-SHA256 Credential={spec.key_id}/{scope}"
    all_headers["authorization"] = f"{credential}, SignedHeaders={';'.join(names)}, Signature={signature}"
    return all_headers
