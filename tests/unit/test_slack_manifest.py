"""The Slack app's manifest asks for what the code uses, and names the paths that it serves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from dumont.edge.slack.words import VERBS

ROOT = Path(__file__).parents[2]
MANIFEST = yaml.safe_load((ROOT / "infra/slack-manifest.yaml").read_text(encoding="utf-8"))
NEEDED = {"chat.postMessage": "chat:write", "chat.update": "chat:write", "conversations.history": "channels:history"}
"""Slack's reference of each method names its scope."""


def test_its_addresses_are_those_that_the_door_serves() -> None:
    (command,) = MANIFEST["features"]["slash_commands"]
    urls = [command["url"], MANIFEST["settings"]["interactivity"]["request_url"]]
    assert urls == [f"https://FUNCTIONS/slack/{part}" for part in ("commands", "actions")]
    door = (ROOT / "shared/dumont/edge/slack/door.py").read_text(encoding="utf-8")
    assert all(f'case ["{part}"]' in door for part in ("commands", "actions", "events"))
    assert command["command"] == "/dumont"
    assert len(command["description"]) <= 100


def test_its_scopes_are_those_of_the_methods_that_are_called() -> None:
    adapter = (ROOT / "shared/dumont/adapters/slack.py").read_text(encoding="utf-8")
    called = set(re.findall(r'"((?:chat|conversations|users|files|views)\.[A-Za-z.]+)"', adapter))
    assert called == set(NEEDED)
    scopes = set(MANIFEST["oauth_config"]["scopes"]["bot"])
    assert scopes == {*NEEDED.values(), "commands", "groups:history"}, "and private channels have a scope of their own"


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_the_page_on_slack_names_each_command(verb: str) -> None:
    section = (ROOT / "docs/notices.md").read_text(encoding="utf-8").partition("## Slack")[2].partition("\n## ")[0]
    assert f"`{verb}`" in section
