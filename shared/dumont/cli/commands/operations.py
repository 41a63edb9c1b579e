"""`dumont operations` and `operation`: what was done, step by step."""

from __future__ import annotations

import click

from dumont.cli.commands.completing import MachineName
from dumont.cli.output import Cli, common_options


@click.command()
@click.argument("name", type=MachineName(), required=False)
@click.option("--limit", type=int, default=20, show_default=True, metavar="N", help="At most so many.")
@common_options
def operations(cli: Cli, name: str | None, limit: int) -> None:
    """List operations.

    Newest first; with a NAME those on that machine.
    """
    from dumont.cli.views import OPERATION_COLUMNS, operation_row

    with cli.client() as client:
        found = client.get("operations", machine=name, limit=limit)
    cli.result(found)
    listed = found.get("operations") or []
    if not listed:
        cli.note("no operations")
        return
    cli.table(OPERATION_COLUMNS, [operation_row(entry) for entry in listed])


@click.command()
@click.argument("operation_id", metavar="ID")
@click.option("--watch", is_flag=True, help="Follow it until it ends; fails if it does.")
@common_options
def operation(cli: Cli, operation_id: str, watch: bool) -> None:
    """Show an operation.

    Its steps with their times and costs, and its rentals.
    """
    from dumont.cli.follow import failure, follow
    from dumont.cli.views import (
        INSTANCE_COLUMNS,
        OPERATION_COLUMNS,
        STEP_COLUMNS,
        instance_row,
        operation_row,
        racer_names,
        show_problem,
        step_row,
    )

    with cli.client() as client:
        view = client.operation(operation_id)
        if watch:
            view = follow(cli, client, view)
            error = failure(view)
            if error is not None:
                raise error
    cli.result({"operation": view})
    names = racer_names(view)
    cli.table(OPERATION_COLUMNS, [operation_row(view)])
    if view.get("steps"):
        cli.say()
        cli.table(STEP_COLUMNS, [step_row(step, view, names) for step in view["steps"]])
    if view.get("instances"):
        cli.say()
        cli.table(INSTANCE_COLUMNS, [instance_row(instance, names) for instance in view["instances"]])
    show_problem(cli, view.get("problem"))
