"""What commands print: tables and colour on a terminal, plain text in a pipe, JSON alone on stdout with --json."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import click

from dumont.cli.client import DEFAULT_URL, Client, checked_url
from dumont.cli.errors import CliError, Json

P = ParamSpec("P")
R = TypeVar("R")

UNKNOWN = "–"
MOVING = ("requested", "provisioning", "waking", "failing_over", "destroying", "hibernating", "releasing", "taking")
NOT_QUITE = ("incomplete", "warning", "unknown")


class Cli:
    """What each command gets: where to print, and the API that `--url` names."""

    def __init__(self, *, as_json: bool, url: str) -> None:
        self.as_json = as_json
        self._url = url

    @property
    def url(self) -> str:
        """The API's base URL; raises `CliError` if what was given is none."""
        return checked_url(self._url)

    def client(self, *, timeout_seconds: float = 30.0) -> Client:
        """A client of the API, to be used in a `with`."""
        return Client(self.url, timeout_seconds=timeout_seconds)

    def result(self, value: Json) -> None:
        """The machine-readable result; printed only with --json."""
        if self.as_json:
            click.echo(json.dumps(value, ensure_ascii=False, indent=2))

    def say(self, text: str = "") -> None:
        """A line for a person, on stdout."""
        if not self.as_json:
            click.echo(text)

    def note(self, text: str) -> None:
        """A remark or progress for a person, on stderr, so that stdout stays what was asked for."""
        if not self.as_json:
            click.echo(text, err=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table; a column whose name begins with ">" is set to the right."""
        if self.as_json:
            return
        if is_terminal(sys.stdout):
            _rich_table(columns, rows)
        else:
            for line in plain_table(columns, rows):
                click.echo(line)


def is_terminal(stream: Any) -> bool:
    """Whether a stream is a terminal that can move its cursor."""
    return bool(stream.isatty()) and os.environ.get("TERM") != "dumb"


def uses_colour(stream: Any) -> bool:
    """Whether to colour what goes to a stream (https://no-color.org)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def common_options(command: Callable[..., R]) -> Callable[..., R]:
    """Adds --json and --url to a command and hands it a `Cli` in their stead."""

    @click.option("--json", "as_json", is_flag=True, help="Machine-readable JSON on stdout, errors too.")
    @click.option(
        "--url", envvar="DUMONT_URL", default=DEFAULT_URL, show_default=True, show_envvar=True, help="The API's URL."
    )
    @wraps(command)
    def wrapped(*args: Any, as_json: bool, url: str, **options: Any) -> R:
        return command(Cli(as_json=as_json, url=url), *args, **options)

    return wrapped


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned columns with two spaces between them."""
    names = [name.removeprefix(">") for name in columns]
    widths = [max(len(text) for text in (name, *(row[i] for row in rows))) for i, name in enumerate(names)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if column.startswith(">") else cell.ljust(width)
            for cell, width, column in zip(cells, widths, columns, strict=True)
        ]
        return "  ".join(padded).rstrip()

    return [line([name.upper() for name in names]), *(line(row) for row in rows)]


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=state_style(cell)) for cell in row))
    Console(highlight=False).print(table)


def state_style(text: str) -> str:
    """The colour for a state's name; none for any other text."""
    if text in ("running", "succeeded", "proven", "complete", "alive", "healthy", "ok"):
        return "green"
    if text in ("failed", "broken", "unhealthy", "no agent", "missing") or text.startswith("silent "):
        return "red"
    if text in (*MOVING, *NOT_QUITE):
        return "yellow"
    return ""


def show_error(error: CliError, *, as_json: bool) -> None:
    """A failure: for programs on stdout, for a person on stderr."""
    if as_json:
        click.echo(json.dumps(error.problem, ensure_ascii=False, indent=2))
        return
    mark = click.style("error:", fg="red", bold=True) if uses_colour(sys.stderr) else "error:"
    click.echo(f"{mark} {error.detail}", err=True)
    if error.safe:
        click.echo(f"  kept safe: {error.safe}", err=True)
    if error.hint:
        click.echo(f"  next: {error.hint}", err=True)


# --- How single values are written ----------------------------------------------------------------------------------


def money(amount: object, digits: int = 4) -> str:
    """USD, by default to the hundredth of a cent; what is not known is a dash, and what is too little to show is not
    shown as nothing.
    """
    if not isinstance(amount, int | float):
        return UNKNOWN
    least = 10.0**-digits
    sign = "-" if amount < 0 else ""
    small = f"<${least:.{digits}f}" if amount > 0 else f"-<${least:.{digits}f}"
    return small if 0 < abs(amount) < least / 2 else f"{sign}${abs(amount):.{digits}f}"


def number(value: object, digits: int = 0, unit: str = "") -> str:
    """A number with its unit, or a dash."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return UNKNOWN
    return f"{value:,.{digits}f}{unit}"


def size(count: object) -> str:
    """A number of bytes as a person says it: 512 B, 1.5 kB, 64.0 MB, 1.2 GB; powers of 1000, as stores bill."""
    if not isinstance(count, int | float) or isinstance(count, bool):
        return UNKNOWN
    amount, units = float(count), ("B", "kB", "MB", "GB", "TB")
    place = 0
    while amount >= 999.95 and place < len(units) - 1:
        amount, place = amount / 1000, place + 1
    return f"{amount:.0f} B" if place == 0 else f"{amount:.1f} {units[place]}"


def text_of(value: object) -> str:
    """A text, or a dash for none."""
    return str(value) if value not in (None, "") else UNKNOWN


def moment(at: object) -> str:
    """A time since the epoch as local time."""
    if not isinstance(at, int | float):
        return UNKNOWN
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: object) -> str:
    """A length of time as a person says it: 0.42 s, 72.8 s, 12 min, 3 h 5 min, 2 d 4 h."""
    if not isinstance(seconds, int | float):
        return UNKNOWN
    seconds = max(0.0, float(seconds))
    if seconds < 120:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
