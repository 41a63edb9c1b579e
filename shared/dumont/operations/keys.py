"""API keys: made, rotated, revoked, and listed. Each is one transaction; a secret is told once, and kept nowhere."""

from __future__ import annotations

from msgspec.structs import replace

from dumont import queries
from dumont.domain import keys as rules
from dumont.domain.errors import Conflict, Unauthenticated, Unknown
from dumont.domain.keys import ApiKey
from dumont.domain.records import Role
from dumont.ports import Ports, Store, Transaction


def create(
    ports: Ports, *, name: str, role: Role, owner: str, valid_seconds: float | None, by: ApiKey
) -> tuple[ApiKey, str]:
    """A new key, and its text. `valid_seconds` None: until it is revoked. Raises `Unauthenticated`, `StoreError`."""
    key_id, secret = rules.drawn(ports.ids.random_bytes)
    now = ports.clock.now()
    made = ApiKey(
        id=key_id,
        name=name,
        role=role,
        owner=owner,
        secret_sha256=rules.hash_of(secret),
        created_at=now,
        created_by=by.id,
        valid_until=None if valid_seconds is None else now + valid_seconds,
    )

    def work(tx: Transaction) -> None:
        _check_still_good(tx, ports, by)
        tx.put(made)

    ports.store.transact(work)
    return made, rules.text_of(key_id, secret)


def every(ports: Ports, *, ended_too: bool) -> list[ApiKey]:
    """The keys, oldest first, that of the settings before all others; those that have ended only if asked for."""
    now = ports.clock.now()
    found = [key for key in ports.store.find(ApiKey, queries.all_keys()) if ended_too or not key.ended(now)]
    return [ports.bootstrap_key, *found] if ports.bootstrap_key is not None else found


def find(ports: Ports, key_id: str) -> ApiKey:
    """One key. Raises `Unknown`, `StoreError`."""
    own = ports.bootstrap_key
    return own if own is not None and own.id == key_id else _there(ports.store, key_id)


def rotate(ports: Ports, key_id: str, *, grace_seconds: float, by: ApiKey) -> tuple[ApiKey, str]:
    """Give a key a new secret, and tell it; the one before is good for `grace_seconds` yet, and so are tokens that were
    made with it. Raises `Unknown`, `Conflict`, `Unauthenticated`, `StoreError`."""
    _, secret = rules.drawn(ports.ids.random_bytes)

    def work(tx: Transaction) -> ApiKey:
        now = ports.clock.now()
        _check_still_good(tx, ports, by)
        key = rules.rotated(_open(tx, ports, key_id), secret, grace_seconds=grace_seconds, now=now)
        tx.put(key)
        return key

    return ports.store.transact(work), rules.text_of(key_id, secret)


def revoke(ports: Ports, key_id: str, *, by: ApiKey) -> ApiKey:
    """End a key, and all tokens of it, from the next request on. Raises `Unknown`, `Conflict`, `Unauthenticated`,
    `StoreError`."""
    if key_id == by.id:
        # Whoever revokes goes on being let in: so there is always an admin's key left.
        raise Conflict(
            "a key does not revoke itself", code="own_key", hint="rotate it at once, or revoke it with another"
        )

    def work(tx: Transaction) -> ApiKey:
        _check_still_good(tx, ports, by)
        key = _known(tx, ports, key_id)
        if key.revoked_at is None:
            key = replace(key, revoked_at=ports.clock.now(), previous_sha256="", previous_until=0.0)
            tx.put(key)
        return key

    return ports.store.transact(work)


def note_use(ports: Ports, key_id: str) -> None:
    """Note that a key is used, unless that was noted lately. Raises `StoreError`."""

    def work(tx: Transaction) -> None:
        key, now = tx.get(ApiKey, key_id), ports.clock.now()
        if key is not None and (key.last_used_at is None or now - key.last_used_at >= rules.USE_NOTED_SECONDS):
            tx.put(replace(key, last_used_at=now))

    ports.store.transact(work)


def _check_still_good(tx: Transaction, ports: Ports, by: ApiKey) -> None:
    """Two admins who revoke each other at once: the second one finds that he may not any more."""
    if ports.bootstrap_key is not None and by.id == ports.bootstrap_key.id:
        return
    key, now = tx.get(ApiKey, by.id), ports.clock.now()
    if key is None or key.ended(now) or not key.good_generation(by.generation, now):
        raise Unauthenticated("the API key was revoked just now", code="wrong_key")


def _open(tx: Transaction, ports: Ports, key_id: str) -> ApiKey:
    key = _known(tx, ports, key_id)
    if key.ended(ports.clock.now()):
        raise Conflict(f"the key {key.name!r} has ended", code="key_ended", hint="make another: dumont keys create")
    return key


def _known(tx: Transaction, ports: Ports, key_id: str) -> ApiKey:
    if ports.bootstrap_key is not None and ports.bootstrap_key.id == key_id:
        raise Conflict(
            "this key is the settings' own, and only they can change it",
            code="key_of_settings",
            hint="set another DUMONT_BOOTSTRAP_KEY (in Terraform: bootstrap_key_hash), and deploy",
        )
    return _there(tx, key_id)


def _there(records: Store | Transaction, key_id: str) -> ApiKey:
    key = records.get(ApiKey, key_id) if rules.is_id(key_id) else None
    if key is None:
        raise Unknown("there is no key with that id", field="id", hint="`dumont keys ls` shows those there are")
    return key
