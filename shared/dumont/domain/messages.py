"""A message to a chat. Pure."""

from __future__ import annotations

import json
import zlib
from typing import Any

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent: `text` for notifications and plain logs, `blocks` (Slack's Block Kit) for those who show them.

    Without `channel` it goes where alerts go. With `reply_url` it goes there, and to `channel` if that has lapsed.
    `final`: nothing more is expected; what cannot be edited is told at its beginning and its end alone.
    """

    text: str
    blocks: tuple[dict[str, Any], ...] = ()
    channel: str = ""
    reply_url: str = ""
    in_channel: bool = False
    replaces: bool = False
    final: bool = True

    @property
    def digest(self) -> int:
        """A number that differs where the content does."""
        return zlib.crc32(json.dumps([self.text, self.blocks], sort_keys=True).encode())
