"""The HTTP edge that every function shares: who calls, what they send, what goes wrong, what goes out."""

from __future__ import annotations

import functools
import logging
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from flask import Request, Response

from dumont.adapters.shapes import ready
from dumont.domain.errors import InvalidInput, MethodNotAllowed, TooLarge, Unknown
from dumont.domain.records import ApiKey, Role
from dumont.edge import keys, logs, wiring
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

    def raw_body(self) -> bytes:
        """The body, if it is not larger than is read."""
        length = self.request.content_length
        if length is not None and length > BODY_BYTES_MAX:
            raise TooLarge(f"the body has {length} bytes, and at most {BODY_BYTES_MAX} are read")
        data = self.request.stream.read(BODY_BYTES_MAX + 1)
        if len(data) > BODY_BYTES_MAX:
            raise TooLarge(f"the body has more than the {BODY_BYTES_MAX} bytes that are read")
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
_FIELD = re.compile(r"field `(?P<field>[^`]+)`")


def invalid(error: msgspec.ValidationError) -> InvalidInput:
    """A validation error in our words, with the field that it is about."""
    match = _AT.match(str(error))
    what = match.group("what") if match else str(error)
    where = match.group("field") if match else None
    named = _FIELD.search(what)
    if not where and named:
        where = named.group("field")
    return InvalidInput(what[:1].lower() + what[1:], field=where or None)


ANYBODY = ApiKey(id="", name="anybody", role=Role.VIEWER, secret_sha256="", created_at=0.0)
GOOGLE = ApiKey(id="", name="google", role=Role.OPERATOR, secret_sha256="", created_at=0.0)


@dataclass(frozen=True)
class Door:
    """Who may come in: each method with the role that it needs.

    With `open_to_the_world` no API key is asked for: the handler has a proof of its own, or nothing to hide. With
    `google_calls` the token of this deployment's caller is a proof too (Cloud Scheduler's).
    """

    methods: Mapping[str, Role]
    open_to_the_world: bool = False
    google_calls: bool = False


def endpoint(
    *, methods: Mapping[str, Role], open_to_the_world: bool = False, google_calls: bool = False
) -> Callable[[Handler], Callable[[Request], Response]]:
    """Make an HTTP function of a handler; what is said of who may come in is as `Door` has it."""
    door = Door(methods, open_to_the_world, google_calls)

    def wrap(handler: Handler) -> Callable[[Request], Response]:
        @functools.wraps(handler)
        def serve(request: Request) -> Response:
            sent = request.headers.get("X-Request-Id", "")
            request_id = sent if _REQUEST_ID.fullmatch(sent) else f"req-{secrets.token_hex(10)}"
            token = logs.request_id.set(request_id)
            try:
                response = _serve(request, request_id, handler, door)
            finally:
                logs.request_id.reset(token)
            response.headers["X-Request-Id"] = request_id
            response.headers["Cache-Control"] = "no-store"
            response.headers["X-Content-Type-Options"] = "nosniff"
            return response

        return serve

    return wrap


def _serve(request: Request, request_id: str, handler: Handler, door: Door) -> Response:
    methods = door.methods
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
            raise MethodNotAllowed(f"{request.method} is not answered here", hint=f"use {' or '.join(methods)}")
        ports = wiring.ports()
        key = _caller(request, ports, door)
        answer = handler(Call(request=request, ports=ports, key=key, request_id=request_id))
        if isinstance(answer.body, bytes):
            response = Response(answer.body, status=answer.status, content_type="application/octet-stream")
        else:
            response = _json(answer.body, answer.status, "application/json")
        response.headers.extend(answer.headers)
    except Exception as error:  # the edge: whatever it is, the caller gets a document and the log the rest
        document = document_of(error)
        if document.status >= 500:
            log.error("request failed", exc_info=error, extra={"path": request.path, "status": document.status})
        else:
            log.info("refused", extra={"path": request.path, "status": document.status, "code": document.code})
        response = _json(msgspec.structs.replace(document, request_id=request_id), document.status, MEDIA_TYPE)
        if document.status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        if document.status == 405:
            response.headers["Allow"] = ", ".join(methods)
    else:
        log.log(
            logging.DEBUG if door.open_to_the_world else logging.INFO,  # heartbeats are many, and each the same
            "answered",
            extra={"method": request.method, "path": request.path, "status": answer.status, "caller": key.name},
        )
    if allowed_origin is not None:
        response.headers["Access-Control-Allow-Origin"] = allowed_origin
        response.headers["Vary"] = "Origin"
    return response


def _caller(request: Request, ports: Ports, door: Door) -> ApiKey:
    """Who calls. Raises `Unauthenticated`, `Forbidden`, or `CannotTell`."""
    if door.open_to_the_world:
        return ANYBODY
    secret = presented(request)
    google = wiring.google_caller() if door.google_calls else None
    if google is not None and not (secret or "").startswith(keys.PREFIX):
        google.check(request)
        return GOOGLE
    key = keys.authenticate(ports.store, secret)
    keys.authorise(key, door.methods[request.method])
    return key


def presented(request: Request) -> str | None:
    """The secret that a request brings with it."""
    # First: where Google's front door checks callers (Cloud Scheduler's), `Authorization` holds Google's own token.
    named = request.headers.get("X-Api-Key")
    if named is not None:
        return named.strip()
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else None


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
    return Unknown(f"nothing is served at {call.request.path[:200]}")
