"""Slack, told through its own SDK: one request a call, never tried again inside, since a second try may be a second
message. Who waits and tries again is the operation that tells."""

from __future__ import annotations

import logging
import urllib.error
from typing import Any

from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web import WebClient
from slack_sdk.webhook import WebhookClient

from dumont.domain.errors import NotTellable, NotTold
from dumont.domain.messages import Message

CALL_SECONDS = 8
EVENT_TYPE = "dumont_alert"
"""Of the metadata by which a message of ours is found again."""
SEPARATOR = "/"
BY_URL = "reply"
"""The reference of what was sent to a request's own URL: it cannot be edited."""
_PASSING = frozenset(
    {"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"}
)

# The SDK logs at ERROR what we tell in our own words; a URL of Slack's is a key.
SDK_LOG = logging.getLogger("dumont_slack_sdk")
SDK_LOG.addHandler(logging.NullHandler())
SDK_LOG.propagate = False
SDK_LOG.setLevel(logging.CRITICAL)


class SlackNotifier:
    """A bot that posts to a channel, edits what it posted, and answers requests. `Notifier`."""

    edits = True

    def __init__(self, token: str, channel: str, *, api_url: str) -> None:
        self._channel = channel
        self._client = WebClient(token=token, base_url=api_url, timeout=CALL_SECONDS, retry_handlers=[], logger=SDK_LOG)

    def post(self, message: Message, *, key: str) -> str:
        """To the message's own URL if it has one that still holds, else to its channel; the reference names both."""
        if message.reply_url:
            try:
                return answer(message)
            except NotTellable:
                if not message.channel:
                    raise
        channel = message.channel or self._channel
        if not channel:
            raise NotTellable("no channel is named for alerts")
        said = self._call(
            "chat.postMessage",
            {
                "channel": channel,
                "text": message.text,
                "blocks": list(message.blocks),
                "unfurl_links": False,
                "unfurl_media": False,
                "metadata": {"event_type": EVENT_TYPE, "event_payload": {"key": key}},
            },
        )
        # The channel is in the answer: what was posted to a user went to a conversation of its own name.
        return f"{said.get('channel') or channel}{SEPARATOR}{said.get('ts')}"

    def edit(self, reference: str, message: Message) -> None:
        """Put the message in the other's place; what was an answer to a request stays as it was."""
        channel, _, timestamp = reference.partition(SEPARATOR)
        if not timestamp:
            return
        body = {"channel": channel, "ts": timestamp, "text": message.text, "blocks": list(message.blocks)}
        self._call("chat.update", body)

    def find(self, key: str, since: float) -> str | None:
        """Among the channel's last hundred; None too where the bot may not read the channel."""
        body = {"channel": self._channel, "oldest": f"{since:.6f}", "limit": 100, "include_all_metadata": True}
        try:
            said = self._call("conversations.history", body)
        except NotTellable:
            return None
        for posted in said.get("messages") or []:
            metadata = posted.get("metadata") or {}
            if metadata.get("event_type") == EVENT_TYPE and (metadata.get("event_payload") or {}).get("key") == key:
                return f"{self._channel}{SEPARATOR}{posted.get('ts')}"
        return None

    def _call(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            said = self._client.api_call(method, json=body)
        except SlackApiError as error:
            raise _told_apart(error) from None
        except (SlackClientError, urllib.error.URLError, OSError, ValueError) as error:
            raise NotTold(f"{method}: no answer ({type(error).__name__})", may_be_there=True) from None
        return said.data if isinstance(said.data, dict) else {}


class WebhookNotifier:
    """An incoming webhook, or none (""): what was posted cannot be changed, so only a beginning and an end are told.
    `Notifier`."""

    edits = False

    def __init__(self, url: str) -> None:
        self._url = url

    def post(self, message: Message, *, key: str) -> str:
        """To the message's own URL if it has one, else to the webhook's channel."""
        del key
        if message.reply_url:
            return answer(message)
        if not self._url or message.channel:
            raise NotTellable("without a token nothing is posted but to the webhook's own channel")
        send(self._url, {"text": message.text, "blocks": list(message.blocks)})
        return "webhook"

    def edit(self, reference: str, message: Message) -> None:
        """It cannot."""
        del reference, message
        raise NotTellable("an incoming webhook cannot edit what it posted")

    def find(self, key: str, since: float) -> str | None:
        """It cannot."""
        del key, since
        return None


def answer(message: Message) -> str:
    """Answer a request at its own URL. Raises `NotTold` or, where that has lapsed, `NotTellable`."""
    body = {
        "text": message.text,
        "blocks": list(message.blocks),
        "response_type": "in_channel" if message.in_channel else "ephemeral",
        "replace_original": message.replaces,
    }
    send(message.reply_url, body)
    return BY_URL


def send(url: str, body: dict[str, Any]) -> None:
    """POST to a URL that Slack gave us. Raises `NotTold` or `NotTellable`; neither names the URL."""
    try:
        said = WebhookClient(url, timeout=CALL_SECONDS, retry_handlers=[], logger=SDK_LOG).send_dict(body)
    except (SlackClientError, urllib.error.URLError, OSError, ValueError) as error:
        raise NotTold(f"Slack's URL: no answer ({type(error).__name__})", may_be_there=True) from None
    if said.status_code == 429:
        raise NotTold("Slack's URL: too many", retry_after_seconds=_seconds(said.headers, 30.0))
    if said.status_code >= 500:
        raise NotTold(f"Slack's URL: status {said.status_code}", may_be_there=True)
    if said.status_code >= 400:
        raise NotTellable(f"Slack's URL: status {said.status_code}")


def _told_apart(error: SlackApiError) -> NotTold | NotTellable:
    status = getattr(error.response, "status_code", 0)
    code = str(error.response.get("error") or "") if hasattr(error.response, "get") else ""
    if status == 429 or code in ("ratelimited", "rate_limited"):
        return NotTold("Slack: too many", retry_after_seconds=_seconds(error.response.headers, 30.0))
    if status >= 500 or code in _PASSING or code.startswith("Received a response in a non-JSON format"):
        return NotTold(f"Slack: {code[:60] or status}", may_be_there=True)
    return NotTellable(f"Slack: {code[:60] or status}")


def _seconds(headers: Any, usual: float) -> float:
    for name, value in dict(headers or {}).items():
        if name.lower() == "retry-after":
            try:
                return max(1.0, float(value))
            except (TypeError, ValueError):
                return usual
    return usual
