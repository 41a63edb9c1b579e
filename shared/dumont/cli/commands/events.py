"""`dumont events`: what happens to a machine, as it happens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import click

from dumont.cli.client import Client
from dumont.cli.commands.completing import MachineName
from dumont.cli.errors import INTERRUPTED, CliError, Json
from dumont.cli.output import Cli, common_options, duration, moment, money, text_of

POLL_SECONDS = 1.0
OPERATIONS_WATCHED = 20
"""How many of the newest operations are looked at while following: more do not go on at once."""
OPERATIONS_MOST = 200
"""As many as the API lists at once."""


@click.command()
@click.argument("name", type=MachineName())
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C, with what is new; with --json, JSON lines.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, metavar="N",
              help="So many of the latest.")  # fmt: skip
@common_options
def events(cli: Cli, name: str, follow: bool, limit: int) -> int:
    """Show what happened to a machine.

    Each step of each operation on it, the newest last.
    """
    with cli.client() as client:
        history = _operations(client, name, min(limit, OPERATIONS_MOST))
        if not history:
            client.machine(name)  # says so if there is no such machine
        known = events_of(history)
        shown = known[-limit:]
        if not follow:
            cli.result({"machine": name, "events": shown})
            for event in shown:
                cli.say(event_line(event))
            if not shown:
                cli.note("nothing has happened yet")
            return 0
        try:
            for event in shown:
                _emit(cli, event)
            for event in _new_events(cli, client, name, {key_of(event) for event in known}):
                _emit(cli, event)
        except KeyboardInterrupt:
            return INTERRUPTED  # how following is meant to end: nothing to say
    return 0


def _emit(cli: Cli, event: Json) -> None:
    if cli.as_json:
        import json

        click.echo(json.dumps(event, ensure_ascii=False))
    else:
        cli.say(event_line(event))


def _new_events(cli: Cli, client: Client, name: str, known: set[tuple[str, str]]) -> Iterator[Json]:
    lost = False
    while True:
        time.sleep(POLL_SECONDS)
        try:
            found = events_of(_operations(client, name, OPERATIONS_WATCHED))
        except CliError as error:
            if not error.may_pass:
                raise
            if not lost:
                cli.note(f"(trying again: {error.detail})")
            lost = True
            continue
        lost = False
        for event in found:
            if key_of(event) not in known:
                known.add(key_of(event))
                yield event


def _operations(client: Client, name: str, limit: int) -> list[Json]:
    found: list[Json] = client.get("operations", machine=name, limit=limit).get("operations") or []
    return found


def events_of(operations: list[Json]) -> list[Json]:
    """Events, oldest first: of each operation its beginning, its steps and its end.

    An event: time (epoch seconds), operation, kind, event ("begin", a number for a step, "end"), step (its name), ok,
    seconds, detail, instance_id, cost_usd; what is not known is null.
    """
    found = [event for operation in operations for event in _events_of(operation)]
    return sorted(found, key=lambda event: (event["time"] or 0.0, event["event"] == "end"))


def _events_of(operation: Json) -> Iterator[Json]:
    def event(kind: str, at: object, step: str, ok: bool, **more: Any) -> Json:
        head = {"time": at, "operation": operation.get("id"), "kind": operation.get("kind"), "event": kind}
        more = {"seconds": None, "detail": "", "instance_id": None, "cost_usd": None} | more
        return {**head, "step": step, "ok": ok, **more}

    by = operation.get("requested_by")
    yield event("begin", operation.get("created_at"), "begin", True, detail=f"for {by}" if by else "")
    for place, step in enumerate(operation.get("steps") or []):
        fields = {name: step.get(name) for name in ("seconds", "instance_id", "cost_usd")}
        detail = str(step.get("detail") or "")
        yield event(
            str(place), step.get("ended_at"), str(step.get("name")), bool(step.get("ok", True)), detail=detail, **fields
        )
    state = operation.get("state")
    if state == "running":
        return
    why = str((operation.get("problem") or {}).get("detail") or "")
    ended = operation.get("ended_at")
    started = operation.get("created_at")
    whole = ended - started if isinstance(ended, int | float) and isinstance(started, int | float) else None
    text = f"{text_of(state)}: {why}" if why else text_of(state)
    yield event(
        "end", ended, "end", state == "succeeded", seconds=whole, detail=text, cost_usd=operation.get("cost_usd")
    )


def key_of(event: Json) -> tuple[str, str]:
    """What tells an event from every other: steps are only ever appended to an operation."""
    return str(event["operation"]), str(event["event"])


def event_line(event: Json) -> str:
    """An event on one line: time, operation, step, outcome, seconds, detail."""
    cost = event.get("cost_usd")
    price = f", {money(cost)}" if event["event"] == "end" and cost else ""
    took = duration(event["seconds"]) if event.get("seconds") is not None else ""
    parts = [
        moment(event.get("time")),
        f"{text_of(event.get('kind')):<9}",
        f"{text_of(event.get('step')):<13}",
        f"{'ok' if event.get('ok') else 'failed':<6}",
        f"{took:>8}",
        f"{event.get('detail') or ''}{price}",
    ]
    return "  ".join(parts).rstrip()
