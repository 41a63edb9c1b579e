"""Who may come in at a function's door, how often, and what is written down of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flask import Request, Response

from dumont.domain.errors import StoreError, Unauthenticated
from dumont.domain.keys import ApiKey
from dumont.domain.quotas import Quota
from dumont.domain.records import Role
from dumont.edge import keys, limits, wiring
from dumont.ports import Ports

log = logging.getLogger(__name__)

ANYBODY = ApiKey(id="", name="anybody", role=Role.VIEWER, secret_sha256="", created_at=0.0)
GOOGLE = ApiKey(id="", name="google", role=Role.OPERATOR, secret_sha256="", created_at=0.0)
_LOOKING = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Door:
    """Who may come in: each method with the role that it needs.

    With `open_to_the_world` no API key is asked for: the handler has a proof of its own, or nothing to hide. With
    `google_calls` the token of this deployment's caller is a proof too (Cloud Scheduler's): nothing is changed there
    but what is due anyhow. With `issues`, what is answered opens doors: it is counted and written down as a change is,
    whatever the role.
    """

    methods: Mapping[str, Role]
    open_to_the_world: bool = False
    google_calls: bool = False
    issues: bool = False

    def is_change(self, method: str) -> bool:
        """Whether a request is one for a change by somebody: those are counted, and written down."""
        beyond_looking = self.issues or self.methods.get(method, Role.VIEWER) is not Role.VIEWER
        return method not in _LOOKING and beyond_looking and not self.google_calls

    @property
    def changes(self) -> bool:
        """Whether any is: then the function's account may write, also what is counted and written down."""
        return any(self.is_change(method) for method in self.methods)


def caller(request: Request, ports: Ports, door: Door) -> ApiKey:
    """Who calls. Raises `Unauthenticated`, or `CannotTell`."""
    if door.open_to_the_world:
        return ANYBODY
    secret = presented(request)
    google = wiring.google_caller() if door.google_calls else None
    if google is not None and not keys.is_ours(secret or ""):
        google.check(request)
        return GOOGLE
    key = keys.authenticate(ports, secret)
    if door.changes:  # what only shows has an account that may only read
        wiring.key_uses().note(ports, key)
    return key


def authorise(request: Request, door: Door, key: ApiKey) -> None:
    """Raise `Forbidden` unless the key's role reaches as far as the method needs."""
    if not door.open_to_the_world:
        keys.authorise(key, door.methods[request.method])


def presented(request: Request) -> str | None:
    """The secret that a request brings with it."""
    # First: where Google's front door checks callers (Cloud Scheduler's), `Authorization` holds Google's own token.
    named = request.headers.get("X-Api-Key")
    if named is not None:
        return named.strip()
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else None


# --- How often ----------------------------------------------------------------------------------------------------


def count_change(request: Request, ports: Ports, door: Door, key: ApiKey) -> dict[str, str]:
    """Count a change that a key asks for; the header fields that say how many are left. Raises `TooManyRequests`."""
    units = wiring.settings().changes_per_minute
    if not units or not key.id or not door.is_change(request.method):
        return {}
    verdict = wiring.limiter().spend(ports.store, Quota("changes", units), key.id)
    if not verdict.allowed:
        raise limits.TooManyRequests(verdict, f"changes with the key {key.name!r}")
    return limits.fields(verdict)


def count_wrong_key(error: Exception, request: Request, *, may_write: bool) -> Exception:
    """What is answered to an error. Of wrong keys, only so many from one address are told that they are wrong; who has
    a right one is never refused for those of his neighbours. Who brings none has tried none, and is not counted.

    `may_write`: whether the function's account may. What only shows counts in its memory.
    """
    if not isinstance(error, Unauthenticated) or isinstance(error, keys.NoProof):
        return error
    chosen, known = wiring.settings(), wiring.ports() if may_write else None
    address = limits.address_of(request, chosen.proxies)
    wiring.refusals().note(known, address)
    if not chosen.wrong_keys_per_minute:
        return error
    quota = Quota("wrong-keys", chosen.wrong_keys_per_minute)
    counter = wiring.limiter()
    try:
        verdict = counter.spend(known.store, quota, address) if known else counter.spend_here(quota, address)
    except StoreError as unanswered:
        log.warning("a wrong key was not counted", extra={"error": str(unanswered)})
        return error
    return error if verdict.allowed else limits.TooManyRequests(verdict, "wrong keys from your address")


# --- What is written down -----------------------------------------------------------------------------------------


def note_change(
    request: Request,
    door: Door,
    key: ApiKey,
    response: Response,
    *,
    function: str,
    code: str,
    sent: Sequence[bytes],
    request_id: str,
) -> None:
    """Write a change that a key asked for into the audit log, with how it was answered."""
    # Too many are not written down: to fill the log would be a flood's work.
    if not key.id or not door.is_change(request.method) or response.status_code == limits.TooManyRequests.status:
        return
    wiring.auditor().note(
        wiring.ports(),
        who=key.id,
        name=key.name,
        what=f"{request.method} /{function}{request.path.rstrip('/')[:200]}",
        sent=sent[0] if sent else b"",
        address=limits.address_of(request, wiring.settings().proxies),
        status=response.status_code,
        code=code,
        made=response.headers.get("Location", "").rpartition("/")[2],
        request_id=request_id,
    )
