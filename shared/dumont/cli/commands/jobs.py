"""`dumont job`: a command that ends, on a machine that is rented for it and goes when its outputs are saved."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Any

import click

from dumont.cli.commands.market import given, offer_filters
from dumont.cli.errors import Json
from dumont.cli.output import Cli, common_options, money


@click.group()
def job() -> None:
    """Commands that end: rent, run, save what they wrote, release."""


@job.command("run")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@offer_filters
@click.option("--name", metavar="NAME", help="The machine's name. [default: the job's id]")
@click.option("--from", "source", metavar="SNAPSHOT|MACHINE", help="Put this snapshot (of a machine: its newest) into "
              "the workspace before the command starts.")  # fmt: skip
@click.option("--checkpoint-every", "snapshot_every_minutes", type=float, metavar="MINUTES", help="Snapshot the "
              "workspace so often: a host that dies loses no more than that. [default: never]")  # fmt: skip
@click.option("--retries", type=click.IntRange(0, 100), metavar="N", help="Run the command again on its host, N times "
              "at most, if it ends with another status than 0. [default: 0]")  # fmt: skip
@click.option(
    "--timeout-hours", type=float, metavar="H", help="Then it is stopped, and its outputs saved. [default: 24]"
)
@click.option("--keep", "keep_machine", is_flag=True, help="Keep the machine when the command has ended: IT BILLS ON.")
@click.option("--discard-outputs", is_flag=True, help="Save nothing of its workspace at the end.")
@click.option("--image", metavar="IMAGE", help="Container image. [default: pytorch/pytorch:latest]")
@click.option("--workspace", metavar="PATH", help="The folder that it runs in, and that is saved. [default: workspace]")
@click.option("--race", "race_width", type=int, metavar="N", help="Rent so many at once and keep the first that proves "
              "itself, 1 to 5. [default: 3]")  # fmt: skip
@click.option(
    "--heartbeat", "heartbeat_seconds", type=float, metavar="S", help="Its host reports so often. [default: 5]"
)
@click.option("--fence-after", "fence_after_seconds", type=float, metavar="S", help="A host cut off from us stops the "
              "command after S seconds. [default: 30]")  # fmt: skip
@click.option("--max-failovers", "max_failovers_per_day", type=int, metavar="N", help="Go on on another host so often, "
              "if hosts die. [default: 24]")  # fmt: skip
@click.option("--budget", "budget_usd", type=float, metavar="USD", help="A hard cap: reaching it DESTROYS its machine; "
              "its last checkpoint is kept.")  # fmt: skip
@click.option("--ssh-key", "ssh_key_files", type=click.Path(path_type=Path), multiple=True, metavar="FILE",
              help="A public key to let in, too.")  # fmt: skip
@click.option("--detach", is_flag=True, help="Return at once instead of following.")
@common_options
def run(
    cli: Cli,
    command: tuple[str, ...],
    detach: bool,
    source: str | None,
    ssh_key_files: tuple[Path, ...],
    **options: Any,
) -> int:
    """Rent a machine, run a command on it, and let it go.

    What the command wrote to its workspace is saved before.

    Its output comes as it is written, and its exit status is passed on. Put -- before it: arguments reach it as they
    are; a single argument is a line for the machine's shell. A host that dies is replaced, and the command starts again
    there with the files of the last checkpoint: it must find its own way on from them.
    """
    from dumont.cli.jobs import follow_job, show_end, status_of
    from dumont.cli.keys import ensure_key, read_public_key

    wish = {name: value for name, value in given(options).items() if value is not False or name == "verified_only"}
    wish["command"] = command[0] if len(command) == 1 else shlex.join(command)
    wish["ssh_public_keys"] = [ensure_key()[1], *(read_public_key(file) for file in ssh_key_files)]
    if source is not None:
        wish["from"] = source
    with cli.client() as client:
        accepted = client.post("jobs", body=wish)
        made: Json = accepted.get("job") or {}
        identifier = made.get("id")
        cli.note(f"job {identifier}")
        if wish.get("budget_usd") is not None:
            cli.note(f"budget {money(wish['budget_usd'], 2)}: reaching it destroys its machine")
        if detach:
            cli.result(accepted)
            cli.say(f"{identifier} is on its way: dumont job logs {identifier} -f; dumont job show {identifier}")
            return 0
        seen = follow_job(cli, client, made, operation_id=(accepted.get("operation") or {}).get("id"))
        cli.result(seen)
        show_end(cli, client, seen)
    return status_of(seen.get("job") or {})


@job.command("ls")
@click.option("--limit", type=int, default=20, show_default=True, metavar="N", help="At most so many.")
@common_options
def list_jobs(cli: Cli, limit: int) -> None:
    """List jobs, newest first."""
    from dumont.cli.jobs import JOB_COLUMNS, job_row

    with cli.client() as client:
        found = client.get("jobs", limit=limit)
        now = time.time() + client.clock_skew_seconds
    cli.result(found)
    if not found.get("jobs"):
        cli.note("no jobs; run one with `dumont job run … -- COMMAND`")
        return
    cli.table(JOB_COLUMNS, [job_row(entry, now) for entry in found["jobs"]])


@job.command()
@click.argument("job_id", metavar="ID")
@common_options
def show(cli: Cli, job_id: str) -> None:
    """Show a job: its end, its cost, where its outputs are."""
    from dumont.cli.jobs import JOB_COLUMNS, job_row, snapshot_of, summary
    from dumont.cli.views import show_problem

    with cli.client() as client:
        found = client.get("jobs", job_id)
        now = time.time() + client.clock_skew_seconds
        entry: Json = found.get("job") or {}
        snapshot = snapshot_of(client, entry)
    cli.result({"job": entry, **({"snapshot": snapshot} if snapshot is not None else {})})
    cli.table(JOB_COLUMNS, [job_row(entry, now)])
    if entry.get("ended_at"):
        cli.say()
        for name, value in summary(entry, snapshot):
            cli.say(f"{name:<12} {value}")
    else:
        cli.say(f"\nwatch it: dumont job logs {entry.get('id')} -f; its machine: dumont show {entry.get('machine')}")
    show_problem(cli, entry.get("problem"))


@job.command()
@click.argument("job_id", metavar="ID")
@click.option("-f", "--follow", "following", is_flag=True, help="Go on until it ends; ends as it does.")
@common_options
def logs(cli: Cli, job_id: str, following: bool) -> int:
    """Print what a job's command wrote.

    From its host while it runs, the last 64 KiB once it has ended.
    """
    from dumont.cli.joblog import JobOutput
    from dumont.cli.jobs import ENDS, follow_job, show_end, status_of

    with cli.client() as client:
        seen = client.get("jobs", job_id)
        entry: Json = seen.get("job") or {}
        if entry.get("state") not in ENDS and following:
            seen = follow_job(cli, client, entry)
            cli.result(seen)
            show_end(cli, client, seen)
            return status_of(seen.get("job") or {})
        if cli.as_json:
            cli.result(seen)
            return 0
        output = JobOutput(client, str(entry.get("machine")), sys.stdout.buffer)
        try:
            if entry.get("state") in ENDS:
                if not output.finish(seen.get("log")):
                    cli.note("(the beginning of what it wrote was not kept, or none of it)")
            else:
                while output.read():
                    pass
                if output.trouble:
                    cli.note(f"its output cannot be read now: {output.trouble}")
        finally:
            output.close()
    return 0


@job.command()
@click.argument("job_id", metavar="ID")
@click.option("--discard", is_flag=True, help="What it has written since its last checkpoint may be lost.")
@common_options
def cancel(cli: Cli, job_id: str, discard: bool) -> None:
    """Stop a job: what it wrote is saved, then its machine goes."""
    with cli.client() as client:
        answer = client.post("jobs", job_id, "cancel", body={"discard": discard})
    cli.result(answer)
    entry: Json = answer.get("job") or {}
    if entry.get("ended_at"):
        cli.say(f"{entry.get('id')} has ended: {entry.get('state')}")
        return
    then = "its machine goes" if discard else "what it wrote is saved, then its machine goes"
    cli.say(f"{entry.get('id')} is being cancelled: {then}; dumont job show {entry.get('id')}")
