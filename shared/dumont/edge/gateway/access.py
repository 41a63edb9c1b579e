"""Who may use the gateway: an operator's API key opens every machine, a gateway token its own."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from dumont.domain.errors import Unauthenticated
from dumont.domain.records import Machine, Role
from dumont.edge import keys
from dumont.edge.gateway import tokens
from dumont.ports import Ports


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls, for the logs, and which machine is open to them; None: all."""

    name: str
    machine: str | None = None


def refused() -> Unauthenticated:
    """The one refusal: it does not tell a wrong token from another machine's, nor whether that machine exists."""
    return Unauthenticated(
        "this needs the machine's gateway token, or an operator's API key, and there is none that holds",
        hint="`dumont gateway token NAME` prints one; send it as `Authorization: Bearer dgw_…` or `X-Dumont-Token`",
    )


def caller_of(ports: Ports, secret: str | None, *, needed: Role = Role.OPERATOR) -> Caller:
    """Who brings this secret. Raises `Unauthenticated`, or `Forbidden` for a key whose role does not reach."""
    if secret is None:
        raise refused()
    if not secret.startswith(tokens.PREFIX):
        key = keys.authenticate(ports.store, secret)
        keys.authorise(key, needed)
        return Caller(name=key.name)
    token = tokens.read(ports.agent_secret(), secret)
    if token is None or not token.opens(ports.store.get(Machine, token.machine), ports.clock.now()):
        raise refused()
    return Caller(name=f"gateway token of {token.machine}", machine=token.machine)


def check(caller: Caller, machine: str) -> None:
    """Raise `Unauthenticated` unless the machine is open to the caller."""
    if caller.machine is not None and caller.machine != machine:
        raise refused()


def is_open(caller: Caller, machines: Sequence[Machine]) -> list[Machine]:
    """Those machines that are open to the caller."""
    return [m for m in machines if caller.machine in (None, m.id)]
