"""Block Kit's parts, within its limits whatever is put into them (https://docs.slack.dev/reference/block-kit). Pure.

What hosts and users named is escaped here: `<!channel>` in a region's name calls nobody, and opens no link.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

Block = dict[str, Any]

BLOCKS_MOST = 50
TEXT_MOST = 3000
HEADER_MOST = 150
FIELD_MOST = 2000
FIELDS_MOST = 10
CONTEXT_MOST = 10
BUTTONS_MOST = 25
BUTTON_MOST = 30
"""Slack takes 75, and a phone shows about so much."""
VALUE_MOST = 2000
CONFIRM_TITLE_MOST = 100
CONFIRM_TEXT_MOST = 300
CONFIRM_BUTTON_MOST = 30
FALLBACK_MOST = 3000

_HALF_ENTITY = re.compile(r"&[a-z]{0,3}$")


def escaped(value: object, most: int = 300) -> str:
    """A text of somebody else's: its controls are characters, and it does not go on for ever."""
    text = clipped("".join(c if c.isprintable() else " " for c in str(value)), most)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def code(value: object, most: int = 300) -> str:
    """The same, as code: a text without backticks between two."""
    return f"`{escaped(str(value).replace('`', 'ʼ'), most) or ' '}`"


def clipped(text: str, most: int) -> str:
    """The text, or as much of it as may be, with a mark that there was more."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _marked(text: str, most: int) -> Block:
    if len(text) > most:
        text = _HALF_ENTITY.sub("", text[: most - 1]) + "…"
    # verbatim: Slack makes no links of what merely looks like one.
    return {"type": "mrkdwn", "text": text or " ", "verbatim": True}


def _plain(text: str, most: int) -> Block:
    return {"type": "plain_text", "text": clipped(text, most) or " ", "emoji": True}


def header(text: str) -> Block:
    """A headline; plain text."""
    return {"type": "header", "text": _plain(text, HEADER_MOST)}


def section(text: str, *, button: Block | None = None) -> Block:
    """A paragraph of Slack's markup; what is not ours in it must be escaped."""
    block: Block = {"type": "section", "text": _marked(text, TEXT_MOST)}
    return block | ({"accessory": button} if button is not None else {})


def fields(pairs: Sequence[tuple[str, str]]) -> Block:
    """Names and values, two in a row where there is room; values must be escaped."""
    shown = [(name, value) for name, value in pairs if value][:FIELDS_MOST]
    return {"type": "section", "fields": [_marked(f"*{name}*\n{value}", FIELD_MOST) for name, value in shown]}


def context(*texts: str) -> Block:
    """Small print."""
    return {"type": "context", "elements": [_marked(text, TEXT_MOST) for text in texts[:CONTEXT_MOST] if text]}


def divider() -> Block:
    """A line."""
    return {"type": "divider"}


def actions(buttons: Sequence[Block]) -> list[Block]:
    """A row of buttons; none where there are none."""
    return [{"type": "actions", "elements": list(buttons[:BUTTONS_MOST])}] if buttons else []


def button(text: str, action: str, value: str, *, style: str = "", confirm: Block | None = None) -> Block:
    """A button; `style` is "primary", "danger" or none."""
    if len(value) > VALUE_MOST or len(action) > 255:
        raise ValueError("a button's value is ours, and must fit")
    block: Block = {"type": "button", "text": _plain(text, BUTTON_MOST), "action_id": action, "value": value}
    return block | ({"style": style} if style else {}) | ({"confirm": confirm} if confirm is not None else {})


def confirm(title: str, text: str, yes: str, *, danger: bool = False) -> Block:
    """The question before a button has its effect."""
    block: Block = {
        "title": _plain(title, CONFIRM_TITLE_MOST),
        "text": _plain(text, CONFIRM_TEXT_MOST),
        "confirm": _plain(yes, CONFIRM_BUTTON_MOST),
        "deny": _plain("Cancel", CONFIRM_BUTTON_MOST),
    }
    return block | ({"style": "danger"} if danger else {})


def message(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """The blocks of one message, no more than Slack takes."""
    if len(blocks) <= BLOCKS_MOST:
        return tuple(blocks)
    left = len(blocks) - BLOCKS_MOST + 1
    return (*blocks[: BLOCKS_MOST - 1], context(f"… and {left} more parts that do not fit here"))
