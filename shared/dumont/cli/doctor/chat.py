"""Slack: the token, its scopes, the channel, the signing secret, of this environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from urllib.parse import urlsplit

from dumont.domain.errors import NotTellable, NotTold
from dumont.domain.findings import Finding, missing, ok, skipped, unknown, warning

AREA = "slack"
SCOPES = ("commands", "chat:write", "channels:history", "groups:history")
"""As `infra/slack-manifest.yaml` asks for them."""
APPS = "https://api.slack.com/apps"
WHY = {
    "not_in_channel": "the app is not in it",
    "channel_not_found": "there is no such channel, or it is private and the app is not in it",
    "missing_scope": "the app may not read it",
    "is_archived": "it is archived",
}


def look(environment: Mapping[str, str]) -> Iterator[Finding]:
    """What of Slack this environment sets; the deployed control plane's is in Secret Manager."""
    names = ("SIGNING_SECRET", "BOT_TOKEN", "WEBHOOK_URL", "CHANNEL", "TEAM")
    given = {name: environment.get(f"DUMONT_SLACK_{name}", "").strip() for name in names}
    if not any(given.values()) and environment.get("DUMONT_ALERTS") != "slack":
        yield skipped(AREA, "app", "not set here; a deployment's secrets are looked at by `dumont deploy-check`")
        return
    if given["SIGNING_SECRET"]:
        yield ok(AREA, "signing secret", "is set; whether it is the app's own shows at Slack's first request")
    else:
        says = "is not set: requests of Slack's are refused"
        yield missing(
            AREA, "signing secret", says, f"export DUMONT_SLACK_SIGNING_SECRET=…  # {APPS}, Basic Information"
        )
    if given["BOT_TOKEN"]:
        yield from _bot(given, environment.get("DUMONT_SLACK_API_URL") or "https://slack.com/api/")
    elif given["WEBHOOK_URL"]:
        parts = urlsplit(given["WEBHOOK_URL"])
        if parts.scheme == "https" or parts.hostname == "127.0.0.1":
            yield warning(AREA, "webhook", "is set, and shows only by a post whether it holds; it cannot edit")
        else:
            yield missing(AREA, "webhook", "is no https URL, and is not believed", f"make one at {APPS}")
    else:
        yield missing(AREA, "token", "neither a bot token nor a webhook is set", "export DUMONT_SLACK_BOT_TOKEN=xoxb-…")


def _bot(given: Mapping[str, str], api_url: str) -> Iterator[Finding]:
    if not given["BOT_TOKEN"].startswith("xox"):
        yield missing(AREA, "token", "is none of Slack's, which begin with xox", "export DUMONT_SLACK_BOT_TOKEN=xoxb-…")
        return
    try:
        from dumont.adapters.slack_look import SlackLook
    except ImportError:
        yield skipped(AREA, "token", "slack-sdk is not installed here", "make setup")
        return
    slack = SlackLook(given["BOT_TOKEN"], api_url=api_url)
    try:
        bot = slack.bot()
    except NotTellable as error:
        yield missing(AREA, "token", f"Slack refuses it: {error}", f"install the app again at {APPS}")
        return
    except NotTold as error:
        yield unknown(AREA, "token", str(error), "dumont doctor")
        return
    yield ok(AREA, "token", f"is valid in the workspace {bot.team or bot.team_id}")
    if given["TEAM"] and given["TEAM"] != bot.team_id:
        says = f"DUMONT_SLACK_TEAM is {given['TEAM']}, and the app is installed in {bot.team_id}"
        yield missing(AREA, "workspace", f"{says}: its requests are refused", f"export DUMONT_SLACK_TEAM={bot.team_id}")
    lacking = [scope for scope in SCOPES if scope not in (bot.scopes or ())]
    if bot.scopes is None:
        yield unknown(AREA, "scopes", "Slack did not list them", "dumont doctor")
    elif lacking:
        says = f"lacks {', '.join(lacking)}"
        yield missing(AREA, "scopes", says, f"{APPS}: put infra/slack-manifest.yaml in as the manifest, and reinstall")
    else:
        yield ok(AREA, "scopes", ", ".join(SCOPES))
    yield _channel(slack.reach, given["CHANNEL"])


def _channel(reach: Callable[[str], None], channel: str) -> Finding:
    if not channel:
        return missing(AREA, "channel", "is not set: nobody is told of anything", "export DUMONT_SLACK_CHANNEL=C…")
    try:
        reach(channel)
    except NotTellable as error:
        says = f"{channel}: {WHY.get(str(error), str(error))}"
        return missing(AREA, "channel", says, "in Slack, in that channel: /invite @Dumont")
    except NotTold as error:
        return unknown(AREA, "channel", str(error), "dumont doctor")
    return ok(AREA, "channel", f"{channel} is within reach")
