"""Tokens of API keys: what is refused, and why."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from dumont.domain.keys import (
    LEEWAY_SECONDS,
    TOKEN_SECONDS_MOST,
    TokenKey,
    hash_of,
)
from dumont.domain.records import Role
from dumont.edge import jws, tokens
from dumont.operations import keys as do
from dumont.ports import Query
from tests.unit import key_support
from tests.unit.key_support import NOW, SECRET, World, with_changes

world = key_support.world


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
    other.ports = with_changes(other.ports, token_secret=lambda: b"t" * 32)
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
