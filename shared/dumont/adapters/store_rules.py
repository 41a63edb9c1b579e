"""The rules that all stores share, so that the same work and the same query give the same on each.

In a transaction writes wait until the end, and what was read or written is read back as such: a record read twice is
the same record, a record put is the record got, and all reads come before the writes, as Firestore demands.
"""

from __future__ import annotations

import abc
import functools
import re
from typing import TypeVar, cast

from dumont.adapters.encoding import Document
from dumont.domain.records import Record
from dumont.ports import Query

R = TypeVar("R", bound=Record)
Key = tuple[str, str]
"""Where a record lives: its collection and its id."""


_ID = re.compile(r"(?!\.\.?$|__)[^/\x00]{1,200}")


@functools.lru_cache(maxsize=4096)
def is_storable_id(record_id: str) -> bool:
    """Whether a record may have this id: Firestore's paths allow no other, so no store does."""
    return _ID.fullmatch(record_id) is not None


def key_of(record: Record) -> Key:
    """A record's own key; raises `ValueError` for an id that Firestore could not hold."""
    if not is_storable_id(record.id):
        raise ValueError(f"not an id that a store can hold: {record.id!r}")
    return record.collection, record.id


class BufferedTransaction(abc.ABC):
    """A `ports.Transaction` over a store's way to load one record. `writes` is what to commit: None is a deletion."""

    def __init__(self) -> None:
        self.writes: dict[Key, Record | None] = {}
        self.documents: dict[Key, Document] = {}
        """What was read: what a later version wrote there beyond what we know must outlive our write."""
        self._reads: dict[Key, Record | None] = {}

    @abc.abstractmethod
    def _load(self, kind: type[R], record_id: str) -> tuple[R, Document] | None:
        """Read the record within the store's transaction, with its document."""

    def get(self, kind: type[R], record_id: str) -> R | None:
        """The record as this transaction has it, or None."""
        key = (kind.collection, record_id)
        if key in self.writes:
            return cast("R | None", self.writes[key])
        if key not in self._reads:
            found = self._load(kind, record_id)
            self._reads[key] = None if found is None else found[0]
            if found is not None:
                self.documents[key] = found[1]
        return cast("R | None", self._reads[key])

    def put(self, record: Record) -> None:
        """Write the record at the commit."""
        self.writes[key_of(record)] = record

    def create(self, record: Record) -> None:
        """Write the record at the commit unless there is one."""
        # The read makes the store guard the absence: another's create in between runs this work again.
        if self.get(type(record), record.id) is None:
            self.put(record)

    def delete(self, kind: type[Record], record_id: str) -> None:
        """Remove the record at the commit."""
        if is_storable_id(record_id):
            self.writes[kind.collection, record_id] = None
            self.documents.pop((kind.collection, record_id), None)  # one that is made anew begins anew


def ordering_field(query: Query) -> str | None:
    """The field that orders a query's answer: where none is named, Firestore takes the one with the inequality.

    None leaves the order to the ids, which goes up only: Firestore has no index to walk ids backwards.
    """
    if query.order_by:
        return query.order_by
    for where in query.where:
        if where.op == "<=":
            return where.field
    if query.descending:
        raise ValueError("a query in descending order needs a field to go by")
    return None


def unknown_operator(op: str) -> ValueError:
    """The error for an operator that no query of ours has."""
    return ValueError(f"a query has ==, <= and in (with a tuple), not {op!r}")
