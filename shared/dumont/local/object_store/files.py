"""What both APIs do with files: take contents in, give them out, hide and delete them, with the faults on the way."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
import time
from collections.abc import Callable, Sequence

import msgspec

from dumont.local.object_store.body import Source, receive
from dumont.local.object_store.catalogue import HIDE, START, UPLOAD, Bucket, Catalogue, Part, Version
from dumont.local.object_store.faults import Fault, Faults
from dumont.local.object_store.http import Content, Request
from dumont.local.object_store.refusals import Refused, bad_request, no_such_file
from dumont.ports import Clock

PART_NUMBER_MAX = 10_000
PART_BYTES_MAX = FILE_BYTES_MAX = 5_000_000_000
"""B2's limits of a part and of a file sent in one piece."""

Sha1 = str | Callable[[], str] | None
"""A SHA-1 that content must have: known before it comes, or to be asked for after its end, or none."""

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Files:
    """The files of all buckets. Rights are the callers' to check."""

    def __init__(
        self,
        catalogue: Catalogue,
        faults: Faults,
        clock: Clock,
        *,
        minimum_part_bytes: int,
        recommended_part_bytes: int,
    ) -> None:
        self.catalogue = catalogue
        self.faults = faults
        self.minimum_part_bytes = minimum_part_bytes
        self.recommended_part_bytes = recommended_part_bytes
        self._clock = clock

    # --- The way in to each request ---

    def enter(self, request: Request, operation: str, name: str | None = None) -> None:
        """Say what a request is for, and let it meet the faults that wait for it."""
        request.operation, request.name = operation, name
        fault = self.faults.take("unavailable", operation, name)
        if fault:
            raise failure(fault)
        request.fails_after = self.faults.take("error_after", operation, name)
        request.breaks_at = self.faults.take("reset", operation, name)
        if request.breaks_at and operation in ("upload", "upload_part"):
            request.body.break_after = request.breaks_at.at_byte

    # --- In ---

    def put(
        self,
        source: Source,
        bucket: Bucket,
        name: str,
        *,
        content_type: str,
        info: dict[str, str],
        md5: str | None = None,
        sha1: Sha1 = None,
        count_sha1: bool = False,
        only_if_absent: bool = False,
    ) -> Version:
        """Store a file of one piece. Given digests must be its own, or it is refused and nothing is stored."""
        part = self._take_in(1, source, md5=md5, sha1=sha1, count_sha1=count_sha1)
        said = f"unverified:{part.sha1}" if part.sha1 and sha1 is None else part.sha1 or "none"
        version = self._version(bucket, name, UPLOAD, content_type, info)
        version = _with(version, size=part.size, md5=part.md5, sha1=said, etag=part.md5)
        try:
            return self.catalogue.add(version, [part], only_if_absent=only_if_absent)
        except BaseException:
            self.catalogue.discard([part.file])
            raise

    def start(self, bucket: Bucket, name: str, content_type: str, info: dict[str, str]) -> Version:
        """Begin a large file."""
        return self.catalogue.add(self._version(bucket, name, START, content_type, info), [])

    def put_part(
        self,
        version: Version,
        number: int,
        source: Source,
        *,
        md5: str | None = None,
        sha1: Sha1 = None,
        count_sha1: bool = False,
    ) -> Part:
        """Store a part of a large file."""
        if not 1 <= number <= PART_NUMBER_MAX:
            refused = bad_request(f"part numbers go from 1 to {PART_NUMBER_MAX}")
            refused.s3_code = "InvalidArgument"
            raise refused
        part = self._take_in(number, source, md5=md5, sha1=sha1, count_sha1=count_sha1)
        try:
            self.catalogue.put_part(version.id, part)
        except BaseException:
            self.catalogue.discard([part.file])
            raise
        return part

    def finish(self, version: Version, parts: list[Part], *, only_if_absent: bool = False) -> Version:
        """Make these parts, in this order, the file."""
        if any(part.size < self.minimum_part_bytes for part in parts[:-1]):
            message = f"all parts but the last must have at least {self.minimum_part_bytes} bytes"
            raise Refused(400, "bad_request", message, s3_code="EntityTooSmall")
        digests = hashlib.md5(b"".join(bytes.fromhex(part.md5) for part in parts), usedforsecurity=False)
        etag = f"{digests.hexdigest()}-{len(parts)}"
        size = sum(part.size for part in parts)
        sha1 = version.info.get("large_file_sha1", "none")
        done = _with(version, action=UPLOAD, size=size, sha1=sha1, etag=etag)
        return self.catalogue.finish(version, done, parts, only_if_absent=only_if_absent)

    def hide(self, bucket: Bucket, name: str) -> Version:
        """Put a marker over a name: what is under it stays, and is no longer found by the name."""
        return self.catalogue.add(self._version(bucket, name, HIDE, "application/x-bz-hide-marker", {}), [])

    # --- Out ---

    def content(self, request: Request, version: Version) -> tuple[Content, int, int]:
        """What a request asks for of a file, and its first byte and the one after its last (`Range`)."""
        first, end = _range(request.headers.get("range", ""), version.size)
        pieces, at = [], 0
        for part in self.catalogue.parts(version.id):
            begins, ends = max(first, at), min(end, at + part.size)
            if begins < ends:
                pieces.append((self.catalogue.data / part.file, begins - at, ends - begins))
            at += part.size
        content = Content(pieces)

        def place(fault: Fault) -> int:
            return fault.at_byte % version.size if version.size else -1

        if request.method != "HEAD":
            damage = self.faults.take("damage", "download", version.name, lambda fault: first <= place(fault) < end)
            content.damaged = place(damage) - first if damage else None
            content.break_after = request.breaks_at.at_byte if request.breaks_at else None
        return content, first, end

    def must_be_found(self, name: str) -> None:
        """Refuses a file that is lost by a fault."""
        if self.faults.is_lost(name):
            raise no_such_file(name)

    def found(self, versions: Sequence[Version]) -> list[Version]:
        """The versions, without those that are lost by a fault."""
        return [version for version in versions if not self.faults.is_lost(version.name, listing=True)]

    # --- Within ---

    def _take_in(self, number: int, source: Source, *, md5: str | None, sha1: Sha1, count_sha1: bool) -> Part:
        file = self.catalogue.new_file()
        of_md5 = hashlib.md5(usedforsecurity=False)
        of_sha1 = hashlib.sha1(usedforsecurity=False)
        wants_sha1 = count_sha1 or sha1 is not None
        size = receive(source, self.catalogue.data / file, [of_md5, of_sha1] if wants_sha1 else [of_md5])
        if md5 is not None and md5 != of_md5.hexdigest():
            self.catalogue.discard([file])
            message = "The Content-MD5 you specified did not match what we received."
            raise Refused(400, "bad_request", message, s3_code="BadDigest")
        wanted = sha1() if callable(sha1) else sha1
        if wanted is not None and wanted != of_sha1.hexdigest():
            self.catalogue.discard([file])
            raise Refused(400, "bad_request", f"Sha1 did not match data received: {of_sha1.hexdigest()}")
        digest = of_sha1.hexdigest() if wants_sha1 else None
        return Part(number, file, size, of_md5.hexdigest(), digest, int(self._clock.now() * 1000))

    def _version(self, bucket: Bucket, name: str, action: str, content_type: str, info: dict[str, str]) -> Version:
        check_name(name)
        now = self._clock.now()
        when = time.strftime("d%Y%m%d_m%H%M%S", time.gmtime(now))
        version_id = f"4_z{bucket.id}_f1{secrets.token_hex(8)}_{when}_c000_v0001000_t0000"
        sha1 = "none" if action == START else None
        return Version(version_id, bucket.id, name, 0, action, 0, None, sha1, "", content_type, info, int(now * 1000))


def failure(fault: Fault) -> Refused:
    """What a fault answers."""
    code = "too_many_requests" if fault.status == 429 else "service_unavailable"
    refused = Refused(fault.status, code, "a fault on request", s3_code="SlowDown")
    refused.retry_after_seconds = fault.retry_after_seconds
    return refused


def check_name(name: str) -> None:
    """Refuses a file's name that B2 refuses."""
    size = len(name.encode())
    if not 1 <= size <= 1024 or any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        raise Refused(400, "bad_request", "File names must have 1 to 1024 bytes, none of them control characters")


def md5_of_header(value: str | None) -> str | None:
    """Content-MD5 (base64) in hexadecimal digits. Refuses what is none."""
    if value is None:
        return None
    try:
        digest = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 16:
        raise Refused(400, "bad_request", "The Content-MD5 you specified was invalid.", s3_code="InvalidDigest")
    return digest.hex()


def _with(version: Version, **changes: object) -> Version:
    return msgspec.structs.replace(version, **changes)


def asks_for_range(request: Request) -> bool:
    """Whether a request has a `Range` that counts: it is then answered with 206, even if the range is the whole."""
    found = _RANGE.fullmatch(request.headers.get("range", "").strip())
    return found is not None and found.groups() != ("", "")


def _range(header: str, size: int) -> tuple[int, int]:
    found = _RANGE.fullmatch(header.strip())
    if not found or found.groups() == ("", ""):
        return 0, size
    first, last = found.groups()
    begin = max(0, size - int(last)) if not first else int(first)
    end = size if not first or not last else min(int(last) + 1, size)
    if begin >= size or (first and last and int(last) < begin):
        message = "The requested range is not satisfiable"
        raise Refused(416, "range_not_satisfiable", message, s3_code="InvalidRange")
    return begin, end
