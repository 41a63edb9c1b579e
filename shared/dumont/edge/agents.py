"""The edge for agents: who calls is what their token says, and nothing else."""

from __future__ import annotations

from dumont.agent import boot, tokens
from dumont.agent.tokens import AgentIdentity
from dumont.domain.errors import Unauthenticated
from dumont.edge.doors import presented
from dumont.edge.http import Answer, Call


def identity_of(call: Call) -> AgentIdentity:
    """The instance whose token a request bears. Raises `Unauthenticated`."""
    identity = tokens.read(call.ports.agent_secret(), presented(call.request) or "")
    if identity is None:
        raise Unauthenticated("this needs an agent's token, and there is none that holds")
    return identity


def program() -> Answer:
    """The agent's file, with its SHA-256 as ETag: hosts check it against the one that they were told."""
    return Answer(boot.agent_file(), headers={"ETag": f'"{boot.agent_sha256()}"'})
