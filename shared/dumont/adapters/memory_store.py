"""A `Store` in memory with the optimistic concurrency of Firestore, for simulations and unit tests."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, TypeVar, cast

from dumont.adapters import encoding
from dumont.adapters.store_rules import BufferedTransaction, Key, ordering_field, unknown_operator
from dumont.domain.errors import Contention
from dumont.domain.records import Record
from dumont.ports import Query, Transaction

R = TypeVar("R", bound=Record)
T = TypeVar("T")

_ID = attrgetter("id")
ATTEMPTS = 5
"""As often as Google's client runs a transaction before it gives up."""


def _no_pause(call: str) -> None:
    del call


class MemoryStore:
    """Records in a dict. A transaction notes the version of all that it reads, absence too; the commit checks them.

    `pause` is called before each "get", "find" and "commit" with its name, so that a simulation can run others there;
    each of them is atomic after its pause. With `serialise`, records are kept as JSON, which finds those that the
    stores of the cloud could not hold; without it they are kept as they are, being immutable.
    """

    def __init__(self, *, pause: Callable[[str], None] = _no_pause, serialise: bool = False) -> None:
        self._pause = pause
        self._serialise = serialise
        self._lock = threading.Lock()
        self._collections: dict[str, dict[str, Any]] = {}
        # A version outlives its record, so that a record deleted and made anew is not taken for the one that was read.
        self._versions: dict[Key, int] = {}
        self._changes: dict[str, int] = {}
        self._ordered: dict[str, dict[str | None, list[Any]]] = {}
        """Of each collection the records that have a field, in its order: made at the first query that wants them so,
        and forgotten at the next change."""

    def get(self, kind: type[R], record_id: str) -> R | None:
        """The record as last committed, or None."""
        found, _ = self._read(kind, record_id)
        return None if found is None else found[0]

    def find(self, kind: type[R], query: Query) -> list[R]:
        """The records that pass the query."""
        self._pause("find")
        collection, order_by = kind.collection, ordering_field(query)
        with self._lock:
            made = self._ordered.setdefault(collection, {})
            ordered = made.get(order_by)
            if ordered is None:
                stored = self._collections.get(collection, {}).values()
                records = [encoding.from_json(kind, item) for item in stored] if self._serialise else stored
                ordered = in_order(records, order_by)
                if not self._serialise:  # each answer is to be read anew
                    made[order_by] = ordered
        return run_query(ordered, query, order_by)

    def changes(self, kind: type[Record]) -> int:
        """How often any record of a kind was written or deleted: as long as it is the same, so are they all."""
        return self._changes.get(kind.collection, 0)

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` and commit; on a conflict run it again. Raises `Contention` after `ATTEMPTS` conflicts."""
        for _ in range(ATTEMPTS):
            transaction = _MemoryTransaction(self._read)
            result = work(transaction)
            encoded = {
                key: None if record is None else self._encode(record, transaction.documents.get(key))
                for key, record in transaction.writes.items()
            }
            self._pause("commit")
            if self._commit(transaction.versions, encoded):
                return result
        raise Contention(f"lost {ATTEMPTS} times against other transactions")

    def _read(self, kind: type[R], record_id: str) -> tuple[tuple[R, encoding.Document] | None, int]:
        self._pause("get")
        with self._lock:
            stored = self._collections.get(kind.collection, {}).get(record_id)
            version = self._versions.get((kind.collection, record_id), 0)
        return (None if stored is None else self._decode(kind, stored)), version

    def _commit(self, versions: dict[Key, int], writes: dict[Key, Any]) -> bool:
        with self._lock:
            for key, version in versions.items():
                if self._versions.get(key, 0) != version:
                    return False
            for key, stored in writes.items():
                collection, record_id = key
                self._changes[collection] = self._changes.get(collection, 0) + 1
                self._ordered.pop(collection, None)
                records = self._collections.setdefault(collection, {})
                if stored is None:
                    records.pop(record_id, None)
                else:
                    records[record_id] = stored
                self._versions[key] = self._versions.get(key, 0) + 1
        return True

    def _encode(self, record: Record, over: encoding.Document | None) -> Any:
        return encoding.to_json(record, over) if self._serialise else record

    def _decode(self, kind: type[R], stored: Any) -> tuple[R, encoding.Document]:
        return encoding.read_json(kind, stored) if self._serialise else (stored, {})


class _MemoryTransaction(BufferedTransaction):
    def __init__(self, read: Callable[[type[Any], str], tuple[Any, int]]) -> None:
        super().__init__()
        self.versions: dict[Key, int] = {}
        self._read_versioned = read

    def _load(self, kind: type[R], record_id: str) -> tuple[R, encoding.Document] | None:
        found, version = self._read_versioned(kind, record_id)
        self.versions[kind.collection, record_id] = version
        return cast("tuple[R, encoding.Document] | None", found)


# --- Queries ------------------------------------------------------------------------------------------------------


def in_order(records: Iterable[R], order_by: str | None) -> list[R]:
    """The records that have a field, by it and then by id, as Firestore has them; all of them by id without one."""
    if order_by is None:
        return sorted(records, key=_ID)
    value = attrgetter(order_by)
    return sorted((record for record in records if value(record) is not None), key=attrgetter(order_by, "id"))


def run_query(ordered: list[R], query: Query, order_by: str | None) -> list[R]:
    """The records that pass, of those that are `in_order` already."""
    found = ordered
    for where in query.where:
        if where.op == "<=" and where.field == order_by:  # first: of deadlines, most leave nothing
            found = found[: bisect.bisect_right(found, where.value, key=attrgetter(order_by))]
    for where in query.where:
        if not found:
            return []
        value, wanted = attrgetter(where.field), where.value
        if where.op == "==":
            found = [record for record in found if value(record) == wanted]
        elif where.op == "<=":
            if where.field != order_by:
                found = [record for record in found if (has := value(record)) is not None and has <= wanted]
        elif where.op == "in" and isinstance(wanted, tuple):
            found = [record for record in found if value(record) in wanted]
        else:
            raise unknown_operator(where.op)
    return found[: -query.limit - 1 : -1] if query.descending else found[: query.limit]
