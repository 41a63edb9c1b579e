"""How callers prove who they are, and the header fields of answers."""

from __future__ import annotations

from typing import Any

from dumont.openapi.routes import Proof

SCHEMES: dict[str, Any] = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "One of Dumont's API keys, `dmt_…`. Each operation says which role it needs: viewers look, "
        "operators change machines, admins also manage keys.",
    },
    "key_header": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Api-Key",
        "description": "The same key, where `Authorization` is somebody else's.",
    },
    "agent": {"type": "http", "scheme": "bearer", "description": "The token of an instance's agent."},
    "gateway": {
        "type": "http",
        "scheme": "bearer",
        "description": "A machine's gateway token, `dgw_…`, or an operator's API key.",
    },
    "gateway_header": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Dumont-Token",
        "description": "The same, where `Authorization` is the machine's.",
    },
    "google": {
        "type": "http",
        "scheme": "bearer",
        "description": "The identity token of this deployment's caller (Cloud Scheduler), or an operator's API key.",
    },
    "market": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Vast-Signature-256",
        "description": "Vast.ai's signature over `X-Vast-Timestamp` and the body, at most five minutes old.",
    },
    "slack": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Slack-Signature",
        "description": "Slack's signature over `X-Slack-Request-Timestamp` and the body.",
    },
}

_OF: dict[Proof, tuple[str, ...]] = {
    "key": ("key", "key_header"),
    "agent": ("agent",),
    "gateway": ("gateway", "gateway_header"),
    "google": ("google", "key_header"),
    "market": ("market",),
    "slack": ("slack",),
    "none": (),
}

HEADERS: dict[str, Any] = {
    "X-Request-Id": {
        "description": "The request's id, as it is in the log; one that was sent is kept.",
        "schema": {"type": "string"},
    },
    "Location": {"description": "What the request became.", "schema": {"type": "string"}},
    "RateLimit": {
        "description": "What is left of a quota, and for how long (draft-ietf-httpapi-ratelimit-headers-10).",
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {"description": "The quota: its name, units and seconds.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string", "pattern": "^[0-9]+$"}},
    "WWW-Authenticate": {"description": "How to prove who calls.", "schema": {"type": "string"}},
    "Allow": {"description": "The methods that are answered.", "schema": {"type": "string"}},
}


def required(proof: Proof) -> list[dict[str, list[str]]]:
    """What any one of is asked for; nothing for a route that is open to the world."""
    return [{scheme: []} for scheme in _OF[proof]]
