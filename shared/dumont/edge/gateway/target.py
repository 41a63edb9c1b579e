"""What a request is for: a machine, a port of it, and the path there, byte for byte as the caller wrote it."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

import msgspec
from flask import Request

from dumont.domain.errors import InvalidInput, Unknown

FUNCTION = "gateway"
WAIT_SECONDS_MOST = 900.0
"""Below the function's own limit."""
_PORT = re.compile(r"^[1-9]\d{0,4}$")
_WAIT_PARAMETER = re.compile(r"(?:^|&)x-dumont-wait=([^&]*)", re.IGNORECASE)


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """`prefix` is where callers see the port ("/gateway/trainer/8000"), `path` and `query` what is asked of it."""

    machine: str
    port: int
    prefix: str
    path: str
    query: str
    slashed: bool = True
    """Whether the caller wrote anything after the port: relative links need at least a slash."""

    @property
    def request_target(self) -> str:
        """As it goes into the request line."""
        return self.path + (f"?{self.query}" if self.query else "")


def raw_target(request: Request) -> tuple[str, str]:
    """Path and query as they were sent. WSGI's own path is decoded: "%2F" would have become "/"."""
    raw = request.environ.get("RAW_URI") or request.environ.get("REQUEST_URI") or ""
    if not raw:
        raw = quote(
            request.environ.get("SCRIPT_NAME", "") + request.environ.get("PATH_INFO", ""), safe="/:@!$&'()*+,;=~"
        )
        raw += f"?{query}" if (query := request.environ.get("QUERY_STRING", "")) else ""
    if not raw.startswith("/"):
        parts = urlsplit(raw)
        return parts.path or "/", parts.query
    path, _, query = raw.partition("#")[0].partition("?")
    return path, query


def below(request: Request, function: str) -> tuple[str, str, str]:
    """Where the function lies for its callers, and the path below it and the query, as sent.

    Google's front door takes the function's name away before we see the path; the local cloud mounts it.
    """
    path, query = raw_target(request)
    mount = request.environ.get("SCRIPT_NAME", "")
    if mount and path.startswith(mount):
        return mount, path[len(mount) :] or "/", query
    hidden = f"/{function}" if request.host.endswith(".cloudfunctions.net") else ""
    return hidden, path, query


def target_of(request: Request) -> Target:
    """The target of a request to the gateway. Raises `Unknown` for a path that names no machine and port."""
    mount, path, query = below(request, FUNCTION)
    parts = path.split("/", 3)
    if len(parts) < 3 or not _PORT.fullmatch(parts[2]) or int(parts[2]) > 65535:
        raise Unknown("a path here is /gateway/MACHINE/PORT/…", hint="`dumont url MACHINE PORT` prints it")
    return Target(
        machine=parts[1],
        port=int(parts[2]),
        prefix=f"{mount}/{parts[1]}/{parts[2]}",
        path="/" + (parts[3] if len(parts) > 3 else ""),
        query=_WAIT_PARAMETER.sub("", query).lstrip("&"),
        slashed=len(parts) > 3,
    )


def wait_seconds(request: Request, default: float) -> float:
    """How long the caller wants to wait for a machine that does not serve. Raises `InvalidInput`."""
    _, query = raw_target(request)
    named = _WAIT_PARAMETER.search(query)
    text = request.headers.get("X-Dumont-Wait") or (named.group(1) if named else "")
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds <= WAIT_SECONDS_MOST:
        raise InvalidInput(f"is a number of seconds, 0 to {WAIT_SECONDS_MOST:g}", field="X-Dumont-Wait")
    return seconds
