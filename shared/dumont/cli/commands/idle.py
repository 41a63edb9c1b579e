"""`dumont idle` and `dumont keep`: why a machine sleeps or does not, and keeping it from it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from dumont.cli.commands.completing import MachineName
from dumont.cli.commands.sleeping import keep_seconds
from dumont.cli.errors import Json
from dumont.cli.output import UNKNOWN, Cli, common_options, duration, moment, money

_STATES = {"active": "in use", "quiet": "quiet", "unknown": "unknown", "ignored": "not counted"}


@click.command()
@click.argument("name", type=MachineName())
@click.option("--why", is_flag=True, help="Show how it would sleep, and the arithmetic of that.")
@common_options
def idle(cli: Cli, name: str, why: bool) -> None:
    """Say whether a machine is idle, and why or why not.

    Idle is what nothing has used for the whole of its time to sleep after, by all signals and without a doubt: what is
    unknown is not idle.
    """
    with cli.client() as client:
        answer = client.get("idle", name)
    cli.result(answer)
    seen: Json = answer.get("idle") or {}
    verdict = {True: "is idle", False: "is not idle"}.get(seen.get("idle"), "does not serve")  # type: ignore[arg-type]
    cli.say(f"{name} {verdict}:")
    for word in seen.get("words") or []:
        cli.say(f"  - {word}")
    _say_when(cli, seen)
    signals = seen.get("signals") or []
    if signals:
        cli.say()
        cli.table(
            ("signal", "now"), [[str(s.get("words") or ""), _STATES.get(str(s.get("state")), "")] for s in signals]
        )
    if why:
        _say_why(cli, seen.get("sleep"))


def _say_when(cli: Cli, seen: Json) -> None:
    if seen.get("idle") is False and seen.get("idle_at") is not None:
        cli.say(f"at the earliest it is idle at {moment(seen['idle_at'])}")
    due = seen.get("next_due")
    if due:
        does = "woken" if due.get("action") == "wake" else "put to sleep"
        cli.say(f'by its timetable it is {does} at {moment(due.get("at"))} ("{due.get("rule")}")')


def _say_why(cli: Cli, sleep: Json | None) -> None:
    cli.say()
    if not sleep:
        cli.say("it is on no host: there are no prices to weigh")
        return
    basis = (
        "by how long it was idle before"
        if sleep.get("learned")
        else "by break-even: too little is known of its idleness"
    )
    text = f"now {sleep.get('tier')}, {basis}"
    if sleep.get("next_tier"):
        text += f"; {sleep['next_tier']} once idle for {duration(sleep.get('next_at_seconds'))}"
    cli.say(text)
    rows = [[str(row.get("what") or ""), _value(row), str(row.get("how") or "")] for row in sleep.get("rows") or []]
    cli.table(("what", ">comes to", "how"), rows)


def _value(row: dict[str, Any]) -> str:
    if row.get("usd") is not None:
        return money(row["usd"])
    if row.get("usd_per_hour") is not None:
        return f"{money(row['usd_per_hour'])}/h"
    if row.get("times") is not None:
        return f"{row['times']:g}×"
    if "seconds" in row:
        return "never" if row["seconds"] is None else duration(row["seconds"])
    return UNKNOWN


@click.command()
@click.argument("name", type=MachineName())
@click.argument("time", nargs=-1, metavar="[2h | 30m | until 18:00 | off]")
@common_options
def keep(cli: Cli, name: str, time: tuple[str, ...]) -> None:
    """Keep a machine awake, by default for an hour.

    "off" lets it sleep again when it is idle.
    """
    seconds = keep_seconds(time, datetime.now(UTC).astimezone())
    with cli.client() as client:
        answer = client.post("idle", name, "keep", body={"seconds": seconds})
    cli.result(answer)
    until = (answer.get("idle") or {}).get("keep_until")
    cli.say(f"{name} is kept awake until {moment(until)}" if until else f"{name} may sleep when it is idle")
