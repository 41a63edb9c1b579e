"""What a bot's token may do at Slack, and whether it reaches a channel. Nothing is posted."""

from __future__ import annotations

import urllib.error
from typing import Any

import msgspec
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web import WebClient

from dumont.adapters.slack import CALL_SECONDS, SDK_LOG
from dumont.domain.errors import NotTellable, NotTold


class BotSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A bot, as Slack knows it."""

    team: str
    team_id: str
    scopes: tuple[str, ...] | None
    """None where Slack did not list them."""


class SlackLook:
    """Asks in the name of a bot's token."""

    def __init__(self, token: str, *, api_url: str) -> None:
        self._client = WebClient(token=token, base_url=api_url, timeout=CALL_SECONDS, retry_handlers=[], logger=SDK_LOG)

    def bot(self) -> BotSeen:
        """Raises `NotTellable` for a token that Slack refuses, `NotTold` where it does not answer."""
        said = self._call("auth.test", {})
        headers = {name.lower(): value for name, value in dict(said.headers or {}).items()}
        listed = headers.get("x-oauth-scopes")
        data: dict[str, Any] = said.data if isinstance(said.data, dict) else {}
        return BotSeen(
            team=str(data.get("team") or ""),
            team_id=str(data.get("team_id") or ""),
            scopes=None if listed is None else tuple(sorted(s.strip() for s in str(listed).split(",") if s.strip())),
        )

    def reach(self, channel: str) -> None:
        """Raises `NotTellable` with Slack's word for why the bot cannot read the channel; `NotTold`."""
        self._call("conversations.history", {"channel": channel, "limit": 1})

    def _call(self, method: str, body: dict[str, Any]) -> Any:
        try:
            return self._client.api_call(method, json=body)
        except SlackApiError as error:
            status = getattr(error.response, "status_code", 0)
            code = str(error.response.get("error") or "") if hasattr(error.response, "get") else ""
            if status == 429 or status >= 500 or not code or " " in code:
                raise NotTold(f"{method}: status {status}") from None
            raise NotTellable(code[:60]) from None
        except (SlackClientError, urllib.error.URLError, OSError, ValueError) as error:
            raise NotTold(f"{method}: no answer ({type(error).__name__})") from None
