"""`dumont failover`: moving a machine to another host by hand, and the timeline of it."""

from __future__ import annotations

import click

from dumont.cli.commands.completing import MachineName
from dumont.cli.errors import Json
from dumont.cli.output import Cli, common_options


@click.command()
@click.argument("name", type=MachineName())
@click.option("--discard", is_flag=True, help="What no snapshot has may be lost with the old host.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Follow it until the machine runs again.")
@common_options
def failover(cli: Cli, name: str, discard: bool, wait: bool) -> None:
    """Move a machine to another host.

    As when its host dies: the old host is fenced, new ones race, the last verified snapshot is restored on the fastest,
    its workload starts there, and the old host is destroyed. Without --discard it waits for the old host where no
    snapshot was taken.
    """
    from dumont.cli.follow import failure, follow
    from dumont.cli.timeline import show_failover

    with cli.client() as client:
        accepted = client.post("failover", body={"name": name, "discard": discard})
        operation: Json = accepted.get("operation") or {}
        if not wait:
            cli.result(accepted)
            cli.say(
                f"{name} is being moved: `dumont operation {operation.get('id')} --watch`, `dumont events {name} -f`"
            )
            return
        operation = follow(cli, client, operation)
        machine = client.machine(name)
    error = failure(operation, machine)
    if error is not None:
        raise error
    cli.result({"machine": machine, "operation": operation})
    show_failover(cli, operation, machine)
