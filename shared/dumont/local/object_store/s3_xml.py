"""S3's answers in XML, and what it asks for in XML."""

from __future__ import annotations

import time
from collections.abc import Sequence
from urllib.parse import quote
from xml.etree import ElementTree as Xml

from dumont.local.object_store.catalogue import HIDE, Bucket, Part, Version
from dumont.local.object_store.http import Answer
from dumont.local.object_store.refusals import Refused

_SPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
TYPE = "application/xml"

Tree = Sequence[tuple[str, "str | Tree"]]


def answer(root: str, tree: Tree | str, status: int = 200) -> Answer:
    """An answer of nested (name, text or tree) pairs, or of a text."""
    element = Xml.Element(root, {} if root == "Error" else {"xmlns": _SPACE})
    if isinstance(tree, str):
        element.text = tree
    else:
        _fill(element, tree)
    body = b'<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(element)
    return Answer(status, body, content_type=TYPE)


def refusal(refused: Refused, resource: str) -> Answer:
    """How S3 says no."""
    status = _STATUS.get(refused.s3_code, refused.status)
    return answer("Error", [("Code", refused.s3_code), ("Message", refused.message), ("Resource", resource)], status)


_STATUS = {"AccessDenied": 403, "NoSuchBucket": 404, "NoSuchKey": 404, "NoSuchUpload": 404, "BucketNotEmpty": 409}
_STATUS["BucketAlreadyOwnedByYou"] = 409


def iso(milliseconds: int) -> str:
    """A moment as listings have it."""
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000))
    return f"{seconds}.{milliseconds % 1000:03d}Z"


def http_date(milliseconds: int) -> str:
    """A moment as headers have it."""
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(milliseconds // 1000))


class Namer:
    """Writes names as the client asked for: `encoding-type=url` or plainly."""

    def __init__(self, encoding: str | None) -> None:
        self.is_url = encoding == "url"
        self.said: Tree = [("EncodingType", "url")] if self.is_url else []

    def __call__(self, name: str) -> str:
        return quote(name, safe="/-_.~") if self.is_url else name


def file_row(version: Version, namer: Namer) -> Tree:
    """A file in a listing."""
    return [
        ("Key", namer(version.name)),
        ("LastModified", iso(version.uploaded_ms)),
        ("ETag", f'"{version.etag}"'),
        ("Size", str(version.size)),
        ("StorageClass", "STANDARD"),
    ]


def version_row(version: Version, namer: Namer, *, is_latest: bool) -> tuple[str, Tree]:
    """A version in a listing of versions, and what it is called there."""
    told = [("VersionId", version.id), ("IsLatest", str(is_latest).lower())]
    if version.action == HIDE:
        marker = [("Key", namer(version.name)), ("LastModified", iso(version.uploaded_ms))]
        return "DeleteMarker", [*told, *marker]
    return "Version", [*told, *file_row(version, namer)]


def part_row(part: Part) -> Tree:
    """A part in a listing of parts."""
    modified = ("LastModified", iso(part.uploaded_ms))
    return [("PartNumber", str(part.number)), modified, ("ETag", f'"{part.md5}"'), ("Size", str(part.size))]


def bucket_row(bucket: Bucket) -> Tree:
    """A bucket in the list of buckets."""
    return [("Name", bucket.name), ("CreationDate", iso(0))]


def read(body: bytes) -> Xml.Element:
    """A body's root element, its names without their space. Refuses what is no XML."""
    try:
        root = Xml.fromstring(body)  # noqa: S314 - see the import
    except Xml.ParseError:
        raise Refused(400, "bad_request", "The XML you provided was not well-formed.", s3_code="MalformedXML") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _fill(parent: Xml.Element, tree: Tree) -> None:
    for name, value in tree:
        child = Xml.SubElement(parent, name)
        if isinstance(value, str):
            child.text = value
        else:
            _fill(child, value)
