"""The HTTP edge that every function shares: who calls, what they send, what goes wrong, what goes out."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import flask
import functions_framework
import msgspec
import werkzeug.exceptions
from flask import Request, Response

from dumont.adapters.shapes import ready
from dumont.domain.errors import InvalidInput, MethodNotAllowed, TooLarge, Unknown
from dumont.domain.keys import ApiKey
from dumont.domain.records import Role
from dumont.edge import doors, limits, logs, wiring
from dumont.edge.doors import ANYBODY as ANYBODY
from dumont.edge.doors import Door
from dumont.edge.problems import MEDIA_TYPE, document_of
from dumont.ports import Ports

log = logging.getLogger(__name__)

BODY_BYTES_MAX = 256 * 1024
_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{8,64}$")

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """An authenticated request."""

    request: Request
    ports: Ports
    key: ApiKey
    request_id: str
    sent: list[bytes] = field(default_factory=list)
    """What was read of the body."""

    @property
    def path(self) -> list[str]:
        """The parts of the path below the function's own: ["trainer", "logs"]."""
        return [part for part in self.request.path.split("/") if part]

    @property
    def caller(self) -> str:
        """Who calls, for the records."""
        return self.key.name

    def body(self, shape: type[T]) -> T:
        """The JSON body as `shape`. Raises `InvalidInput` naming the field, or `TooLarge`."""
        return decode(self.raw_body(), shape)

    def body_or(self, default: T) -> T:
        """The JSON body as the default's shape, or the default where there is none. It is read to see that: a body in
        chunks has no length. Raises as `body`."""
        data = self.raw_body()
        return decode(data, type(default)) if data.strip() else default

    def raw_body(self) -> bytes:
        """The body, if it is not larger than is read."""
        _check_size(self.request)
        data = self.request.stream.read(BODY_BYTES_MAX + 1)
        if len(data) > BODY_BYTES_MAX:
            raise TooLarge(f"the body has more than the {BODY_BYTES_MAX} bytes that are read")
        self.sent.append(data)
        return data

    def arguments(self, shape: type[T]) -> T:
        """The query string as `shape`, its texts read as numbers and booleans. Raises `InvalidInput`."""
        values = {name: value for name, value in self.request.args.items() if value != ""}
        repeated = [name for name in values if len(self.request.args.getlist(name)) > 1]
        if repeated:
            raise InvalidInput("is given more than once", field=repeated[0])
        try:
            return msgspec.convert(values, ready(shape), strict=False)
        except msgspec.ValidationError as error:
            raise invalid(error) from error


@dataclass(frozen=True)
class Answer:
    """What a function answers: something that msgspec can write as JSON, or bytes as they are."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Call], Answer]


def decode(data: bytes, shape: type[T]) -> T:
    """JSON bytes as `shape`. Raises `InvalidInput` naming the field."""
    if not data.strip():
        raise InvalidInput("a JSON body is needed, and there is none", code="no_body")
    try:
        return msgspec.json.decode(data, type=ready(shape))
    except msgspec.ValidationError as error:
        raise invalid(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput("the body is not JSON", code="malformed_json", hint=str(error)[:200]) from error


_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<field>[^`]*)`)?$", re.DOTALL)
_BOUND = re.compile(r"^expected `(?:int|float)` ([<>]=? [0-9.e+-]+)$")
_PATTERN = re.compile(r"^expected `str` matching regex (?=')")
_FIELD = re.compile(r"field `(?P<field>[^`]+)`")


def invalid(error: msgspec.ValidationError) -> InvalidInput:
    """A validation error in our words, with the field that it is about."""
    match = _AT.match(str(error))
    what = match.group("what") if match else str(error)
    where = match.group("field") if match else None
    named = _FIELD.search(what)
    if not where and named:
        where = named.group("field")
    return InvalidInput(_in_words(what[:1].lower() + what[1:]), field=where or None)


def _in_words(what: str) -> str:
    """A bound as a person says it: "must be >= 1" for "expected `int` >= 1"; all else is as it was."""
    return _PATTERN.sub("must match ", _BOUND.sub(r"must be \1", what))


def endpoint(
    *, methods: Mapping[str, Role], open_to_the_world: bool = False, google_calls: bool = False, issues: bool = False
) -> Callable[[Handler], Callable[[Request], Response]]:
    """Make an HTTP function of a handler; what is said of who may come in is as `Door` has it."""
    door = Door(methods, open_to_the_world=open_to_the_world, google_calls=google_calls, issues=issues)
    # The framework's word for "the application that is being made now". Where there is none being made, since a program
    # only looks at the functions, the last one that was may be at work already, and takes no more.
    with contextlib.suppress(AssertionError):
        functions_framework.errorhandler(werkzeug.exceptions.NotFound)(_unroutable)

    def wrap(handler: Handler) -> Callable[[Request], Response]:
        @functools.wraps(handler)
        def serve(request: Request) -> Response:
            request_id = _request_id(request)
            token = logs.request_id.set(request_id)
            try:
                response = _serve(request, request_id, handler, door)
            finally:
                logs.request_id.reset(token)
            return _marked(response, request_id)

        serve.door = door  # type: ignore[attr-defined]  # for tests that look at every function's
        return serve

    return wrap


def _unroutable(_error: werkzeug.exceptions.NotFound) -> Response:
    """What Flask answers to a path in which it sees none, such as one with a line break: no function is called."""
    document = document_of(Unknown("nothing is served at such a path", code="no_such_path"))
    request_id = _request_id(flask.request)
    response = _json(msgspec.structs.replace(document, request_id=request_id), document.status, MEDIA_TYPE)
    return _marked(response, request_id)


def _request_id(request: Request) -> str:
    sent = request.headers.get("X-Request-Id", "")
    return sent if _REQUEST_ID.fullmatch(sent) else f"req-{secrets.token_hex(10)}"


def _marked(response: Response, request_id: str) -> Response:
    response.headers["X-Request-Id"] = request_id
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _serve(request: Request, request_id: str, handler: Handler, door: Door) -> Response:
    methods = door.methods
    key, sent = ANYBODY, list[bytes]()
    told: dict[str, str] = {}
    code = ""
    origin = request.headers.get("Origin")
    allowed_origin: str | None = None
    try:
        settings = wiring.settings()
        logs.set_up(settings.log_level)
        if origin is not None and origin in settings.cors_origins:
            allowed_origin = origin
        if request.method == "OPTIONS" and allowed_origin is not None:
            return _preflight(allowed_origin, methods)
        if request.method not in methods:
            raise MethodNotAllowed(request.method, methods)
        ports = wiring.ports()
        _check_size(request)
        key = doors.caller(request, ports, door)
        # Counted before the role is looked at: who may not is not to fill the audit log by asking.
        told = doors.count_change(request, ports, door, key)
        doors.authorise(request, door, key)
        answer = handler(Call(request=request, ports=ports, key=key, request_id=request_id, sent=sent))
        if isinstance(answer.body, bytes):
            response = Response(answer.body, status=answer.status, content_type="application/octet-stream")
        else:
            response = _json(answer.body, answer.status, "application/json")
        response.headers.extend(answer.headers)
    except Exception as failure:  # the edge: whatever it is, the caller gets a document and the log the rest
        error = doors.count_wrong_key(failure, request, may_write=door.changes)
        document = document_of(error)
        code = document.code
        if document.status >= 500:
            log.error("request failed", exc_info=error, extra={"path": request.path, "status": document.status})
        else:
            log.info("refused", extra={"path": request.path, "status": document.status, "code": document.code})
        response = _json(msgspec.structs.replace(document, request_id=request_id), document.status, MEDIA_TYPE)
        if document.status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        if isinstance(error, MethodNotAllowed):
            response.headers["Allow"] = ", ".join(error.allowed)
        if isinstance(error, limits.TooManyRequests):
            told = limits.fields(error.verdict)
    else:
        log.log(
            logging.DEBUG if door.open_to_the_world else logging.INFO,  # heartbeats are many, and each the same
            "answered",
            extra={"method": request.method, "path": request.path, "status": answer.status, "caller": key.name},
        )
    name = handler.__name__.replace("_", "-")
    doors.note_change(request, door, key, response, function=name, code=code, sent=sent, request_id=request_id)
    response.headers.extend(told)
    if allowed_origin is not None:
        response.headers["Access-Control-Allow-Origin"] = allowed_origin
        response.headers["Vary"] = "Origin"
    return response


def _check_size(request: Request) -> None:
    """Refuse what says itself that it is too large before anything is done about it."""
    length = request.content_length
    if length is not None and length > BODY_BYTES_MAX:
        raise TooLarge(f"the body has {length} bytes, and at most {BODY_BYTES_MAX} are read")


def _json(body: Any, status: int, media_type: str) -> Response:
    return Response(msgspec.json.encode(body), status=status, content_type=media_type)


def _preflight(origin: str, methods: Mapping[str, Role]) -> Response:
    return Response(
        status=204,
        headers={
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": ", ".join(methods),
            "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Api-Key",
            "Access-Control-Max-Age": "600",
            "Vary": "Origin",
        },
    )


def no_such_path(call: Call) -> Unknown:
    """The error for a path that is not served."""
    return Unknown(f"nothing is served at {call.request.path[:200]}", code="no_such_path")
