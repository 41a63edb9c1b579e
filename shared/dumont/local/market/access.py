"""Who may do what: the account's keys, scoped keys made from them, and each instance's own key."""

from __future__ import annotations

import hmac
import random
from collections.abc import Iterable, Mapping
from typing import Any

from dumont.local.market.core import Market
from dumont.local.market.refusals import Refused

SCOPES = {
    "search": "misc",
    "create": "instance_write",
    "update": "instance_write",
    "reboot": "instance_write",
    "destroy": "instance_write",
    "bid": "instance_write",
    "command": "instance_write",
    "list": "instance_read",
    "show": "instance_read",
    "logs": "instance_read",
    "user": "user_read",
    "ssh": "user_write",
    "keys": "user_write",
}
"""The permission that a scoped key needs for an endpoint, by Vast.ai's names of them."""


class Access:
    """The keys. An account key may do everything; a scoped one what its permissions say; an instance's own may start,
    stop and destroy that instance."""

    def __init__(self, account_keys: Iterable[str], market: Market) -> None:
        self._account_keys = tuple(account_keys)
        self._market = market
        self._scoped: dict[int, dict[str, Any]] = {}
        self._rng = random.Random(f"keys/{market.seed}")

    def check(self, key: str, endpoint: str, now: float, *, instance_id: int | None, changes_state: bool) -> None:
        """Raise `Refused`: 401 for a key that is not known, 403 for one that does not reach so far."""
        if any(_same(key, held) for held in self._account_keys):
            return
        for record in self._scoped.values():
            if _same(key, record["key"]):
                if SCOPES.get(endpoint) in record["permissions"].get("api", {}):
                    return
                raise Refused(403, "not_authorized", f"This key lacks the permission {SCOPES.get(endpoint)}.")
        for instance in self._market.live(now):
            if _same(key, instance.container_key):
                if instance.id == instance_id and (endpoint == "destroy" or (endpoint == "update" and changes_state)):
                    return
                raise Refused(403, "not_authorized", "An instance's key reaches that instance alone.")
        raise Refused(401, "auth_error", "Invalid user key")

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make a scoped key, and show it for the only time."""
        permissions = body.get("permissions") or {}
        if not isinstance(permissions, Mapping) or not isinstance(permissions.get("api", {}), Mapping):
            raise Refused(400, "invalid_args", "'permissions' must be {\"api\": {…}}")
        key_id = len(self._scoped) + 1
        record = {
            "id": key_id,
            "name": str(body.get("name") or ""),
            "key": f"{self._rng.getrandbits(256):064x}",
            "permissions": {"api": dict(permissions.get("api", {}))},
        }
        self._scoped[key_id] = record
        return {"success": True, **record}

    def shown(self) -> list[dict[str, Any]]:
        """The scoped keys, without what is secret of them."""
        return [{name: value for name, value in record.items() if name != "key"} for record in self._scoped.values()]

    def delete(self, key_id: int) -> None:
        """Revoke a scoped key. Raises `Refused` (404)."""
        if self._scoped.pop(key_id, None) is None:
            raise Refused(404, "not_found", "No such API key.")


def _same(key: str, held: str) -> bool:
    return hmac.compare_digest(key.encode(), held.encode())
