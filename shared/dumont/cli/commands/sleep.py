"""`dumont hibernate` and `dumont wake`: a machine that costs no GPU until it is wanted."""

from __future__ import annotations

import click

from dumont.cli.commands.completing import MachineName
from dumont.cli.output import Cli, common_options


@click.command()
@click.argument("name", type=MachineName())
@click.option(
    "--pause", is_flag=True, help="Keep the stopped host: it wakes in seconds if its GPU is free, its disk bills."
)
@click.option("--wait/--no-wait", default=True, show_default=True, help="Follow it until the machine sleeps.")
@common_options
def hibernate(cli: Cli, name: str, pause: bool, wait: bool) -> None:
    """Put a machine to sleep.

    Its workload stops, its workspace is saved and verified, and only then its GPU is let go. It wakes with the same
    files, by `dumont wake`, by a schedule, or by the first request for it.
    """
    from dumont.cli.follow import outcome

    with cli.client() as client:
        accepted = client.post("hibernate", body={"name": name, "tier": "pause" if pause else "hibernate"})
        ended = outcome(cli, client, accepted, name, detach=not wait, begun=f"{name} goes to sleep")
    if ended is None:
        return
    operation, machine = ended
    cli.result({"machine": machine, "operation": operation})
    how = "paused: its disk is kept, and bills" if machine.get("paused_instance_id") else "hibernated: no GPU, no disk"
    cli.say(f"{name} sleeps, {how}; wake it: dumont wake {name}")


@click.command()
@click.argument("name", type=MachineName())
@click.option("--wait/--no-wait", default=True, show_default=True, help="Follow it until the machine runs.")
@common_options
def wake(cli: Cli, name: str, wait: bool) -> None:
    """Wake a machine.

    The host that was kept is started, or others race and the last snapshot is restored.
    """
    from dumont.cli.follow import outcome

    with cli.client() as client:
        accepted = client.post("wake", body={"name": name})
        if accepted.get("operation") is None:
            cli.result(accepted)
            state = (accepted.get("machine") or {}).get("state")
            cli.say(f"{name} is awake" if state == "running" else f"{name} need not be woken: it is {state}")
            return
        ended = outcome(cli, client, accepted, name, detach=not wait, begun=f"{name} is being woken")
    if ended is None:
        return
    operation, machine = ended
    cli.result({"machine": machine, "operation": operation})
    cli.say(f"{name} is awake, on {(machine.get('offer') or {}).get('region') or 'a new host'}")
