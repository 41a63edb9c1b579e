"""S3's multipart uploads, which are B2's large files."""

from __future__ import annotations

from dumont.local.object_store import s3_xml
from dumont.local.object_store.catalogue import Bucket, Part, Version
from dumont.local.object_store.files import PART_BYTES_MAX, Files, md5_of_header
from dumont.local.object_store.http import Answer, Request
from dumont.local.object_store.refusals import Refused, bad_request, no_such_upload
from dumont.local.object_store.signatures import Signed

XML_BYTES_MAX = 4 << 20
_PAGE_MAX = 1000


class Multipart:
    """Answers to requests with `uploads` or `uploadId`. All of them need the right to write, and no other."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._catalogue = files.catalogue

    def handle(self, request: Request, signed: Signed, bucket: Bucket, name: str) -> Answer:
        """Answer a request, or raise `Refused`."""
        signed.key.allow("writeFiles", bucket=bucket, name=name)
        if request.method == "POST" and request.get("uploads") is not None:
            return self._create(request, bucket, name)
        upload_id = request.get("uploadId") or ""
        match request.method:
            case "PUT":
                self._files.enter(request, "upload_part", name)
                return self._upload_part(request, signed, self._started(upload_id, bucket, name))
            case "POST":
                self._files.enter(request, "finish", name)
                return self._complete(request, signed, bucket, name, upload_id)
            case "DELETE":
                self._files.enter(request, "cancel", name)
                self._catalogue.delete(self._started(upload_id, bucket, name))
                return Answer(204)
            case "GET":
                self._files.enter(request, "list_parts", name)
                return self._list_parts(request, self._started(upload_id, bucket, name))
        raise bad_request("no such call on a multipart upload")

    def _create(self, request: Request, bucket: Bucket, name: str) -> Answer:
        self._files.enter(request, "start", name)
        meta = "x-amz-meta-"
        info = {k.removeprefix(meta): v for k, v in request.headers.items() if k.startswith(meta)}
        content_type = request.headers.get("content-type") or "application/octet-stream"
        started = self._files.start(bucket, name, content_type, info)
        tree = [("Bucket", bucket.name), ("Key", name), ("UploadId", started.id)]
        return s3_xml.answer("InitiateMultipartUploadResult", tree)

    def _upload_part(self, request: Request, signed: Signed, started: Version) -> Answer:
        number = request.get("partNumber") or ""
        if not number.isdigit():
            raise Refused(400, "bad_request", "partNumber is missing or no number", s3_code="InvalidArgument")
        if signed.size > PART_BYTES_MAX:
            raise Refused(400, "bad_request", "Your proposed upload is too large", s3_code="EntityTooLarge")
        md5 = md5_of_header(request.headers.get("content-md5"))
        part = self._files.put_part(started, int(number), signed.content, md5=md5)
        return Answer(headers={"ETag": f'"{part.md5}"'}, content_type=s3_xml.TYPE)

    def _complete(self, request: Request, signed: Signed, bucket: Bucket, name: str, upload_id: str) -> Answer:
        try:
            started = self._started(upload_id, bucket, name)
        except Refused:
            # The answer to the first try may have been lost; the client asks again, and it is done.
            done = self._finished(upload_id, bucket, name)
        else:
            parts = self._chosen(read_body(signed), self._catalogue.parts(started.id))
            done = self._files.finish(started, parts, only_if_absent="if-none-match" in request.headers)
        tree = [
            ("Location", f"{request.base_url}/{bucket.name}/{name}"),
            ("Bucket", bucket.name),
            ("Key", name),
            ("ETag", f'"{done.etag}"'),
        ]
        answer = s3_xml.answer("CompleteMultipartUploadResult", tree)
        answer.headers["x-amz-version-id"] = done.id
        return answer

    def _chosen(self, body: bytes, parts: list[Part]) -> list[Part]:
        """The parts that the client names, which must be there with the digests that it says, in ascending order."""
        there = {part.number: part for part in parts}
        chosen: list[Part] = []
        for element in s3_xml.read(body).findall("Part"):
            number, etag = element.findtext("PartNumber") or "", (element.findtext("ETag") or "").strip('"')
            part = there.get(int(number)) if number.isdigit() else None
            if part is None or part.md5 != etag:
                message = "One or more of the specified parts could not be found, or its ETag did not match."
                raise Refused(400, "missing_part", message, s3_code="InvalidPart")
            if chosen and part.number <= chosen[-1].number:
                message = "The list of parts was not in ascending order."
                raise Refused(400, "bad_request", message, s3_code="InvalidPartOrder")
            chosen.append(part)
        if not chosen:
            raise Refused(400, "bad_request", "You must specify at least one part", s3_code="MalformedXML")
        return chosen

    def _list_parts(self, request: Request, started: Version) -> Answer:
        after = int(request.get("part-number-marker") or 0)
        limit = min(int(request.get("max-parts") or _PAGE_MAX), _PAGE_MAX)
        parts = [part for part in self._catalogue.parts(started.id) if part.number > after]
        shown, is_cut = parts[:limit], len(parts) > limit
        tree: s3_xml.Tree = [
            ("Key", started.name),
            ("UploadId", started.id),
            ("PartNumberMarker", str(after)),
            ("MaxParts", str(limit)),
            ("IsTruncated", str(is_cut).lower()),
            *([("NextPartNumberMarker", str(shown[-1].number))] if is_cut else []),
            *[("Part", s3_xml.part_row(part)) for part in shown],
        ]
        return s3_xml.answer("ListPartsResult", tree)

    def _started(self, upload_id: str, bucket: Bucket, name: str) -> Version:
        started = self._catalogue.started(upload_id)
        if started.bucket_id != bucket.id or started.name != name:
            raise no_such_upload()
        return started

    def _finished(self, upload_id: str, bucket: Bucket, name: str) -> Version:
        try:
            version = self._catalogue.version(upload_id)
        except Refused:
            raise no_such_upload() from None
        if version.bucket_id != bucket.id or version.name != name:
            raise no_such_upload()
        return version


def read_body(signed: Signed) -> bytes:
    """The whole of a small body, as signed."""
    if signed.size > XML_BYTES_MAX:
        raise Refused(400, "bad_request", "the body is too long", s3_code="MaxMessageLengthExceeded")
    data = bytearray(signed.size)
    view, filled = memoryview(data), 0
    while count := signed.content.readinto(view[filled:]):
        filled += count
    return bytes(data[:filled])
