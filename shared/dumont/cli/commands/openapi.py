"""`dumont openapi`: the document that describes the API."""

from __future__ import annotations

import click

from dumont.cli.errors import CliError


@click.command()
@click.option("--json", is_flag=True, expose_value=False, help="As it is anyway: JSON on stdout; and errors too.")
def openapi() -> None:
    """Print the OpenAPI 3.1 document of the API, as JSON."""
    # Here: it imports every function, which no other command needs.
    from dumont.build.declarations import load
    from dumont.local.host import functions_folder
    from dumont.openapi.document import render

    try:
        folder = functions_folder()
    except FileNotFoundError as error:
        raise CliError(str(error), code="no_checkout", hint="the same document is docs/openapi.json") from error
    click.echo(render(load(folder)), nl=False)
