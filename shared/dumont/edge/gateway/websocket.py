"""WebSocket, which does not pass here: said in words, before anything else is looked at."""

from __future__ import annotations

import secrets

from flask import Response, current_app, has_app_context, request
from werkzeug.routing import WebsocketMismatch

from dumont.edge.gateway import answers
from dumont.edge.gateway.forward import GatewayFault


def refused() -> GatewayFault:
    """The functions' server speaks WSGI, which has no way to hand a connection over."""
    return GatewayFault(
        "WebSocket does not pass here: functions are served by WSGI, which cannot upgrade a connection",
        status=501,
        code="no_websocket",
        hint="go by SSH: dumont ssh-config, then ssh -L PORT:127.0.0.1:PORT MACHINE",
    )


def refuse_in_words() -> None:
    """Called as a function's file is loaded. Its routes are functions-framework's, which are for HTTP alone: werkzeug
    refuses an upgrade before our function is asked, with a bare 400.
    """
    if has_app_context():
        current_app.register_error_handler(WebsocketMismatch, _answer)


def _answer(_error: Exception) -> Response:
    told = answers.told(refused(), f"req-{secrets.token_hex(10)}")
    return answers.allow_origin(request, answers.problem(told))
