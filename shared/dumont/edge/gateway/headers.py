"""Which headers pass the gateway, either way. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from dumont.edge import keys
from dumont.edge.gateway import tokens

Headers = list[tuple[str, str]]

HOP_BY_HOP = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"),
        *("te", "trailer", "trailers", "transfer-encoding", "upgrade"),
    }
)
"""They are about one connection, and not about the message (RFC 9110, 7.6.1)."""
WAIT = "x-dumont-wait"
TOKEN = "x-dumont-token"  # noqa: S105 - a header's name
_OURS = frozenset({WAIT, TOKEN, "x-serverless-authorization", "forwarded", "expect", "host", "content-length"})
_FORWARDED = frozenset({"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-prefix"})


def credential_in(name: str, value: str) -> str | None:
    """The secret that a header holds, if it is one that a caller proves themselves to us with."""
    value = value.strip()
    match name.lower():
        case "x-dumont-token":
            return value
        case "x-api-key":
            return value if _is_ours(value) else None
        case "authorization":
            scheme, _, rest = value.partition(" ")
            secret = rest.strip()
            if scheme.lower() == "basic":
                secret = _password(secret)
            elif scheme.lower() != "bearer":
                return None
            return secret if _is_ours(secret) else None
    return None


def _is_ours(secret: str) -> bool:
    """A machine's own program may take keys and JWTs of its own: those pass, and ours do not."""
    return secret.startswith(tokens.PREFIX) or keys.is_ours(secret)


def _password(basic: str) -> str:
    try:
        return base64.b64decode(basic, validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


def credential(headers: Iterable[tuple[str, str]]) -> str | None:
    """The first secret of ours that a request brings. `X-Dumont-Token` comes before the rest, so that a caller may
    keep `Authorization` for the machine's own program."""
    found = [(name.lower(), secret) for name, value in headers if (secret := credential_in(name, value))]
    for wanted in (TOKEN, "x-api-key", "authorization"):
        for name, secret in found:
            if name == wanted:
                return secret
    return None


def _named_by_connection(headers: Sequence[tuple[str, str]]) -> set[str]:
    listed = ",".join(value for name, value in headers if name.lower() == "connection")
    return {word.strip().lower() for word in listed.split(",") if word.strip()}


def towards_machine(
    headers: Sequence[tuple[str, str]],
    *,
    port: int,
    client: str,
    scheme: str,
    host: str,
    prefix: str,
    length: int | None,
    has_body: bool,
    keep_authorization: bool = True,
) -> Headers:
    """What a machine's program is sent. No secret of ours is among it, wherever it was written.

    `length` None with `has_body`: the body goes in chunks.
    """
    dropped = HOP_BY_HOP | _OURS | _FORWARDED | _named_by_connection(headers)
    if not keep_authorization:
        dropped |= {"authorization", "x-api-key"}
    passed = [
        (name, value) for name, value in headers if name.lower() not in dropped and credential_in(name, value) is None
    ]
    before = [value for name, value in headers if name.lower() == "x-forwarded-for"]
    passed += [
        ("Host", f"127.0.0.1:{port}"),
        ("X-Forwarded-For", ", ".join([*before, client])),
        ("X-Forwarded-Proto", scheme),
        ("X-Forwarded-Host", host),
        ("X-Forwarded-Prefix", prefix),
    ]
    if has_body:
        passed.append(("Transfer-Encoding", "chunked") if length is None else ("Content-Length", str(length)))
    return passed


def towards_caller(headers: Sequence[tuple[str, str]], *, port: int, prefix: str) -> Headers:
    """What the caller is answered; redirects and cookies stay below the machine's own path."""
    dropped = HOP_BY_HOP | _named_by_connection(headers)
    passed: Headers = []
    for name, value in headers:
        match name.lower():
            case lower if lower in dropped:
                continue
            case "location" | "content-location":
                passed.append((name, _moved(value, port, prefix)))
            case "set-cookie":
                passed.append((name, _cookie(value, prefix)))
            case _:
                passed.append((name, value))
    return passed


def _moved(location: str, port: int, prefix: str) -> str:
    """A redirect that is meant for the machine's own port leads through the gateway; any other is left alone."""
    try:
        parts = urlsplit(location)
        its_own = parts.hostname in ("127.0.0.1", "localhost") and parts.port == port
    except ValueError:
        return location
    if its_own:
        location = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        location += f"#{parts.fragment}" if parts.fragment else ""
    elif parts.scheme or parts.netloc:
        return location
    if location.startswith("/") and not location.startswith(f"{prefix}/"):
        return prefix + location
    return location


def _cookie(cookie: str, prefix: str) -> str:
    """All machines share our host's name: a cookie belongs below its machine's path, and to no domain."""
    first, *attributes = [part.strip() for part in cookie.split(";")]
    kept, path = [], "/"
    for attribute in attributes:
        name, _, value = attribute.partition("=")
        if name.lower() == "path":
            path = value if value.startswith("/") else "/"
        elif name.lower() != "domain":
            kept.append(attribute)
    inside = path if path.startswith(f"{prefix}/") else f"{prefix}{path}"
    return "; ".join([first, *kept, f"Path={inside}"])
