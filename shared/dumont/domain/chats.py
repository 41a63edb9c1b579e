"""What was asked for in a chat, remembered: so that what comes twice is done once, and is answered where it was asked.
Pure."""

from __future__ import annotations

from typing import ClassVar, Literal

from dumont.domain.alerts import CHAT
from dumont.domain.records import Record

KEPT_SECONDS = 86_400.0
"""How long a request is remembered: longer than its signature holds, and than most operations take to be answered."""
REPLY_SECONDS = 1_700.0
"""Slack takes answers at a request's own URL for 30 minutes."""
LEASE_SECONDS = 60.0
AGAIN_SECONDS = 90.0
"""What was left to a worker and is not done after this is handed out again."""


class Chat(Record, frozen=True, kw_only=True):
    """One request: a command (`text`) or a button (`action` and its `value`). `reply_url` lets its holder answer it,
    for half an hour, and nothing else."""

    collection: ClassVar[str] = "chats"

    kind: Literal["command", "action", "event"]
    user: str
    user_name: str = ""
    channel: str = ""
    text: str = ""
    action: str = ""
    value: str = ""
    reply_url: str = ""
    received_at: float
    done: bool = False
    tries: int = 0
    lease_until: float = 0.0
    deadline: float | None = None
    shard: int = 0
    expires_at: float

    @property
    def caller(self) -> str:
        """Who asked, for the records of what it led to."""
        return f"{CHAT}{self.user_name or self.user}"
