"""`dumont doctor`: whether the command line, Vast, B2, Slack and DNS are set up, as far as it shows from here."""

from __future__ import annotations

import os

import click

from dumont.cli.output import Cli, common_options


@click.command()
@common_options
def doctor(cli: Cli) -> int:
    """Say what is wrong with the set-up, and what mends it.

    The command line (files, the API, its key, clocks, SSH), Vast, B2, Slack and DNS, with what the environment holds;
    what cannot be known from here is said. Nothing is changed, and no secret shown. `dumont deploy-check` looks at a
    Google Cloud project.

    Exit status 1: something is missing, or did not answer.
    """
    from dumont.cli.doctor import chat, market, names, own, store
    from dumont.cli.findings import show

    url = cli.url
    findings = [*own.here(), *own.api(url), *market.look(url, os.environ), *store.look(os.environ)]
    findings += [*chat.look(os.environ), *names.look(os.environ)]
    return show(cli, findings, all_of_them=True)
