"""The edge of the workers: a CloudEvent that names an operation, run as far as it goes."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
from typing import Any

from flask import has_request_context, request
from werkzeug.exceptions import ServiceUnavailable, Unauthorized

from dumont.domain.errors import Unauthenticated
from dumont.edge import logs, wiring
from dumont.edge.google import CannotTell
from dumont.operations.runner import Outcome, run_operation
from dumont.operations.workflows import WORKFLOWS

log = logging.getLogger(__name__)

_OPERATION_ID = re.compile(r"^op-[a-z0-9]{8,64}$")


def payload_of(data: Any) -> dict[str, Any]:
    """What a Pub/Sub message says; nothing for one that cannot be read."""
    try:
        payload = json.loads(base64.b64decode(data["message"]["data"], validate=True))
    except (KeyError, TypeError, ValueError, binascii.Error, RecursionError):
        return {}
    return payload if isinstance(payload, dict) else {}


def operation_id_of(data: Any) -> str | None:
    """The operation that a Pub/Sub message names; None for a message that is not one of ours."""
    operation_id = payload_of(data).get("operation_id")
    return operation_id if isinstance(operation_id, str) and _OPERATION_ID.fullmatch(operation_id) else None


def work(event: Any) -> Outcome:
    """Run the operation that an event names.

    A message that cannot be read is spent and logged: it would be no better the next time. An error propagates, so
    that the bus delivers again; the sweep stands behind it. Where only Google's caller may push, anybody else is
    answered with 401, or 503 where that cannot be told: the bus delivers again what it pushed itself.
    """
    chosen = wiring.settings()
    logs.set_up(chosen.log_level)
    check_caller()
    operation_id = operation_id_of(event.data)
    if operation_id is None:
        log.error("message not understood", extra={"event": str(event.get("id", ""))[:64]})
        return Outcome.NOT_OURS
    token = logs.request_id.set(operation_id)
    try:
        outcome = run_operation(wiring.ports(), operation_id, WORKFLOWS)
        log.info("worked", extra={"operation": operation_id, "outcome": outcome.value})
        return outcome
    except Exception:
        log.exception("work failed", extra={"operation": operation_id})
        raise
    finally:
        logs.request_id.reset(token)


def check_caller() -> None:
    """Raises 401 unless whoever pushes may; 503 where that cannot be told."""
    google = wiring.google_caller()
    if google is None:
        return
    if not has_request_context():
        raise Unauthorized("no request, and so nobody's token")
    try:
        google.check(request)
    except Unauthenticated as error:
        raise Unauthorized(str(error)) from error
    except CannotTell as error:
        raise ServiceUnavailable(str(error)) from error
