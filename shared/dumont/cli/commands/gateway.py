"""`dumont gateway token` and `dumont url`: how to reach a machine's ports by HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from dumont.cli.commands.completing import MachineName
from dumont.cli.errors import Json
from dumont.cli.output import Cli, common_options

F = TypeVar("F", bound=Callable[..., Any])


def serving_options(command: F) -> F:
    """The models that a machine serves, and where. What is not given is left to the API's defaults."""
    for option in reversed(
        (
            click.option(
                "--model",
                "models",
                multiple=True,
                callback=lambda _context, _option, models: models or None,
                metavar="NAME",
                help="Its workload serves this model in OpenAI's shape: callers reach it at /v1. Can be given again.",
            ),
            click.option(
                "--port", "model_port", type=click.IntRange(1, 65535), metavar="PORT",
                help="Where it serves its models. [default: 8000]",
            ),
        )
    ):  # fmt: skip
        command = option(command)
    return command


@click.group()
def gateway() -> None:
    """HTTP to machines' ports, which are open to nobody else.

    A request wakes a machine that sleeps.
    """


@gateway.command()
@click.argument("name", type=MachineName())
@click.option("--rotate", is_flag=True, help="End all of its tokens, and make a new one.")
@click.option("--valid-hours", type=click.FloatRange(0.001, 87_600), metavar="H", help="It ends by itself after H "
              "hours. [default: only by --rotate]")  # fmt: skip
@common_options
def token(cli: Cli, name: str, rotate: bool, valid_hours: float | None) -> None:
    """Print a token that opens one machine's ports, and nothing else.

    Send it as `Authorization: Bearer …`, as `X-Dumont-Token`, or as a browser's password (any user name). The official
    OpenAI clients take it as their key, with DUMONT_URL/v1 as their base URL.
    """
    wish: Json = {"rotate": True} if rotate else {}
    if valid_hours is not None:
        wish["valid_seconds"] = valid_hours * 3600
    with cli.client() as client:
        made = client.post("gateway", name, "token", body=wish)
    cli.result(made)
    cli.say(str(made.get("token")))
    if rotate:
        cli.note(f"all earlier tokens of {name} have ended")


@click.command("url")
@click.argument("name", type=MachineName())
@click.argument("port", type=click.IntRange(1, 65535))
@common_options
def url_of(cli: Cli, name: str, port: int) -> None:
    """Print the URL at which a machine's port is reached.

    It is the same wherever the machine is.
    """
    address = f"{cli.url}/gateway/{name}/{port}/"
    cli.result({"url": address})
    cli.say(address)
