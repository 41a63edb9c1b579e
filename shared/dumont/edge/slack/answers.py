"""What is said back to a request, and to whom."""

from __future__ import annotations

import json

import msgspec
from msgspec.structs import replace

from dumont.domain.chats import Chat
from dumont.domain.messages import Message
from dumont.edge.audit import Auditor
from dumont.edge.problems import document_of
from dumont.edge.slack import blocks as b
from dumont.edge.slack import cards
from dumont.edge.slack.blocks import Block, escaped
from dumont.operations import look
from dumont.ports import Ports

_BESIDE = ("machine.show", "offer.rent")
"""Buttons of lists: what they show comes beside the list, not in its place."""


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """What is said back; `text` for notifications. `to_all`: the whole channel sees it, since it concerns them."""

    text: str
    blocks: tuple[Block, ...]
    to_all: bool = False
    status: int = 200
    """As the API would have answered, for the audit log; so are the two below."""
    code: str = ""
    made: str = ""
    """The operation that it became."""

    def message(self, chat: Chat) -> Message:
        """As an answer at the request's own URL; that to a card's button takes the card's place."""
        return Message(
            text=self.text,
            blocks=self.blocks,
            reply_url=chat.reply_url,
            channel=chat.user,
            in_channel=self.to_all,
            replaces=chat.kind == "action" and chat.action not in _BESIDE,
        )


def said(text: str, blocks: list[Block], *, to_all: bool = False) -> Answered:
    """Blocks with their words for a notification, which are plain text."""
    return Answered(text=b.clipped(escaped(text, 1000), b.FALLBACK_MOST), blocks=b.message(blocks), to_all=to_all)


def refused(error: Exception) -> Answered:
    """An error, as the API has it; what is not its user's says nothing of our inside."""
    document = document_of(error)
    answered = said(document.detail, cards.refused(document))
    return replace(answered, status=document.status, code=document.code)


def card(ports: Ports, name: str, note: str = "", *, to_all: bool = False) -> Answered:
    """A machine as it is now. Raises `Unknown`."""
    seen = look.machine(ports, name)
    return said(f"{name} is {seen.machine.state.value}", cards.machine(seen, note), to_all=to_all)


def audit(ports: Ports, chat: Chat, what: str, machine: str, answered: Answered) -> None:
    """Into the audit log, for what somebody asked to be changed."""
    named = json.dumps({"name": machine}).encode()
    Auditor().note(
        ports,
        sent=named,
        who=f"slack:{chat.user}",
        name=chat.user_name or chat.user,
        what=what[:80],
        status=answered.status,
        code=answered.code,
        made=answered.made,
        request_id=chat.id,
    )
