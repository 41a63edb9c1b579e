"""The audit log: an entry for each change that is asked for, written once its outcome is known, and read by operators.

What is refused is in it too, so that tries are seen; of wrong keys, which are nobody's, an hour's count (`edge.uses`);
not what was too much.
"""

from __future__ import annotations

import logging
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from dumont import queries
from dumont.domain.audit import KEPT_SECONDS, AuditEntry
from dumont.domain.errors import InvalidInput, StoreError
from dumont.domain.names import check_machine_name
from dumont.ports import Ports, Store

log = logging.getLogger(__name__)

HIDDEN = ("schema_version", "expires_at")


class ListEntries(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many of the newest; and of whom (None: of all), by the id of their key."""

    limit: Annotated[int, Meta(ge=1, le=500)] = 50
    who: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


class _Named(msgspec.Struct, frozen=True):
    name: str = ""
    machine: str = ""


class Auditor:
    """Writes entries."""

    def note(self, ports: Ports, *, sent: bytes = b"", about: str = "", **entry: Any) -> None:
        """Write an entry; given are the body that was `sent`, and `AuditEntry`'s fields but for its id and times.
        Where it is not said what it is `about`, the body does.

        What was done is done: a store that does not answer now is an error in the log, with the entry, and no more.
        """
        now = ports.clock.now()
        made = AuditEntry(
            id=ports.ids.new("audit"), at=now, about=about or named_in(sent), expires_at=now + KEPT_SECONDS, **entry
        )
        try:
            ports.store.transact(lambda tx: tx.put(made))
        except StoreError as error:
            log.error("an audit entry was not written", extra={"entry": shown(made), "error": str(error)})


def named_in(sent: bytes) -> str:
    """The machine that a request's body names; "" if it names none. Whatever else is there is not looked at."""
    if not sent:
        return ""
    try:
        named = msgspec.json.decode(sent, type=_Named)
        return check_machine_name(named.name or named.machine)
    except (msgspec.DecodeError, InvalidInput, UnicodeDecodeError, RecursionError):
        return ""


def latest(store: Store, wish: ListEntries) -> list[dict[str, Any]]:
    """The newest entries, as callers see them."""
    query = queries.latest_audit(limit=wish.limit) if wish.who is None else queries.audit_of(wish.who, limit=wish.limit)
    return [shown(entry) for entry in store.find(AuditEntry, query)]


def shown(entry: AuditEntry) -> dict[str, Any]:
    """One entry, without what it does not say."""
    fields = msgspec.to_builtins(entry)
    if entry.count == 1:
        del fields["count"]
    return {name: value for name, value in fields.items() if value != "" and name not in HIDDEN}
