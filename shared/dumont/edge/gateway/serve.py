"""`/gateway/MACHINE/PORT/…`: any request, to a port of a machine; and `POST /gateway/MACHINE/token`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from flask import Request, Response
from msgspec import Meta

from dumont.domain.errors import MethodNotAllowed, UserError
from dumont.domain.records import Role
from dumont.edge import http, logs, wiring
from dumont.edge.gateway import access, answers, guard, tokens
from dumont.edge.gateway import headers as header_rules
from dumont.edge.gateway.access import Caller
from dumont.edge.gateway.body import Body, read_whole
from dumont.edge.gateway.entry import entry
from dumont.edge.gateway.forward import Passage, forward
from dumont.edge.gateway.headers import Headers
from dumont.edge.gateway.target import FUNCTION, Target, below, target_of, wait_seconds
from dumont.operations import gateway as operations
from dumont.ports import Ports

WAIT_SECONDS = 50.0
"""Below what proxies and browsers usually allow an answer to take (60 s)."""
_TOKEN_YEARS_SECONDS = 10 * 365 * 86_400


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether the tokens there are end now, and how long the new one counts (None: until it is rotated)."""

    rotate: bool = False
    valid_seconds: Annotated[float, Meta(ge=1, le=_TOKEN_YEARS_SECONDS)] | None = None


def serve(request: Request) -> Response:
    """One request to the function `gateway`."""
    return entry(request, _serve, answers.problem)


def _serve(request: Request) -> Response:
    ports = wiring.ports()
    caller, told = guard.admit(ports, header_rules.credential(request.headers.items()), Role.OPERATOR)
    _, path, _ = below(request, FUNCTION)
    match path.split("/"):
        case ["", machine, "token"]:
            access.check(caller, machine)
            return guard.with_fields(_token_noted(ports, request, caller, machine), told)
    target = target_of(request)
    access.check(caller, target.machine)
    if not target.slashed and request.method in ("GET", "HEAD"):
        where = f"{target.prefix}/" + (f"?{target.query}" if target.query else "")
        return Response(status=308, headers={"Location": where})
    wait = wait_seconds(request, WAIT_SECONDS)
    woken = guard.wakes(request, ports, caller, f"/{FUNCTION}/{target.machine}/{target.port}")
    passed = passage(request, target, body=Body(request), wait=wait, keep_authorization=True, woken=woken)
    return guard.with_fields(forward(ports, passed), told)


def passage(
    request: Request, target: Target, *, body: Body, wait: float, keep_authorization: bool, woken: operations.Woken
) -> Passage:
    """The request as it is passed on."""
    return Passage(
        machine=target.machine,
        port=target.port,
        method=request.method,
        target=target.request_target,
        headers=_headers(request, target, body, keep_authorization=keep_authorization),
        body=body,
        prefix=target.prefix,
        wait_seconds=wait,
        request_id=logs.request_id.get(),
        woken=woken,
    )


def _headers(request: Request, target: Target, body: Body, *, keep_authorization: bool) -> Headers:
    return header_rules.towards_machine(
        list(request.headers.items()),
        port=target.port,
        client=request.remote_addr or "unknown",
        scheme=request.headers.get("X-Forwarded-Proto", request.scheme),
        host=request.host,
        prefix=target.prefix,
        length=body.length,
        has_body=body.is_there,
        keep_authorization=keep_authorization,
    )


def _token_noted(ports: Ports, request: Request, caller: Caller, name: str) -> Response:
    """A new token, for who has an API key: a token begets none. It is a change, counted and written down as others."""
    if caller.machine is not None:
        raise access.refused()
    if request.method != "POST":
        raise MethodNotAllowed(request.method, ["POST"])
    guard.count_change(ports, caller)
    what = f"POST /{FUNCTION}/{name}/token"
    try:
        response = _token(ports, request, name)
    except UserError as error:
        guard.note(request, ports, caller, what, status=error.status, code=error.code)
        raise
    guard.note(request, ports, caller, what, about=name, status=response.status_code)
    return response


def _token(ports: Ports, request: Request, name: str) -> Response:
    data = read_whole(request, most_bytes=http.BODY_BYTES_MAX)
    wish = http.decode(data, TokenRequest) if data.strip() else TokenRequest()
    machine = operations.rotate(ports, name) if wish.rotate else operations.find(ports, name)
    expires_at = 0 if wish.valid_seconds is None else int(ports.clock.now() + wish.valid_seconds)
    answer = {
        "machine": machine.id,
        "token": tokens.make(ports.agent_secret(), machine, expires_at=expires_at),
        "generation": machine.gateway_generation,
        **({"expires_at": expires_at} if expires_at else {}),
    }
    return answers.json_response(answer)
