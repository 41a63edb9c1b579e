"""Who a caller is, by an API key or by a token that was made with one.

The key's record is read at each request, also for a token of it: what was revoked opens nothing from the next request
on, in whichever process. Nothing of it is kept in memory.
"""

from __future__ import annotations

import logging

from msgspec.structs import replace

from dumont.domain import keys as rules
from dumont.domain.errors import Forbidden, Unauthenticated
from dumont.domain.keys import ApiKey
from dumont.domain.records import Role
from dumont.edge import tokens
from dumont.ports import Clock, Ids, Ports, Store, Transaction

log = logging.getLogger(__name__)

PREFIX = rules.PREFIX
_HINT = "send it as `Authorization: Bearer dmt_…`; `dumont local up` prints where its key lies"


class NoProof(Unauthenticated):
    """None was brought, and so none was tried: it is not counted among the wrong ones."""


def make(store: Store, ids: Ids, clock: Clock, *, name: str, role: Role, key_id: str = "") -> str:
    """A new key; only its hash is stored, so that this is the one time that it can be read. With `key_id` the one of
    that id: whatever it was before, its secrets and its tokens end."""
    drawn_id, secret = rules.drawn(ids.random_bytes)
    made = ApiKey(
        id=key_id or drawn_id, name=name, role=role, secret_sha256=rules.hash_of(secret), created_at=clock.now()
    )

    def work(tx: Transaction) -> None:
        before = tx.get(ApiKey, made.id)
        tx.put(made if before is None else replace(made, generation=before.generation + 1))

    store.transact(work)
    return rules.text_of(made.id, secret)


def is_ours(presented: str) -> bool:
    """Whether a secret means to be a key, or a token of one."""
    return presented.startswith(PREFIX) or tokens.is_ours(presented)


def authenticate(ports: Ports, presented: str | None) -> ApiKey:
    """The key's record, as far as what was presented stands for it: with a token's role, and the generation that is
    meant. Raises `NoProof`, or `Unauthenticated`, in the same words whatever is wrong."""
    if not presented:
        raise NoProof("this needs an API key", code="no_key", hint=_HINT)
    key = _of_token(ports, presented) if tokens.is_ours(presented) else _of_key(ports, presented)
    if key is None:
        raise Unauthenticated("the API key is wrong or was revoked", code="wrong_key", hint=_HINT)
    return key


def _of_key(ports: Ports, presented: str) -> ApiKey | None:
    key_id, secret = rules.parts_of(presented) or ("", "")
    record, now = _record(ports, key_id), ports.clock.now()
    # Compare even where there is no record: the time taken tells nobody which ids exist.
    generation = (record or _NOBODY).generation_of(secret, now)
    if record is None or generation is None or record.ended(now):
        return None
    return rules.standing_for(record, generation=generation)


def _of_token(ports: Ports, presented: str) -> ApiKey | None:
    claims, fault = tokens.read(ports, presented)
    if claims is None:
        log.info("a token was refused", extra={"why": fault})
        return None
    return rules.key_of(claims, _record(ports, claims.sub), ports.clock.now())


def _record(ports: Ports, key_id: str) -> ApiKey | None:
    if ports.bootstrap_key is not None and ports.bootstrap_key.id == key_id:
        return ports.bootstrap_key
    return ports.store.get(ApiKey, key_id) if key_id else None


def authorise(key: ApiKey, needed: Role) -> None:
    """Raise `Forbidden` unless the key's role reaches as far as needed."""
    if not key.role.reaches(needed):
        raise Forbidden(
            f"this needs the role {needed.value}, and the key {key.name!r} is a {key.role.value}'s",
            hint="ask an admin for a key with that role",
        )


_NOBODY = ApiKey(id="", name="", role=Role.VIEWER, secret_sha256=rules.hash_of("nobody"), created_at=0.0)
