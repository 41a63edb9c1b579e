"""Backblaze B2 by b2sdk, over the native API: listings with versions and checksums, and keys bound to a prefix.

Hosts get B2 application keys, which serve as S3 keys too; the account's own key stays here. A `write` key has
writeFiles alone and a `read` key readFiles alone: obstore asks for nothing more (see `tests/contract`).
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any, TypeVar

from b2sdk.v3 import B2Api, B2HttpApiConfig, InMemoryAccountInfo
from b2sdk.v3 import exception as b2

from dumont.adapters.b2_http import ATTEMPTS_MAX, BACKOFF_SECONDS, BoundedSession, Budget, GaveUp
from dumont.domain.errors import BlobDamaged, BlobError, BlobNotFound, BlobRefused, BlobTooLarge, BlobUnavailable
from dumont.ports import BlobSeen, Clock, KeyRight, StoreKey

T = TypeVar("T")

CAPABILITIES: dict[KeyRight, list[str]] = {"write": ["writeFiles"], "read": ["readFiles"]}
DEFAULT_REGION = "us-east-1"
_PAGE = 1000  # B2 bills a listing by thousands
_PIECE_BYTES = 1 << 18
_REGION = re.compile(r"^https://s3\.([a-z0-9-]+)\.")
_UNVERIFIED = "unverified:"
_NOT_THERE = (b2.FileNotPresent, b2.BucketIdNotFound)
_MISSING_BUCKET = (b2.NonExistentBucket, b2.RestrictedBucket)


class B2Blobs:
    """`dumont.ports.Blobs`. Safe for several threads."""

    def __init__(
        self, key_id: str, key: str, bucket: str, *, clock: Clock, realm: str = "production", api: B2Api | None = None
    ) -> None:
        """`key` needs list, write and deleteKeys, listBuckets, and list, read, write and deleteFiles on the bucket.

        `realm` is "production", or the URL of a server that speaks B2's native API. `api` is for b2sdk's simulator.
        Nothing is asked of B2 before the first call.
        """
        self._key_id, self._key = key_id.strip(), key.strip()
        self._bucket = bucket
        self._realm = realm
        self._clock = clock
        self._budget = Budget()
        config = B2HttpApiConfig(http_session_factory=lambda: BoundedSession(self._budget))
        self._given_api = api or B2Api(InMemoryAccountInfo(), api_config=config)

    def mint_key(self, prefix: str, right: KeyRight, valid_seconds: int, *, holder: str = "") -> StoreKey:
        """See the port. B2 takes 1 second to 1,000 days, and names of up to 100 letters, digits and hyphens."""
        now = self._clock.now()
        with self._call(f"a {right} key"):
            made = self._api.create_key(
                capabilities=CAPABILITIES[right],
                key_name=_key_name(holder) or f"dumont-{right}",
                valid_duration_seconds=valid_seconds,
                bucket_ids=[self._bucket_id],
                name_prefix=prefix,
            )
            endpoint = str(self._api.account_info.get_s3_api_url())
        ends = made.expiration_timestamp_millis
        region = _REGION.match(endpoint)
        return StoreKey(
            kind="b2",
            endpoint=endpoint,
            region=region[1] if region else DEFAULT_REGION,
            bucket=self._bucket,
            prefix=prefix,
            key_id=str(made.id_),
            secret=str(made.application_key),
            expires_at=ends / 1000 if ends else now + valid_seconds,
        )

    def revoke_key(self, key_id: str) -> None:
        """See the port."""
        with self._call("revoking a key"):
            self._delete_key(key_id)

    def revoke_keys(self, holder: str) -> None:
        """See the port. One listing, which B2 bills as a class C call for each thousand keys of the account."""
        name = _key_name(holder)
        if not name:
            raise BlobRefused("revoking keys needs a holder")
        with self._call(f"revoking the keys of {holder}"):
            start: str | None = None
            while True:
                page: dict[str, Any] = self._api.session.list_keys(self._api.get_account_id(), _PAGE, start)
                for row in page["keys"]:
                    if row["keyName"] == name:
                        self._delete_key(str(row["applicationKeyId"]))
                start = page.get("nextApplicationKeyId")
                if start is None:
                    return

    def list(self, prefix: str) -> list[BlobSeen]:
        """See the port."""
        with self._call(f"listing {prefix}"):
            return [seen for row, is_first in self._rows(prefix) if (seen := _seen(row, is_latest=is_first))]

    def get(self, key: str, *, max_bytes: int, version_id: str | None = None) -> bytes:
        """See the port. The content's SHA-1 is checked where B2 keeps one."""
        with self._call(f"getting {key}"):
            session = self._api.session
            url = (
                session.get_download_url_by_id(version_id)
                if version_id
                else session.get_download_url_by_name(self._bucket, key)
            )
            return self._again(lambda: self._download(key, url, max_bytes))

    def put(self, key: str, data: bytes) -> BlobSeen:
        """See the port."""
        sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        with self._call(f"putting {key}"):
            bucket_id = self._bucket_id
            row: dict[str, Any] = self._again(
                lambda: self._api.session.upload_file(
                    bucket_id, key, len(data), "application/octet-stream", sha1, {}, _Content(data)
                )
            )
        seen = _seen(row, is_latest=True)
        if seen is None:
            raise BlobUnavailable(f"putting {key}: the answer cannot be read")
        return seen

    def delete(self, blobs: Iterable[BlobSeen]) -> None:
        """See the port."""
        with self._call("deleting"):
            for blob in blobs:
                self._delete(blob.key, blob.version_id)

    def delete_all(self, prefix: str) -> None:
        """See the port."""
        if not prefix:
            raise BlobRefused("deleting all needs a prefix")
        with self._call(f"deleting all of {prefix}"):
            for row, _ in list(self._rows(prefix)):
                self._delete(str(row["fileName"]), str(row["fileId"]), is_started=row.get("action") == "start")

    def exists(self, key: str) -> bool:
        """See the port."""
        with self._call(f"looking for {key}"):
            # Not by HEAD, whose refusals have no text: what b2sdk makes of them is none of its public errors.
            page: dict[str, Any] = self._api.session.list_file_names(self._bucket_id, key, 1, key)
            return any(row["fileName"] == key for row in page["files"])

    # --- Within ---

    @functools.cached_property
    def _api(self) -> B2Api:
        api = self._given_api
        api.authorize_account(self._key_id, self._key, realm=self._realm)
        return api

    @functools.cached_property
    def _bucket_id(self) -> str:
        return str(self._api.get_bucket_by_name(self._bucket).id_)

    @contextmanager
    def _call(self, what: str) -> Iterator[None]:
        """One call of the port: bounded, its errors typed. Their texts may hold tokens; their types' names do not."""
        with self._budget.call():
            try:
                yield
            except BlobError:
                raise
            except GaveUp as problem:
                raise BlobUnavailable(f"{what}: {problem}") from None
            except _NOT_THERE:
                raise BlobNotFound(f"{what}: it is not there") from None
            except b2.B2Error as problem:
                kind = BlobUnavailable if problem.should_retry_http() else BlobRefused
                name = "no such bucket for this key" if isinstance(problem, _MISSING_BUCKET) else type(problem).__name__
                raise kind(f"{what}: {name}") from None
            except OSError as problem:  # also what `requests` raises when an answer breaks off
                raise BlobUnavailable(f"{what}: {type(problem).__name__}") from None

    def _again(self, attempt: Callable[[], T]) -> T:
        """Try again what b2sdk and the session leave alone: uploads, and downloads that break off."""
        for number in range(1, ATTEMPTS_MAX):
            try:
                return attempt()
            except (GaveUp, OSError, BlobDamaged):
                if not self._budget.spend(BACKOFF_SECONDS * 2 ** (number - 1)):
                    raise
        return attempt()

    def _download(self, key: str, url: str, max_bytes: int) -> bytes:
        with self._api.session.download_file_from_url(url) as response:
            size = int(response.headers.get("Content-Length", -1))
            if size > max_bytes:
                raise BlobTooLarge(f"{key} has {size} bytes, of at most {max_bytes}")
            content = bytearray()
            for piece in response.iter_content(_PIECE_BYTES):
                content += piece
                if len(content) > max_bytes:
                    raise BlobTooLarge(f"{key} has more than {max_bytes} bytes")
                if self._budget.left() <= 0:
                    raise GaveUp("the content did not end in time")
            expected = _digest(response.headers.get("x-bz-content-sha1"))
        if size not in (-1, len(content)):
            raise BlobDamaged(f"{key}: {len(content)} bytes came of {size}")
        if expected and hashlib.sha1(content, usedforsecurity=False).hexdigest() != expected:
            raise BlobDamaged(f"{key}: its SHA-1 is not the one that B2 keeps")
        return bytes(content)

    def _delete_key(self, key_id: str) -> None:
        try:
            self._api.session.delete_key(key_id)
        except (*_NOT_THERE, b2.BadRequest):
            return  # B2 answers so for a key that is not there, or no longer

    def _delete(self, name: str, version_id: str, *, is_started: bool = False) -> None:
        session = self._api.session
        try:
            if is_started:
                session.cancel_large_file(version_id)
            else:
                session.delete_file_version(version_id, name)
        except _NOT_THERE:
            return  # gone already

    def _rows(self, prefix: str) -> Iterator[tuple[dict[str, Any], bool]]:
        """Each version's row, and whether it is the newest of its name, unfinished ones left aside."""
        start_name: str | None = prefix
        start_id: str | None = None
        newest = ""
        while True:
            page: dict[str, Any] = self._api.session.list_file_versions(
                self._bucket_id, start_name, start_id, _PAGE, prefix
            )
            for row in page["files"]:
                is_first = row.get("action") != "start" and row["fileName"] != newest
                newest = row["fileName"] if is_first else newest
                yield row, is_first
            start_name, start_id = page.get("nextFileName"), page.get("nextFileId")
            if start_name is None:
                return


class _Content:
    """Bytes to be sent. Not a stream that can be iterated: of an empty one `requests` would say that it is chunked,
    and then send no chunk, for which a server may wait.
    """

    def __init__(self, data: bytes) -> None:
        self._stream = BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _seen(row: dict[str, Any], *, is_latest: bool) -> BlobSeen | None:
    """The row of a file; None for one that marks or begins something."""
    if row.get("action", "upload") != "upload":
        return None
    size = row.get("contentLength", row.get("size"))
    if size is None:
        raise BlobUnavailable("the listing has a file without a size")
    return BlobSeen(
        key=row["fileName"],
        size=int(size),
        md5=_digest(row.get("contentMd5")),
        sha1=_digest(row.get("contentSha1")),
        uploaded_at=float(row.get("uploadTimestamp") or 0) / 1000,
        version_id=row["fileId"],
        is_latest=is_latest,
    )


def _key_name(holder: str) -> str:
    return f"dumont-{holder}" if holder else ""


def _digest(said: str | None) -> str | None:
    """A digest as B2 writes it, which may be "none", or have been counted by B2 alone."""
    digest = (said or "").removeprefix(_UNVERIFIED)
    return None if digest in ("", "none") else digest
