"""S3's listings: ListObjectsV2, ListObjectVersions, ListMultipartUploads."""

from __future__ import annotations

import base64
import binascii

from dumont.local.object_store import s3_xml
from dumont.local.object_store.catalogue import START, Bucket, Version
from dumont.local.object_store.files import Files
from dumont.local.object_store.http import Answer, Request
from dumont.local.object_store.keys import Key
from dumont.local.object_store.refusals import Refused, bad_request
from dumont.local.object_store.s3_xml import Namer, Tree

PAGE_MAX = 1000
_AFTER_ALL = "\U0010ffff"


class Listings:
    """Answers to GET of a bucket."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._catalogue = files.catalogue

    def handle(self, request: Request, key: Key, bucket: Bucket) -> Answer:
        """Answer a request, or raise `Refused`."""
        prefix = request.get("prefix") or ""
        # As in B2, a key that is bound to a prefix must ask for that or for a part of it.
        key.allow("listFiles", bucket=bucket, name=prefix)
        self._files.enter(request, "list", prefix)
        if request.get("uploads") is not None:
            return self._uploads(request, bucket, prefix)
        if request.get("versions") is not None:
            return self._versions(request, bucket, prefix)
        if request.get("list-type") == "2":
            return self._names(request, bucket, prefix)
        raise Refused(501, "bad_request", "only ListObjectsV2 is implemented", s3_code="NotImplemented")

    def _names(self, request: Request, bucket: Bucket, prefix: str) -> Answer:
        namer = Namer(request.get("encoding-type"))
        limit = _limit(request, "max-keys")
        delimiter = request.get("delimiter") or ""
        token = request.get("continuation-token")
        start = _from_token(token) if token else _just_after(request.get("start-after"))
        files, folders, following = self._walk(bucket, prefix, delimiter, start, limit)
        tree: Tree = [
            ("Name", bucket.name),
            ("Prefix", namer(prefix)),
            ("MaxKeys", str(limit)),
            ("KeyCount", str(len(files) + len(folders))),
            ("IsTruncated", str(following is not None).lower()),
            *namer.said,
            *([("Delimiter", namer(delimiter))] if delimiter else []),
            *([("ContinuationToken", token)] if token else []),
            *([("NextContinuationToken", _token(following))] if following is not None else []),
            *[("Contents", s3_xml.file_row(version, namer)) for version in self._files.found(files)],
            *[("CommonPrefixes", [("Prefix", namer(folder))]) for folder in folders],
        ]
        return s3_xml.answer("ListBucketResult", tree)

    def _walk(
        self, bucket: Bucket, prefix: str, delimiter: str, start: str, limit: int
    ) -> tuple[list[Version], list[str], str | None]:
        """The files, the folders, and the name that the next page begins at (None: no more)."""
        files: list[Version] = []
        folders: list[str] = []
        while True:
            page = self._catalogue.names(bucket.id, prefix, start, limit + 1 - len(files) - len(folders))
            for version in page:
                if version.name < start:
                    continue  # behind a folder that this page has passed
                if len(files) + len(folders) == limit:
                    return files, folders, version.name
                rest = version.name[len(prefix) :]
                if delimiter and delimiter in rest:
                    folder = prefix + rest.partition(delimiter)[0] + delimiter
                    folders.append(folder)
                    start = folder + _AFTER_ALL
                else:
                    files.append(version)
                    start = version.name + "\0"
            if not page:
                return files, folders, None

    def _versions(self, request: Request, bucket: Bucket, prefix: str) -> Answer:
        namer = Namer(request.get("encoding-type"))
        limit = _limit(request, "max-keys")
        marker, id_marker = request.get("key-marker") or "", request.get("version-id-marker")
        # The markers name the last row of the page before.
        sequence = self._catalogue.version(id_marker).sequence - 1 if id_marker else 0 if marker else None
        rows = self._catalogue.versions(bucket.id, prefix, (marker, sequence), limit + 1)
        shown, is_cut = rows[:limit], len(rows) > limit
        last = shown[-1] if shown else None
        tree: Tree = [
            ("Name", bucket.name),
            ("Prefix", namer(prefix)),
            ("KeyMarker", namer(marker)),
            ("MaxKeys", str(limit)),
            ("IsTruncated", str(is_cut).lower()),
            *namer.said,
            *([("NextKeyMarker", namer(last.name)), ("NextVersionIdMarker", last.id)] if is_cut and last else []),
            *[
                s3_xml.version_row(version, namer, is_latest=self._is_latest(version))
                for version in self._files.found(shown)
                if version.action != START
            ],
        ]
        return s3_xml.answer("ListVersionsResult", tree)

    def _is_latest(self, version: Version) -> bool:
        newest = self._catalogue.newest(version.bucket_id, version.name)
        return newest is not None and newest.id == version.id

    def _uploads(self, request: Request, bucket: Bucket, prefix: str) -> Answer:
        namer = Namer(request.get("encoding-type"))
        limit = _limit(request, "max-uploads")
        after = request.get("upload-id-marker") or ""
        rows = self._catalogue.unfinished(bucket.id, prefix, f"{after}\0" if after else "", limit + 1)
        shown, is_cut = rows[:limit], len(rows) > limit
        said: Tree = [
            ("Bucket", bucket.name),
            ("Prefix", namer(prefix)),
            ("MaxUploads", str(limit)),
            ("IsTruncated", str(is_cut).lower()),
            *namer.said,
        ]
        marker = [("NextKeyMarker", namer(shown[-1].name)), ("NextUploadIdMarker", shown[-1].id)] if is_cut else []
        uploads = [
            ("Upload", [("Key", namer(v.name)), ("UploadId", v.id), ("Initiated", s3_xml.iso(v.uploaded_ms))])
            for v in shown
        ]
        return s3_xml.answer("ListMultipartUploadsResult", [*said, *marker, *uploads])


def _limit(request: Request, name: str) -> int:
    given = request.get(name) or str(PAGE_MAX)
    if not given.isdigit():
        raise bad_request(f"{name} is no number")
    return max(1, min(int(given), PAGE_MAX))


def _just_after(name: str | None) -> str:
    return f"{name}\0" if name else ""


def _token(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def _from_token(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except (binascii.Error, ValueError):
        message = "The continuation token provided is incorrect"
        raise Refused(400, "bad_request", message, s3_code="InvalidArgument") from None
