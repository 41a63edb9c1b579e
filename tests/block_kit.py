"""Whether blocks are what Slack takes: its own SDK's models, and the limits of its reference that those do not check
(https://docs.slack.dev/reference/block-kit)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from slack_sdk.models.blocks import Block

KEYS = {
    "header": {"type", "text"},
    "section": {"type", "text", "fields", "accessory"},
    "context": {"type", "elements"},
    "actions": {"type", "elements"},
    "divider": {"type"},
}
_RAW = re.compile(r"<(?!@U[A-Z0-9]+>|!date\^\d+\^\{date_short_pretty\} \{time\}\|\d+ UTC>)")
"""Markup that is not ours: mentions of who asked, and times."""


def check(blocks: Sequence[dict[str, Any]]) -> None:
    """Fails for blocks that Slack would refuse, or that speak with another's tongue."""
    assert 1 <= len(blocks) <= 50
    parsed = Block.parse_all([dict(block) for block in blocks])
    assert len(parsed) == len(blocks), "the SDK knows each of them"
    for model, block in zip(parsed, blocks, strict=True):
        model.to_dict()  # raises what the SDK holds to be wrong
        assert block.keys() <= KEYS[block["type"]], block
        _check(block)
    names = [button["action_id"] for button in buttons(blocks)]
    rows = [[b["action_id"] for b in block["elements"]] for block in blocks if block["type"] == "actions"]
    assert all(len(row) == len(set(row)) for row in rows), f"an action's id is told apart within its block: {names}"


def _check(block: dict[str, Any]) -> None:
    match block["type"]:
        case "header":
            text(block["text"], "plain_text", 150)
        case "section":
            assert "text" in block or block.get("fields")
            if "text" in block:
                text(block["text"], "mrkdwn", 3000)
            assert len(block.get("fields", [])) <= 10
            for part in block.get("fields", []):
                text(part, "mrkdwn", 2000)
            if "accessory" in block:
                _button(block["accessory"])
        case "context":
            assert 1 <= len(block["elements"]) <= 10
            for part in block["elements"]:
                text(part, "mrkdwn", 3000)
        case "actions":
            assert 1 <= len(block["elements"]) <= 25
            for part in block["elements"]:
                _button(part)


def _button(button: dict[str, Any]) -> None:
    assert button["type"] == "button"
    text(button["text"], "plain_text", 75)
    assert len(button["text"]["text"]) <= 30, "a phone shows about so much of it"
    assert 1 <= len(button["action_id"]) <= 255
    assert 1 <= len(button["value"]) <= 2000
    assert button.get("style") in (None, "primary", "danger")
    asked = button.get("confirm")
    if asked is not None:
        text(asked["title"], "plain_text", 100)
        text(asked["text"], "plain_text", 300)
        text(asked["confirm"], "plain_text", 30)
        text(asked["deny"], "plain_text", 30)


def text(part: dict[str, Any], kind: str, most: int) -> None:
    assert part["type"] == kind
    assert 1 <= len(part["text"]) <= most
    if kind == "mrkdwn":
        assert not _RAW.search(part["text"]), f"markup of somebody else's: {part['text']!r}"
        assert not re.search(r"&(?!amp;|lt;|gt;)", part["text"]), f"half an entity: {part['text']!r}"


def buttons(blocks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every button in them."""
    found = [block["accessory"] for block in blocks if "accessory" in block]
    return found + [part for block in blocks if block["type"] == "actions" for part in block["elements"]]


def button(blocks: Sequence[dict[str, Any]], action: str) -> dict[str, Any]:
    """The button with an action's id."""
    return next(found for found in buttons(blocks) if found["action_id"] == action)


def words(blocks: Sequence[dict[str, Any]]) -> str:
    """All that is written on them."""
    return "\n".join(_texts(list(blocks)))


def _texts(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("text"), str):
            yield part["text"]
        for inner in part.values():
            yield from _texts(inner)
    elif isinstance(part, list | tuple):
        for inner in part:
            yield from _texts(inner)
