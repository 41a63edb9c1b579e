"""`dumont webhook`: who is told what happens, what was sent to them, and what did not arrive."""

from __future__ import annotations

import re
import time

import click

from dumont.cli.errors import Json
from dumont.cli.output import UNKNOWN, Cli, common_options, duration, moment, text_of

COLUMNS = ("ID", "STATE", "EVENTS", "FAILING SINCE", "URL")
DELIVERIES = ("WHEN", "EVENT", "STATE", ">TRIES", "LAST ANSWER", "NEXT TRY", "ID")
ATTEMPTS = ("WHEN", ">TOOK", "ANSWER")
FIRST_TRY_SECONDS = 25.0
"""A receiver has 15 s to answer; the rest is the way there."""
POLL_SECONDS = 0.25
_SPAN = re.compile(r"^([0-9]+(?:\.[0-9]+)?)([mhd])$")
_UNIT_SECONDS = {"m": 60.0, "h": 3600.0, "d": 86_400.0}


@click.group()
def webhook() -> None:
    """Tell programs what happens, by signed HTTPS requests.

    Receivers verify them with any library of Standard Webhooks (standardwebhooks.com).
    """


@webhook.command()
@click.argument("address", metavar="URL")
@click.option("--event", "events", multiple=True, metavar="TYPE", help="Of this type alone; can be given again. "
              "`dumont webhook events` lists them. [default: all]")  # fmt: skip
@click.option("--description", metavar="TEXT", help="What it is for.")
@common_options
def add(cli: Cli, address: str, events: tuple[str, ...], description: str | None) -> None:
    """Have an https address told of what happens.

    Prints the secret that its requests are signed with: it is shown this once.
    """
    wish: Json = {"url": address}
    if events:
        wish["events"] = list(events)
    if description is not None:
        wish["description"] = description
    with cli.client() as client:
        made = client.post("subscriptions", body=wish)
    cli.result(made)
    identifier = text_of((made.get("subscription") or {}).get("id"))
    cli.say(str(made.get("secret")))
    cli.note(f"{identifier} is told from now on; that is its secret, and is not shown again")
    cli.note(f"  try it: dumont webhook test {identifier}")


@webhook.command("ls")
@common_options
def list_all(cli: Cli) -> None:
    """List the webhooks."""
    with cli.client() as client:
        found = client.get("subscriptions")
    cli.result(found)
    listed = found.get("subscriptions") or []
    if not listed:
        cli.note("nobody is told; `dumont webhook add URL` changes that")
        return
    cli.table(COLUMNS, [_row(entry) for entry in listed])


@webhook.command()
@common_options
def events(cli: Cli) -> None:
    """List the types of events."""
    with cli.client() as client:
        types = client.get("subscriptions").get("events") or {}
    cli.result({"events": types})
    cli.table(("EVENT", "WHAT IT SAYS"), [[name, str(what)] for name, what in types.items()])


@webhook.command()
@click.argument("identifier", metavar="ID")
@common_options
def show(cli: Cli, identifier: str) -> None:
    """Show one webhook, and its last deliveries."""
    with cli.client() as client:
        found = client.get("subscriptions", identifier)
        sent = client.get("subscriptions", identifier, "deliveries", limit=5)
    cli.result(found | sent)
    _say(cli, found.get("subscription") or {})
    _deliveries(cli, sent.get("deliveries") or [])


@webhook.command("set")
@click.argument("identifier", metavar="ID")
@click.option("--enable/--disable", "enabled", default=None, help="Tell it, or no longer.")
@click.option("--event", "events", multiple=True, metavar="TYPE", help='In the place of its events: this type; can be '
              'given again; "*" is all.')  # fmt: skip
@click.option("--to", "address", metavar="URL", help="In the place of its URL.")
@click.option("--description", metavar="TEXT", help="What it is for.")
@common_options
def change(
    cli: Cli,
    identifier: str,
    enabled: bool | None,
    events: tuple[str, ...],
    address: str | None,
    description: str | None,
) -> None:
    """Change a webhook. One that was disabled begins anew; what it missed meanwhile is not sent."""
    given = {"enabled": enabled, "events": list(events) or None, "url": address, "description": description}
    wish = {name: value for name, value in given.items() if value is not None}
    if not wish:
        raise click.UsageError("say what is to change")
    with cli.client() as client:
        found = client.post("subscriptions", identifier, body=wish)
    cli.result(found)
    _say(cli, found.get("subscription") or {})


@webhook.command("rm")
@click.argument("identifier", metavar="ID")
@common_options
def remove(cli: Cli, identifier: str) -> None:
    """Delete a webhook, with what is on its way to it."""
    with cli.client() as client:
        found = client.delete("subscriptions", identifier)
    cli.result(found)
    cli.say(f"{identifier} is not told any more")


@webhook.command()
@click.argument("identifier", metavar="ID")
@common_options
def rotate(cli: Cli, identifier: str) -> None:
    """Replace a webhook's secret, and print the new one. For a day its requests bear both signatures."""
    with cli.client() as client:
        made = client.post("subscriptions", identifier, "rotate", body={})
    cli.result(made)
    cli.say(str(made.get("secret")))
    until = (made.get("subscription") or {}).get("old_secret_until")
    cli.note(f"the secret before it signs until {moment(until)}; this one is not shown again")


@webhook.command()
@click.argument("identifier", metavar="ID")
@click.option("--wait/--no-wait", default=True, help="Wait for what becomes of the first try.")
@common_options
def test(cli: Cli, identifier: str, wait: bool) -> int:
    """Send a dumont.test event, and say how it was answered. Status 1 if it did not arrive."""
    with cli.client() as client:
        found = client.post("subscriptions", identifier, "test", body={})
        delivery: Json = found.get("delivery") or {}
        until = time.monotonic() + FIRST_TRY_SECONDS
        while wait and _untried(delivery) and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
            found = client.get("subscriptions", identifier, "deliveries", str(delivery.get("id")))
            delivery = found.get("delivery") or {}
    cli.result(found)
    _one(cli, delivery)
    if _untried(delivery):
        cli.note(f"no try has ended yet; look again: dumont webhook deliveries {identifier} {delivery.get('id')}")
    return 1 if wait and delivery.get("state") != "delivered" else 0


@webhook.command()
@click.argument("identifier", metavar="ID")
@click.argument("delivery", required=False)
@click.option("--state", type=click.Choice(["pending", "delivered", "dead"]), help="Of this state alone.")
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True, metavar="N", help="At most so "
              "many.")  # fmt: skip
@common_options
def deliveries(cli: Cli, identifier: str, delivery: str | None, state: str | None, limit: int) -> None:
    """List what was sent to a webhook, newest first.

    Or show one DELIVERY with its body and each try.
    """
    with cli.client() as client:
        if delivery is not None:
            found = client.get("subscriptions", identifier, "deliveries", delivery)
        else:
            found = client.get("subscriptions", identifier, "deliveries", state=state, limit=limit)
    cli.result(found)
    if delivery is not None:
        _one(cli, found.get("delivery") or {})
    else:
        _deliveries(cli, found.get("deliveries") or [])


@webhook.command()
@click.argument("identifier", metavar="ID")
@click.argument("delivery", required=False)
@click.option("--since", metavar="SPAN", help="Only what was made in the last SPAN: 30m, 6h, 2d. [default: all]")
@common_options
def replay(cli: Cli, identifier: str, delivery: str | None, since: str | None) -> None:
    """Send again what did not arrive.

    Or one DELIVERY, whether or not it did. Each keeps its id.
    """
    if delivery is not None and since is not None:
        raise click.UsageError("--since is for all that did not arrive")
    with cli.client() as client:
        if delivery is not None:
            found = client.post("subscriptions", identifier, "deliveries", delivery, "replay", body={})
        else:
            found = client.post("subscriptions", identifier, "replay", body={"since": _since(since)})
    cli.result(found)
    count = 1 if delivery is not None else int(found.get("replayed") or 0)
    cli.say(f"{count} {'is' if count == 1 else 'are'} on {'its' if count == 1 else 'their'} way again")


def _untried(delivery: Json) -> bool:
    return delivery.get("state") == "pending" and not delivery.get("attempts")


def _since(span: str | None) -> float:
    if span is None:
        return 0.0
    match = _SPAN.fullmatch(span)
    if match is None:
        raise click.BadParameter("is no span such as 30m, 6h or 2d", param_hint="--since")
    return max(0.0, time.time() - float(match.group(1)) * _UNIT_SECONDS[match.group(2)])


# --- How they are shown -------------------------------------------------------------------------------------------


def _row(entry: Json) -> list[str]:
    types = entry.get("events") or []
    shown = (
        "all" if types == ["*"] else ", ".join(types[:3]) + (f" and {len(types) - 3} more" if len(types) > 3 else "")
    )
    since = entry.get("failing_since")
    return [
        text_of(entry.get("id")), _state(entry), shown, moment(since) if since else UNKNOWN, text_of(entry.get("url")),
    ]  # fmt: skip


def _state(entry: Json) -> str:
    if entry.get("enabled"):
        return "enabled"
    why = entry.get("why_disabled")
    return f"disabled ({why})" if why else "disabled"


def _say(cli: Cli, entry: Json) -> None:
    cli.table(COLUMNS, [_row(entry)])
    if entry.get("description"):
        cli.say(str(entry["description"]))
    if entry.get("old_secret_until"):
        cli.note(f"two secrets sign until {moment(entry['old_secret_until'])}")


def _deliveries(cli: Cli, listed: list[Json]) -> None:
    if not listed:
        cli.note("nothing was sent")
        return
    rows = []
    for entry in listed:
        following = entry.get("next_attempt_at")
        rows.append(
            [
                moment(entry.get("created_at")), text_of(entry.get("type")), text_of(entry.get("state")),
                str(entry.get("attempts_made", 0)), _answer(entry.get("last_attempt") or {}),
                moment(following) if following else UNKNOWN, text_of(entry.get("id")),
            ]
        )  # fmt: skip
    cli.table(DELIVERIES, rows)


def _one(cli: Cli, delivery: Json) -> None:
    why = f" ({delivery['why_dead']})" if delivery.get("why_dead") else ""
    cli.say(f"{text_of(delivery.get('id'))}  {text_of(delivery.get('type'))}  {text_of(delivery.get('state'))}{why}")
    if delivery.get("next_attempt_at") and delivery.get("attempts"):
        cli.say(f"tried again at {moment(delivery['next_attempt_at'])}")
    rows = [[moment(a.get("at")), duration(a.get("seconds")), _answer(a)] for a in delivery.get("attempts") or []]
    if rows:
        cli.table(ATTEMPTS, rows)


def _answer(attempt: Json) -> str:
    if attempt.get("status") is not None:
        return str(attempt["status"])
    return text_of(attempt.get("error"))
