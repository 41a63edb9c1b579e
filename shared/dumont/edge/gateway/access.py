"""Who may use the gateway: an operator's API key, or a token of one, opens every machine, a gateway token its own."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from dumont.domain.errors import Unauthenticated
from dumont.domain.keys import ApiKey
from dumont.domain.records import Machine, Role
from dumont.edge import keys, wiring
from dumont.edge.gateway import tokens
from dumont.ports import Ports


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls, for the logs; by what id they are counted and written down: an API key's, or "gateway:MACHINE"; and
    which machine is open to them; None: all."""

    name: str
    id: str
    machine: str | None = None
    key: ApiKey | None = None


def refused(kind: type[Unauthenticated] = Unauthenticated) -> Unauthenticated:
    """The one refusal: it does not tell a wrong token from another machine's, nor whether that machine exists."""
    return kind(
        "this needs the machine's gateway token, or an operator's API key, and there is none that holds",
        hint="`dumont gateway token NAME` prints one; send it as `Authorization: Bearer dgw_…` or `X-Dumont-Token`",
    )


def caller_of(ports: Ports, secret: str | None) -> Caller:
    """Who brings this secret. Raises `Unauthenticated`."""
    if not secret:
        raise refused(keys.NoProof)
    if not secret.startswith(tokens.PREFIX):
        key = keys.authenticate(ports, secret)
        wiring.key_uses().note(ports, key)
        return Caller(name=key.name, id=key.id, key=key)
    token = tokens.read(ports.agent_secret(), secret)
    if token is None or not token.opens(ports.store.get(Machine, token.machine), ports.clock.now()):
        raise refused()
    return Caller(name=f"gateway token of {token.machine}", id=f"gateway:{token.machine}", machine=token.machine)


def authorise(caller: Caller, needed: Role) -> None:
    """Raise `Forbidden` for a key whose role does not reach; a gateway token has no role, but a machine."""
    if caller.key is not None:
        keys.authorise(caller.key, needed)


def check(caller: Caller, machine: str) -> None:
    """Raise `Unauthenticated` unless the machine is open to the caller."""
    if caller.machine is not None and caller.machine != machine:
        raise refused()


def is_open(caller: Caller, machines: Sequence[Machine]) -> list[Machine]:
    """Those machines that are open to the caller."""
    return [m for m in machines if caller.machine in (None, m.id)]
