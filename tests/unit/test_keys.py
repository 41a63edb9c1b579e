"""API keys: what opens, until when, and that one can always get in."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dumont.adapters.clock import SystemIds
from dumont.adapters.memory_store import MemoryStore
from dumont.domain.errors import Conflict, InvalidInput, Unauthenticated, Unknown
from dumont.domain.keys import (
    GRACE_SECONDS,
    USE_NOTED_SECONDS,
    ApiKey,
    hash_of,
    text_of,
)
from dumont.domain.records import Role
from dumont.edge import keys, tokens
from dumont.edge.uses import KeyUses
from dumont.operations import keys as do
from dumont.ports import Query
from dumont.settings import read
from tests.unit import key_support
from tests.unit.key_support import BOOTSTRAP, NOW, World, with_changes

world = key_support.world


# --- Keys ---------------------------------------------------------------------------------------------------------


def test_a_key_opens_as_what_it_was_made_and_only_its_hash_is_kept(world: World) -> None:
    key, text = world.made(Role.VIEWER)
    seen = world.key_of(text)
    assert (seen.id, seen.role, seen.owner, seen.created_by) == (key.id, Role.VIEWER, "ada", world.admin.id)
    kept = str(world.store.find(ApiKey, Query()))
    assert text.split("_")[2] not in kept
    assert hash_of(text.split("_")[2]) in kept


@pytest.mark.parametrize("change", [lambda t: t[:-1] + ("0" if t[-1] != "0" else "1"), str.upper, lambda t: t + "0"])
def test_a_key_that_was_changed_opens_nothing(world: World, change: Callable[[str], str]) -> None:
    assert not world.opens(change(world.made()[1]))


def test_a_key_ends_when_it_was_said_to(world: World) -> None:
    _, text = world.made(valid_seconds=3600.0)
    world.clock.moment += 3599.0
    assert world.opens(text)
    world.clock.moment += 1.0
    assert not world.opens(text)


def test_after_a_rotation_both_secrets_open_until_the_grace_is_over(world: World) -> None:
    key, old = world.made()
    _, new = do.rotate(world.ports, key.id, grace_seconds=GRACE_SECONDS, by=world.admin)
    assert old != new
    assert world.opens(old)
    assert world.opens(new)
    world.clock.moment += GRACE_SECONDS
    assert not world.opens(old)
    assert world.opens(new)


def test_a_rotation_at_once_ends_the_secret_before(world: World) -> None:
    key, old = world.made()
    rotated, new = do.rotate(world.ports, key.id, grace_seconds=0.0, by=world.admin)
    assert (world.opens(old), world.opens(new)) == (False, True)
    assert rotated.previous_sha256 == "", "nothing is kept of what opens nothing"


def test_of_two_rotations_the_first_secret_has_ended_with_the_second(world: World) -> None:
    key, first = world.made()
    made = tokens.make(world.ports, world.key_of(first), role=Role.OPERATOR, seconds=900.0).token
    _, second = do.rotate(world.ports, key.id, grace_seconds=GRACE_SECONDS, by=world.admin)
    assert world.opens(made)
    _, third = do.rotate(world.ports, key.id, grace_seconds=GRACE_SECONDS, by=world.admin)
    assert [world.opens(text) for text in (first, second, third)] == [False, True, True]
    assert not world.opens(made), "nor is what it made good any more"


def test_what_is_revoked_is_refused_by_the_very_next_request(world: World) -> None:
    """The bound is none: no process keeps a key, or a token's, in its memory."""
    key, text = world.made()
    token = tokens.make(world.ports, world.key_of(text), role=Role.OPERATOR, seconds=900.0).token
    other_process = with_changes(world.ports)
    assert keys.authenticate(other_process, text).id == keys.authenticate(other_process, token).id == key.id
    do.revoke(world.ports, key.id, by=world.admin)
    for presented in (text, token):
        with pytest.raises(Unauthenticated):
            keys.authenticate(other_process, presented)


def test_revoking_ends_the_secret_before_a_rotation_too_and_can_be_asked_twice(world: World) -> None:
    key, old = world.made()
    do.rotate(world.ports, key.id, grace_seconds=GRACE_SECONDS, by=world.admin)
    first = do.revoke(world.ports, key.id, by=world.admin)
    world.clock.moment += 1
    assert do.revoke(world.ports, key.id, by=world.admin) == first
    assert not world.opens(old)
    with pytest.raises(Conflict, match="has ended"):
        do.rotate(world.ports, key.id, grace_seconds=0.0, by=world.admin)


def test_one_key_made_anew_ends_what_was_there_before_with_its_tokens(world: World) -> None:
    def made() -> str:
        return keys.make(world.store, SystemIds(), world.clock, name="local", role=Role.ADMIN, key_id="localcloud")

    first = made()
    token = tokens.make(world.ports, world.key_of(first), role=Role.ADMIN, seconds=900.0).token
    second = made()
    assert [world.opens(text) for text in (first, token, second)] == [False, False, True]


def test_there_is_always_an_admin_left(world: World) -> None:
    with pytest.raises(Conflict, match="does not revoke itself"):
        do.revoke(world.ports, world.admin.id, by=world.admin)
    other = world.key_of(world.made(Role.ADMIN)[1])
    do.revoke(world.ports, other.id, by=world.admin)
    with pytest.raises(Unauthenticated, match="revoked just now"):
        do.revoke(world.ports, world.admin.id, by=other)
    assert world.store.get(ApiKey, world.admin.id) == world.admin


def test_the_settings_key_opens_as_an_admin_and_no_other_key_can_close_it(world: World) -> None:
    _, key_id, secret = BOOTSTRAP.split("_")
    chosen = read({"DUMONT_STORE": "firestore", "DUMONT_BOOTSTRAP_KEY": f"{key_id}:{hash_of(secret)}"})
    world.ports = with_changes(world.ports, bootstrap_key=chosen.bootstrap_key)
    assert world.key_of(BOOTSTRAP).role is Role.ADMIN
    assert do.find(world.ports, key_id) == chosen.bootstrap_key
    assert not world.opens(text_of(key_id, "cd" * 32))
    for act in (
        lambda: do.revoke(world.ports, key_id, by=world.admin),
        lambda: do.rotate(world.ports, key_id, grace_seconds=0.0, by=world.admin),
    ):
        with pytest.raises(Conflict, match="settings' own"):
            act()
    assert do.create(world.ports, name="x", role=Role.VIEWER, owner="", valid_seconds=None, by=world.key_of(BOOTSTRAP))
    token = tokens.make(world.ports, world.key_of(BOOTSTRAP), role=Role.ADMIN, seconds=60.0).token
    assert world.key_of(token).role is Role.ADMIN


@pytest.mark.parametrize("text", [BOOTSTRAP, "short:00", f"bootstrap0:{'AB' * 32}", "bootstrap0"])
def test_a_bootstrap_key_that_is_no_hash_is_refused_at_the_start_without_being_said(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read({"DUMONT_STORE": "firestore", "DUMONT_BOOTSTRAP_KEY": text})
    assert refused.value.field == "DUMONT_BOOTSTRAP_KEY"
    assert text not in str(refused.value)


@pytest.mark.parametrize("key_id", ["nobody00", "", "../keys", "x" * 500])
def test_a_key_that_is_not_there_cannot_be_seen_rotated_or_revoked(world: World, key_id: str) -> None:
    with pytest.raises(Unknown):
        do.find(world.ports, key_id)
    with pytest.raises(Unknown):
        do.rotate(world.ports, key_id, grace_seconds=0.0, by=world.admin)
    with pytest.raises(Unknown):
        do.revoke(world.ports, key_id, by=world.admin)


# --- When it was used last ----------------------------------------------------------------------------------------


def test_many_uses_cost_one_write_an_hour_however_many_processes_see_them(world: World) -> None:
    writes: list[str] = []
    world.ports = with_changes(world.ports, store=MemoryStore(pause=lambda call: writes.append(call)))
    text = keys.make(world.ports.store, SystemIds(), world.clock, name="ci", role=Role.VIEWER)
    processes = [KeyUses(world.clock.now) for _ in range(3)]
    writes.clear()
    for _ in range(100):
        for process in processes:
            process.note(world.ports, world.key_of(text))
    assert writes.count("commit") == 1
    first = world.key_of(text).last_used_at
    assert first == NOW
    world.clock.moment += USE_NOTED_SECONDS
    for process in processes:
        process.note(world.ports, world.key_of(text))
    assert writes.count("commit") == 2
    assert world.key_of(text).last_used_at == NOW + USE_NOTED_SECONDS


def test_noting_a_use_undoes_no_revocation_that_came_between(world: World) -> None:
    key, text = world.made()
    seen = world.key_of(text)
    do.revoke(world.ports, key.id, by=world.admin)
    KeyUses(world.clock.now).note(world.ports, seen)
    assert not world.opens(text)
