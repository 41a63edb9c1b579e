"""Records as documents: plain dicts for Firestore, JSON text for SQLite. Every store reads and writes through here.

What is read may be newer than we are. A field that we do not know is left out, at any depth and even in structs that
forbid unknown fields towards users; a later version that cannot live with this raises `schema_version`, and then we
refuse. Who writes such a record back drops the unknown field, so deploy readers of a new field before its writers.
"""

from __future__ import annotations

import functools
import json
from typing import Any, TypeVar

import msgspec

from dumont.adapters.shapes import ready
from dumont.domain.errors import StoreError
from dumont.domain.records import Record

R = TypeVar("R", bound=Record)


class UnreadableRecord(StoreError):
    """What the store holds is not a record of this kind that we can read. Names the record, never its content."""


def to_document(record: Record) -> dict[str, Any]:
    """The record as a dict of str, int, float, bool, None, lists or tuples, and dicts.

    A top-level field that is None, and None by default, is left out: like Firestore's documents, which an ordering
    leaves out where they lack its field, and whose nulls would be indexed and sorted first.
    """
    document = msgspec.to_builtins(record)
    for field in _none_by_default(type(record)):
        if document.get(field, False) is None:
            del document[field]
    return document  # type: ignore[no-any-return]


def from_document(kind: type[R], document: Any) -> R:
    """The record in a document of any version that we can read; raises `UnreadableRecord`."""
    known_version = _schema_version(kind)
    version = document.get("schema_version", 1) if isinstance(document, dict) else None
    if not isinstance(version, int) or version > known_version:
        raise UnreadableRecord(f"{_name(kind, document)} has schema version {version!r}; we know up to {known_version}")
    try:
        return msgspec.convert(document, ready(kind))
    except msgspec.ValidationError:
        # Rare, so only now: a struct that forbids unknown fields may have met one of a later version's.
        try:
            return msgspec.convert(_prune(document, kind), kind)
        except msgspec.ValidationError as error:
            raise UnreadableRecord(f"{_name(kind, document)} cannot be read: {error}") from error


def to_json(record: Record) -> str:
    """The record as JSON. Raises `ValueError` for a NaN or an infinity, which msgspec would write as null."""
    return json.dumps(to_document(record), allow_nan=False, ensure_ascii=False, separators=(",", ":"))


def from_json(kind: type[R], text: str) -> R:
    """The record in a JSON text; raises `UnreadableRecord`."""
    try:
        return from_document(kind, msgspec.json.decode(text))
    except msgspec.DecodeError as error:
        raise UnreadableRecord(f"a {kind.__name__} in the store is not JSON") from error


def _name(kind: type[Record], document: Any) -> str:
    record_id = document.get("id") if isinstance(document, dict) else None
    return f"{kind.__name__} {record_id!r}"


@functools.cache
def _schema_version(kind: type[Record]) -> int:
    return next(int(f.default) for f in msgspec.structs.fields(kind) if f.name == "schema_version")


@functools.cache
def _none_by_default(kind: type[Record]) -> tuple[str, ...]:
    return tuple(field.encode_name for field in msgspec.structs.fields(kind) if field.default is None)


# --- Leaving out what we do not know ------------------------------------------------------------------------------


def _prune(value: Any, kind: Any) -> Any:
    return _pruned(value, msgspec.inspect.type_info(kind))


def _pruned(value: Any, info: msgspec.inspect.Type) -> Any:
    """The value without the fields that the structs in its type do not have."""
    if isinstance(info, msgspec.inspect.Metadata):
        return _pruned(value, info.type)
    if isinstance(info, msgspec.inspect.UnionType):
        # msgspec allows one struct, one array and one mapping at most in a union, so the value's shape chooses.
        for member in info.types:
            value = _pruned(value, member)
        return value
    if isinstance(info, msgspec.inspect.StructType) and isinstance(value, dict):
        fields = {field.encode_name: field.type for field in info.fields}
        return {name: _pruned(item, fields[name]) for name, item in value.items() if name in fields}
    if isinstance(info, msgspec.inspect.ListType | msgspec.inspect.VarTupleType) and isinstance(value, list | tuple):
        return [_pruned(item, info.item_type) for item in value]
    if isinstance(info, msgspec.inspect.TupleType) and isinstance(value, list | tuple):
        return [_pruned(item, item_type) for item, item_type in zip(value, info.item_types, strict=False)]
    if isinstance(info, msgspec.inspect.DictType) and isinstance(value, dict):
        return {name: _pruned(item, info.value_type) for name, item in value.items()}
    return value
