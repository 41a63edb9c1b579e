"""Following an operation until it ends: live on a terminal, line by line in a pipe, silently with --json."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from dumont.cli.client import Client
from dumont.cli.errors import FAILED, INTERRUPTED, CliError, Json
from dumont.cli.output import Cli, duration, is_terminal, money, state_style, text_of
from dumont.cli.views import gpu_text, progress_text, racer_names, rate_text, seconds_between

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

A_YEAR_SECONDS = 3e7
FIRST_POLL_SECONDS = 0.05
POLL_SECONDS = 0.35
"""Polls begin close together, for what is done at once, and drift apart to this."""
SILENCE_SECONDS_MAX = 60.0
"""For how long polls may fail before following is given up: a restart of the API is no reason to stop watching."""
STEPS_SHOWN = 12
PROGRESS_EVERY_SECONDS = 5.0
"""In a pipe a long copy says so often how far it is; on a terminal it does so at each look."""


STRATEGIES = {
    "resume": "the old host is only stopped: it is started again",
    "warm": "the spare takes over",
    "cold": "new hosts race",
    "hold": "it waits for its old host, since nothing else has its files (`dumont failover NAME --discard` does not)",
}
"""How a failover brings its machine back, in words."""

RELEASE_WATCHED_SECONDS = 5.0
"""How long a provision or failover is watched once its machine runs: the losers of the race are mostly gone by then. A
loser whose create call was never answered takes a minute to be sure of, and the user's machine runs meanwhile."""


def follow(cli: Cli, client: Client, operation: Json) -> Json:
    """Poll an operation until it has ended (a provision or failover: until its machine runs, and a little longer),
    showing how it goes; its last view.

    Raises `CliError` if the API stays away, or if the user presses Ctrl-C: the operation goes on then, and the error
    says how to watch it.
    """
    show: _Silent = _Silent() if cli.as_json else _Live(client) if is_terminal(sys.stderr) else _Lines()
    identifier = str(operation.get("id"))
    try:
        with show:
            return _until_ended(client, operation, show)
    except KeyboardInterrupt:
        raise CliError(
            f"you stopped watching; operation {identifier} goes on",
            exit_code=INTERRUPTED,
            code="interrupted",
            hint=f"watch it with `dumont operation {identifier} --watch`",
        ) from None


def machine_runs(operation: Json) -> bool:
    """Whether a provision or failover has its machine, and only other hosts are still to go."""
    return operation.get("kind") in ("provision", "failover", "wake") and operation.get("phase") == "release"


def _until_ended(client: Client, operation: Json, show: _Silent) -> Json:
    heard_at = time.monotonic()
    poll_seconds = FIRST_POLL_SECONDS
    identifier = str(operation.get("id"))
    runs_since: float | None = None
    while True:
        show.update(operation)
        if operation.get("state") != "running":
            return operation
        if machine_runs(operation):
            runs_since = time.monotonic() if runs_since is None else runs_since
            if time.monotonic() - runs_since > RELEASE_WATCHED_SECONDS:
                return operation
        time.sleep(poll_seconds)
        poll_seconds = min(POLL_SECONDS, poll_seconds * 1.5)
        try:
            operation = client.operation(identifier)
            heard_at = time.monotonic()
        except CliError as error:
            if not error.may_pass or time.monotonic() - heard_at > SILENCE_SECONDS_MAX:
                raise CliError(
                    f"lost sight of operation {identifier}: {error.detail}",
                    exit_code=error.exit_code,
                    code=error.code,
                    safe="It goes on by itself, and its deadlines guard it.",
                    hint=f"look with `dumont operation {identifier} --watch`",
                ) from error
            show.lost(error)
            time.sleep(poll_seconds)


def failure(operation: Json, machine: Json | None = None) -> CliError | None:
    """The error of an operation that did not succeed; None for one that did."""
    state = operation.get("state")
    if state == "succeeded" or (state == "running" and machine_runs(operation)):
        return None
    problem: Json = operation.get("problem") or {}
    if state == "superseded" and not problem:
        problem = {"code": "superseded", "detail": "another operation took the machine over"}
    what = f"{text_of(operation.get('kind'))} of {text_of(operation.get('machine'))}"
    extra: Json = {"operation": operation}
    if machine is not None:
        extra["machine"] = machine
    return CliError(
        f"{what} {text_of(state)}: {problem.get('detail') or 'no reason was given'}",
        exit_code=FAILED,
        code=str(problem.get("code") or "failed"),
        safe=str(problem.get("safe") or ""),
        hint=str(problem.get("hint") or f"see `dumont operation {operation.get('id')}`"),
        extra=extra,
    )


def outcome(
    cli: Cli, client: Client, accepted: Json, name: str, *, detach: bool, begun: str
) -> tuple[Json, Json] | None:
    """Follow an accepted operation to its end: its last view, and its machine's. With `detach` that it is `begun` is
    said, and how to watch it, and there is nothing to answer. Raises `CliError` if it did not succeed."""
    operation: Json = accepted.get("operation") or {}
    if detach:
        cli.result(accepted)
        cli.say(f"{begun}: `dumont operation {operation.get('id')} --watch`")
        return None
    operation = follow(cli, client, operation)
    machine = client.machine(name)
    error = failure(operation, machine)
    if error is not None:
        raise error
    return operation, machine


# --- What has happened since the last look ----------------------------------------------------------------------------


def event_lines(before: Json | None, now: Json) -> list[str]:
    """A line for each thing in an operation's view that an earlier view of it did not have yet."""
    names = racer_names(now)
    started = now.get("created_at") or 0.0
    known = {(i.get("id"), i.get("state")) for i in (before or {}).get("instances") or []}
    known_ids = {identifier for identifier, _ in known}
    dated: list[tuple[float, str]] = []
    for instance in now.get("instances") or []:
        name = names.get(str(instance.get("id")))
        rental = f"rental {name}" if name else "the rental"
        state = instance.get("state")
        if name and instance.get("id") not in known_ids:
            offer = instance.get("offer") or {}
            where = f"{gpu_text(offer)} in {text_of(offer.get('region'))} at {rate_text(instance)}/h"
            dated.append((instance.get("intended_at") or started, f"{rental}: {where}"))
        if state == "gone" and (instance.get("id"), state) not in known:
            reason = (instance.get("problem") or {}).get("detail") or ""
            text = f"{rental}: gone, as its provider confirms" + (f" ({reason})" if reason else "")
            dated.append((instance.get("gone_at") or started, text))
    already = len((before or {}).get("steps") or [])
    for step in (now.get("steps") or [])[already:]:
        dated.append((step.get("ended_at") or started, step_text(step, names)))
    tried = operation_strategies(now)
    for strategy in tried[len(operation_strategies(before or {})) :]:
        dated.append((now.get("tried_since") or started, strategy))
    if lease_text(now) and not lease_text(before or {}):
        dated.append((now.get("tried_since") or started, lease_text(now)))
    dated.sort(key=lambda entry: entry[0])
    return [f"{max(0.0, at - started):7.2f} s  {text}" for at, text in dated]


def operation_strategies(operation: Json) -> list[str]:
    """The ways by which a failover tried to bring its machine back, in words, the present one last."""
    name = text_of(operation.get("machine"))
    return [STRATEGIES.get(word, word).replace("NAME", name) for word in operation.get("tried") or []]


def lease_text(operation: Json) -> str:
    """Until when a failover's new host must not serve, since the old one may; empty if it need not wait."""
    until, started = operation.get("serve_not_before"), operation.get("created_at")
    if not isinstance(until, int | float) or not isinstance(started, int | float) or until <= started:
        return ""
    if until - started > A_YEAR_SECONDS:
        return "no new host serves before the old one's provider says that it is down (--fence-after 0)"
    return f"no new host serves before {until - started:.1f} s: the old one, unheard, may until then"


def step_text(step: Json, names: dict[str, str]) -> str:
    """A step on one line."""
    name = names.get(str(step.get("instance_id")))
    on = f" on {name}" if name else ""
    mark = "" if step.get("ok", True) else " FAILED"
    detail = f": {step['detail']}" if step.get("detail") else ""
    return f"{text_of(step.get('name'))}{on}{mark} took {duration(step.get('seconds'))}{detail}"


class _Silent:
    """Shows nothing: for --json."""

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def update(self, operation: Json) -> None:
        """Take in the latest view."""

    def lost(self, error: CliError) -> None:
        """A poll failed; it is tried again."""


class _Lines(_Silent):
    """A line for each event, on stderr: for logs and pipes."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._before: Json | None = None
        self._said_lost = False
        self._now = now
        self._told_progress_at = now()

    def update(self, operation: Json) -> None:
        for line in event_lines(self._before, operation):
            click.echo(line, err=True)
        far = progress_text(operation) if operation.get("state") == "running" else ""
        if far and self._now() - self._told_progress_at >= PROGRESS_EVERY_SECONDS:
            click.echo(f"  (so far: {far})", err=True)
            self._told_progress_at = self._now()
        self._before = operation
        self._said_lost = False

    def lost(self, error: CliError) -> None:
        if not self._said_lost:
            click.echo(f"  (trying again: {error.detail})", err=True)
            self._said_lost = True


def lines_on_stderr() -> Callable[[Json], None]:
    """Takes views of an operation as they come, and tells on stderr what is new in each."""
    return _Lines().update


class _Live(_Silent):
    """A picture that moves, on stderr: for terminals."""

    def __init__(self, client: Client) -> None:
        from rich.console import Console
        from rich.live import Live

        self._client = client
        self._live = Live(console=Console(stderr=True, highlight=False), auto_refresh=False, transient=False)

    def __enter__(self) -> _Live:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, operation: Json) -> None:
        server_now = time.time() + self._client.clock_skew_seconds
        self._live.update(picture(operation, server_now), refresh=True)

    def lost(self, error: CliError) -> None:
        from rich.text import Text

        self._live.update(Text(f"trying again: {error.detail}", style="yellow"), refresh=True)


def picture(operation: Json, now: float) -> Group:
    """An operation as it stands at `now`, for a terminal: its rentals, then its latest steps."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    names = racer_names(operation)
    ended = operation.get("ended_at") or now
    head = Text.assemble(
        (f"{text_of(operation.get('kind'))} {text_of(operation.get('machine'))}", "bold"),
        ("  " + text_of(operation.get("state")), state_style(str(operation.get("state")))),
        f"  {duration(seconds_between(operation.get('created_at'), ended))}  {money(operation.get('cost_usd'))}",
    )
    strategies = operation_strategies(operation)
    if strategies and operation.get("state") == "running":
        head.append("\n" + "; ".join(filter(None, (strategies[-1], lease_text(operation)))), style="cyan")
    rentals = Table.grid(padding=(0, 2))
    for instance in sorted(operation.get("instances") or [], key=lambda i: i.get("intended_at") or 0.0):
        offer = instance.get("offer") or {}
        state = str(instance.get("state"))
        until = instance.get("gone_at") or now
        rentals.add_row(
            Text(names.get(str(instance.get("id")), ""), style="bold"),
            gpu_text(offer),
            text_of(offer.get("region")),
            f"{rate_text(instance)}/h",
            Text("booting" if state == "created" else state, style=state_style(state)),
            Text(duration(seconds_between(instance.get("intended_at"), until)), justify="right"),
        )
    steps = Table.grid(padding=(0, 2))
    for step in (operation.get("steps") or [])[-STEPS_SHOWN:]:
        good = step.get("ok", True)
        steps.add_row(
            Text("✓" if good else "✗", style="green" if good else "red"),
            text_of(step.get("name")),
            names.get(str(step.get("instance_id")), ""),
            Text(duration(step.get("seconds")), justify="right"),
            Text(str(step.get("detail") or ""), style="dim", overflow="ellipsis", no_wrap=True),
        )
    parts: list[RenderableType] = [head, rentals, steps]
    far = progress_text(operation) if operation.get("state") == "running" else ""
    if far:
        parts.append(Text(f"… {far}", style="cyan"))
    return Group(*parts)
