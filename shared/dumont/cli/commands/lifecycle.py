"""`dumont up` and `down`: renting a machine, and giving it back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from dumont.cli.commands.completing import MachineName
from dumont.cli.commands.gateway import serving_options
from dumont.cli.commands.market import given, offer_filters
from dumont.cli.commands.policies import as_fields, copying_options, keeping_options
from dumont.cli.commands.sleeping import sleeping_fields, sleeping_options
from dumont.cli.commands.templates import check_template, say_reach, template_options
from dumont.cli.errors import USAGE, CliError, Json
from dumont.cli.output import Cli, common_options, duration, money


@click.command()
@click.argument("name")
@template_options
@offer_filters
@click.option("--image", metavar="IMAGE", help="Container image. [default: pytorch/pytorch:latest]")
@click.option("--workspace", metavar="PATH", help="The folder that is yours. [default: workspace]")
@click.option("--race", "race_width", type=int, metavar="N", help="Rent so many at once and keep the first that proves "
              "itself, 1 to 5. [default: 3]")  # fmt: skip
@click.option("--boot-timeout", "boot_timeout_seconds", type=float, metavar="S", help="Give a boot up after S seconds.")
@click.option("--ssh-timeout", "ssh_timeout_seconds", type=float, metavar="S", help="Give SSH up S seconds after boot.")
@copying_options
@keeping_options
@serving_options
@sleeping_options
@click.option("--budget", "budget_usd", type=float, metavar="USD", help="A hard cap: reaching it DESTROYS the machine.")
@click.option(
    "--ssh-key",
    "ssh_key_files",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="A public key to let in, too (the command line's own always is).",
)
@click.option("--detach", is_flag=True, help="Return at once instead of following.")
@common_options
def up(cli: Cli, name: str, detach: bool, ssh_key_files: tuple[Path, ...], **options: Any) -> None:
    """Rent a machine.

    Races the best offers, keeps the first that proves itself, and destroys the others.
    """
    from dumont.cli.follow import outcome
    from dumont.cli.keys import ensure_key, read_public_key

    check_template(options)
    body = {"name": name, **given(sleeping_fields(as_fields(options)))}
    if body.get("verify_every_days") == 0:
        body["verify_every_days"] = None
    body["ssh_public_keys"] = [ensure_key()[1], *(read_public_key(file) for file in ssh_key_files)]
    budget = body.get("budget_usd")
    if budget is not None:
        cli.note(f"budget {money(budget, 2)}: reaching it destroys {name}, workspace included")
    with cli.client() as client:
        accepted = client.post("provision", body=body)
        default = accepted.get("default_budget")
        if default:
            cli.note(f"all machines together may spend {money(default.get('usd_per_day'), 2)} a day, then they sleep: "
                     "`dumont budget set --per-day USD` changes it")  # fmt: skip
        ended = outcome(cli, client, accepted, name, detach=detach, begun=f"{name} is on its way")
    if ended is None:
        return
    operation, machine = ended
    cli.result({"machine": machine, "operation": operation})
    _say_running(cli, machine, operation)
    if options.get("template"):
        say_reach(cli, str(options["template"]), name, machine.get("spec") or {})


def _say_running(cli: Cli, machine: Json, operation: Json) -> None:
    from dumont.cli.views import gpu_text, seconds_between, ssh_text

    offer = machine.get("offer") or machine.get("spec") or {}
    name = machine.get("name")
    took = duration(seconds_between(operation.get("created_at"), machine.get("running_since")))
    rate = money(machine.get("price_usd_per_hour"))
    cli.say(f"{name} runs: {gpu_text(offer)} at {rate}/h, proven after {took}, {money(machine.get('cost_usd'))} so far")
    cli.say(f"  dumont ssh {name}          a shell ({ssh_text(machine)})")
    cli.say(f"  dumont run {name} -- …     a command")
    cli.say(f"  dumont down {name}         when you are done: it bills until then")
    if operation.get("state") == "running":
        cli.say(f"  (losers of its race are still being released: dumont operation {operation.get('id')})")


@click.command()
@click.argument("name", type=MachineName())
@click.option("--snapshot", is_flag=True, help="Take a snapshot of the workspace first.")
@click.option("--discard", is_flag=True, help="The workspace may be lost.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--detach", is_flag=True, help="Return at once instead of following.")
@common_options
def down(cli: Cli, name: str, snapshot: bool, discard: bool, yes: bool, detach: bool) -> None:
    """Destroy a machine, if its workspace is empty or saved.

    Saved: each file is in its newest good snapshot, as it is now. With --snapshot one is taken first, and the machine
    goes only if that has all files (what is written after the copy began goes with the machine: stop what writes).

    It is called destroyed when its provider says that it is gone.
    """
    from dumont.cli.follow import outcome

    if snapshot and discard:
        raise CliError("either --snapshot or --discard", exit_code=USAGE, code="usage")
    if not (snapshot or discard or yes or cli.as_json) and sys.stdin.isatty():
        question = f"destroy {name}? (refused if a file of its workspace is not saved; --snapshot saves all first)"
        if not click.confirm(question, err=True):
            raise CliError("nothing was done", exit_code=USAGE, code="not_confirmed")
    wish = {"name": name, "discard": discard, **({"snapshot": True} if snapshot else {})}
    with cli.client() as client:
        accepted = client.post("destroy", body=wish)
        try:
            ended = outcome(cli, client, accepted, name, detach=detach, begun=f"{name} is being destroyed")
        except CliError as error:
            raise _explained(error, name) from error
    if ended is None:
        return
    operation, machine = ended
    cli.result({"machine": machine, "operation": operation})
    cli.say(f"{name} is gone, as its provider confirms; it cost {money(machine.get('cost_usd'))}")


def _explained(error: CliError, name: str) -> CliError:
    """A refusal to destroy, with what stays, what it costs, and both ways on."""
    save = f"`dumont down {name} --snapshot` saves all first; `dumont down {name} --discard` loses it"
    ways = {
        "workspace_not_empty": save,
        "unsaved_files": save,
        "workspace_unreadable": f"look for yourself (`dumont ssh {name}`), or `dumont down {name} --discard`",
    }
    if error.code not in ways:
        return error
    return CliError(
        error.detail,
        exit_code=error.exit_code,
        code=error.code,
        safe=f"{name} still runs with all its files, and still bills.",
        hint=ways[error.code],
        problem={**error.problem, "hint": ways[error.code]},
    )
