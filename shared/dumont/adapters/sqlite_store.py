"""A `Store` in one SQLite file, for the local cloud: safe across threads and across processes."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from dumont.adapters import encoding
from dumont.adapters.store_rules import BufferedTransaction, ordering_field, unknown_operator
from dumont.domain.collections import RECORDS
from dumont.domain.errors import Contention, StoreError, StoreUnavailable
from dumont.domain.records import Record
from dumont.ports import Query, Transaction

R = TypeVar("R", bound=Record)
T = TypeVar("T")

INDEXES: dict[str, tuple[tuple[str, ...], ...]] = {
    "machines": (("shard", "deadline"), ("created_at",)),
    "operations": (("shard", "deadline"), ("machine", "created_at"), ("created_at",)),
    "instances": (
        ("machine", "open"),
        ("operation_id",),
        ("rented_by",),
        ("open",),
        ("state",),
        ("provider_instance_id",),
    ),
    "snapshots": (("machine", "created_at"), ("created_at",)),
    "ledger": (("machine", "written_at"), ("machine", "day"), ("day",), ("instance_id",)),
    "budgets": (("shard", "deadline"),),
    "deliveries": (("shard", "deadline"), ("subscription", "created_at")),
}
"""Per collection, the fields that `dumont.queries` asks by; a test holds that each query there runs on an index."""

_NAME = re.compile(r"[a-z_]+")
_IDLE_CONNECTIONS = 8


class SqliteStore:
    """Records as JSON, one table a collection, in WAL mode.

    A transaction takes the file's one write lock before it reads (BEGIN IMMEDIATE), so none is ever run again; one
    that waits for the lock longer than `busy_seconds` raises `Contention`. Each call has a connection to itself, and
    with it its own view: `get` within a transaction's work reads what was last committed, as on Firestore. Commits
    are synced to the disk: an intent to rent must outlive a power cut.
    """

    def __init__(
        self, path: str | Path, *, busy_seconds: float = 10.0, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = str(path)
        self._busy_seconds = busy_seconds
        self._monotonic = monotonic
        # SQLite's own waiting polls, with steps of up to 100 ms; threads of this process hand over at once instead.
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._owner_pid = os.getpid()
        self._tables: set[str] = set()
        self._closed = False
        try:
            self._make_wal()
        except sqlite3.Error as error:
            raise self._store_error(error) from error
        with self._connection() as connection:
            for kind in RECORDS:  # here, since making a table takes the write lock, and a read must never wait for it
                self._ensure_table(connection, kind.collection)

    def get(self, kind: type[R], record_id: str) -> R | None:
        """The record as last committed, or None."""
        with self._connection() as connection:
            self._ensure_table(connection, kind.collection)
            found = _load(connection, kind, record_id)
            return None if found is None else found[0]

    def find(self, kind: type[R], query: Query) -> list[R]:
        """The records that pass the query, in Firestore's order: the field ordered by, then the id."""
        statement, values = select(kind.collection, query)
        with self._connection() as connection:
            self._ensure_table(connection, kind.collection)
            rows = connection.execute(statement, values).fetchall()
        return [encoding.from_json(kind, body) for (body,) in rows]

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` under the write lock and commit. It must not begin another transaction of this store."""
        if not self._turn.acquire(timeout=self._busy_seconds):
            raise Contention(f"waited {self._busy_seconds:g} s for another thread's transaction")
        try:
            with self._connection() as connection:
                transaction = _SqliteTransaction(connection, self._ensure_table)
                connection.execute("BEGIN IMMEDIATE")
                try:
                    result = work(transaction)
                    self._write(connection, transaction)
                    connection.execute("COMMIT")
                except BaseException:
                    connection.rollback()
                    raise
                return result
        finally:
            self._turn.release()

    def close(self) -> None:
        """Close the idle connections, and those in use once they are done with; calls after this raise."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _write(self, connection: sqlite3.Connection, transaction: _SqliteTransaction) -> None:
        for (collection, record_id), record in transaction.writes.items():
            self._ensure_table(connection, collection)
            if record is None:
                connection.execute(f'DELETE FROM "{collection}" WHERE id = ?', (record_id,))  # noqa: S608 - a checked name
            else:
                connection.execute(
                    f'INSERT INTO "{collection}" (id, body) VALUES (?, ?) '  # noqa: S608 - a checked name
                    "ON CONFLICT (id) DO UPDATE SET body = excluded.body",
                    (record_id, encoding.to_json(record, transaction.documents.get((collection, record_id)))),
                )

    # --- Connections and tables -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection that no other call uses meanwhile; SQLite's errors leave it as the store's."""
        try:
            connection = self._take()
            try:
                yield connection
            finally:
                self._give_back(connection)
        except sqlite3.Error as error:
            raise self._store_error(error) from error

    def _store_error(self, error: sqlite3.Error) -> StoreError:
        if _is_locked(error):
            return Contention(f"the file was locked for {self._busy_seconds:g} s")
        return StoreUnavailable(f"SQLite: {error}")

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._closed:
                raise StoreUnavailable("the store is closed")
            if self._owner_pid != os.getpid():
                # A connection must not cross a fork: SQLite's locks belong to the process that took them.
                self._idle, self._owner_pid = [], os.getpid()
            if self._idle:
                return self._idle.pop()
        connection = self._connect(self._busy_seconds)
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _connect(self, busy_seconds: float) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=busy_seconds, isolation_level=None, check_same_thread=False)

    def _make_wal(self) -> None:
        """Put the file in WAL mode, where it stays."""
        deadline = self._monotonic() + self._busy_seconds
        while True:
            # In steps on new connections: one that read the file just before another process put it in WAL mode
            # waits for a lock that is never free again.
            with contextlib.closing(self._connect(min(0.1, self._busy_seconds))) as connection:
                try:
                    connection.execute("PRAGMA journal_mode = WAL")
                except sqlite3.OperationalError as error:
                    if not _is_locked(error) or self._monotonic() > deadline:
                        raise
                else:
                    return

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < _IDLE_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.close()

    def _ensure_table(self, connection: sqlite3.Connection, collection: str) -> None:
        if collection in self._tables:
            return
        for statement in _table_statements(collection):
            connection.execute(statement)
        # Within a transaction that is rolled back the table goes again, so it is made again until it stays.
        if not connection.in_transaction:
            self._tables.add(collection)


def _is_locked(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", None)  # an extended code: its low byte is the kind
    return code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class _SqliteTransaction(BufferedTransaction):
    def __init__(self, connection: sqlite3.Connection, ensure: Callable[[sqlite3.Connection, str], None]) -> None:
        super().__init__()
        self._connection = connection
        self._ensure = ensure

    def _load(self, kind: type[R], record_id: str) -> tuple[R, encoding.Document] | None:
        self._ensure(self._connection, kind.collection)
        return _load(self._connection, kind, record_id)


def _load(connection: sqlite3.Connection, kind: type[R], record_id: str) -> tuple[R, encoding.Document] | None:
    statement = f'SELECT body FROM "{kind.collection}" WHERE id = ?'  # noqa: S608 - a checked name
    row = connection.execute(statement, (record_id,)).fetchone()
    return None if row is None else encoding.read_json(kind, row[0])


# --- Statements ---------------------------------------------------------------------------------------------------


def _field(name: str) -> str:
    """The SQL expression of a record's field; the same text in queries and indexes, or SQLite would not use them."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"not a field: {name!r}")
    return f"json_extract(body, '$.{name}')"


def _table_statements(collection: str) -> list[str]:
    if not _NAME.fullmatch(collection):
        raise ValueError(f"not a collection: {collection!r}")
    statements = [f'CREATE TABLE IF NOT EXISTS "{collection}" (id TEXT NOT NULL PRIMARY KEY, body TEXT NOT NULL)']
    for fields in INDEXES.get(collection, ()):
        name = f"{collection}_by_{'_'.join(fields)}"
        columns = ", ".join([*map(_field, fields), "id"])
        statements.append(f'CREATE INDEX IF NOT EXISTS "{name}" ON "{collection}" ({columns})')
    return statements


def select(collection: str, query: Query) -> tuple[str, list[str | int | float | bool]]:
    """The query as SQL with its values."""
    conditions: list[str] = []
    values: list[str | int | float | bool] = []
    for where in query.where:
        if where.op == "in" and isinstance(where.value, tuple):
            conditions.append(f"{_field(where.field)} IN ({', '.join('?' * len(where.value))})")
            values += where.value
        elif where.op in ("==", "<=") and not isinstance(where.value, tuple):
            conditions.append(f"{_field(where.field)} {'=' if where.op == '==' else '<='} ?")
            values.append(where.value)
        else:
            raise unknown_operator(where.op)
    order_by = ordering_field(query)
    direction = "DESC" if query.descending else "ASC"
    order = f"id {direction}"
    if order_by is not None:
        conditions.append(f"{_field(order_by)} IS NOT NULL")
        order = f"{_field(order_by)} {direction}, {order}"
    where_clause = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    statement = f'SELECT body FROM "{collection}"{where_clause} ORDER BY {order} LIMIT ?'  # noqa: S608 - checked names
    return statement, [*values, query.limit]
