"""A Firestore server that fails as it is told, to show what the real one does too rarely to test by."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.cloud.firestore_v1 import types
from google.protobuf import empty_pb2

Failure = tuple[grpc.StatusCode, str]


class ScriptedFirestore:
    """Has no documents. Calls fail with `failures[method]`, first to last, and then succeed; all are in `calls`.

    A failure of None succeeds. A call to a method in `silent` gets no answer.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.failures: dict[str, list[Failure | None]] = {}
        self.silent: set[str] = set()
        self.host = ""
        self._ended = threading.Event()
        self._begun = 0

    def named(self, method: str) -> list[Any]:
        """The requests to a method."""
        return [request for name, request in self.calls if name == method]

    @contextlib.contextmanager
    def serving(self) -> Iterator[ScriptedFirestore]:
        with ThreadPoolExecutor(8) as pool:
            server = grpc.server(pool)
            server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_SERVICE, self._handlers())])
            self.host = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
            server.start()
            try:
                yield self
            finally:
                self._ended.set()
                server.stop(grace=None).wait(10)

    def _handlers(self) -> dict[str, Any]:
        def unary(name: str, request: Any, answer: Callable[[Any], Any]) -> Any:
            return grpc.unary_unary_rpc_method_handler(
                lambda message, context: self._called(name, message, context, answer),
                request_deserializer=request.deserialize,
                response_serializer=lambda response: (
                    response.SerializeToString()
                    if isinstance(response, empty_pb2.Empty)
                    else type(response).serialize(response)
                ),
            )

        def stream(name: str, request: Any, answer: Callable[[Any], Any]) -> Any:
            return grpc.unary_stream_rpc_method_handler(
                lambda message, context: iter(self._called(name, message, context, answer)),
                request_deserializer=request.deserialize,
                response_serializer=lambda response: type(response).serialize(response),
            )

        return {
            "BatchGetDocuments": stream("BatchGetDocuments", types.BatchGetDocumentsRequest, self._missing),
            "RunQuery": stream("RunQuery", types.RunQueryRequest, lambda _: []),
            "Commit": unary("Commit", types.CommitRequest, lambda _: types.CommitResponse()),
            "Rollback": unary("Rollback", types.RollbackRequest, lambda _: empty_pb2.Empty()),
        }

    def _called(self, name: str, request: Any, context: grpc.ServicerContext, answer: Callable[[Any], Any]) -> Any:
        self.calls.append((name, request))
        if name in self.silent:
            self._ended.wait(60)
        failures = self.failures.get(name)
        failure = failures.pop(0) if failures else None
        if failure is not None:
            context.abort(*failure)
        return answer(request)

    def _missing(self, request: Any) -> list[Any]:
        answers = [types.BatchGetDocumentsResponse(missing=name) for name in request.documents]
        if "new_transaction" in request:
            self._begun += 1
            answers[0].transaction = f"transaction {self._begun}".encode()
        return answers


_SERVICE = "google.firestore.v1.Firestore"
