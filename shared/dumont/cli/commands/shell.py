"""`dumont ssh` and `run`: onto a machine, its host key pinned to the one that its proof saw."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import click

from dumont.cli.commands.completing import MachineName
from dumont.cli.errors import FAILED, UNREACHABLE, CliError, Json
from dumont.cli.output import Cli, common_options
from dumont.cli.routing import WAIT_SECONDS, RouteFinder, known_hosts_line

F = TypeVar("F", bound=Callable[..., Any])
LOST = 255
"""How OpenSSH's client ends when a connection could not be made, or broke."""


def wait_option(command: F) -> F:
    """For how long a machine on the move is waited for."""
    option = click.option(
        "--wait",
        "wait_seconds",
        type=click.FloatRange(0, 86_400),
        default=WAIT_SECONDS,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait for a machine that is moved to another host.",
    )
    return option(command)


@click.command()
@click.argument("name", type=MachineName())
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@wait_option
@common_options
def ssh(cli: Cli, name: str, command: tuple[str, ...], wait_seconds: float) -> int:
    """Open a shell on a machine.

    With a COMMAND that is run instead, on a terminal of its own if there is one here.
    Put -- before it: `dumont ssh trainer -- htop`. Uses OpenSSH's client where there is one.
    """
    route = _route(cli, name, wait_seconds)
    client = shutil.which("ssh")
    if client is not None:
        status = _openssh(client, route, command)
        if status == LOST:
            cli.note(
                f"the connection is lost. If its host has died, Dumont moves {name}: `dumont events {name} -f` tells, "
                f"and `dumont ssh {name}` waits and connects to where it is then"
            )
        return status
    if not command:
        raise CliError(
            "there is no `ssh` on this machine, and a shell needs it",
            code="no_ssh",
            hint=f"install OpenSSH's client; a single command works without: `dumont run {name} -- COMMAND`",
        )
    return _run(route, command, sys.stdout.buffer, sys.stderr.buffer)


@click.command()
@click.argument("name", type=MachineName())
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@wait_option
@common_options
def run(cli: Cli, name: str, command: tuple[str, ...], wait_seconds: float) -> int:
    """Run a command on a machine.

    Its output comes as it is written, and its exit status is passed on.
    Put -- before it; arguments reach it as they are: `dumont run trainer -- echo "a b"`. A single argument is a line
    for the machine's shell: `dumont run trainer -- 'cd workspace && ls | wc -l'`.
    """
    route = _route(cli, name, wait_seconds)
    if not cli.as_json:
        return _run(route, command, sys.stdout.buffer, sys.stderr.buffer)
    stdout, stderr = io.BytesIO(), io.BytesIO()
    status = _run(route, command, stdout, stderr)
    written = {
        "stdout": stdout.getvalue().decode(errors="replace"),
        "stderr": stderr.getvalue().decode(errors="replace"),
    }
    cli.result({"machine": name, "exit_status": status, **written})
    return status


def remote_line(command: tuple[str, ...]) -> str:
    """What the machine's shell is given: one argument is a line already, several are quoted each."""
    return command[0] if len(command) == 1 else shlex.join(command)


def _route(cli: Cli, name: str, wait_seconds: float) -> Json:
    """Where the machine is now; one that is on the move is waited for."""
    from dumont.cli.follow import lines_on_stderr

    def quiet(_: Json) -> None:
        return

    show = quiet if cli.as_json else lines_on_stderr()
    with cli.client() as client:
        return RouteFinder(client, name, wait_seconds=wait_seconds, show=show, tell=cli.note).find()


def ssh_arguments(client: str, route: Json, known_hosts: Path, identity: Path, command: tuple[str, ...]) -> list[str]:
    """The command line for OpenSSH's client: this host key and no other, this identity and no other.

    Hosts are hostile: no agent and no display is forwarded, and no connection that is open already is shared.
    """
    ssh_at = route["ssh"]
    options = {
        "HostKeyAlias": str(route["machine"]),
        "UserKnownHostsFile": str(known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "CheckHostIP": "no",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "ControlPath": "none",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "ConnectTimeout": "15",
        "ServerAliveInterval": "15",
        "LogLevel": "ERROR",
    }
    arguments = [client]
    for option, value in options.items():
        arguments += ["-o", f"{option}={value}"]
    arguments += ["-i", str(identity), "-p", str(ssh_at.get("port") or 22), "-l", str(ssh_at.get("user") or "root")]
    if command and sys.stdin.isatty() and sys.stdout.isatty():
        arguments.append("-t")
    arguments.append(str(ssh_at["host"]))
    return [*arguments, remote_line(command)] if command else arguments


def _openssh(client: str, route: Json, command: tuple[str, ...]) -> int:
    from dumont.cli.keys import key_file, private_key_text

    private_key_text()  # says so in our words if there is none
    with tempfile.TemporaryDirectory(prefix="dumont-ssh-") as folder:
        known_hosts = Path(folder) / "known_hosts"
        known_hosts.write_text(known_hosts_line(route), encoding="utf-8")
        arguments = ssh_arguments(client, route, known_hosts, key_file(), command)
        # Not exec: the file must live as long as ssh and not a moment longer. Ctrl-C is ssh's to handle; a handler that
        # does nothing, unlike SIG_IGN, is not inherited by it.
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        signal.signal(signal.SIGINT, lambda *_: None)
        try:
            process = subprocess.Popen(arguments, env=_environment_without_key())
            signal.signal(signal.SIGTERM, lambda *_: process.terminate())
            status = process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    return status if status >= 0 else 128 - status


def _environment_without_key() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "DUMONT_API_KEY"}


def _run(route: Json, command: tuple[str, ...], stdout: BinaryIO, stderr: BinaryIO) -> int:
    from dumont.adapters.ssh import stream
    from dumont.cli.keys import key_file, private_key_text
    from dumont.domain.errors import HostKeyChanged, InvalidInput, ShellRefused, ShellUnreachable
    from dumont.domain.records import SshEndpoint

    at: dict[str, Any] = route["ssh"]
    endpoint = SshEndpoint(host=at["host"], port=at.get("port") or 22, user=at.get("user") or "root")
    try:
        status = stream(endpoint, route["host_key"], private_key_text(), remote_line(command), stdout, stderr)
        return status if status >= 0 else 255  # a signal ended it, and SSH does not say which
    except InvalidInput as error:
        raise CliError(
            f"{key_file()} {error}", code="bad_ssh_key", hint="move it away; `dumont up` makes another"
        ) from error
    except HostKeyChanged as error:
        raise CliError(
            f"the host shows another key than the one pinned: {error}",
            code="host_key_changed",
            safe="Nothing was sent to it.",
            hint="someone else may be answering there: rent another machine",
        ) from error
    except ShellRefused as error:
        raise CliError(
            f"the machine refused this user's key: {error}",
            exit_code=FAILED,
            code="ssh_refused",
            hint="only keys given at `dumont up` are let in; `--ssh-key FILE` adds more there",
        ) from error
    except ShellUnreachable as error:
        raise CliError(
            f"the machine cannot be reached: {error}",
            exit_code=UNREACHABLE,
            code="ssh_unreachable",
            hint=f"see `dumont show {route.get('machine')}`",
        ) from error
