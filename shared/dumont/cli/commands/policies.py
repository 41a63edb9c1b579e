"""The options of `dumont up` that say what a machine keeps running, what becomes of it when its host dies, and which
copies of its workspace there are.
"""

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


def copying_options(command: F) -> F:
    """When snapshots are taken and read back, and which of them stay."""
    for option in reversed(
        (
            click.option(
                "--snapshot-every",
                "snapshot_every_minutes",
                type=float,
                metavar="MINUTES",
                help="Take snapshots by itself, so many minutes apart. [default: never]",
            ),
            click.option(
                "--verify-every",
                "verify_every_days",
                type=float,
                metavar="DAYS",
                help="Where snapshots are taken by itself: how often the newest is read back whole; 0: never. "
                "[default: 7]",
            ),
            click.option(
                "--keep-last", type=int, metavar="N", help="So many of the newest snapshots stay. [default: 3]"
            ),
            click.option(
                "--keep-hourly",
                type=int,
                metavar="N",
                help="So does the newest of each of the last N hours that have one. [default: 24]",
            ),
            click.option("--keep-daily", type=int, metavar="N", help="And of each of the last N days. [default: 7]"),
            click.option(
                "--snapshot-md5",
                type=click.Choice(["all", "small"]),
                help="Which files a snapshot has the MD5 of, beside their BLAKE3; small: up to 16 MiB. Large files "
                "that change are snapshotted two to three times as fast without. [default: all]",
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
