"""The account's SSH keys, and the ids of all keys."""

from __future__ import annotations

from dumont.local.market.instance import Instance
from dumont.local.market.refusals import Refused


class SshKeys:
    """The account's public keys by their ids, with when each was added. One key has one id, wherever it is used."""

    def __init__(self) -> None:
        self.held: dict[int, tuple[str, float]] = {}
        self._ids: dict[str, int] = {}

    def add(self, key: str, now: float) -> int:
        """Keep a key for instances to come; answers with its id. Adding it twice is adding it once."""
        key_id = self._id(key)
        self.held.setdefault(key_id, (key, now))
        return key_id

    def change(self, key_id: int, key: str, now: float) -> None:
        """Put another key in a key's place. Raises `Refused` (404)."""
        self._check(key_id)
        self.held[key_id] = (key, now)

    def delete(self, key_id: int) -> None:
        """Forget a key; instances that have it keep it. Raises `Refused` (404)."""
        self._check(key_id)
        del self.held[key_id]

    def current(self) -> dict[int, str]:
        """The keys that an instance created now gets."""
        return {key_id: key for key_id, (key, _) in self.held.items()}

    def attach(self, instance: Instance, key: str) -> int:
        """Let a key into an instance; answers with its id. Attaching it twice is attaching it once."""
        key_id = self._id(key)
        instance.keys[key_id] = key
        return key_id

    def detach(self, instance: Instance, key_id: int) -> None:
        """Let a key in no longer. Raises `Refused` (404)."""
        if instance.keys.pop(key_id, None) is None:
            raise Refused(404, "no_such_ssh_key", "SSH key not found.")

    def _id(self, key: str) -> int:
        return self._ids.setdefault(key, len(self._ids) + 1)

    def _check(self, key_id: int) -> None:
        if key_id not in self.held:
            raise Refused(404, "no_such_ssh_key", "SSH key not found.")
