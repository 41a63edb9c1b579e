"""Application keys as B2 has them: capabilities, buckets, a prefix of names, an end; and the tokens given for them."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterable

import msgspec

from dumont.adapters.shapes import ready
from dumont.local.object_store.catalogue import Bucket, Catalogue
from dumont.local.object_store.refusals import Refused, bad_request, unauthorized
from dumont.ports import Clock

CAPABILITIES = frozenset(
    {
        *("listKeys", "writeKeys", "deleteKeys"),
        *("listBuckets", "listAllBucketNames", "readBuckets", "writeBuckets", "deleteBuckets"),
        *("readBucketEncryption", "writeBucketEncryption", "readBucketRetentions", "writeBucketRetentions"),
        *("readFileRetentions", "writeFileRetentions", "readFileLegalHolds", "writeFileLegalHolds"),
        *("readBucketReplications", "writeBucketReplications", "bypassGovernance"),
        *("listFiles", "readFiles", "shareFiles", "writeFiles", "deleteFiles"),
        *("readBucketNotifications", "writeBucketNotifications"),
    }
)
"""B2's, as b2sdk 2.13 lists them."""

VALID_SECONDS_MAX = 86_400_000
"""1,000 days: B2's longest life of a key."""

TOKEN_SECONDS = 86_400.0
"""B2's account and upload tokens live for a day at most."""


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key. `bucket_ids` None: any bucket. `prefix` "": any name. `expires_at` in seconds since the epoch."""

    id: str
    secret: str
    name: str
    capabilities: tuple[str, ...]
    bucket_ids: tuple[str, ...] | None = None
    prefix: str = ""
    expires_at: float | None = None
    master: bool = False

    def __repr__(self) -> str:
        return f"Key({self.id})"

    def can(self, capability: str) -> bool:
        """Whether it has the capability, wherever."""
        return capability in self.capabilities

    def allow(self, capability: str, *, bucket: Bucket | None = None, name: str | None = None) -> None:
        """Refuse unless the key has the capability, in this bucket, for names that begin with `name`."""
        if capability not in self.capabilities:
            raise unauthorized()
        if self.bucket_ids is not None and (bucket is None or bucket.id not in self.bucket_ids):
            raise unauthorized()
        if name is not None and not name.startswith(self.prefix):
            raise unauthorized()


class Token(msgspec.Struct):
    """What a token is for: an account, or (with `bucket_id` or `file_id`) uploads. `busy` while it is in use."""

    key_id: str
    expires_at: float
    bucket_id: str = ""
    file_id: str = ""
    busy: bool = False


class Keyring:
    """All keys and tokens. A key that was deleted or whose time is over is good for nothing, nor are its tokens."""

    def __init__(self, catalogue: Catalogue, clock: Clock) -> None:
        self._catalogue = catalogue
        self._clock = clock
        self._lock = threading.Lock()
        self._keys = {key.id: key for key in (_read(body) for body in catalogue.key_bodies())}
        self._tokens: dict[str, Token] = {}
        masters = [key for key in self._keys.values() if key.master]
        self.master = masters[0] if masters else self._make_master()
        """The account's own key. It is made once and kept with the store."""
        self.account_id = self.master.id

    def create(
        self,
        *,
        name: str,
        capabilities: Iterable[str],
        valid_seconds: int | None = None,
        buckets: Iterable[Bucket] | None = None,
        prefix: str = "",
    ) -> Key:
        """A new key. Refuses what B2 refuses: unknown capabilities, a life out of range, a prefix without a bucket."""
        wanted = tuple(dict.fromkeys(capabilities))
        if not wanted or not CAPABILITIES.issuperset(wanted):
            raise bad_request("unknown or no capabilities")
        if valid_seconds is not None and not 1 <= valid_seconds <= VALID_SECONDS_MAX:
            raise bad_request(f"validDurationInSeconds must be between 1 and {VALID_SECONDS_MAX}")
        bucket_ids = None if buckets is None else tuple(bucket.id for bucket in buckets)
        if prefix and not bucket_ids:
            raise bad_request("namePrefix needs a bucket")
        key = Key(
            id=f"000{self.account_id}{secrets.token_hex(5)}",
            secret="K000" + secrets.token_urlsafe(21),
            name=name,
            capabilities=wanted,
            bucket_ids=bucket_ids,
            prefix=prefix,
            expires_at=None if valid_seconds is None else self._clock.now() + valid_seconds,
        )
        self._keep(key)
        return key

    def delete(self, key_id: str) -> Key:
        """Remove a key, with its tokens. Refuses if there is none."""
        with self._lock:
            key = self._keys.get(key_id)
            if key is None or key.master:
                raise bad_request(f"Application key ID does not exist: {key_id}")
            del self._keys[key_id]
            self._tokens = {text: token for text, token in self._tokens.items() if token.key_id != key_id}
        self._catalogue.delete_key(key_id)
        return key

    def all(self) -> list[Key]:
        """The keys whose time is not over, but for the account's own, by id."""
        with self._lock:
            found = sorted(self._keys.values(), key=lambda key: key.id)
        return [key for key in found if not key.master and not self._is_over(key)]

    def find(self, key_id: str) -> Key | None:
        """The key of that id, if it is still good."""
        key = self._keys.get(key_id)
        return None if key is None or self._is_over(key) else key

    def give_token(self, key: Key, *, bucket_id: str = "", file_id: str = "") -> str:
        """A token for the key's account, or for uploads to a bucket or a large file."""
        text = f"4_{secrets.token_urlsafe(32)}"
        ends = min(self._clock.now() + TOKEN_SECONDS, key.expires_at or float("inf"))
        with self._lock:
            self._tokens[text] = Token(key.id, ends, bucket_id, file_id)
        return text

    def of_token(self, text: str, *, upload: bool = False) -> tuple[Key, Token]:
        """The key behind a token. Refuses one that is unknown, over, or for something else."""
        token = self._tokens.get(text)
        if token is None or upload != bool(token.bucket_id or token.file_id):
            raise Refused(401, "bad_auth_token", "Invalid authorization token")
        key = self.find(token.key_id)
        if key is None or token.expires_at <= self._clock.now():
            raise Refused(401, "expired_auth_token", "Authorization token has expired")
        return key, token

    def _is_over(self, key: Key) -> bool:
        return key.expires_at is not None and key.expires_at <= self._clock.now()

    def _make_master(self) -> Key:
        account = secrets.token_hex(6)
        key = Key(
            id=account,
            secret=secrets.token_hex(20),
            name="Master Application Key",
            capabilities=tuple(sorted(CAPABILITIES)),
            master=True,
        )
        self._keep(key)
        return key

    def _keep(self, key: Key) -> None:
        with self._lock:
            self._keys[key.id] = key
        self._catalogue.put_key(key.id, json.dumps(msgspec.to_builtins(key)))


def _read(body: str) -> Key:
    return msgspec.json.decode(body.encode(), type=ready(Key))
