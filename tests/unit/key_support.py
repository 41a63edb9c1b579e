"""One deployment's keys and tokens, for their tests."""

from __future__ import annotations

from typing import Any

import pytest

from dumont.adapters.clock import SystemIds
from dumont.adapters.memory_store import MemoryStore
from dumont.domain.errors import Unauthenticated
from dumont.domain.keys import (
    ApiKey,
    text_of,
)
from dumont.domain.records import Role
from dumont.edge import keys
from dumont.operations import keys as do
from dumont.ports import Ports
from tests.unit.rest_support import ManualClock, make_ports

NOW = 1_800_000_000.0
SECRET = b"s" * 32
BOOTSTRAP = text_of("bootstrap0", "ab" * 32)


class World:
    """A store, a clock, and the ports of one deployment."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW)
        self.store = MemoryStore()
        self.ports = with_changes(make_ports(self.store, self.clock), token_secret=lambda: SECRET, ids=SystemIds())
        self.admin = self.key_of(keys.make(self.store, SystemIds(), self.clock, name="admin", role=Role.ADMIN))

    def key_of(self, presented: str) -> ApiKey:
        return keys.authenticate(self.ports, presented)

    def made(self, role: Role = Role.OPERATOR, valid_seconds: float | None = None) -> tuple[ApiKey, str]:
        return do.create(self.ports, name="ci", role=role, owner="ada", valid_seconds=valid_seconds, by=self.admin)

    def opens(self, presented: str) -> bool:
        try:
            self.key_of(presented)
        except Unauthenticated as error:
            if str(error) != "the API key is wrong or was revoked":
                raise  # one refusal for all, which tells nothing
            return False
        return True


def with_changes(ports: Ports, **changes: Any) -> Ports:
    return Ports(**{**vars(ports), **changes})


@pytest.fixture
def world() -> World:
    return World()
