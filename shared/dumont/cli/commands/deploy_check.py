"""`dumont deploy-check`: what a Google Cloud project lacks, and what mends it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dumont.cli.errors import FAILED, UNREACHABLE, USAGE, CliError
from dumont.cli.output import Cli

if TYPE_CHECKING:
    from dumont.domain.deployment.wanted import Declared, Wanted
    from dumont.domain.findings import Finding

DECLARED = Path(__file__).resolve().parents[4] / "infra" / "declared.json"
QUIET_SECONDS = 2.0


@click.command("deploy-check")
@click.option("--project", envvar="GOOGLE_CLOUD_PROJECT", show_envvar=True, metavar="P", help="The project's id.")
@click.option("--region", metavar="R", help="Of the functions. [default: as the deployment's settings say]")
@click.option("--all", "all_of_them", is_flag=True, help="A line for each thing, also for those that are well.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable JSON on stdout, errors too.")
@click.option("--hosts", envvar="DUMONT_GOOGLE_HOSTS", default="https://{api}.googleapis.com", hidden=True)
@click.option("--declared", type=click.Path(path_type=Path, dir_okay=False), default=DECLARED, hidden=True)
def deploy_check(
    project: str | None, region: str | None, all_of_them: bool, as_json: bool, hosts: str, declared: Path
) -> int:
    """Say what a Google Cloud project lacks, and what mends it.

    Billing, APIs, your permissions, quotas, service accounts, secrets (whether they have a value, never which),
    Firestore, functions, messages, the schedule, Terraform's state, and the clock. Nothing is changed. Asked with your
    own login at Google: application default credentials, or gcloud's.

    Exit status 1: something is missing, or could not be asked for.
    """
    from dumont.cli.findings import show

    cli = Cli(as_json=as_json, url="")
    if not project:
        raise CliError(
            "which project?", exit_code=USAGE, code="invalid_input", hint="--project P, or set GOOGLE_CLOUD_PROJECT"
        )
    return show(cli, _look(cli, project, region, hosts, _read(declared)), all_of_them=all_of_them)


def _look(cli: Cli, project: str, region: str | None, hosts: str, declared: Declared) -> list[Finding]:
    from dumont.adapters.google_login import NotLoggedIn, token
    from dumont.adapters.google_rest import GoogleRest
    from dumont.domain.deployment import questions, verdict
    from dumont.domain.deployment.wanted import wanted_of

    try:
        google = GoogleRest(token(), project, hosts=hosts)
    except NotLoggedIn as error:
        raise CliError(
            f"no login at Google can be used here: {error}",
            exit_code=UNREACHABLE,
            code="not_logged_in",
            hint="gcloud auth application-default login",
        ) from error
    tell = _telling(cli)
    heard = google.ask([questions.first(project)], tell=tell)
    wanted: Wanted = wanted_of(project, declared, heard["settings"].text, region=region)
    heard |= google.ask(questions.all_of(wanted), tell=tell)
    return verdict.findings(wanted, heard)


def _read(file: Path) -> Declared:
    import msgspec

    from dumont.domain.deployment.wanted import Declared

    try:
        return msgspec.json.decode(file.read_bytes(), type=Declared)
    except OSError as error:
        raise CliError(
            f"{file} cannot be read ({error.strerror}): it says what a deployment needs",
            exit_code=FAILED,
            code="no_declarations",
            hint="deploy-check runs from a checkout of Dumont",
        ) from error
    except msgspec.DecodeError as error:
        raise CliError(f"{file}: {error}", code="no_declarations", hint="make infra") from error


def _telling(cli: Cli) -> Callable[[int, int], None]:
    """Progress for whoever has waited for a while already."""
    began = time.monotonic()
    told = -1

    def tell(done: int, of: int) -> None:
        nonlocal told
        seconds = time.monotonic() - began
        if seconds >= QUIET_SECONDS and done != told and done < of:
            cli.note(f"{seconds:7.2f} s  {done} of {of} answers of Google's are here")
            told = done

    return tell
