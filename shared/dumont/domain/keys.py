"""API keys, and the short-lived tokens that are made with one: what each may do, and until when. Pure.

A key reads `dmt_ID_SECRET`. Its secret has 256 random bits, so that one SHA-256 is hash enough: no guess gets through
that many, and a slow hash would only make each request slow.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from typing import ClassVar

import msgspec
from msgspec.structs import replace

from dumont.domain.errors import InvalidInput
from dumont.domain.records import Record, Role

PREFIX = "dmt_"
GRACE_SECONDS = 24 * 3600.0
"""For so long after a rotation the secret before it is good, unless said otherwise: time to hand the new one round."""
GRACE_SECONDS_MOST = 30 * 86_400.0
TOKEN_SECONDS = 15 * 60.0
TOKEN_SECONDS_MOST = 3600.0
ID_BYTES = 8
SECRET_BYTES = 32
USE_NOTED_SECONDS = 3600.0
"""A key's last use is known to about this: a write for each request would cost more than the request."""
LEEWAY_SECONDS = 5.0
"""How far the clocks of two of our own processes may be apart."""
_ID = re.compile(r"[a-z0-9]{8,32}")
_KEY = re.compile(r"dmt_([a-z0-9]{8,32})_([0-9a-f]{64})")
_BOOTSTRAP = re.compile(r"([a-z0-9]{8,32}):([0-9a-f]{64})")


class ApiKey(Record, frozen=True, kw_only=True):
    """An API key; of its secret only the hash is kept. `id` is the public part, which says in logs and in the audit
    who it was."""

    collection: ClassVar[str] = "keys"

    name: str
    role: Role
    secret_sha256: str
    created_at: float
    owner: str = ""
    """Whose it is, for people."""
    created_by: str = ""
    """The id of the key that it was made with; "" for one that no key made."""
    # Not `expires_at`, which would let the store forget the record: who had the key is to be known afterwards.
    valid_until: float | None = None
    last_used_at: float | None = None
    """To about an hour, and as far as functions see it whose accounts may write."""
    revoked_at: float | None = None
    generation: int = 0
    """How often it was rotated."""
    rotated_at: float | None = None
    previous_sha256: str = ""
    previous_until: float = 0.0
    """The secret before the last rotation, and until when it is good still."""

    def ended(self, now: float) -> bool:
        """Whether it opens nothing any more, whatever its secret."""
        return self.revoked_at is not None or (self.valid_until is not None and now >= self.valid_until)

    def good_generation(self, generation: int, now: float) -> bool:
        """Whether what was made with the secret of this generation is good still."""
        return generation == self.generation or (generation == self.generation - 1 and now < self.previous_until)

    def generation_of(self, secret: str, now: float) -> int | None:
        """Of which generation a secret is; None for one that is wrong, or too old. Takes as long for any."""
        digest = hash_of(secret)
        is_current = hmac.compare_digest(digest, self.secret_sha256)
        is_previous = hmac.compare_digest(digest, self.previous_sha256 or hash_of("nobody"))
        if is_current:
            return self.generation
        return self.generation - 1 if is_previous and now < self.previous_until else None


class TokenKey(Record, frozen=True, kw_only=True):
    """The public half of the pair that tokens are signed with (Ed25519, 32 bytes as hex); `id` is the `kid` that they
    name. The private half is nowhere: it is made from the deployment's token key where tokens are made."""

    collection: ClassVar[str] = "token_keys"

    public_key: str
    created_at: float


# --- Keys ---------------------------------------------------------------------------------------------------------


def drawn(random_bytes: Callable[[int], bytes]) -> tuple[str, str]:
    """The id and the secret of a new key."""
    return random_bytes(ID_BYTES).hex(), random_bytes(SECRET_BYTES).hex()


def text_of(key_id: str, secret: str) -> str:
    """A key as its owner has it."""
    return f"{PREFIX}{key_id}_{secret}"


def is_id(text: str) -> bool:
    """Whether a text has the form of a key's id."""
    return _ID.fullmatch(text) is not None


def parts_of(text: str) -> tuple[str, str] | None:
    """The id and the secret in a key's text; None for what has not its form."""
    match = _KEY.fullmatch(text)
    return (match.group(1), match.group(2)) if match else None


def hash_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def bootstrap(text: str) -> ApiKey:
    """The key that a deployment's settings name, as `ID:SHA256`: an admin's, which nobody can revoke but there.

    Raises `InvalidInput`.
    """
    match = _BOOTSTRAP.fullmatch(text)
    if match is None:
        raise InvalidInput(
            "is not ID:SHA256", field="DUMONT_BOOTSTRAP_KEY", hint="`dumont keys bootstrap` makes a key and says it"
        )
    return ApiKey(id=match.group(1), name="bootstrap", role=Role.ADMIN, secret_sha256=match.group(2), created_at=0.0)


def rotated(key: ApiKey, secret: str, *, grace_seconds: float, now: float) -> ApiKey:
    """The key with a new secret. Of two rotations within one grace the first secret has ended with the second."""
    return replace(
        key,
        secret_sha256=hash_of(secret),
        previous_sha256=key.secret_sha256 if grace_seconds > 0 else "",
        previous_until=now + grace_seconds if grace_seconds > 0 else 0.0,
        generation=key.generation + 1,
        rotated_at=now,
    )


def standing_for(key: ApiKey, *, generation: int) -> ApiKey:
    """The key as somebody has it who knows the secret of that generation."""
    return key if key.generation == generation else replace(key, generation=generation)


def lesser(one: Role, other: Role) -> Role:
    """The role of two that reaches less far."""
    return other if one.reaches(other) else one


# --- Tokens -------------------------------------------------------------------------------------------------------


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a token says (RFC 7519): `sub` is a key's id, `gen` that key's generation, `role` what it may do at most.
    Times are whole seconds since the epoch."""

    iss: str
    aud: str
    sub: str
    role: Role
    gen: int
    iat: int
    nbf: int
    exp: int
    jti: str


def issuer_of(deployment: str) -> str:
    """Who signs a deployment's tokens."""
    return f"dumont:{deployment}"


def audience_of(deployment: str) -> str:
    """For whom they are: its own API."""
    return f"dumont-api:{deployment}"


def fault_of(claims: Claims, deployment: str, now: float) -> str:
    """What is wrong with a signed token's claims, in words without any of it; "" if nothing is."""
    if claims.iss != issuer_of(deployment):
        return "another issuer"
    if claims.aud != audience_of(deployment):
        return "for another deployment"
    if not now < claims.exp:
        return "expired"
    if claims.nbf - LEEWAY_SECONDS > now or claims.iat - LEEWAY_SECONDS > now:
        return "of the future"
    if claims.exp - claims.iat > TOKEN_SECONDS_MOST:
        return "valid for too long"
    return ""


def key_of(claims: Claims, parent: ApiKey | None, now: float) -> ApiKey | None:
    """The key as a token of it stands for it: with no more than the token's role. None if the key has ended, or was
    rotated past what made the token."""
    if parent is None or parent.ended(now) or not parent.good_generation(claims.gen, now):
        return None
    return replace(parent, role=lesser(parent.role, claims.role), generation=claims.gen)
