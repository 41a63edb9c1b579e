"""Short-lived tokens for the API (JWT, RFC 7519), signed with Ed25519: made with an API key, and good for no longer
than it is.

Who checks one needs the public half alone, which is a record of the store: so a function without the deployment's
master key could make none. Of a token's header only its key's id is listened to; how it is signed is ours to say
(RFC 8725, 3.1).
A library would leave us the same claims to check, and would be imported by every function.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Hashable
from typing import Any, cast

import msgspec

from dumont.adapters.shapes import ready
from dumont.domain.keys import ApiKey, Claims, TokenKey, audience_of, fault_of, issuer_of
from dumont.domain.records import Role
from dumont.edge import jws
from dumont.edge.jws import Jws
from dumont.ports import Ports, Store

TYPE = "dumont+jwt"
"""Told from a token of a machine's own program by this (RFC 8725, 3.11)."""
ALGORITHM = "EdDSA"
_SIGNATURE_BYTES = 64


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A new token, and until when it is good."""

    token: str
    expires_at: int


class _NoSuchKey(Exception):
    """No pair of that id signs tokens here."""


def is_ours(text: str) -> bool:
    """Whether a text means to be a token of ours; nothing is said of whether it is a good one."""
    read = jws.read(text)
    return read is not None and read.header.get("typ") == TYPE


def make(ports: Ports, key: ApiKey, *, role: Role, seconds: float) -> Made:
    """A token of a key, for so many seconds. Raises `StoreError`."""
    # Where no token is made nobody waits for this import.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.from_private_bytes(ports.token_secret())
    public = private.public_key().public_bytes_raw()
    key_id, now = _id_of(public), ports.clock.now()
    if ports.store.get(TokenKey, key_id) is None:
        published = TokenKey(id=key_id, public_key=public.hex(), created_at=now)
        ports.store.transact(lambda tx: tx.put(published))
    claims = Claims(
        iss=issuer_of(ports.deployment),
        aud=audience_of(ports.deployment),
        sub=key.id,
        role=role,
        gen=key.generation,
        iat=int(now),
        nbf=int(now),
        exp=int(now + seconds),
        jti=ports.ids.new("token"),
    )
    header = json.dumps({"alg": ALGORITHM, "typ": TYPE, "kid": key_id}, separators=(",", ":"))
    text = f"{jws.encoded(header.encode())}.{jws.encoded(msgspec.json.encode(claims))}"
    return Made(token=f"{text}.{jws.encoded(private.sign(text.encode()))}", expires_at=claims.exp)


def read(ports: Ports, text: str) -> tuple[Claims | None, str]:
    """What a token says, if it is ours and of now; else what is wrong with it, in words without any of it."""
    token = jws.read(text)
    if token is None or token.header.get("typ") != TYPE:
        return None, "not a token"
    if token.header.get("alg") != ALGORITHM or "crit" in token.header:
        return None, "another algorithm"
    if not _is_signed(ports.store, token):
        return None, "a wrong signature"
    try:
        claims = msgspec.convert(token.claims, ready(Claims))
    except msgspec.ValidationError:
        return None, "other claims"
    fault = fault_of(claims, ports.deployment, ports.clock.now())
    return (None, fault) if fault else (claims, "")


def _is_signed(store: Store, token: Jws) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key_id, signature = token.header.get("kid"), jws.decoded(token.signature)
    if not isinstance(key_id, str) or signature is None or len(signature) != _SIGNATURE_BYTES:
        return False
    if len(key_id) != 32 or not key_id.isalnum():
        return False  # it becomes a record's name
    try:
        Ed25519PublicKey.from_public_bytes(_public(cast("Hashable", store), key_id)).verify(signature, token.signed)
    except (_NoSuchKey, InvalidSignature):
        return False
    return True


@functools.lru_cache(maxsize=16)
def _public(store: Any, key_id: str) -> bytes:
    """The public key of an id, asked for once a process. Raises `_NoSuchKey`, which is remembered by nobody: it may be
    made in a moment."""
    known = store.get(TokenKey, key_id)
    public = bytes.fromhex(known.public_key) if known is not None else b""
    if _id_of(public) != key_id:
        raise _NoSuchKey
    return public


def _id_of(public: bytes) -> str:
    return hashlib.sha256(public).hexdigest()[:32]
