"""OpenAI's API in front of the models that machines declare: the request's `model` says which machine is asked."""

from __future__ import annotations

from typing import Any

import msgspec
from flask import Request, Response

from dumont.adapters.shapes import ready
from dumont.domain.errors import DumontError, MethodNotAllowed
from dumont.domain.records import Machine, Role
from dumont.edge import wiring
from dumont.edge.gateway import access, answers, guard, models
from dumont.edge.gateway import headers as header_rules
from dumont.edge.gateway.access import Caller
from dumont.edge.gateway.answers import Told
from dumont.edge.gateway.body import Body, read_whole
from dumont.edge.gateway.entry import entry
from dumont.edge.gateway.forward import forward
from dumont.edge.gateway.serve import passage
from dumont.edge.gateway.target import Target, below, wait_seconds
from dumont.ports import Ports

FUNCTION = "v1"
WAIT_SECONDS = 120.0
"""The official client waits 600 s for an answer, and asks again after a 503."""
BODY_BYTES_MAX = 32 << 20
POSTED = frozenset({"chat/completions", "completions", "embeddings"})

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    429: "rate_limit_error",
}


class NoSuchModel(DumontError):
    """Nobody declares it."""


class BadRequest(DumontError):
    """What a caller sent is not what OpenAI's API takes; `param` is at fault."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class _Asked(msgspec.Struct, frozen=True):
    """All that we read of a body; the rest is the machine's."""

    model: str = ""


def serve(request: Request) -> Response:
    """One request to the function `v1`."""
    return entry(request, _serve_in_shape, problem)


def _serve_in_shape(request: Request) -> Response:
    try:
        return _serve(request)
    except NoSuchModel as error:
        return error_response(404, str(error), "model_not_found", param="model")
    except BadRequest as error:
        return error_response(400, str(error), "invalid_request", param=error.param)


def _serve(request: Request) -> Response:
    ports = wiring.ports()
    mount, path, query = below(request, FUNCTION)
    path = path.strip("/")
    if not mount and (path == FUNCTION or path.startswith(f"{FUNCTION}/")):
        path = path.removeprefix(FUNCTION).strip("/")
    reads = path == "models" or path.startswith("models/")
    secret = header_rules.credential(request.headers.items()) or _bearer(request)
    caller, told = guard.admit(ports, secret, Role.VIEWER if reads else Role.OPERATOR)
    if reads:
        _check_method(request, "GET")
        return guard.with_fields(_models(ports, caller, path), told)
    if path not in POSTED:
        detail = f"nothing is served at /v1/{path[:100]}; there are {', '.join(sorted(POSTED))} and models"
        return error_response(404, detail, "not_found")
    _check_method(request, "POST")
    data = read_whole(request, most_bytes=BODY_BYTES_MAX)
    machine = _machine_for(ports, caller, _model_in(data))
    target = Target(
        machine=machine.id,
        port=machine.spec.model_port,
        prefix=f"/gateway/{machine.id}/{machine.spec.model_port}",
        path=f"/v1/{path}",
        query=query,
    )
    wait = wait_seconds(request, WAIT_SECONDS)
    woken = guard.wakes(request, ports, caller, f"/{FUNCTION}/{path}")
    body = Body.of(request, data)
    passed = passage(request, target, body=body, wait=wait, keep_authorization=False, woken=woken)
    return guard.with_fields(forward(ports, passed), told)


def _bearer(request: Request) -> str | None:
    """Whatever the client was given as its key: what is none of ours is refused, and not overlooked."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else None


def _check_method(request: Request, method: str) -> None:
    if request.method != method:
        raise MethodNotAllowed(request.method, [method])


def _model_in(data: bytes) -> str:
    try:
        model = msgspec.json.decode(data, type=ready(_Asked)).model
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is no JSON object with a model's name: {str(error)[:200]}") from error
    if not model:
        raise BadRequest("you must name a model", "model")
    return model


def _machine_for(ports: Ports, caller: Caller, model: str) -> Machine:
    for fresh in (False, True):  # a machine that was declared a second ago is found too
        machines = access.is_open(caller, models.declared().all(ports, fresh=fresh))
        machine = models.machine_of(machines, model)
        if machine is not None:
            return machine
    known = sorted({name for m in machines for name in m.spec.models})
    there_are = f"; there are {', '.join(known)}" if known else "; no machine declares one (dumont up --model NAME)"
    raise NoSuchModel(f"no machine serves a model named {model[:128]!r}{there_are}")


def _models(ports: Ports, caller: Caller, path: str) -> Response:
    rows = models.listed(access.is_open(caller, models.declared().all(ports, fresh=True)))
    if path == "models":
        return answers.json_response({"object": "list", "data": rows})
    wanted = path.removeprefix("models/")
    for row in rows:
        if row["id"] == wanted:
            return answers.json_response(row)
    raise NoSuchModel(f"no machine serves a model named {wanted[:128]!r}")


def problem(told: Told) -> Response:
    """An error of ours in OpenAI's shape, with how far a machine is that is being woken."""
    document = told.document
    detail = document["detail"] + (f" ({document['hint']})" if document.get("hint") else "")
    shown = ("progress", "retry_after_seconds", "request_id")
    extra: dict[str, Any] = {name: document[name] for name in shown if name in document}
    headers = {name: value for name, value in told.headers.items() if name != "WWW-Authenticate"}
    return error_response(told.status, detail, document["code"], headers=headers, extra=extra)


def error_response(
    status: int,
    message: str,
    code: str,
    *,
    param: str | None = None,
    headers: dict[str, str] | None = None,
    extra: dict[str, Any] | None = None,
) -> Response:
    """`{"error": {…}}`, which the official clients know how to raise."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    error = {"message": message, "type": kind, "param": param, "code": code, **(extra or {})}
    return answers.json_response({"error": error}, status, headers)
