"""The function host: every function of `functions/`, served by functions-framework on one port.

HTTP functions lie at /<name>, as Google serves them; workers at /_events/<name>, where the bus pushes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import functions_framework
from waitress import wasyncore
from waitress.server import create_server
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from dumont.build.declarations import FunctionDeclaration

EVENTS = "/_events"
THREADS = 80
"""Above what the dispatcher, the scheduler, a dashboard and requests that wait at the gateway hold at once; waitress
queues what is more."""

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class FunctionHost:
    """Serves declared functions on loopback; `extra` mounts more, such as the dispatcher's door."""

    def __init__(self, declarations: list[FunctionDeclaration], port: int, extra: Mapping[str, Wsgi]) -> None:
        mounts: dict[str, Wsgi] = dict(extra)
        self.topics: dict[str, str] = {}
        """Topic → path of the worker that listens to it."""
        for declaration in declarations:
            for entry in declaration.entries:
                app: Wsgi = functions_framework.create_app(  # type: ignore[no-untyped-call]
                    entry.target, str(declaration.folder / "main.py"), entry.signature
                )
                path = f"/{entry.name}" if entry.topic is None else f"{EVENTS}/{entry.name}"
                mounts[path] = _rooted(app)
                if entry.topic is not None:
                    self.topics[entry.topic] = path
        http = sorted(path for path in mounts if not path.startswith("/_"))
        self._map: dict[int, Any] = {}
        self._server = create_server(
            DispatcherMiddleware(_index(http), mounts),
            map=self._map,
            host="127.0.0.1",
            port=port,
            threads=THREADS,
            backlog=1024,
            connection_limit=1000,
            ident=None,
            # Below it is the sweep's minute: a longer answer is nobody's.
            channel_timeout=120,
        )

    @property
    def port(self) -> int:
        """The port, the picked one if none was asked for."""
        return int(self._server.effective_port)

    def serve(self) -> None:
        """Serve until `close` is called from another thread."""
        self._server.run()

    def close(self) -> None:
        """Stop listening, and drop what is under way: the store knows what was done."""

        self._server.task_dispatcher.shutdown(cancel_pending=True, timeout=0.2)
        wasyncore.close_all(self._map)


def _rooted(app: Wsgi) -> Wsgi:
    """Serve /search as /search/: Google's front door hands a function "/" where a mount hands it nothing, and Flask
    answers nothing with a redirect."""

    def rooted(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ["PATH_INFO"] = environ.get("PATH_INFO") or "/"
        return app(environ, start_response)

    return rooted


def _index(paths: list[str]) -> Wsgi:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO", "") in ("", "/", "/healthz"):
            status, body = "200 OK", {"service": "dumont", "functions": paths}
            media_type = "application/json"
        else:
            status, media_type = "404 Not Found", "application/problem+json"
            body = {
                "type": "about:blank#not_found",
                "title": "Not found",
                "status": 404,  # type: ignore[dict-item]
                "code": "not_found",
                "detail": "no function is served here",
                "hint": f"the functions are {', '.join(paths)}",
            }
        data = json.dumps(body).encode()
        start_response(status, [("Content-Type", media_type), ("Content-Length", str(len(data)))])
        return [data]

    return app


def functions_folder() -> Path:
    """The checkout's `functions/`; raises `FileNotFoundError` for an installation without one."""
    folder = Path(__file__).resolve().parents[3] / "functions"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not there: the local cloud runs from a checkout of Dumont")
    return folder


# It warns of what is so at each start and end: that requests wait for threads, and that some are under way at Ctrl-C.
logging.getLogger("waitress").setLevel(logging.ERROR)
