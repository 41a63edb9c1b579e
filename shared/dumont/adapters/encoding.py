"""Records as documents: plain dicts for Firestore, JSON text for SQLite. Every store reads and writes through here.

What is read may be older than we are: then its kind's migrations bring it up to now, and the next write stores that.
It may be newer: a field that we do not know is left out of the record, at any depth and even in structs that forbid
unknown fields towards users, and `to_document` puts it back into what we write over it. What a later version wrote that
we cannot live with has a higher `schema_version`, and we refuse it.
"""

from __future__ import annotations

import functools
import json
from typing import Any, TypeVar

import msgspec

from dumont.adapters import unknown_fields
from dumont.adapters.shapes import ready
from dumont.domain.errors import RecordTooNew, StoreError
from dumont.domain.records import Record

R = TypeVar("R", bound=Record)
Document = dict[str, Any]
"""A record as a store keeps it, of our schema version."""


class UnreadableRecord(StoreError):
    """What the store holds is not a record of this kind that we can read. Names the record, never its content."""


def to_document(record: Record, over: Document | None = None) -> Document:
    """The record as a dict of str, int, float, bool, None, lists or tuples, and dicts.

    A top-level field that is None, and None by default, is left out: like Firestore's documents, which an ordering
    leaves out where they lack its field, and whose nulls would be indexed and sorted first.

    `over` is the document that was read and that this one takes the place of: what is in it that we do not know stays,
    at the top always, further down in values that are as they were read.
    """
    document: Document = msgspec.to_builtins(record)
    for field in _none_by_default(type(record)):
        if document.get(field, False) is None:
            del document[field]
    return document if over is None else unknown_fields.kept(document, over, type(record))


def from_document(kind: type[R], document: Any) -> R:
    """The record in a document of any version that we can read; raises `UnreadableRecord`, or `RecordTooNew`."""
    return read(kind, document)[0]


def read(kind: type[R], document: Any) -> tuple[R, Document]:
    """The record in a document, and that as it would have been written today; raises as `from_document` does."""
    current = _schema_version(kind)
    version = document.get("schema_version", 1) if isinstance(document, dict) else None
    if version != current or type(version) is not int:
        document = _brought_up(kind, document, version, current)
    try:
        return msgspec.convert(document, ready(kind)), document
    except msgspec.ValidationError:
        # Rare, so only now: a struct that forbids unknown fields may have met one of a later version's.
        try:
            return msgspec.convert(unknown_fields.pruned(document, kind), kind), document
        except msgspec.ValidationError as error:
            raise UnreadableRecord(f"{_name(kind, document)} cannot be read: {error}") from error


def _brought_up(kind: type[Record], document: Any, version: object, current: int) -> Document:
    """The document in our schema version."""
    if type(version) is not int or not version >= 1:
        raise UnreadableRecord(f"{_name(kind, document)} has schema version {version!r}; we know up to {current}")
    if version > current:
        raise RecordTooNew(f"{_name(kind, document)} has schema version {version}; we know up to {current}")
    made: Document = dict(document)
    for known in range(version, current):
        try:
            made = kind.migrations[known - 1](made) | {"schema_version": known + 1}
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise UnreadableRecord(f"{_name(kind, document)} cannot be migrated from version {known}") from error
    return made


def to_json(record: Record, over: Document | None = None) -> str:
    """The record as JSON, over what was read as `to_document` has it. Raises `ValueError` for a NaN or an infinity,
    which msgspec would write as null."""
    return json.dumps(to_document(record, over), allow_nan=False, ensure_ascii=False, separators=(",", ":"))


def from_json(kind: type[R], text: str) -> R:
    """The record in a JSON text; raises `UnreadableRecord`, or `RecordTooNew`."""
    return read_json(kind, text)[0]


def read_json(kind: type[R], text: str) -> tuple[R, Document]:
    """The record in a JSON text, and its document, as `read` has them."""
    try:
        document = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise UnreadableRecord(f"a {kind.__name__} in the store is not JSON") from error
    return read(kind, document)


def _name(kind: type[Record], document: Any) -> str:
    record_id = document.get("id") if isinstance(document, dict) else None
    return f"{kind.__name__} {record_id!r}"


@functools.cache
def _schema_version(kind: type[Record]) -> int:
    version = next(int(f.default) for f in msgspec.structs.fields(kind) if f.name == "schema_version")
    if version != len(kind.migrations) + 1:
        raise TypeError(f"{kind.__name__} is at schema version {version} and has {len(kind.migrations)} migrations")
    return version


@functools.cache
def _none_by_default(kind: type[Record]) -> tuple[str, ...]:
    return tuple(field.encode_name for field in msgspec.structs.fields(kind) if field.default is None)
