"""`dumont templates`, and the options of `dumont up` that take one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from dumont.cli.errors import USAGE, CliError, Json
from dumont.cli.output import UNKNOWN, Cli, common_options, duration, number

F = TypeVar("F", bound=Callable[..., Any])
QUANTISATIONS = ("fp16", "int8", "int4")


def quantisation_option(command: F) -> F:
    """How many bits a weight has."""
    option = click.option(
        "--quantisation", "--quantization", "quantisation", type=click.Choice(QUANTISATIONS), help="Bits of a weight."
    )
    return option(command)


def context_option(command: F) -> F:
    """How long a conversation may be."""
    option = click.option(
        "--context", type=click.IntRange(1, 10_000_000), metavar="TOKENS",
        help="The longest conversation. [default: 8192, or the model's own limit]",
    )  # fmt: skip
    return option(command)


def template_options(command: F) -> F:
    """A template, and how it serves its model."""
    option = click.option(
        "--template",
        metavar="NAME",
        help="Fill in what is not said here: image, command, health, port, idleness (`dumont templates` lists them).",
    )
    return option(context_option(quantisation_option(command)))


def check_template(options: dict[str, Any]) -> None:
    """Raises `CliError` where something is said of how a template serves, and no template is named."""
    for name in ("context", "quantisation"):
        if options.get(name) is not None and options.get("template") is None:
            raise CliError(f"--{name} is for a --template", exit_code=USAGE, code="usage", hint="`dumont templates`")


def say_reach(cli: Cli, template: str, name: str, spec: Json) -> None:
    """How what a template runs is reached: nothing but SSH is open on a machine."""
    port = spec.get("model_port")
    if template in ("vllm", "ollama"):
        models = ", ".join(spec.get("models") or [])
        cli.say(f"  {cli.url}/v1           answers for {models} once it is loaded (`dumont ls`: healthy)")
    elif template in ("jupyter", "comfyui"):
        cli.say(f"  dumont ssh-config --install && ssh -L {port}:127.0.0.1:{port} {name}")
        cli.say(f"                         then http://localhost:{port}, once `dumont ls` says healthy")
    if template == "jupyter":
        workspace = spec.get("workspace") or "workspace"
        cli.say(f"  dumont run {name} -- cat {workspace}/.jupyter/token    the token that it asks for")


@click.command()
@common_options
def templates(cli: Cli) -> None:
    """List the templates that `dumont up --template` takes.

    What is said on the command line wins over them. They keep their models in the workspace, where snapshots carry
    them, and listen on the machine's loopback alone: reach them by `dumont url`, or by `dumont ssh-config --install`
    and `ssh -L`.
    """
    from dumont.domain.templates import TEMPLATES

    cli.result(
        {
            "templates": [
                {
                    "name": t.name,
                    "about": t.about,
                    "image": t.image,
                    "port": t.port,
                    "health": t.health.replace("PORT", str(t.port)),
                    "takes_model": t.takes_model,
                    "min_cuda": t.min_cuda,
                    "fields": t.fields,
                }
                for t in TEMPLATES
            ]
        }
    )
    cli.table(
        ("template", "image", ">port", ">cuda", "model", ">sleeps after", "what"),
        [
            [
                t.name,
                t.image,
                number(t.port if t.health else None).replace(",", ""),
                number(t.min_cuda, 1),
                "--model NAME" if t.takes_model else UNKNOWN,
                duration(t.fields["idle_after_minutes"] * 60.0),
                t.about,
            ]
            for t in TEMPLATES
        ],
    )
