"""API keys: made once, shown once, kept as a hash, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import re

from dumont.domain.errors import Forbidden, Unauthenticated
from dumont.domain.records import ApiKey, Role
from dumont.ports import Clock, Ids, Store

PREFIX = "dmt_"
_KEY = re.compile(r"^dmt_([a-z0-9]{8,32})_([0-9a-f]{64})$")
_HINT = "send it as `Authorization: Bearer dmt_…`; `dumont local up` prints where its key lies"


def make(store: Store, ids: Ids, clock: Clock, *, name: str, role: Role) -> str:
    """A new key; only its hash is stored, so that this is the one time that it can be read."""
    key_id = ids.random_bytes(8).hex()
    secret = ids.random_bytes(32).hex()
    record = ApiKey(id=key_id, name=name, role=role, secret_sha256=_hash(secret), created_at=clock.now())
    store.transact(lambda tx: tx.put(record))
    return f"dmt_{key_id}_{secret}"


def authenticate(store: Store, presented: str | None) -> ApiKey:
    """The key's record. Raises `Unauthenticated`, in the same words whether the id or the secret is wrong."""
    if not presented:
        raise Unauthenticated("this needs an API key", code="no_key", hint=_HINT)
    match = _KEY.fullmatch(presented)
    record = store.get(ApiKey, match.group(1)) if match else None
    # Compare even where there is no record: the time taken tells nobody which ids exist.
    expected = record.secret_sha256 if record is not None else _hash("nobody")
    right = hmac.compare_digest(_hash(match.group(2) if match else ""), expected)
    if record is None or not right or record.revoked_at is not None:
        raise Unauthenticated("the API key is wrong or was revoked", code="wrong_key", hint=_HINT)
    return record


def authorise(key: ApiKey, needed: Role) -> None:
    """Raise `Forbidden` unless the key's role reaches as far as needed."""
    if not key.role.reaches(needed):
        raise Forbidden(
            f"this needs the role {needed.value}, and the key {key.name!r} is a {key.role.value}'s",
            hint="ask an admin for a key with that role",
        )


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
