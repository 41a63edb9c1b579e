"""Who sent an S3 request, proven by its signature (version 4, in the Authorization header), and its body as signed."""

from __future__ import annotations

import base64
import calendar
import hashlib
import hmac
import re
import time
import zlib

from dumont.adapters import sigv4
from dumont.local.object_store.body import Body, Checked, Source
from dumont.local.object_store.http import Request
from dumont.local.object_store.keys import Key, Keyring
from dumont.local.object_store.refusals import Refused, bad_request

SKEW_SECONDS_MAX = 900.0
_HEADER = re.compile(r"Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, ?SignedHeaders=([^,]+), ?Signature=(\w{64})")
_STREAMED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
_STREAMED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
_STREAMED_UNSIGNED = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
_CHUNK_BYTES_MAX = 1 << 30


class Signed:
    """A request whose signature is right: its key, and its content to read."""

    def __init__(self, key: Key, content: Source, size: int) -> None:
        self.key = key
        self.content = content
        self.size = size
        """Of the content, in bytes, without what frames it."""


def check(request: Request, keyring: Keyring, region: str, now: float, *, check_payload: bool) -> Signed:
    """Refuses a request that is not signed, or wrongly, too long ago, by no key, or by the account's own.

    Without `check_payload`, a content's signed SHA-256 is not counted again, which saves time.
    """
    header = request.headers.get("authorization", "")
    found = _HEADER.search(header) if header.startswith(sigv4.ALGORITHM) else None
    if found is None:
        raise Refused(403, "access_denied", "The request is not signed by AWS4-HMAC-SHA256.", s3_code="AccessDenied")
    key_id, day, asked_region, names, given = found.groups()
    key = keyring.find(key_id)
    if key is None or key.master:
        message = "The key is not valid" + (": the master application key is not for the S3 API" if key else "")
        raise Refused(403, "invalid_access_key_id", message, s3_code="InvalidAccessKeyId")
    if asked_region != region:
        message = f"The authorization header is malformed; the region is wrong; expecting '{region}'"
        raise Refused(400, "bad_request", message, s3_code="AuthorizationHeaderMalformed")
    date = request.headers.get("x-amz-date", "")
    if not date.startswith(day) or abs(_seconds(date) - now) > SKEW_SECONDS_MAX:
        message = "The difference between the request time and the server's time is too large."
        raise Refused(403, "request_time_skewed", message, s3_code="RequestTimeTooSkewed")
    payload = request.headers.get("x-amz-content-sha256", "")
    signed = names.split(";")
    missing = {name for name in request.headers if name.startswith("x-amz-")} - set(signed)
    if "host" not in signed or missing:
        message = f"There were headers present in the request which were not signed: {', '.join(sorted(missing))}"
        raise Refused(403, "access_denied", message, s3_code="AccessDenied")
    text = sigv4.string_to_sign(
        method=request.method,
        path=request.path,
        query=request.query,
        headers=request.headers,
        signed=signed,
        payload=payload,
        date=date,
        region=region,
    )
    if not hmac.compare_digest(sigv4.signature(key.secret, date, region, text), given):
        message = "The request signature we calculated does not match the signature you provided."
        raise Refused(403, "signature_does_not_match", message, s3_code="SignatureDoesNotMatch")
    return _content(request, key, payload, date, region, given, check_payload=check_payload)


def _content(
    request: Request, key: Key, payload: str, date: str, region: str, seed: str, *, check_payload: bool
) -> Signed:
    body = request.body
    if payload == sigv4.UNSIGNED or (len(payload) == 64 and not check_payload):
        return Signed(key, body, body.length)
    if len(payload) == 64:
        return Signed(key, Checked(body, payload), body.length)
    if payload not in (_STREAMED, _STREAMED_TRAILER, _STREAMED_UNSIGNED):
        raise bad_request("x-amz-content-sha256 must be UNSIGNED-PAYLOAD, a SHA-256 or one of STREAMING-…")
    size = request.headers.get("x-amz-decoded-content-length", "")
    if not size.isdigit():
        raise Refused(411, "bad_request", "x-amz-decoded-content-length is missing", s3_code="MissingContentLength")
    chain = None if payload == _STREAMED_UNSIGNED else _Chain(key.secret, date, region, seed)
    trailer = request.headers.get("x-amz-trailer", "") if payload != _STREAMED else ""
    return Signed(key, _Chunked(body, int(size), chain, trailer.lower()), int(size))


def _seconds(date: str) -> float:
    try:
        return float(calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ")))
    except ValueError:
        raise Refused(403, "access_denied", "x-amz-date is missing or malformed", s3_code="AccessDenied") from None


class _Chain:
    """Each chunk's signature rests on the one before; the first on the request's."""

    def __init__(self, secret: str, date: str, region: str, seed: str) -> None:
        self._secret, self._date, self._region = secret, date, region
        self._last = seed

    def check(self, given: str, sha256: str, *, trailer: bool = False) -> None:
        hashes = [sha256] if trailer else [sigv4.EMPTY_SHA256, sha256]
        kind = "TRAILER" if trailer else "PAYLOAD"
        scope = sigv4.scope(self._date, self._region)
        text = "\n".join([f"{sigv4.ALGORITHM}-{kind}", self._date, scope, self._last, *hashes])
        expected = sigv4.signature(self._secret, self._date, self._region, text)
        if not hmac.compare_digest(expected, given):
            message = "A chunk's signature does not match."
            raise Refused(403, "signature_does_not_match", message, s3_code="SignatureDoesNotMatch")
        self._last = expected


class _Chunked:
    """Content framed as `aws-chunked`, its chunks signed or not, with a checksum behind them or not."""

    def __init__(self, body: Body, size: int, chain: _Chain | None, trailer: str) -> None:
        self._body, self._chain, self._trailer = body, chain, trailer
        self._content_left = size
        self._chunk_left = 0
        self._given = ""
        self._hash = hashlib.sha256()
        self._crc32 = 0
        self._ended = False

    def readinto(self, view: memoryview) -> int:
        """As `Source`; refuses a chunk whose signature is wrong once it was read, and so before the content counts."""
        if self._ended:
            return 0
        if not self._chunk_left and not self._open_chunk():
            self._end()
            return 0
        count = self._body.readinto(view[: self._chunk_left])
        self._chunk_left -= count
        self._content_left -= count
        if self._chain:
            self._hash.update(view[:count])
        if self._trailer == "x-amz-checksum-crc32":
            self._crc32 = zlib.crc32(view[:count], self._crc32)
        if not self._chunk_left:
            self._close_chunk()
        return count

    def _open_chunk(self) -> bool:
        length, _, extension = self._body.line().strip().decode("latin-1").partition(";")
        self._given = extension.partition("chunk-signature=")[2]
        try:
            self._chunk_left = int(length, 16)
        except ValueError:
            raise bad_request("a chunk has no length") from None
        if self._chunk_left > min(self._content_left, _CHUNK_BYTES_MAX) or (
            not self._chunk_left and self._content_left
        ):
            raise bad_request("the chunks are not as long as x-amz-decoded-content-length says")
        return bool(self._chunk_left)

    def _close_chunk(self) -> None:
        if self._body.line() != b"\r\n":
            raise bad_request("a chunk is longer than it says")
        self._check_chunk()

    def _check_chunk(self) -> None:
        if self._chain:
            self._chain.check(self._given, self._hash.hexdigest())
            self._hash = hashlib.sha256()

    def _end(self) -> None:
        self._ended = True
        self._check_chunk()
        lines = []
        while self._body.left and (line := self._body.line().strip().decode("latin-1")):
            lines.append(line)
        trailers = dict(line.split(":", 1) for line in lines if ":" in line)
        signature = trailers.pop("x-amz-trailer-signature", None)
        if self._trailer and self._chain:
            text = "".join(f"{name}:{value.strip()}\n" for name, value in trailers.items())
            self._chain.check(signature or "", hashlib.sha256(text.encode()).hexdigest(), trailer=True)
        expected = base64.b64encode(self._crc32.to_bytes(4, "big")).decode()
        if self._trailer == "x-amz-checksum-crc32" and trailers.get(self._trailer, "").strip() != expected:
            raise Refused(400, "bad_digest", "The CRC32 does not match what was received.", s3_code="BadDigest")
