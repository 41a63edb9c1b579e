"""`dumont ls`, `show` and `logs`: looking at machines."""

from __future__ import annotations

import time

import click

from dumont.cli.commands.completing import MachineName
from dumont.cli.output import Cli, common_options


@click.command("ls")
@click.option("--all", "everything", is_flag=True, help="Destroyed ones, too.")
@common_options
def list_machines(cli: Cli, everything: bool) -> None:
    """List machines."""
    from dumont.cli.views import MACHINE_COLUMNS, machine_row

    with cli.client() as client:
        found = client.get("machines", all=True if everything else None)
        now = time.time() + client.clock_skew_seconds
    cli.result(found)
    machines = found.get("machines") or []
    if not machines:
        cli.note("no machines; rent one with `dumont up NAME`" if everything else "no machines; --all shows ended ones")
        return
    cli.table(MACHINE_COLUMNS, [machine_row(machine, now) for machine in machines])


@click.command()
@click.argument("name", type=MachineName())
@common_options
def show(cli: Cli, name: str) -> None:
    """Show a machine.

    Its state, address, health, proof, cost and rentals.
    """
    from dumont.cli.health import show_heartbeat
    from dumont.cli.views import INSTANCE_COLUMNS, instance_row, racer_names, show_machine

    with cli.client() as client:
        found = client.get("machines", name)
        now = time.time() + client.clock_skew_seconds
    cli.result(found)
    show_machine(cli, found.get("machine") or {}, now)
    show_heartbeat(cli, found.get("machine") or {})
    instances = found.get("instances") or []
    if instances:
        names = racer_names(found)
        cli.say("\nrentals:")
        cli.table(INSTANCE_COLUMNS, [instance_row(instance, names) for instance in instances])


@click.command()
@click.argument("name", type=MachineName())
@click.option("--tail", type=int, default=100, show_default=True, metavar="N", help="So many of the last lines.")
@common_options
def logs(cli: Cli, name: str, tail: int) -> None:
    """Print a machine's log.

    The last lines of what its provider keeps.
    """
    with cli.client() as client:
        found = client.get("machines", name, "logs", tail=tail)
    cli.result(found)
    for line in found.get("lines") or []:
        cli.say(str(line))
