"""API keys: what opens, until when, and that one can always get in; tokens of them: what is refused, and why."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from dumont.adapters.clock import SystemIds
from dumont.adapters.memory_store import MemoryStore
from dumont.domain.errors import Conflict, InvalidInput, Unauthenticated, Unknown
from dumont.domain.keys import (
    GRACE_SECONDS,
    LEEWAY_SECONDS,
    TOKEN_SECONDS_MOST,
    USE_NOTED_SECONDS,
    ApiKey,
    TokenKey,
    hash_of,
    text_of,
)
from dumont.domain.records import Role
from dumont.edge import jws, keys, tokens
from dumont.edge.uses import KeyUses
from dumont.operations import keys as do
from dumont.ports import Ports, Query
from dumont.settings import read
from tests.unit.rest_support import ManualClock, make_ports

NOW = 1_800_000_000.0
SECRET = b"s" * 32
BOOTSTRAP = text_of("bootstrap0", "ab" * 32)


class World:
    """A store, a clock, and the ports of one deployment."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW)
        self.store = MemoryStore()
        self.ports = _with(make_ports(self.store, self.clock), token_secret=lambda: SECRET, ids=SystemIds())
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


def _with(ports: Ports, **changes: Any) -> Ports:
    return Ports(**{**vars(ports), **changes})


@pytest.fixture
def world() -> World:
    return World()


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
    other_process = _with(world.ports)
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
    world.ports = _with(world.ports, bootstrap_key=chosen.bootstrap_key)
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
    world.ports = _with(world.ports, store=MemoryStore(pause=lambda call: writes.append(call)))
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


# --- Tokens -------------------------------------------------------------------------------------------------------


def parted(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    read_token = jws.read(token)
    assert read_token is not None
    return read_token.header, read_token.claims


def signed(header: dict[str, Any], claims: dict[str, Any], seed: bytes = SECRET) -> str:
    text = f"{jws.encoded(json.dumps(header).encode())}.{jws.encoded(json.dumps(claims).encode())}"
    return f"{text}.{jws.encoded(Ed25519PrivateKey.from_private_bytes(seed).sign(text.encode()))}"


@pytest.fixture
def text(world: World) -> str:
    return world.made()[1]


@pytest.fixture
def token(world: World, text: str) -> str:
    return tokens.make(world.ports, world.key_of(text), role=Role.OPERATOR, seconds=900.0).token


def test_a_token_stands_for_its_key_and_says_what_it_is(world: World, text: str, token: str) -> None:
    header, claims = parted(token)
    assert (header["alg"], header["typ"]) == ("EdDSA", "dumont+jwt")
    assert world.store.get(TokenKey, header["kid"]) is not None
    key = world.key_of(text)
    jti = claims.pop("jti")
    assert claims == {
        "iss": "dumont:main", "aud": "dumont-api:main", "sub": key.id, "role": "operator", "gen": 0,
        "iat": int(NOW), "nbf": int(NOW), "exp": int(NOW) + 900,
    }  # fmt: skip
    assert parted(tokens.make(world.ports, key, role=key.role, seconds=900.0).token)[1]["jti"] != jti
    assert world.key_of(token) == key


def test_a_tokens_role_is_its_own_and_never_more_than_the_keys_is_now(world: World) -> None:
    key, text = world.made(Role.OPERATOR)
    for role, seen in ((Role.VIEWER, Role.VIEWER), (Role.OPERATOR, Role.OPERATOR), (Role.ADMIN, Role.OPERATOR)):
        made = tokens.make(world.ports, world.key_of(text), role=role, seconds=60.0).token
        assert world.key_of(made).role is seen
    world.store.transact(lambda tx: tx.put(replace(key, role=Role.VIEWER)))
    made = tokens.make(world.ports, world.key_of(text), role=Role.OPERATOR, seconds=60.0).token
    assert world.key_of(made).role is Role.VIEWER


def test_a_token_ends(world: World, token: str) -> None:
    world.clock.moment += 899.0
    assert world.opens(token)
    world.clock.moment += 1.0
    assert not world.opens(token)


def test_a_token_of_the_future_opens_nothing_yet(world: World, token: str) -> None:
    world.clock.moment -= LEEWAY_SECONDS
    assert world.opens(token), "as far as two clocks may be apart"
    world.clock.moment -= 1.0
    assert not world.opens(token)


def test_a_token_dies_with_its_key_and_with_what_made_it(world: World) -> None:
    key, text = world.made()
    before = tokens.make(world.ports, world.key_of(text), role=Role.OPERATOR, seconds=3600.0).token
    do.rotate(world.ports, key.id, grace_seconds=600.0, by=world.admin)
    of_old = tokens.make(world.ports, world.key_of(text), role=Role.OPERATOR, seconds=3600.0).token
    assert world.opens(before)
    assert world.opens(of_old)
    world.clock.moment += 600.0
    assert not world.opens(before)
    assert not world.opens(of_old), "who has the old secret alone is not to outlive its grace"
    _, new = do.rotate(world.ports, key.id, grace_seconds=600.0, by=world.admin)
    of_new = tokens.make(world.ports, world.key_of(new), role=Role.OPERATOR, seconds=3600.0).token
    do.rotate(world.ports, key.id, grace_seconds=0.0, by=world.admin)
    assert not world.opens(of_new)


def test_a_token_of_a_key_that_ends_ends_with_it(world: World) -> None:
    _, text = world.made(valid_seconds=120.0)
    made = tokens.make(world.ports, world.key_of(text), role=Role.OPERATOR, seconds=3600.0).token
    world.clock.moment += 120.0
    assert not world.opens(made)


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "ES256", "RS256", "Ed448", "", None])
def test_a_token_does_not_choose_how_it_is_signed(world: World, token: str, algorithm: str | None) -> None:
    header, claims = parted(token)
    assert not world.opens(signed({**header, "alg": algorithm}, claims))


def test_no_signature_and_the_public_key_as_a_secret_are_none(world: World, token: str) -> None:
    header, claims = parted(token)
    known = world.store.get(TokenKey, header["kid"])
    assert known is not None
    for public in (bytes.fromhex(known.public_key), known.public_key.encode()):
        for algorithm in ("HS256", "EdDSA"):
            said = jws.encoded(json.dumps({**header, "alg": algorithm}).encode())
            text = f"{said}.{jws.encoded(json.dumps(claims).encode())}"
            mac = hmac.new(public, text.encode(), hashlib.sha256).digest()
            assert not world.opens(f"{text}.{jws.encoded(mac)}")
            assert not world.opens(f"{text}.{jws.encoded(mac + mac)}")
    unsigned = token.rpartition(".")[0]
    for ending in (".", "", ".AAAA", f".{'A' * 86}"):
        assert not world.opens(unsigned + ending)


WRONG: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "dumont:other"},
    "another audience": {"aud": "dumont-api:other"},
    "audiences": {"aud": ["dumont-api:main"]},
    "another key": {"sub": "0123456789abcdef"},
    "no key": {"sub": None},
    "another generation": {"gen": 1},
    "the generation before": {"gen": -1},
    "no role": {"role": None},
    "an unknown role": {"role": "root"},
    "valid for too long": {"exp": int(NOW) + int(TOKEN_SECONDS_MOST) + 1},
    "ended": {"exp": int(NOW)},
    "ends never": {"exp": None},
    "ends at a word": {"exp": "tomorrow"},
    "made in the future": {"iat": int(NOW) + 60, "exp": int(NOW) + 900},
    "not valid yet": {"nbf": int(NOW) + 60},
    "without an id": {"jti": None},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_token_that_is_rightly_signed_still_has_to_say_what_is_right(world: World, token: str, wrong: str) -> None:
    header, claims = parted(token)
    assert world.opens(signed(header, claims)), "the test's own signature is a right one"
    said = {name: value for name, value in {**claims, **WRONG[wrong]}.items() if value is not None}
    assert not world.opens(signed(header, said))


def test_another_deployments_pair_signs_nothing_here(world: World, token: str) -> None:
    header, claims = parted(token)
    assert not world.opens(signed(header, claims, seed=b"t" * 32))
    other = World()
    other.ports = _with(other.ports, token_secret=lambda: b"t" * 32)
    foreign = tokens.make(other.ports, other.admin, role=Role.ADMIN, seconds=60.0).token
    assert not world.opens(foreign)


@pytest.mark.parametrize(
    "header", [{"kid": "0" * 32}, {"kid": "../keys"}, {"kid": 7}, {"kid": ""}, {"typ": "JWT"}, {"crit": ["exp"]}]
)
def test_a_header_that_says_otherwise_opens_nothing(world: World, token: str, header: dict[str, Any]) -> None:
    known, claims = parted(token)
    assert not world.opens(signed(known | header, claims))


def test_a_public_key_that_was_put_under_anothers_name_is_not_believed(world: World, token: str) -> None:
    header, claims = parted(token)
    forged = "f" * 32
    public = Ed25519PrivateKey.from_private_bytes(b"t" * 32).public_key().public_bytes_raw()
    world.store.transact(lambda tx: tx.put(TokenKey(id=forged, public_key=public.hex(), created_at=NOW)))
    assert not world.opens(signed({**header, "kid": forged}, claims, seed=b"t" * 32))


def test_no_secret_is_in_a_token_or_beside_it(world: World, text: str, token: str) -> None:
    secret = text.split("_")[2]
    said = json.dumps(parted(token))
    assert secret not in said
    assert hash_of(secret) not in said
    kept = msgspec.json.encode(world.store.find(TokenKey, Query())).decode()
    assert SECRET.hex() not in kept
