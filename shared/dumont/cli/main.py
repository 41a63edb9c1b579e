"""The `dumont` command: the group of all commands, and how it ends: never with a traceback, always with a status."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NoReturn

import click

from dumont.cli.commands.advise import advise
from dumont.cli.commands.audit import audit
from dumont.cli.commands.completing import completion
from dumont.cli.commands.deploy import deploy
from dumont.cli.commands.deploy_check import deploy_check
from dumont.cli.commands.doctor import doctor
from dumont.cli.commands.events import events
from dumont.cli.commands.failover import failover
from dumont.cli.commands.gateway import gateway, url_of
from dumont.cli.commands.idle import idle, keep
from dumont.cli.commands.jobs import job
from dumont.cli.commands.keys import keys, token
from dumont.cli.commands.lifecycle import down, up
from dumont.cli.commands.local import demo, local
from dumont.cli.commands.machines import list_machines, logs, show
from dumont.cli.commands.market import search
from dumont.cli.commands.money import budget, cost, savings
from dumont.cli.commands.openapi import openapi
from dumont.cli.commands.operations import operation, operations
from dumont.cli.commands.routes import ssh_config, ssh_proxy
from dumont.cli.commands.shell import run, ssh
from dumont.cli.commands.sleep import hibernate, wake
from dumont.cli.commands.snapshots import diff, restore, snapshot, snapshots
from dumont.cli.commands.templates import templates
from dumont.cli.commands.webhook import webhook
from dumont.cli.errors import EXIT_CODES, FAILED, INTERRUPTED, CliError
from dumont.cli.output import Cli, common_options, show_error


class DumontGroup(click.Group):
    """A group whose commands answer with their exit status, and whose errors end as `cli.errors` documents."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: ARG002 (click's signature)
        **extra: Any,
    ) -> NoReturn:
        """Run the command named by `args` and exit."""
        arguments = list(sys.argv[1:] if args is None else args)
        as_json = wants_json(arguments)
        try:
            status = super().main(arguments, prog_name or "dumont", complete_var, standalone_mode=False, **extra)
        except CliError as error:
            show_error(error, as_json=as_json)
            status = error.exit_code
        except click.ClickException as error:
            if as_json:
                show_error(CliError(error.format_message(), exit_code=2, code="usage"), as_json=True)
            else:
                error.show()
            status = error.exit_code
        except (click.Abort, KeyboardInterrupt):
            show_error(CliError("interrupted", code="interrupted"), as_json=as_json)
            status = INTERRUPTED
        except OSError as error:
            show_error(CliError(f"this machine refused it: {error}", code="os_error"), as_json=as_json)
            status = FAILED
        sys.exit(status if isinstance(status, int) else 0)


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether --json was given to us, and not to a command to be run on a machine."""
    ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in ours


@click.group(
    name="dumont",
    cls=DumontGroup,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
def cli() -> None:
    """Dumont makes a cheap rented GPU behave like one that can be relied on.

    The API is at DUMONT_URL (default http://localhost:8080); the key is DUMONT_API_KEY, or the one kept in
    ~/.config/dumont/credentials.json, where `dumont local up` puts its own.
    """


@click.command()
@common_options
def version(out: Cli) -> None:
    """Print the version."""
    from importlib.metadata import version as version_of

    number = version_of("dumont")
    out.result({"dumont": number})
    out.say(f"dumont {number}")


for _command in (
    cost, savings, budget,
    search, advise, templates, up, deploy, job, list_machines, show, ssh, run, logs, events,
    snapshot, snapshots, restore, diff, failover, idle, keep,
    hibernate, wake, gateway, url_of, operations, operation, down, ssh_config, ssh_proxy, local, demo,
    webhook, audit, keys, token, openapi, deploy_check, doctor, completion, version,
):  # fmt: skip
    cli.add_command(_command)


def _defect(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if os.environ.get("DUMONT_DEBUG"):
        sys.__excepthook__(kind, error, trace)
        return
    text = f"a defect in dumont itself: {kind.__name__}: {error}"
    show_error(
        CliError(text, code="defect", hint="DUMONT_DEBUG=1 shows where; please report it"),
        as_json=wants_json(sys.argv[1:]),
    )


def main() -> NoReturn:
    """The console script."""
    sys.excepthook = _defect
    cli.main()
    raise AssertionError  # cli.main never returns


if __name__ == "__main__":
    main()
