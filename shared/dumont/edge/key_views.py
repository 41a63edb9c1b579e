"""The edge of the functions `keys` and `token`: what is asked, and what callers see of a key: never its hash."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from dumont.domain.errors import Forbidden, InvalidInput
from dumont.domain.keys import (
    GRACE_SECONDS,
    GRACE_SECONDS_MOST,
    PREFIX,
    TOKEN_SECONDS,
    TOKEN_SECONDS_MOST,
    ApiKey,
)
from dumont.domain.records import Role
from dumont.edge import tokens
from dumont.edge.doors import presented
from dumont.edge.http import Answer, Call
from dumont.operations import keys as do

_YEARS_SECONDS = 10 * 365 * 86_400
Label = Annotated[str, Meta(max_length=128, pattern=r"^[^\x00-\x1f\x7f]*$")]


class CreateKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the key is called, what it may do, whose it is, and for how long it is good (None: until it is revoked)."""

    name: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
    role: Role
    owner: Label = ""
    valid_seconds: Annotated[float, Meta(ge=60, le=_YEARS_SECONDS)] | None = None


class RotateKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For how long the secret before is good yet; 0 ends it at once, and with it all tokens of the key."""

    grace_seconds: Annotated[float, Meta(ge=0, le=GRACE_SECONDS_MOST)] = GRACE_SECONDS


class ListKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether keys that have ended are listed too."""

    all: bool = False


class TokenWish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the token may do at most (None: what the key may), and for how long."""

    role: Role | None = None
    seconds: Annotated[float, Meta(ge=1, le=TOKEN_SECONDS_MOST)] = TOKEN_SECONDS


def created(call: Call) -> Answer:
    """201: a new key, with its text. Raises `Forbidden` for a token."""
    _by_key_itself(call, "makes no key")
    wish = call.body(CreateKey)
    key, text = do.create(
        call.ports, name=wish.name, role=wish.role, owner=wish.owner, valid_seconds=wish.valid_seconds, by=call.key
    )
    return Answer({"key": view(call, key), "secret": text}, 201, {"Location": f"/keys/{key.id}"})


def listed(call: Call) -> Answer:
    """The keys."""
    found = do.every(call.ports, ended_too=call.arguments(ListKeys).all)
    return Answer({"keys": [view(call, key) for key in found]})


def shown(call: Call, key_id: str) -> Answer:
    """One key: where `Location` leads once it is made."""
    return Answer({"key": view(call, do.find(call.ports, key_id))})


def rotated(call: Call, key_id: str) -> Answer:
    """A key with a new secret, and its text. Raises `Forbidden` for a token."""
    _by_key_itself(call, "rotates no key")
    wish = call.body_or(RotateKey())
    key, text = do.rotate(call.ports, key_id, grace_seconds=wish.grace_seconds, by=call.key)
    return Answer({"key": view(call, key), "secret": text})


def revoked(call: Call, key_id: str) -> Answer:
    """A key that has ended."""
    return Answer({"key": view(call, do.revoke(call.ports, key_id, by=call.key))})


def token(call: Call) -> Answer:
    """A token of the key that calls. Raises `Forbidden` for a role that the key has not, and for a token."""
    _by_key_itself(call, "makes no other")
    wish = call.body_or(TokenWish())
    role = wish.role or call.key.role
    if not call.key.role.reaches(role):
        raise Forbidden(f"the key {call.key.name!r} is a {call.key.role.value}'s: no token of it is a {role.value}'s")
    now, ends = call.ports.clock.now(), call.key.valid_until
    seconds = wish.seconds if ends is None else min(wish.seconds, ends - now)
    if seconds < 1:
        raise InvalidInput("the key ends within a second", field="seconds")
    made = tokens.make(call.ports, call.key, role=role, seconds=seconds)
    return Answer(
        {"token": made.token, "token_type": "Bearer", "expires_at": made.expires_at, "role": role, "key": call.key.id}
    )


def view(call: Call, key: ApiKey) -> dict[str, Any]:
    """A key as admins see it."""
    now, of_settings = call.ports.clock.now(), call.ports.bootstrap_key
    seen: dict[str, Any] = {
        "id": key.id,
        "name": key.name,
        "role": key.role,
        "owner": key.owner,
        "state": "revoked" if key.revoked_at is not None else "ended" if key.ended(now) else "good",
        "by_setting": of_settings is not None and of_settings.id == key.id,
        "created_at": key.created_at or None,
        "created_by": key.created_by,
        "expires_at": key.valid_until,
        "last_used_at": key.last_used_at,
        "rotated_at": key.rotated_at,
        "previous_until": key.previous_until if now < key.previous_until else None,
        "revoked_at": key.revoked_at,
    }
    return {name: value for name, value in seen.items() if value not in (None, "")}


def _by_key_itself(call: Call, what: str) -> None:
    """Else a token that was overheard could live for ever: an hour at a time, or by a key that it makes."""
    if not (presented(call.request) or "").startswith(PREFIX):
        raise Forbidden(f"a token {what}", hint="ask with the API key itself")
