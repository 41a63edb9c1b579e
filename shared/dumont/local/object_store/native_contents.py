"""B2's native API where it carries content: uploads of files and parts, downloads."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote, unquote_plus

from dumont.local.object_store.body import Body, Source
from dumont.local.object_store.catalogue import UPLOAD, Part, Version
from dumont.local.object_store.files import Files, Sha1, asks_for_range, check_name
from dumont.local.object_store.http import Answer, Request
from dumont.local.object_store.keys import Key, Keyring, Token
from dumont.local.object_store.refusals import Refused, bad_request, no_such_file

_SHA1 = re.compile(r"[0-9a-f]{40}")
_SHA1_DIGITS = 40
_AT_END, _NOT_GIVEN = "hex_digits_at_end", "do_not_verify"
_INFO = "x-bz-info-"
_INFO_AS_HEADERS = {
    "b2-content-disposition": "Content-Disposition",
    "b2-content-language": "Content-Language",
    "b2-expires": "Expires",
    "b2-cache-control": "Cache-Control",
    "b2-content-encoding": "Content-Encoding",
}


class NativeContents:
    """Answers to uploads and downloads."""

    def __init__(self, files: Files, keyring: Keyring) -> None:
        self._files = files
        self._catalogue = files.catalogue
        self._keyring = keyring

    # --- Up ---

    def upload(self, request: Request, call: str, rest: str) -> Answer:
        """`b2_upload_file` and `b2_upload_part`, at a URL that was given out before, with its own token."""
        text = request.headers.get("authorization", "")
        key, token = self._keyring.of_token(text, upload=True)
        if f"/{token.bucket_id or token.file_id}/" not in rest or bool(token.bucket_id) != (call == "b2_upload_file"):
            raise Refused(401, "bad_auth_token", "The token belongs to another URL")
        if token.busy:
            raise Refused(400, "auth_token_limit", f"more than one upload using auth token {text}")
        token.busy = True
        try:
            row = self._upload_file(request, key, token) if token.bucket_id else self._upload_part(request, key, token)
        finally:
            token.busy = False
        return Answer(body=json.dumps(row).encode())

    def _upload_file(self, request: Request, key: Key, token: Token) -> dict[str, Any]:
        bucket = self._catalogue.bucket(bucket_id=token.bucket_id)
        name = unquote_plus(request.headers.get("x-bz-file-name", ""))
        check_name(name)
        key.allow("writeFiles", bucket=bucket, name=name)
        self._files.enter(request, "upload", name)
        source, sha1 = _source(request)
        info = {
            header.removeprefix(_INFO): unquote_plus(value)
            for header, value in request.headers.items()
            if header.startswith(_INFO)
        }
        version = self._files.put(
            source,
            bucket,
            name,
            content_type=_content_type(request.headers.get("content-type")),
            info=info,
            sha1=sha1,
            count_sha1=True,
        )
        return version_row(version, self._keyring.account_id)

    def _upload_part(self, request: Request, key: Key, token: Token) -> dict[str, Any]:
        started = self._catalogue.started(token.file_id)
        key.allow("writeFiles", bucket=self._catalogue.bucket(bucket_id=started.bucket_id), name=started.name)
        self._files.enter(request, "upload_part", started.name)
        number = request.headers.get("x-bz-part-number", "")
        if not number.isdigit():
            raise bad_request("X-Bz-Part-Number is missing or no number")
        source, sha1 = _source(request)
        part = self._files.put_part(started, int(number), source, sha1=sha1, count_sha1=True)
        return part_row(part, started.id)

    # --- Down ---

    def download_by_name(self, request: Request) -> Answer:
        """`/file/<bucket>/<name>`, GET or HEAD."""
        bucket_name, _, name = request.path.removeprefix("/file/").partition("/")
        key = self._reader(request)
        try:
            bucket = self._catalogue.bucket(name=bucket_name)
        except Refused:
            raise no_such_file(name) from None
        key.allow("readFiles", bucket=bucket, name=name)
        self._files.enter(request, "head" if request.method == "HEAD" else "download", name)
        self._files.must_be_found(name)
        return self._download(request, self._catalogue.visible(bucket.id, name))

    def download_by_id(self, request: Request) -> Answer:
        """`b2_download_file_by_id?fileId=…`, GET or HEAD."""
        key = self._reader(request)
        version = self._catalogue.version(request.get("fileId") or "")
        key.allow("readFiles", bucket=self._catalogue.bucket(bucket_id=version.bucket_id), name=version.name)
        self._files.enter(request, "head" if request.method == "HEAD" else "download", version.name)
        self._files.must_be_found(version.name)
        return self._download(request, version)

    def _reader(self, request: Request) -> Key:
        text = request.headers.get("authorization") or request.get("Authorization") or ""
        return self._keyring.of_token(text)[0]

    def _download(self, request: Request, version: Version) -> Answer:
        if version.action != UPLOAD:
            raise no_such_file(version.name)
        content, first, end = self._files.content(request, version)
        headers = {
            "Accept-Ranges": "bytes",
            "X-Bz-File-Id": version.id,
            "X-Bz-File-Name": quote(version.name),
            "X-Bz-Content-Sha1": version.sha1 or "none",
            "X-Bz-Upload-Timestamp": str(version.uploaded_ms),
        }
        for name, value in version.info.items():
            headers[_INFO_AS_HEADERS.get(name.lower(), f"X-Bz-Info-{name}")] = quote(value)
        is_part = asks_for_range(request)
        if is_part:
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{version.size}"
        return Answer(206 if is_part else 200, content_type=version.content_type, headers=headers, content=content)


class _SelfChecked:
    """A body whose last 40 bytes are the SHA-1 of what is before them."""

    def __init__(self, body: Body) -> None:
        if body.length < _SHA1_DIGITS:
            raise bad_request("the body is shorter than its SHA-1")
        self._body = body
        self._trailer = ""

    def trailer(self) -> str:
        """The SHA-1, known at the end."""
        return self._trailer

    def readinto(self, view: memoryview) -> int:
        """As `Source`: the content alone."""
        left = self._body.left - _SHA1_DIGITS
        if left <= 0:
            if not self._trailer:
                self._trailer = self._body.read(_SHA1_DIGITS).decode("latin-1").lower()
            return 0
        return self._body.readinto(view[:left])


def _source(request: Request) -> tuple[Source, Sha1]:
    """The content, and the SHA-1 that it must have."""
    given = request.headers.get("x-bz-content-sha1", "")
    if given == _AT_END:
        checked = _SelfChecked(request.body)
        return checked, checked.trailer
    if given == _NOT_GIVEN:
        return request.body, None
    if not _SHA1.fullmatch(given):
        raise bad_request("X-Bz-Content-Sha1 is missing or malformed")
    return request.body, given


def _content_type(given: str | None) -> str:
    return "application/octet-stream" if given in (None, "", "b2/x-auto") else given


def version_row(version: Version, account_id: str) -> dict[str, Any]:
    """A version as B2 writes it."""
    unread = {"isClientAuthorizedToRead": False, "value": None}
    return {
        "accountId": account_id,
        "action": version.action,
        "bucketId": version.bucket_id,
        "contentLength": version.size,
        "contentMd5": version.md5,
        "contentSha1": version.sha1,
        "contentType": version.content_type,
        "fileId": version.id,
        "fileInfo": version.info,
        "fileName": version.name,
        "fileRetention": unread,
        "legalHold": unread,
        "serverSideEncryption": {"algorithm": None, "mode": None},
        "uploadTimestamp": version.uploaded_ms,
    }


def part_row(part: Part, file_id: str) -> dict[str, Any]:
    """A part as B2 writes it."""
    return {
        "fileId": file_id,
        "partNumber": part.number,
        "contentLength": part.size,
        "contentMd5": part.md5,
        "contentSha1": part.sha1,
        "uploadTimestamp": part.uploaded_ms,
    }
