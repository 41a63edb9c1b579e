"""The options of `dumont up` that say what a machine keeps running, and what becomes of it when its host dies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def keeping_options(command: F) -> F:
    """The workload, its health, heartbeats and failover. What is not given is left to the API's defaults."""
    for option in reversed(
        (
            click.option(
                "--run", metavar="COMMAND", help="Keep this running in the workspace, on whichever host serves."
            ),
            click.option(
                "--restart",
                type=click.Choice(["always", "on-failure", "never"]),
                help="When it is started again after it ended. [default: always]",
            ),
            click.option(
                "--max-restarts",
                type=int,
                metavar="N",
                help="How often one host starts it again. [default: without end]",
            ),
            click.option(
                "--health",
                metavar="CHECK",
                help='How its health is looked at: "port:8000", "http:8000/health" or "command:test -f up".',
            ),
            click.option(
                "--heartbeat",
                "heartbeat_seconds",
                type=float,
                metavar="S",
                help="Its host reports so often; silence is looked into 2.5 s later. [default: 5]",
            ),
            click.option(
                "--fence-after",
                "fence_after_seconds",
                type=float,
                metavar="S",
                help="A host cut off from us stops the command after S seconds, and none replaces it before that. "
                "0: it never stops by itself, and is replaced only once its provider says that it is down. "
                "[default: 30]",
            ),
            click.option(
                "--no-failover", is_flag=True, help="Do not move it by itself when its host dies; only say so."
            ),
            click.option(
                "--stateless", is_flag=True, help="A dead host is replaced even where no snapshot was taken: empty."
            ),
            click.option(
                "--spare",
                type=click.Choice(["none", "stopped", "running"]),
                help="Keep a second host restored to the last snapshot: it takes over in seconds. Running, it bills as "
                "the first does; stopped, its disk alone, but for each time that it is brought up to date. "
                "[default: none]",
            ),
            click.option(
                "--spare-refresh",
                "spare_refresh_minutes",
                type=float,
                metavar="MINUTES",
                help="Start a stopped spare to bring it up to date once it is so far behind. [default: 60]",
            ),
            click.option(
                "--max-failovers",
                "max_failovers_per_day",
                type=int,
                metavar="N",
                help="After so many moves within a day stop and say so. [default: 24]",
            ),
        )
    ):
        command = option(command)
    return command


def as_fields(options: dict[str, Any]) -> dict[str, Any]:
    """The options by the API's names; flags that were not given are left out."""
    fields = {name: value for name, value in options.items() if name not in ("no_failover", "stateless")}
    if options.get("no_failover"):
        fields["failover"] = "off"
    if options.get("stateless"):
        fields["stateless"] = True
    return fields
