"""How often somebody may ask the gateway, and what is written down of it: what changes something, and no more.

What a request costs the store besides the reads that say who asks, and for whom: nothing, as long as units that were
taken ahead last; one read and one write then (`limits.AHEAD_PART`). The first request of a minute takes some. A request
that wakes a machine, and one for a gateway token, cost the audit log one write more.
"""

from __future__ import annotations

from flask import Request, Response

from dumont.domain.quotas import Quota
from dumont.domain.records import Operation, Role
from dumont.edge import limits, logs, wiring
from dumont.edge.gateway import access
from dumont.edge.gateway.access import Caller
from dumont.operations.gateway import Woken
from dumont.ports import Ports


def admit(ports: Ports, secret: str | None, needed: Role) -> tuple[Caller, dict[str, str]]:
    """Who brings this secret, and the header fields that say how often they may yet. Raises `Unauthenticated`,
    `TooManyRequests`, `Forbidden`, `StoreError`."""
    caller = access.caller_of(ports, secret)
    told = count_request(ports, caller)  # before the role is looked at: who may not is not to ask for ever
    access.authorise(caller, needed)
    return caller, told


def count_request(ports: Ports, caller: Caller) -> dict[str, str]:
    """Count a request; the header fields that say how many are left. Raises `TooManyRequests`, `StoreError`."""
    units = wiring.settings().requests_per_minute
    if not units:
        return {}
    verdict = wiring.limiter().spend_often(ports.store, Quota("requests", units), caller.id)
    if not verdict.allowed:
        raise limits.TooManyRequests(verdict, f"requests by {caller.name}")
    return limits.fields(verdict)


def count_change(ports: Ports, caller: Caller) -> None:
    """Count a change, as at every other door. Raises `TooManyRequests`, `StoreError`."""
    units = wiring.settings().changes_per_minute
    if not units:
        return
    verdict = wiring.limiter().spend(ports.store, Quota("changes", units), caller.id)
    if not verdict.allowed:
        raise limits.TooManyRequests(verdict, f"changes with the key {caller.name!r}")


def note(
    request: Request,
    ports: Ports,
    caller: Caller,
    what: str,
    *,
    status: int,
    about: str = "",
    code: str = "",
    made: str = "",
) -> None:
    """Write a change into the audit log."""
    wiring.auditor().note(
        ports,
        who=caller.id,
        name=caller.name,
        what=what[:250],
        about=about,
        address=limits.address_of(request, wiring.settings().proxies),
        status=status,
        code=code,
        made=made,
        request_id=logs.request_id.get(),
    )


def wakes(request: Request, ports: Ports, caller: Caller, where: str) -> Woken:
    """What is to be called once a request has begun a wake. Of its path only what is ours is written down: what comes
    after a machine's port is that machine's."""

    def woken(op: Operation) -> None:
        note(request, ports, caller, f"{request.method} {where}: wake", about=op.machine, status=202, made=op.id)

    return woken


def with_fields(response: Response, told: dict[str, str]) -> Response:
    """The response, saying how many are left; where a machine's program says so of its own, that stands."""
    for name, value in told.items():
        response.headers.setdefault(name, value)
    return response
