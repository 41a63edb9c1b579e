"""What both functions of the gateway begin and end with: a request's id, its log, and errors in the caller's shape."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable

from flask import Request, Response

from dumont.edge import doors, logs, wiring
from dumont.edge.gateway import answers
from dumont.edge.gateway.answers import Told

log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{8,64}$")

Serve = Callable[[Request], Response]


def entry(request: Request, serve: Serve, problem: Callable[[Told], Response]) -> Response:
    """Serve a request; whatever goes wrong, the caller gets `problem` of it and the log the rest."""
    sent = request.headers.get("X-Request-Id", "")
    request_id = sent if _REQUEST_ID.fullmatch(sent) else f"req-{secrets.token_hex(10)}"
    token = logs.request_id.set(request_id)
    try:
        logs.set_up(wiring.settings().log_level)
        response = answers.preflight(request) or serve(request)
        log.info("passed", extra={"method": request.method, "path": request.path[:200], "status": response.status_code})
    except Exception as failure:  # noqa: BLE001 - the edge: logged and told below, whatever it is
        error = doors.count_wrong_key(failure, request, may_write=True)
        told = answers.told(error, request_id)
        answers.log_it(request, error, told.status)
        response = problem(told)
    finally:
        logs.request_id.reset(token)
    response.headers["X-Request-Id"] = request_id
    return answers.allow_origin(request, response)
