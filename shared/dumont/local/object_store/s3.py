"""The S3 API, path style: objects and buckets. Multipart uploads are in `s3_multipart`, listings in `s3_listings`."""

from __future__ import annotations

from dumont.local.object_store import s3_xml, signatures
from dumont.local.object_store.body import Source
from dumont.local.object_store.catalogue import Bucket, Version
from dumont.local.object_store.files import FILE_BYTES_MAX, Files, asks_for_range, md5_of_header
from dumont.local.object_store.http import Answer, Request
from dumont.local.object_store.keys import Key, Keyring
from dumont.local.object_store.refusals import Refused, bad_request, no_such_file, unauthorized
from dumont.local.object_store.s3_listings import Listings
from dumont.local.object_store.s3_multipart import Multipart, read_body
from dumont.ports import Clock

_META = "x-amz-meta-"
_MAX_DELETES = 1000


class S3:
    """Answers to S3 requests. A key may do here what it may do in B2's own API."""

    def __init__(
        self,
        files: Files,
        keyring: Keyring,
        clock: Clock,
        *,
        region: str,
        takes_checksums: bool,
        takes_conditions: bool,
        check_payload: bool,
    ) -> None:
        self._files = files
        self._catalogue = files.catalogue
        self._keyring = keyring
        self._clock = clock
        self._region = region
        self._takes_checksums = takes_checksums
        self._takes_conditions = takes_conditions
        self._check_payload = check_payload
        self._multipart = Multipart(files)
        self._listings = Listings(files)

    def handle(self, request: Request) -> Answer:
        """Answer a request, or raise `Refused`."""
        signed = signatures.check(
            request, self._keyring, self._region, self._clock.now(), check_payload=self._check_payload
        )
        self._refuse_headers(request)
        bucket_name, _, name = request.path.removeprefix("/").partition("/")
        if not bucket_name:
            return self._list_buckets(request, signed.key)
        if not name:
            return self._handle_bucket(request, signed, bucket_name)
        bucket = self._bucket_for(signed.key, bucket_name)
        if request.get("uploadId") is not None or request.get("uploads") is not None:
            return self._multipart.handle(request, signed, bucket, name)
        match request.method:
            case "PUT":
                return self._put(request, signed, bucket, name)
            case "GET" | "HEAD":
                return self._get(request, signed.key, bucket, name)
            case "DELETE":
                return self._delete(request, signed.key, bucket, name)
        raise _not_implemented(f"{request.method} of an object")

    def refusal(self, refused: Refused, request: Request) -> Answer:
        """How this API says no."""
        return s3_xml.refusal(refused, request.path)

    def _refuse_headers(self, request: Request) -> None:
        """What B2 refuses: all of it lets a client believe in what was not done."""
        for header in request.headers:
            is_checksum = header.startswith(("x-amz-checksum-", "x-amz-sdk-checksum-")) or header == "x-amz-trailer"
            if is_checksum and not self._takes_checksums:
                message = f"Unsupported header '{header}' received for this API call."
                raise Refused(400, "bad_request", message, s3_code="InvalidArgument")
        if "x-amz-copy-source" in request.headers:
            raise _not_implemented("x-amz-copy-source")
        writes = request.method in ("PUT", "POST")
        if writes and not self._takes_conditions and {"if-match", "if-none-match"} & request.headers.keys():
            raise _not_implemented("A header you provided")
        if writes and ("if-match" in request.headers or request.headers.get("if-none-match", "*") != "*"):
            raise _not_implemented("any condition but If-None-Match: *")

    # --- Buckets ---

    def _list_buckets(self, request: Request, key: Key) -> Answer:
        self._files.enter(request, "bucket")
        if not key.can("listAllBucketNames"):
            key.allow("listBuckets", bucket=None)
        rows = [("Bucket", s3_xml.bucket_row(bucket)) for bucket in self._catalogue.buckets()]
        return s3_xml.answer("ListAllMyBucketsResult", [("Buckets", rows)])

    def _handle_bucket(self, request: Request, signed: signatures.Signed, name: str) -> Answer:
        key = signed.key
        if request.method == "PUT":
            self._files.enter(request, "bucket")
            key.allow("writeBuckets")
            self._catalogue.create_bucket(name)
            return Answer(headers={"Location": f"/{name}"})
        bucket = self._bucket_for(key, name)
        if request.method == "GET" and request.get("location") is None:
            return self._listings.handle(request, key, bucket)
        if request.method == "POST" and request.get("delete") is not None:
            return self._delete_many(request, signed, bucket)
        self._files.enter(request, "bucket")
        match request.method:
            case "GET":
                key.allow("readBuckets", bucket=bucket)
                return s3_xml.answer("LocationConstraint", self._region)
            case "HEAD":
                key.allow("listBuckets", bucket=bucket)
                return Answer(headers={"x-amz-bucket-region": self._region}, content_type=s3_xml.TYPE)
            case "DELETE":
                key.allow("deleteBuckets", bucket=bucket)
                self._catalogue.delete_bucket(bucket)
                return Answer(204)
        raise _not_implemented(f"{request.method} of a bucket")

    def _bucket_for(self, key: Key, name: str) -> Bucket:
        """The bucket. To a key that is not for it, other buckets are forbidden rather than missing."""
        try:
            bucket = self._catalogue.bucket(name=name)
        except Refused:
            if key.bucket_ids is not None:
                raise unauthorized() from None
            raise
        if key.bucket_ids is not None and bucket.id not in key.bucket_ids:
            raise unauthorized()
        return bucket

    # --- Objects ---

    def _put(self, request: Request, signed: signatures.Signed, bucket: Bucket, name: str) -> Answer:
        signed.key.allow("writeFiles", bucket=bucket, name=name)
        self._files.enter(request, "upload", name)
        if signed.size > FILE_BYTES_MAX:
            raise Refused(400, "bad_request", "Your proposed upload is too large", s3_code="EntityTooLarge")
        source: Source = signed.content
        version = self._files.put(
            source,
            bucket,
            name,
            content_type=request.headers.get("content-type") or "application/octet-stream",
            info={k.removeprefix(_META): v for k, v in request.headers.items() if k.startswith(_META)},
            md5=md5_of_header(request.headers.get("content-md5")),
            only_if_absent="if-none-match" in request.headers,
        )
        return Answer(headers=_told(version), content_type=s3_xml.TYPE)

    def _get(self, request: Request, key: Key, bucket: Bucket, name: str) -> Answer:
        key.allow("readFiles", bucket=bucket, name=name)
        self._files.enter(request, "head" if request.method == "HEAD" else "download", name)
        self._files.must_be_found(name)
        version = self._find(bucket, name, request.get("versionId"))
        headers = {
            **_told(version),
            "Last-Modified": s3_xml.http_date(version.uploaded_ms),
            "Accept-Ranges": "bytes",
            **{f"{_META}{k}": v for k, v in version.info.items()},
        }
        asked = request.headers.get("if-none-match")
        if asked is not None and asked.strip('"') in ("*", version.etag):
            return Answer(304, headers=headers)
        if request.headers.get("if-match", version.etag).strip('"') not in ("*", version.etag):
            raise Refused(412, "precondition_failed", "The ETag does not match.", s3_code="PreconditionFailed")
        content, first, end = self._files.content(request, version)
        is_part = asks_for_range(request)
        if is_part:
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{version.size}"
        return Answer(206 if is_part else 200, content_type=version.content_type, headers=headers, content=content)

    def _delete(self, request: Request, key: Key, bucket: Bucket, name: str) -> Answer:
        headers = self._delete_one(request, key, bucket, name, request.get("versionId"))
        return Answer(204, headers=headers)

    def _delete_one(
        self, request: Request, key: Key, bucket: Bucket, name: str, version_id: str | None
    ) -> dict[str, str]:
        """By version: it is gone. By name alone: it is hidden, as in every versioned bucket; B2 has no others."""
        key.allow("deleteFiles" if version_id else "writeFiles", bucket=bucket, name=name)
        self._files.enter(request, "delete" if version_id else "hide", name)
        if not version_id:
            newest = self._catalogue.newest(bucket.id, name)
            if newest is None:
                return {}
            return {"x-amz-delete-marker": "true", "x-amz-version-id": self._files.hide(bucket, name).id}
        try:
            self._catalogue.delete(self._find(bucket, name, version_id, is_any=True))
        except Refused as refused:
            if refused.s3_code != "NoSuchKey":
                raise
        return {"x-amz-version-id": version_id}

    def _delete_many(self, request: Request, signed: signatures.Signed, bucket: Bucket) -> Answer:
        root = s3_xml.read(read_body(signed))
        rows: list[tuple[str, s3_xml.Tree]] = []
        asked = root.findall("Object")
        if len(asked) > _MAX_DELETES:
            raise Refused(400, "bad_request", "too many objects", s3_code="MalformedXML")
        for element in asked:
            name, version_id = element.findtext("Key") or "", element.findtext("VersionId")
            told = [("Key", name), *([("VersionId", version_id)] if version_id else [])]
            try:
                self._delete_one(request, signed.key, bucket, name, version_id)
            except Refused as refused:
                rows.append(("Error", [*told, ("Code", refused.s3_code), ("Message", refused.message)]))
            else:
                rows.append(("Deleted", told))
        return s3_xml.answer("DeleteResult", rows)

    def _find(self, bucket: Bucket, name: str, version_id: str | None, *, is_any: bool = False) -> Version:
        if version_id is None:
            return self._catalogue.visible(bucket.id, name)
        version = self._catalogue.version(version_id)
        if version.bucket_id != bucket.id or version.name != name or not (is_any or version.action == "upload"):
            raise no_such_file(name)
        return version


def _told(version: Version) -> dict[str, str]:
    return {"ETag": f'"{version.etag}"', "x-amz-version-id": version.id}


def _not_implemented(what: str) -> Refused:
    refused = bad_request(f"{what} implies functionality that is not implemented")
    refused.status, refused.s3_code = 501, "NotImplemented"
    return refused
