"""Who asked for which change, from where, and what became of it."""

from __future__ import annotations

from typing import ClassVar

from dumont.domain.records import Record

KEPT_SECONDS = 400 * 86_400.0
"""A year, and a while to look back at it."""


class AuditEntry(Record, frozen=True, kw_only=True):
    """One change that somebody with a proof of who they are asked for. It holds no secret, and nothing of a request's
    body but the name of the machine that it is about."""

    collection: ClassVar[str] = "audit"

    at: float
    who: str
    """A key's id, or "slack:U…"."""
    name: str
    """What they were called then."""
    what: str
    """"POST /destroy": a method, and a path below its function."""
    about: str = ""
    """The machine that the request names, if it names one in its body."""
    address: str = ""
    status: int
    """Of the answer; 202: accepted, and what was `made` says how it ended."""
    code: str = ""
    """Of the answer's problem, if it was one."""
    made: str = ""
    """The operation or the job that it became, by its id."""
    request_id: str = ""
    count: int = 1
    """How many such there were in an hour, where each alone is not worth an entry: proofs that did not hold."""
    expires_at: float
    """When the store may forget it (TTL)."""
