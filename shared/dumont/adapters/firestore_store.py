"""A `Store` on Google Cloud Firestore (native mode), or on its emulator where `FIRESTORE_EMULATOR_HOST` is set.

On Google's generated client, `FirestoreClient`, and not on the `firestore.Client` above it: that one gives begin and
commit 60 s each and nothing to shorten them by, which is longer than an invocation's lease; it runs again only for
an `Aborted` of the commit, five times with no pause, while a read can be aborted too; and it spends a round trip on
beginning. Import: 0.35 s warm, nearly all of it gRPC, protobuf and google-auth; a submodule imports no less.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
from google.api_core import exceptions, retry
from google.auth.exceptions import GoogleAuthError
from google.cloud.firestore_v1 import types
from google.cloud.firestore_v1.services.firestore import FirestoreClient
from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcTransport

from dumont.adapters import encoding
from dumont.adapters.firestore_values import EXPIRES, from_fields, to_record_fields, to_timestamp, to_value
from dumont.adapters.store_rules import BufferedTransaction, is_storable_id, ordering_field, unknown_operator
from dumont.domain.errors import Contention, StoreError, StoreUnavailable
from dumont.domain.records import Record
from dumont.ports import Query, Transaction

R = TypeVar("R", bound=Record)
T = TypeVar("T")

_log = logging.getLogger(__name__)

CALL_SECONDS = 30.0
"""What one call of the store may take with all its retries; well below `ports.CALL_SECONDS_MAX`."""
RPC_SECONDS = 15.0
ROLLBACK_SECONDS = 2.0
FIRST_PAUSE_SECONDS = 0.05
FIRST_PAUSE_OF_LOSERS_SECONDS = 0.5
"""Before a transaction that lost is run again, at random up to this, and twice as much each time: who comes back at
once locks what the winner of that round still waits for, and both lose again (seen, on a slow computer, for minutes;
Google's own clients begin with a second)."""
TRY_SECONDS_LEAST = 0.1
"""With less time left nothing is tried again: cut short in the middle, a commit would have an unknown outcome, and a
read the wrong reason."""

_TRANSIENT = (
    exceptions.Aborted,  # also of plain reads: "Transaction lock timeout" behind a transaction that was abandoned
    exceptions.DeadlineExceeded,
    exceptions.InternalServerError,
    exceptions.ResourceExhausted,
    exceptions.ServiceUnavailable,
)

_OPERATORS = {
    "==": types.StructuredQuery.FieldFilter.Operator.EQUAL,
    "<=": types.StructuredQuery.FieldFilter.Operator.LESS_THAN_OR_EQUAL,
    "in": types.StructuredQuery.FieldFilter.Operator.IN,
}

_CHANNEL_OPTIONS = [  # those of `firestore.Client`
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]


class _Lost(Exception):
    """A transaction's attempt was lost for a reason that passes."""


class FirestoreStore:
    """Records as documents, one Firestore collection for each of ours; safe across threads.

    `call_seconds` bounds each call with its retries. `emulator_host` is host:port, by default the environment's.
    """

    def __init__(
        self,
        project: str,
        *,
        database: str = "(default)",
        emulator_host: str | None = None,
        call_seconds: float = CALL_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = f"projects/{project}/databases/{database}"
        self._root = f"{self._database}/documents"
        self._metadata = [("google-cloud-resource-prefix", self._database)]
        self._call_seconds = call_seconds
        self._monotonic = monotonic
        emulator_host = emulator_host or os.environ.get("FIRESTORE_EMULATOR_HOST")
        if emulator_host:
            self._metadata.append(("authorization", "Bearer owner"))
            channel = grpc.insecure_channel(emulator_host, options=_CHANNEL_OPTIONS)
        else:
            channel = FirestoreGrpcTransport.create_channel(options=_CHANNEL_OPTIONS)
        self._channel = channel
        self._api = FirestoreClient(transport=FirestoreGrpcTransport(channel=channel))

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def get(self, kind: type[R], record_id: str) -> R | None:
        """The record as last committed, or None."""
        deadline = self._deadline()
        found = self._retrying(_TRANSIENT, deadline, lambda: self._read(kind, record_id, deadline, {})[0])
        return None if found is None else found[0]

    def find(self, kind: type[R], query: Query) -> list[R]:
        """The records that pass the query, in Firestore's order: the field ordered by, then the id."""
        deadline = self._deadline()
        request = {"parent": self._root, "structured_query": structured(kind.collection, query)}

        def run() -> list[R]:
            responses = self._api.run_query(request, retry=None, timeout=self._rpc(deadline), metadata=self._metadata)
            messages = [types.RunQueryResponse.pb(response) for response in responses]
            return [_decoded(kind, message.document) for message in messages if message.HasField("document")]

        return self._retrying(_TRANSIENT, deadline, run)

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a transaction and commit; on a conflict run it again, after a pause that grows."""
        deadline = self._deadline()
        lost_id = b""

        def attempt() -> T:
            nonlocal lost_id
            transaction = _FirestoreTransaction(self, deadline, retried_id=lost_id)
            try:
                result = work(transaction)
                self._commit(transaction, deadline)
            except _Lost:
                lost_id = transaction.id  # naming it keeps our place in the line for its locks
                raise
            except BaseException:
                self._roll_back(transaction)
                raise
            return result

        return self._retrying((_Lost,), deadline, attempt, first_pause_seconds=FIRST_PAUSE_OF_LOSERS_SECONDS)

    # --- Calls ----------------------------------------------------------------------------------------------------

    def _deadline(self) -> float:
        return self._monotonic() + self._call_seconds

    def _rpc(self, deadline: float) -> float:
        """The timeout of a remote call, seconds; raises `DeadlineExceeded` where no time is left."""
        left = deadline - self._monotonic()
        if left <= 0:
            message = f"the store's {self._call_seconds:g} s are over"
            raise exceptions.DeadlineExceeded(message)  # type: ignore[no-untyped-call]
        return min(RPC_SECONDS, left)

    def _retrying(
        self,
        passing: tuple[type[Exception], ...],
        deadline: float,
        call: Callable[[], T],
        *,
        first_pause_seconds: float = FIRST_PAUSE_SECONDS,
    ) -> T:
        """Make the call, again while it fails with what passes, and raise what is left as the store's own errors."""
        again = retry.Retry(
            predicate=retry.if_exception_type(*passing),
            initial=first_pause_seconds,
            maximum=4.0,
            multiplier=2.0,
            timeout=max(0.0, deadline - TRY_SECONDS_LEAST - self._monotonic()),
        )
        try:
            return again(call)()
        except (exceptions.GoogleAPICallError, exceptions.RetryError, GoogleAuthError, _Lost) as error:
            raise _store_error(error) from error

    def _read(
        self, kind: type[R], record_id: str, deadline: float, consistency: dict[str, Any]
    ) -> tuple[tuple[R, encoding.Document] | None, bytes]:
        """The record with its document, and the id of the transaction that the read began, if it was to begin one."""
        if not is_storable_id(record_id):
            return None, b""
        name = f"{self._root}/{kind.collection}/{record_id}"
        responses = self._api.batch_get_documents(
            {"database": self._database, "documents": [name], **consistency},
            retry=None,
            timeout=self._rpc(deadline),
            metadata=self._metadata,
        )
        record, transaction_id = None, b""
        for message in map(types.BatchGetDocumentsResponse.pb, responses):
            transaction_id = transaction_id or message.transaction
            if message.HasField("found"):
                record = encoding.read(kind, from_fields(message.found.fields))
        return record, transaction_id

    def _commit(self, transaction: _FirestoreTransaction, deadline: float) -> None:
        if not transaction.writes and not transaction.id:
            return
        writes = []
        for (collection, record_id), record in transaction.writes.items():
            name = f"{self._root}/{collection}/{record_id}"
            if record is None:
                writes.append(types.Write.pb()(delete=name))
            else:
                read = transaction.documents.get((collection, record_id))
                fields = to_record_fields(encoding.to_document(record, read))
                writes.append(types.Write.pb()(update={"name": name, "fields": fields}))
        request = types.CommitRequest.pb()(database=self._database, writes=writes, transaction=transaction.id)
        timeout = self._rpc(deadline)
        try:
            # Never retried as it is: the first try may have been applied, and its answer lost.
            self._api.commit(types.CommitRequest.wrap(request), retry=None, timeout=timeout, metadata=self._metadata)
        except exceptions.GoogleAPICallError as error:
            if _wrote_nothing(error):
                raise _Lost from error
            raise StoreUnavailable(f"a commit's outcome is unknown: {_said(error)}") from error

    def _roll_back(self, transaction: _FirestoreTransaction) -> None:
        """Let go of a transaction's locks. Best effort: the error that led here matters more, and locks expire."""
        if not transaction.id:
            return
        request = {"database": self._database, "transaction": transaction.id}
        try:
            self._api.rollback(request, retry=None, timeout=ROLLBACK_SECONDS, metadata=self._metadata)
        except exceptions.GoogleAPICallError as error:
            _log.info("a rollback failed; the locks will expire: %s", _said(error))


class _FirestoreTransaction(BufferedTransaction):
    """The first read begins it on the server: one round trip less, and none for a work that only writes."""

    def __init__(self, store: FirestoreStore, deadline: float, *, retried_id: bytes) -> None:
        super().__init__()
        self.id = b""
        self._store = store
        self._deadline = deadline
        self._retried_id = retried_id

    def _load(self, kind: type[R], record_id: str) -> tuple[R, encoding.Document] | None:
        if self.id:
            consistency: dict[str, Any] = {"transaction": self.id}
        else:
            consistency = {"new_transaction": {"read_write": {"retry_transaction": self._retried_id}}}
        try:
            record, begun = self._store._read(kind, record_id, self._deadline, consistency)
        except exceptions.GoogleAPICallError as error:
            if isinstance(error, _TRANSIENT) or _wrote_nothing(error):
                raise _Lost from error
            raise
        self.id = self.id or begun
        return record


# --- Translating --------------------------------------------------------------------------------------------------


def structured(collection: str, query: Query) -> types.StructuredQuery:
    """The query as Firestore's protocol has it."""
    filters = []
    for where in query.where:
        if where.op not in _OPERATORS:
            raise unknown_operator(where.op)
        wanted = where.value
        if where.field == EXPIRES and isinstance(wanted, int | float):
            value = types.Value.wrap(to_timestamp(wanted))
        else:
            value = types.Value.wrap(to_value(wanted))
        filters.append(
            {"field_filter": {"field": {"field_path": where.field}, "op": _OPERATORS[where.op], "value": value}}
        )
    order_by = ordering_field(query)
    directions = types.StructuredQuery.Direction
    direction = directions.DESCENDING if query.descending else directions.ASCENDING
    return types.StructuredQuery(
        {
            "from_": [{"collection_id": collection}],
            "where": {"composite_filter": {"op": "AND", "filters": filters}} if filters else None,
            "order_by": [{"field": {"field_path": order_by}, "direction": direction}] if order_by else [],
            "limit": query.limit,
        }
    )


def _decoded(kind: type[R], document: Any) -> R:
    return encoding.from_document(kind, from_fields(document.fields))


def _wrote_nothing(error: exceptions.GoogleAPICallError) -> bool:
    """Whether a transaction's failure means that it is over with nothing written, so that it may be run again."""
    # Google's own Node.js client also runs a transaction again that expired, which comes as an invalid argument.
    expired = isinstance(error, exceptions.InvalidArgument) and "transaction" in str(error.message).lower()
    return isinstance(error, exceptions.Aborted) or expired


def _store_error(error: Exception) -> StoreError:
    cause = error.cause if isinstance(error, exceptions.RetryError) and error.cause is not None else error
    if isinstance(cause, _Lost):
        cause = cause.__cause__ if isinstance(cause.__cause__, Exception) else cause
    if isinstance(cause, exceptions.GoogleAPICallError) and _wrote_nothing(cause):
        return Contention(f"lost against other transactions until time was up: {_said(cause)}")
    return StoreUnavailable(f"Firestore: {_said(cause)}")


def _said(error: Exception) -> str:
    """An error in short; Google's name documents at most, never their content."""
    return f"{type(error).__name__}: {getattr(error, 'message', None) or error}"[:300]
