"""`dumont snapshot`, `snapshots`, `restore` and `diff`: copies of a workspace, and a workspace made from one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from dumont.cli.commands.completing import MachineName
from dumont.cli.errors import FAILED, CliError, Json
from dumont.cli.output import Cli, common_options, duration, number, size, text_of

PATHS_NAMED = 10
DIFF_SIGNS = (("added", "+"), ("removed", "-"), ("changed", "~"), ("touched", "t"))


class SnapshotGroup(click.Group):
    """`dumont snapshot NAME` beside `dumont snapshot verify ID`: a first word that is no command is a machine's name.

    A machine named as one of the commands is reached as `dumont snapshot take NAME`.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the command's word first, `take` where there is none."""
        if args and not set(args[:1]) & set(self.get_help_option_names(ctx)):
            place = _first_word(args)
            if place is not None and args[place] in self.commands:
                args = [args[place], *args[:place], *args[place + 1 :]]
            else:
                args = ["take", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[click.shell_completion.CompletionItem]:
        """The commands, and the machines."""
        names = MachineName().shell_complete(ctx, click.Argument(["name"]), incomplete)
        return [*super().shell_complete(ctx, incomplete), *names]


def _first_word(args: Sequence[str]) -> int | None:
    """Where the first argument stands that is neither an option nor the value of --url."""
    after_url = False
    for place, argument in enumerate(args):
        if not argument.startswith("-") and not after_url:
            return place
        after_url = argument == "--url"
    return None


@click.group(cls=SnapshotGroup, subcommand_metavar="NAME [--detach] | COMMAND [ARGS]…")
def snapshot() -> None:
    """Copy a machine's workspace to the object store.

    `dumont snapshot trainer` takes one, encrypted; only what is new is sent. It counts when the store's own listing
    has all of it. A machine named like one of the commands below: `dumont snapshot take NAME`.

    A snapshot that lacks files, because they could not be read or did not stop changing, ends with status 1 and names
    them: what follows it in a script must not believe that all is saved.
    """


@snapshot.command("take")
@click.argument("name", type=MachineName())
@click.option("--rehash", is_flag=True, help="Read every file, not only those whose size or times changed.")
@click.option("--detach", is_flag=True, help="Return at once instead of following.")
@common_options
def take(cli: Cli, name: str, rehash: bool, detach: bool) -> None:
    """Take a snapshot of the machine NAME."""
    from dumont.cli.follow import failure, follow

    with cli.client() as client:
        accepted = client.post("snapshot", body={"name": name} | ({"rehash": True} if rehash else {}))
        operation: Json = accepted.get("operation") or {}
        identifier = str((accepted.get("snapshot") or {}).get("id") or operation.get("snapshot_id"))
        if detach:
            cli.result(accepted)
            cli.say(f"{identifier} is being taken: `dumont operation {operation.get('id')} --watch`")
            return
        operation = follow(cli, client, operation)
        error = failure(operation)
        if error is not None:
            raise error
        taken: Json = client.get("snapshot", identifier).get("snapshot") or {}
    if taken.get("state") == "incomplete":
        raise _incomplete(taken, operation)
    cli.result({"snapshot": taken, "operation": operation})
    cli.say(
        f"{identifier}: {number(taken.get('files'))} {'file' if taken.get('files') == 1 else 'files'}, "
        f"{size(taken.get('bytes_total'))}; {size(taken.get('bytes_sent'))} had to be sent, packed and encrypted; "
        f"{text_of(taken.get('state'))}, as the store's listing shows"
    )
    cli.say(f"  dumont restore {name} --snapshot {identifier}")


def _incomplete(taken: Json, operation: Json) -> CliError:
    missing = [str(path) for path in taken.get("missing") or []]
    more = f" and {len(missing) - PATHS_NAMED} more" if len(missing) > PATHS_NAMED else ""
    return CliError(
        f"{taken.get('id')} lacks files that could not be read whole: {', '.join(missing[:PATHS_NAMED])}{more}",
        exit_code=FAILED,
        code="snapshot_incomplete",
        safe="All other files are saved, and can be restored.",
        hint=f"make them readable, or wait until nothing writes them: dumont snapshot {taken.get('machine')}",
        extra={"snapshot": taken, "operation": operation},
    )


@snapshot.command("verify")
@click.argument("snapshot_id", metavar="ID")
@click.option("--detach", is_flag=True, help="Return at once instead of following.")
@common_options
def verify(cli: Cli, snapshot_id: str, detach: bool) -> None:
    """Read a snapshot back, all of it.

    Its machine does so, and must run.
    """
    operation = _follow_up(cli, ("snapshot", snapshot_id, "verify"), {}, detach=detach)
    if operation is None:
        return
    cli.result({"operation": operation})
    cli.say(f"{snapshot_id} was read back whole{_detail(operation, 'verify')}")


@snapshot.command("rm")
@click.argument("snapshot_id", metavar="ID")
@common_options
def remove(cli: Cli, snapshot_id: str) -> None:
    """Delete a snapshot.

    Never a machine's only complete one.
    """
    with cli.client() as client:
        found = client.delete("snapshot", snapshot_id)
    cli.result(found)
    cli.say(f"{snapshot_id} is {text_of((found.get('snapshot') or {}).get('state'))}")


@snapshot.command("keep")
@click.argument("snapshot_id", metavar="ID")
@click.option("--no", "let_go", is_flag=True, help="Leave it to retention again.")
@common_options
def keep(cli: Cli, snapshot_id: str, let_go: bool) -> None:
    """Keep a snapshot, whatever retention says."""
    with cli.client() as client:
        found = client.post("snapshot", snapshot_id, "keep", body={"keep": not let_go})
    cli.result(found)
    kept = bool((found.get("snapshot") or {}).get("keep"))
    cli.say(f"{snapshot_id} is {'kept until you delete it' if kept else 'left to retention'}")


@click.command()
@click.argument("name", type=MachineName(), required=False)
@common_options
def snapshots(cli: Cli, name: str | None) -> None:
    """List snapshots.

    Newest first; with a NAME those of that machine.
    """
    from dumont.cli.views import SNAPSHOT_COLUMNS, snapshot_row

    with cli.client() as client:
        found = client.get("snapshot", machine=name)
    cli.result(found)
    listed = found.get("snapshots") or []
    if not listed:
        cli.note("no snapshots" + (f"; take one: dumont snapshot {name}" if name else ""))
        return
    cli.table(SNAPSHOT_COLUMNS, [snapshot_row(entry) for entry in listed])


@click.command()
@click.argument("name", type=MachineName())
@click.option("--snapshot", "snapshot_id", metavar="ID", help="Which one. [default: the newest good one]")
@click.option("--path", metavar="P", help="Only this file or folder of the workspace. [default: all of it]")
@click.option("--fall-back", is_flag=True, help="If it is damaged, go on with the one before it.")
@click.option("--discard", is_flag=True, help="What is there, and in no snapshot, may be lost.")
@click.option("--detach", is_flag=True, help="Return at once instead of following.")
@common_options
def restore(cli: Cli, name: str, snapshot_id: str | None, path: str | None, **flags: bool) -> None:
    """Put a snapshot's files into a machine.

    The workspace (with --path that part of it) becomes what it was: files that are not in the snapshot GO. It is
    refused where that would lose files that the newest good snapshot does not have as they are now; --discard lets
    them go. All is checked before anything changes; if the snapshot is damaged, the workspace stays as it is.
    """
    detach, fall_back = flags.pop("detach"), flags["fall_back"]
    wish = {"name": name, "snapshot": snapshot_id, "path": path, **{flag: on or None for flag, on in flags.items()}}
    body = {field: value for field, value in wish.items() if value is not None}
    operation = _follow_up(cli, ("restore",), body, detach=detach)
    if operation is None:
        return
    cli.result({"operation": operation})
    used = text_of(operation.get("snapshot_id"))
    failed = [step for step in operation.get("steps") or [] if not step.get("ok", True)]
    if fall_back and failed:
        cli.note(f"a newer snapshot was damaged, so {used} took its place: {text_of(failed[-1].get('detail'))}")
    what = f"{path} of {used}" if path else used
    cli.say(f"{what} is restored into {name}{_detail(operation, 'restore')}")


@click.command()
@click.argument("earlier", metavar="A")
@click.argument("later", metavar="B")
@common_options
def diff(cli: Cli, earlier: str, later: str) -> None:
    """Compare two snapshots.

    What B has that A had not (+), has no more (-), has with other content (~), or only with another mode, owner, time
    or attribute (t). Their machine reads them, and must run.
    """
    operation = _follow_up(cli, ("snapshot", earlier, "diff"), {"other": later}, detach=False) or {}
    found: Json = operation.get("result") or {}
    cli.result({"diff": found, "operation": operation})
    for kind, sign in DIFF_SIGNS:
        for path in found.get(kind) or []:
            cli.say(f"{sign} {path}")
    counts = [f"{len(found.get(kind) or [])} {kind}" for kind, _ in DIFF_SIGNS]
    cli.note(", ".join(counts) if any(found.get(kind) for kind, _ in DIFF_SIGNS) else "no difference")


def _follow_up(cli: Cli, path: tuple[str, ...], body: dict[str, Any], *, detach: bool) -> Json | None:
    """Ask for an operation and follow it to its end; None if detached, which is then said. Raises `CliError`."""
    from dumont.cli.follow import failure, follow

    with cli.client() as client:
        accepted = client.post(*path, body=body)
        operation: Json = accepted.get("operation") or {}
        if detach:
            cli.result(accepted)
            cli.say(f"it is under way: `dumont operation {operation.get('id')} --watch`")
            return None
        operation = follow(cli, client, operation)
    error = failure(operation)
    if error is not None:
        raise error
    return operation


def _detail(operation: Json, step_name: str) -> str:
    """What the last step of that name says of itself, and how long it took."""
    for step in reversed(operation.get("steps") or []):
        if step.get("name") == step_name:
            detail = f": {step['detail']}" if step.get("detail") else ""
            return f"{detail} in {duration(step.get('seconds'))}"
    return ""
