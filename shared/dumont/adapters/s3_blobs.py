"""Any S3 server, by signed HTTP. It makes no keys: S3 has no call for that.

Unless told otherwise, hosts therefore cannot use such a store. `hands_out_own_key` gives each host the store's own
key, which reaches the whole bucket, does not end, and can delete: only for a server and hosts that are one's own.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from urllib.parse import unquote_plus
from xml.etree import ElementTree as Xml

import httpx

from dumont.adapters.s3_http import Answer, NotImplementedByStore, S3Http
from dumont.domain.errors import BlobDamaged, BlobRefused, BlobUnavailable
from dumont.ports import BlobSeen, Clock, KeyRight, StoreKey

_PAGES_MAX = 10_000
_MD5_DIGITS = 32
_NAMES = frozenset({"Key", "KeyMarker", "NextKeyMarker"})

Pairs = list[tuple[str, str]]

Row = tuple[str, BlobSeen]
"""An element's name in the listing (Version, DeleteMarker, Contents), and what it says."""


class S3Blobs:
    """`dumont.ports.Blobs`. Safe for several threads."""

    def __init__(
        self,
        endpoint: str,
        bucket: str,
        key_id: str,
        secret: str,
        *,
        clock: Clock,
        region: str = "us-east-1",
        hands_out_own_key: bool = False,
        client: httpx.Client | None = None,
    ) -> None:
        """`endpoint` is a URL without the bucket."""
        self._key_id, self._secret = key_id.strip(), secret.strip()
        self._endpoint, self._bucket, self._region = endpoint, bucket, region
        self._clock = clock
        self._hands_out_own_key = hands_out_own_key
        self._http = S3Http(endpoint, bucket, self._key_id, self._secret, region, clock=clock, client=client)

    def mint_key(
        self,
        prefix: str,
        right: KeyRight,  # noqa: ARG002 - see above
        valid_seconds: int,  # noqa: ARG002
        *,
        holder: str = "",  # noqa: ARG002
    ) -> StoreKey:
        """The store's own key if that was allowed; it is bound to nothing, and `expires_at` is None. Else
        `BlobRefused`.
        """
        if not self._hands_out_own_key:
            raise BlobRefused("an S3 store makes no keys for hosts, and handing out its own was not allowed")
        return StoreKey(
            kind="s3",
            endpoint=self._endpoint,
            region=self._region,
            bucket=self._bucket,
            prefix=prefix,
            key_id=self._key_id,
            secret=self._secret,
            expires_at=None,
        )

    def revoke_key(self, key_id: str) -> None:
        """Nothing: the store's own key goes on."""

    def revoke_keys(self, holder: str) -> None:
        """Nothing: the store's own key goes on."""

    def list(self, prefix: str) -> list[BlobSeen]:
        """See the port. An ETag that is an MD5 is taken for the content's (not so with SSE-KMS)."""
        return [seen for kind, seen in self._rows(prefix, self._http.deadline()) if kind != "DeleteMarker"]

    def get(self, key: str, *, max_bytes: int, version_id: str | None = None) -> bytes:
        """See the port. The content's MD5 is checked where the server tells one."""
        what = f"getting {key}"

        def check(answer: Answer) -> None:
            expected = _md5(answer.headers.get("ETag"))
            if expected and hashlib.md5(answer.body, usedforsecurity=False).hexdigest() != expected:
                raise BlobDamaged(f"{what}: its MD5 is not the one that the store keeps")

        query = [("versionId", version_id)] if version_id else []
        deadline = self._http.deadline()
        return self._http.call("GET", key, what, query=query, bytes_max=max_bytes, deadline=deadline, check=check).body

    def put(self, key: str, data: bytes) -> BlobSeen:
        """See the port."""
        md5 = hashlib.md5(data, usedforsecurity=False)
        headers = {"content-md5": base64.b64encode(md5.digest()).decode(), "content-type": "application/octet-stream"}
        answer = self._http.call(
            "PUT", key, f"putting {key}", body=data, headers=headers, deadline=self._http.deadline()
        )
        return BlobSeen(
            key=key,
            size=len(data),
            md5=md5.hexdigest(),
            sha1=None,
            uploaded_at=self._clock.now(),
            version_id=answer.headers.get("x-amz-version-id", ""),
            is_latest=True,
        )

    def delete(self, blobs: Iterable[BlobSeen]) -> None:
        """See the port."""
        deadline = self._http.deadline()
        for blob in blobs:
            self._delete(blob, deadline)

    def delete_all(self, prefix: str) -> None:
        """See the port. Unfinished uploads are the bucket's lifecycle rules' to end where the server lists none."""
        if not prefix:
            raise BlobRefused("deleting all needs a prefix")
        deadline = self._http.deadline()
        for _, seen in list(self._rows(prefix, deadline)):
            self._delete(seen, deadline)
        for key, upload_id in self._uploads(prefix, deadline):
            query = [("uploadId", upload_id)]
            self._http.call("DELETE", key, "ending an upload", query=query, deadline=deadline, may_be_missing=True)

    def exists(self, key: str) -> bool:
        """See the port."""
        what = f"looking for {key}"
        return self._http.call("HEAD", key, what, deadline=self._http.deadline(), may_be_missing=True).status != 404

    def _delete(self, blob: BlobSeen, deadline: float) -> None:
        query = [("versionId", blob.version_id)] if blob.version_id else []
        what = f"deleting {blob.key}"
        self._http.call("DELETE", blob.key, what, query=query, deadline=deadline, may_be_missing=True)

    def _rows(self, prefix: str, deadline: float) -> Iterator[Row]:
        try:
            yield from self._versions(prefix, deadline)
        except NotImplementedByStore:
            yield from self._names(prefix, deadline)

    def _versions(self, prefix: str, deadline: float) -> Iterator[Row]:
        markers: Pairs = []
        for root in self._pages([("versions", ""), ("prefix", prefix)], markers, f"listing {prefix}", deadline):
            for element in root:
                if element.tag in ("Version", "DeleteMarker"):
                    yield element.tag, _seen(element, version_id=element.findtext("VersionId") or "")
            markers[:] = [("key-marker", _name(root, "NextKeyMarker"))]
            if root.findtext("NextVersionIdMarker"):
                markers.append(("version-id-marker", root.findtext("NextVersionIdMarker") or ""))

    def _names(self, prefix: str, deadline: float) -> Iterator[Row]:
        markers: Pairs = []
        for root in self._pages([("list-type", "2"), ("prefix", prefix)], markers, f"listing {prefix}", deadline):
            yield from (("Contents", _seen(element, version_id="")) for element in root.findall("Contents"))
            markers[:] = [("continuation-token", root.findtext("NextContinuationToken") or "")]

    def _uploads(self, prefix: str, deadline: float) -> Pairs:
        markers: Pairs = []
        found = []
        try:
            for root in self._pages([("uploads", ""), ("prefix", prefix)], markers, "listing uploads", deadline):
                found += [(_name(u, "Key"), u.findtext("UploadId") or "") for u in root.findall("Upload")]
                ids = ("upload-id-marker", root.findtext("NextUploadIdMarker") or "")
                markers[:] = [("key-marker", _name(root, "NextKeyMarker")), ids]
        except NotImplementedByStore:
            return []
        return found

    def _pages(self, query: Pairs, markers: Pairs, what: str, deadline: float) -> Iterator[Xml.Element]:
        """Page after page; the caller sets the markers of the next one. Raises on a page that is not whole."""
        asked: set[tuple[tuple[str, str], ...]] = set()
        for _ in range(_PAGES_MAX):
            asked.add(tuple(markers))
            answer = self._http.call(
                "GET", "", what, query=[*query, *markers, ("encoding-type", "url")], deadline=deadline
            )
            root = _parse(answer.body, what)
            yield root
            said = root.findtext("IsTruncated")
            if said == "false":
                return
            # A listing that does not say whether it is whole, or that turns in circles, must not pass for one.
            if said != "true" or tuple(markers) in asked or not all(value for _, value in markers[:1]):
                break
        raise BlobUnavailable(f"{what}: the listing does not come to an end")


def _parse(body: bytes, what: str) -> Xml.Element:
    try:
        root = Xml.fromstring(body)  # noqa: S314 - see the import
    except Xml.ParseError:
        raise BlobUnavailable(f"{what}: the answer is no XML") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    # Asked for names encoded, which XML has no words for otherwise, some servers answer with plain ones all the same.
    if root.findtext("EncodingType") == "url":
        for element in root.iter():
            if element.tag in _NAMES:
                element.text = unquote_plus(element.text or "")
    return root


def _seen(element: Xml.Element, *, version_id: str) -> BlobSeen:
    modified = element.findtext("LastModified") or ""
    size = element.findtext("Size") or ("0" if element.tag == "DeleteMarker" else "")
    try:
        uploaded_at = datetime.fromisoformat(modified).timestamp()
        count = int(size)
    except ValueError:
        raise BlobUnavailable("the listing has a row without size or date") from None
    return BlobSeen(
        key=_name(element, "Key"),
        size=count,
        md5=_md5(element.findtext("ETag")),
        sha1=None,
        uploaded_at=uploaded_at,
        version_id=version_id,
        is_latest=(element.findtext("IsLatest") or "true") == "true",
    )


def _name(element: Xml.Element, tag: str) -> str:
    return element.findtext(tag) or ""


def _md5(etag: str | None) -> str | None:
    """The MD5 that an ETag is, unless it is that of an upload in pieces."""
    digest = (etag or "").strip('"')
    return digest if len(digest) == _MD5_DIGITS else None
