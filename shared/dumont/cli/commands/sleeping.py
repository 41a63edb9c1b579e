"""The options of `dumont up` that say when a machine sleeps and wakes by itself, and times as people write them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

import click

from dumont.cli.errors import USAGE, CliError

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*(min|[smhd])")
_CLOCK = re.compile(r"^(\d{1,2}):(\d{2})$")
SIGNALS = ("gpu_use", "gpu_memory", "cpu", "network", "disk_writes", "ssh_sessions", "user_processes")


def sleeping_options(command: F) -> F:
    """When it sleeps by itself, what counts as use, and its timetable. What is not given is left to the API."""
    for option in reversed(
        (
            click.option(
                "--sleep-after",
                metavar="TIME",
                help="Sleep by itself after so long without any use, such as 15m; 3m is about the least. "
                "[default: never]",
            ),
            click.option(
                "--sleep-tier",
                type=click.Choice(["auto", "pause", "hibernate"]),
                help="How it then sleeps. [default: auto, by cost: `dumont idle NAME --why`]",
            ),
            click.option(
                "--idle-gpu",
                "idle_gpu_percent",
                type=float,
                metavar="%",
                help="GPU use up to this is none. [default: 5]",
            ),
            click.option(
                "--idle-gpu-memory",
                "idle_gpu_memory_mib",
                type=float,
                metavar="MIB",
                help="Likewise, by how much its memory in use changes between heartbeats. [default: 16]",
            ),
            click.option(
                "--idle-cpu", "idle_cpu_percent", type=float, metavar="%", help="Likewise, of all cores. [default: 10]"
            ),
            click.option(
                "--idle-network",
                "idle_network_bytes_per_second",
                type=float,
                metavar="B/S",
                help="Likewise, both ways. [default: 20000]",
            ),
            click.option(
                "--idle-disk",
                "idle_disk_bytes_per_second",
                type=float,
                metavar="B/S",
                help="Likewise, what is written. [default: 200000]",
            ),
            click.option(
                "--idle-processes",
                "idle_user_processes",
                type=int,
                metavar="N",
                help="So many processes, besides those of its image, are no use. [default: 0]",
            ),
            click.option(
                "--idle-ignore",
                multiple=True,
                type=click.Choice(SIGNALS),
                help="A signal that does not count on this machine; may be given again.",
            ),
            click.option(
                "--idle-workload-counts",
                is_flag=True,
                help="Its workload is use as long as it runs, as a job is anyway.",
            ),
            click.option(
                "--wake-wait",
                "wake_wait_usd_per_hour",
                type=float,
                metavar="USD",
                help="What an hour of waiting for it to wake is worth, against what sleeping saves. [default: 1]",
            ),
            click.option(
                "--wake-at", multiple=True, metavar="WHEN", help='Wake it then: "weekdays 08:45", or cron; several.'
            ),
            click.option(
                "--sleep-at", multiple=True, metavar="WHEN", help='Put it to sleep then: "daily 22:00"; several.'
            ),
            click.option("--time-zone", metavar="ZONE", help="Of both, such as Europe/Berlin. [default: UTC]"),
        )
    ):
        command = option(command)
    return command


def sleeping_fields(options: dict[str, Any]) -> dict[str, Any]:
    """The options by the API's names; what was not given is left out."""
    fields = {name: value for name, value in options.items() if name not in ("sleep_after", "idle_workload_counts")}
    after = options.get("sleep_after")
    if after is not None:
        fields["idle_after_minutes"] = length_seconds(after) / 60.0
    if options.get("idle_workload_counts"):
        fields["idle_workload_counts"] = True
    for name in ("idle_ignore", "wake_at", "sleep_at"):
        if name in fields:
            fields[name] = list(fields[name]) or None
    return fields


def length_seconds(text: str) -> float:
    """ "90s", "30m", "2h", "1h30m", "1.5 d" → seconds. Raises `CliError`."""
    compact = text.strip().lower()
    parts = _LENGTH.findall(compact)
    if not parts or "".join(_LENGTH.sub("", compact).split()):
        raise CliError(
            f"{text!r} is no length of time", exit_code=USAGE, code="invalid_input", hint="for example 30m, 2h, 1h30m"
        )
    return sum(float(count) * _UNITS[unit] for count, unit in parts)


def keep_seconds(words: tuple[str, ...], now: datetime) -> float:
    """ "2h", "until 18:00" (of the next such time where `now` is local), "off" (0) → seconds. Raises `CliError`."""
    text = " ".join(words).strip().lower()
    if text == "off":
        return 0.0
    if not text.startswith("until"):
        return length_seconds(text or "1h")
    clock = _CLOCK.match(text.removeprefix("until").strip())
    if clock is None or int(clock[1]) > 23 or int(clock[2]) > 59:
        raise CliError(f"{text!r} names no time", exit_code=USAGE, code="invalid_input", hint="for example until 18:00")
    then = now.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
    if then <= now:
        then += timedelta(days=1)
    # Through local time, which may change between the two: 18:00 is what the clock on the wall says then.
    return then.replace(tzinfo=None).astimezone().timestamp() - now.timestamp()
