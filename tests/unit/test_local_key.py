"""The local cloud's own key: one for all runs of its data, as long as nobody ends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dumont.adapters.clock import SystemIds
from dumont.adapters.memory_store import MemoryStore
from dumont.domain.errors import Unauthenticated
from dumont.domain.keys import ApiKey
from dumont.domain.records import Role
from dumont.edge import keys
from dumont.local.cloud import own_key
from dumont.operations import keys as do
from dumont.ports import Ports, Query
from tests.unit.rest_support import ManualClock, make_ports


@pytest.fixture
def ports() -> Ports:
    return make_ports(MemoryStore(), ManualClock(1_800_000_000.0))


def test_another_start_has_the_same_key_and_leaves_no_other_behind(ports: Ports, tmp_path: Path) -> None:
    file = tmp_path / "api-key"
    first = own_key(ports, file)
    assert own_key(ports, file) == first
    assert len(ports.store.find(ApiKey, Query())) == 1
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("how", ["rotated", "revoked", "forgotten"])
def test_a_key_that_was_ended_stays_so_and_another_takes_its_place(ports: Ports, tmp_path: Path, how: str) -> None:
    file = tmp_path / "api-key"
    seen_by_others = own_key(ports, file)
    own = keys.authenticate(ports, seen_by_others)
    if how == "rotated":
        do.rotate(ports, own.id, grace_seconds=3600.0, by=own)
    elif how == "revoked":
        made = keys.make(ports.store, SystemIds(), ports.clock, name="ada", role=Role.ADMIN)
        do.revoke(ports, own.id, by=keys.authenticate(ports, made))
    else:
        file.unlink()
    again = keys.authenticate(ports, own_key(ports, file))
    assert (again.id, again.role, again.revoked_at) == (own.id, Role.ADMIN, None)
    assert again.generation > own.generation, "or tokens of the key before would go on"
    with pytest.raises(Unauthenticated):
        keys.authenticate(ports, seen_by_others)
