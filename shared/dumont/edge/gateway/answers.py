"""What the gateway itself answers: problems as RFC 9457 documents, and how far a machine is that is being woken."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import msgspec
from flask import Request, Response

from dumont.domain.errors import MethodNotAllowed
from dumont.edge import limits, wiring
from dumont.edge.gateway.forward import GatewayFault
from dumont.edge.limits import TooManyRequests
from dumont.edge.problems import MEDIA_TYPE, document_of
from dumont.operations.gateway import NotServing

log = logging.getLogger(__name__)

_TITLES = {
    400: "Bad request",
    501: "Not implemented",
    502: "Bad gateway",
    503: "Not available",
    504: "Gateway timeout",
}
_BROWSERS_MAY = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """An error, ready to be said: RFC 9457's members, and the headers that belong to it."""

    document: dict[str, Any]
    headers: dict[str, str]

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self.document["status"])


def told(error: Exception, request_id: str) -> Told:
    """What to say of an error."""
    headers: dict[str, str] = {}
    document: dict[str, Any]
    if isinstance(error, NotServing):
        document = _document(503, error.code, str(error)) | {"progress": msgspec.to_builtins(error.progress)}
        document["state"] = error.progress.state
        headers["Retry-After"] = str(math.ceil(error.retry_after_seconds))
        document["retry_after_seconds"] = math.ceil(error.retry_after_seconds)
    elif isinstance(error, GatewayFault):
        document = _document(error.status, error.code, str(error), error.hint)
        if error.retry_after_seconds is not None:
            headers["Retry-After"] = str(math.ceil(error.retry_after_seconds))
    else:
        document = msgspec.to_builtins(document_of(error))
        if document["status"] == 503:
            headers["Retry-After"] = "5"
    if isinstance(error, TooManyRequests):
        headers |= limits.fields(error.verdict)
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = ", ".join(error.allowed)
    if document["status"] == 401:
        # A browser asks its user for it: any name, and the token as password.
        headers["WWW-Authenticate"] = 'Basic realm="dumont gateway", charset="UTF-8"'
    return Told(document=document | {"request_id": request_id}, headers=headers)


def _document(status: int, code: str, detail: str, hint: str = "") -> dict[str, Any]:
    document = {
        "type": f"about:blank#{code}",
        "title": _TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
        "code": code,
    }
    return document | ({"hint": hint} if hint else {})


def log_it(request: Request, error: Exception, status: int) -> None:
    """An error in the log: with its trace where it is ours."""
    details = {"path": request.path[:200], "status": status, "error": type(error).__name__}
    if status >= 500 and not isinstance(error, NotServing | GatewayFault):
        log.error("request failed", exc_info=error, extra=details)
    else:
        log.info("refused", extra=details)


def problem(told_of: Told) -> Response:
    """The document as a response."""
    return json_response(told_of.document, told_of.status, told_of.headers, media_type=MEDIA_TYPE)


def json_response(
    body: Any, status: int = 200, headers: Mapping[str, str] | None = None, *, media_type: str = "application/json"
) -> Response:
    """A JSON answer of our own: nobody is to keep it."""
    response = Response(msgspec.json.encode(body), status=status, content_type=media_type)
    response.headers.extend({"Cache-Control": "no-store", **(headers or {})})
    return response


def preflight(request: Request) -> Response | None:
    """The answer to a browser that asks whether a page of another origin may call; it never brings a secret."""
    origin = request.headers.get("Origin", "")
    asked = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
    if not asked or origin not in wiring.settings().cors_origins:
        return None
    return Response(
        status=204,
        headers={
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": _BROWSERS_MAY,
            "Access-Control-Allow-Headers": request.headers.get("Access-Control-Request-Headers", "Authorization"),
            "Access-Control-Max-Age": "600",
            "Vary": "Origin",
        },
    )


def allow_origin(request: Request, response: Response) -> Response:
    """Let a page of an allowed origin read the answer."""
    origin = request.headers.get("Origin", "")
    if origin and origin in wiring.settings().cors_origins:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Vary"] = "Origin"
    return response
