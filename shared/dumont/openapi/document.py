"""The OpenAPI 3.1 document: `docs/openapi.json`, and what `dumont openapi` prints. A test holds the two together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from dumont.build.declarations import FunctionDeclaration
from dumont.domain.names import MACHINE_NAME
from dumont.edge.http import BODY_BYTES_MAX
from dumont.edge.problems import MEDIA_TYPE, TITLES, ProblemDocument
from dumont.openapi import security
from dumont.openapi.doors import HttpFunction, http_functions
from dumont.openapi.registry import FUNCTIONS
from dumont.openapi.routes import Raw, Route

_REF = "#/components/schemas/{name}"
_ROUTE_PARAMETERS = {
    "name": ("A machine's name.", {"type": "string", "pattern": MACHINE_NAME, "examples": ["trainer"]}),
    "machine": ("A machine's name.", {"type": "string", "pattern": MACHINE_NAME, "examples": ["trainer"]}),
    "id": ("An id, as answers tell it.", {"type": "string", "minLength": 1, "maxLength": 64}),
    "delivery": (
        "A delivery's id, which is its `webhook-id` too.",
        {"type": "string", "minLength": 1, "maxLength": 64},
    ),
    "port": ("A port of the machine.", {"type": "integer", "minimum": 1, "maximum": 65535}),
    "path": ("The path that is asked for there; it may have slashes.", {"type": "string"}),
    "model": ("A model's name; it may have slashes.", {"type": "string", "minLength": 1}),
}


class NotDescribed(LookupError):
    """A function that has no routes in the registry, or routes of a function that is not there."""


def document(declarations: Sequence[FunctionDeclaration], routes: Mapping[str, Sequence[Route]] = FUNCTIONS) -> Any:
    """The document as plain data. Raises `NotDescribed`."""
    found = http_functions(declarations)
    known = {function.name for function in found}
    if missing := sorted(known - routes.keys()):
        raise NotDescribed(f"no routes are declared of {', '.join(missing)}: see shared/dumont/openapi/registry.py")
    if gone := sorted(routes.keys() - known):
        raise NotDescribed(f"routes are declared of {', '.join(gone)}, and functions/ has no such function")
    described = [(function, route) for function in found for route in routes[function.name]]
    schemas = _Schemas(route for _, route in described)
    paths: dict[str, dict[str, Any]] = {}
    for function, route in described:
        place = paths.setdefault(f"/{function.name}{route.path}", {})
        place[route.method.lower()] = _operation(function, route, schemas)
    made = {
        "openapi": "3.1.0",
        "info": {
            "title": "Dumont",
            "version": version("dumont"),
            "description": "Makes a cheap rented GPU behave like one that can be relied on. Each first part of a path "
            "is a function of its own. Times are seconds since the epoch, UTC; money is USD; fields that are unknown "
            "or do not apply are left out. What takes longer than a request is accepted with 202 and an operation, "
            "at `Location`: ask there until it has ended. Every answer has an `X-Request-Id`. Changes are counted "
            "for each key, and answered with the `RateLimit` header fields.",
        },
        "servers": [{"url": "http://localhost:8080", "description": "The local cloud (`dumont local up`)"}],
        "tags": [{"name": function.name, "description": function.declaration.description} for function in found],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": security.SCHEMES,
            "headers": security.HEADERS,
            "responses": {f"Problem{status}": _problem(status) for status in sorted(_statuses(described))},
        },
    }
    return msgspec.json.decode(msgspec.json.encode(made))  # plain data: a default that is a tuple is a list


def render(declarations: Sequence[FunctionDeclaration]) -> str:
    """The document as JSON text."""
    return msgspec.json.format(msgspec.json.encode(document(declarations)), indent=2).decode() + "\n"


class _Schemas:
    """The schemas of all that is sent and answered."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._types: list[Any] = [ProblemDocument]
        for route in routes:
            for content in (route.body, route.fault, *route.answers.values()):
                self._types += [kind for kind in _each(content) if not isinstance(kind, Raw)]
        self._types = list(dict.fromkeys(self._types))
        schemas, components = msgspec.json.schema_components(self._types, ref_template=_REF)
        self._of = dict(zip(self._types, schemas, strict=True))
        self.components = dict(sorted(components.items()))

    def content(self, content: Any) -> dict[str, Any]:
        """By media type, what a body may be."""
        found: dict[str, list[Any]] = {}
        for kind in _each(content):
            media_type = kind.media_type if isinstance(kind, Raw) else "application/json"
            found.setdefault(media_type, []).append({} if isinstance(kind, Raw) else self._of[kind])
        return {name: {"schema": kinds[0] if len(kinds) == 1 else {"anyOf": kinds}} for name, kinds in found.items()}


def _each(content: Any) -> list[Any]:
    return [] if content is None else list(content) if isinstance(content, tuple) else [content]


# --- Operations ---------------------------------------------------------------------------------------------------


def _operation(function: HttpFunction, route: Route, schemas: _Schemas) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": _operation_id(function.name, route),
        "tags": [function.name],
        "summary": route.summary,
        "security": security.required(route.proof),
    }
    role = function.door.methods[route.method].value if function.door and route.proof == "key" else ""
    words = [route.says, f"Needs a key with the role {role}." if role else ""]
    if said := " ".join(word for word in words if word):
        made["description"] = said
    if role:
        made["x-dumont-role"] = role
    if parameters := [*map(_in_path, route.parameters), *_in_query(route.arguments)]:
        made["parameters"] = parameters
    if route.body is not None:
        made["requestBody"] = {
            "required": not route.body_may_be_absent,
            "description": f"At most {BODY_BYTES_MAX} bytes." if function.door else "Passed on as it is.",
            "content": schemas.content(route.body),
        }
    made["responses"] = _responses(function, route, schemas)
    return made


def _operation_id(function: str, route: Route) -> str:
    """Such as `post_snapshot_id_verify`."""
    parts = [route.method.lower(), function, *route.path.strip("/").split("/")]
    return "_".join(part.strip("{}").replace("-", "_") for part in parts if part)


def _in_path(name: str) -> dict[str, Any]:
    what, schema = _ROUTE_PARAMETERS[name]
    return {"name": name, "in": "path", "required": True, "description": what, "schema": schema}


def _in_query(arguments: Any) -> list[dict[str, Any]]:
    """A struct's fields as arguments; their schemas stand in full, being those of numbers and short texts."""
    if arguments is None:
        return []
    (_, components) = msgspec.json.schema_components([arguments], ref_template=_REF)
    properties = components[arguments.__name__]["properties"]
    required = components[arguments.__name__].get("required", [])
    made = []
    for name, schema in properties.items():
        may_be = [kind for kind in schema.get("anyOf", [schema]) if kind != {"type": "null"}]
        shown = may_be[0] | {k: v for k, v in schema.items() if k not in ("anyOf",) and v is not None}
        made.append({"name": name, "in": "query", "required": name in required, "schema": shown})
    return made


# --- Answers ------------------------------------------------------------------------------------------------------


def _responses(function: HttpFunction, route: Route, schemas: _Schemas) -> dict[str, Any]:
    made: dict[str, Any] = {}
    change = function.door is not None and function.door.is_change(route.method)
    for status, content in route.answers.items():
        headers = {"X-Request-Id": _header("X-Request-Id")}
        if route.located and status in (201, 202):
            headers["Location"] = _header("Location")
        if change:
            headers |= {name: _header(name) for name in ("RateLimit", "RateLimit-Policy")}
        described = "Accepted." if status == 202 else "As asked."
        made[str(status)] = {"description": described, "headers": headers, "content": schemas.content(content)}
    if not route.answers:
        made["default"] = {"description": "What the machine answers.", "content": {"*/*": {}}}
    for status in refusals(function, route):
        if route.fault is not None:
            made[str(status)] = {
                "description": TITLES.get(status, "Error"),
                "content": schemas.content(route.fault),
            }
        else:
            made[str(status)] = {"$ref": f"#/components/responses/Problem{status}"}
    return dict(sorted(made.items()))


def refusals(function: HttpFunction, route: Route) -> list[int]:
    """The statuses of all refusals that a route may answer with."""
    change = function.door is not None and function.door.is_change(route.method)
    found = {400, 404, 405, 413, 429, 500, 502, 503, *route.refusals}
    if route.proof != "none":
        found.add(401)
    if route.proof in ("key", "gateway", "google", "slack"):
        found.add(403)
    if change:
        found.add(409)
    if function.door is None:
        found |= {501, 504}
    return sorted(found)


def _statuses(described: Iterable[tuple[HttpFunction, Route]]) -> set[int]:
    return {status for function, route in described if route.fault is None for status in refusals(function, route)}


def _problem(status: int) -> dict[str, Any]:
    headers = {"X-Request-Id": _header("X-Request-Id")}
    if status == 401:
        headers["WWW-Authenticate"] = _header("WWW-Authenticate")
    if status == 405:
        headers["Allow"] = _header("Allow")
    if status == 429:
        headers |= {name: _header(name) for name in ("RateLimit", "RateLimit-Policy", "Retry-After")}
    return {
        "description": TITLES.get(status, "Error"),
        "headers": headers,
        "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(name=ProblemDocument.__name__)}}},
    }


def _header(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/headers/{name}"}
