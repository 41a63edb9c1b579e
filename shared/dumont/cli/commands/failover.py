"""`dumont failover`: moving a machine to another host by hand, and the timeline of it."""

from __future__ import annotations

import click

from dumont.cli.commands.completing import MachineName
from dumont.cli.errors import USAGE, CliError
from dumont.cli.output import Cli, common_options


@click.command()
@click.argument("name", type=MachineName())
@click.option("--discard", is_flag=True, help="Save nothing first: what no snapshot has may be lost with the old host.")
@click.option("--drill", is_flag=True, help="Rehearse it on another host; the machine runs on, untouched.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Follow it until the machine runs again.")
@common_options
def failover(cli: Cli, name: str, discard: bool, drill: bool, wait: bool) -> None:
    """Move a machine to another host.

    What its workspace holds is saved first, unless its host is silent (what is written after the copy began stays
    behind: stop what writes). Then all goes as when its host dies: the old host is fenced, new ones race, the last
    verified snapshot is restored on the fastest, its workload starts there, and the old host is destroyed. Where no
    other host is to be had, it goes on where it was. With --discard nothing is saved first.

    With --drill nothing is moved: new hosts race, the last snapshot is restored on the fastest and every byte of it is
    read back, and then all of them are let go. The workload is not started there, since no two hosts ever serve.
    """
    from dumont.cli.follow import outcome
    from dumont.cli.timeline import show_drill, show_failover

    if drill and discard:
        raise CliError("a rehearsal loses nothing: either --drill or --discard", exit_code=USAGE, code="usage")
    with cli.client() as client:
        wish = {"name": name, "drill": True} if drill else {"name": name, "discard": discard}
        accepted = client.post("failover", body=wish)
        begun = f"a failover of {name} is rehearsed" if drill else f"{name} is being moved"
        ended = outcome(cli, client, accepted, name, detach=not wait, begun=f"{begun} (`dumont events {name} -f`)")
    if ended is None:
        return
    operation, machine = ended
    cli.result({"machine": machine, "operation": operation})
    if drill:
        show_drill(cli, operation)
        return
    show_failover(cli, operation, machine)
