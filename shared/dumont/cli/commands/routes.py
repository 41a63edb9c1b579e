"""`dumont ssh-config` and `ssh-proxy`: any OpenSSH client reaches a machine by its name, wherever it is now."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dumont.cli.client import DEFAULT_URL
from dumont.cli.commands.completing import MachineName
from dumont.cli.errors import UNREACHABLE, CliError, Json
from dumont.cli.output import Cli, common_options
from dumont.cli.routing import WAIT_SECONDS, RouteFinder, known_hosts_file, pin

if TYPE_CHECKING:
    from dumont.domain.routing import Route

CONNECT_SECONDS = 5.0
FIRST_WORD_SECONDS = 10.0
"""An SSH server speaks first. A forwarded port of a host that is dead takes connections, and says nothing."""
CHUNK_BYTES = 256 * 1024


@click.command("ssh-config")
@click.option("--install", is_flag=True, help="Write it to ~/.ssh/dumont.conf, and include that in ~/.ssh/config.")
@common_options
def ssh_config(cli: Cli, install: bool) -> None:
    """Print OpenSSH configuration for the machines.

    With it `ssh NAME`, scp, rsync, git and editors reach each machine wherever it is now, its host key pinned; while it
    is moved to another host they wait. Run it again, with --install, when there are new machines.
    """
    from dumont.cli.keys import key_file
    from dumont.domain.routing import ssh_config as config_text

    with cli.client() as client:
        views = client.get("routes").get("routes") or []
    routes = [route for route in map(_checked, views) if route is not None]
    text = config_text(
        routes,
        proxy_command(cli.url, absolute=install),
        known_hosts=str(known_hosts_file()),
        identity=str(key_file()),
    )
    names = sorted(route.id for route in routes)
    if not install:
        cli.result({"machines": names, "config": text})
        cli.say(text.rstrip("\n"))
        if not names:
            cli.note("no machines; rent one with `dumont up NAME`")
        return
    file, changed = _install(Path.home() / ".ssh", text)
    cli.result({"machines": names, "file": str(file), "changed": changed})
    known = f"{len(names)} {'machine' if len(names) == 1 else 'machines'}"
    cli.say(f"{file} {'now has' if changed else 'had already'} {known}" + (f": ssh {names[0]}" if names else ""))


def _checked(view: Json) -> Route | None:
    """A route for a line of configuration; None for what is no machine's name or login."""
    from dumont.domain.errors import InvalidInput
    from dumont.domain.names import check_machine_name
    from dumont.domain.records import SshEndpoint
    from dumont.domain.routing import Route

    at: Json = view.get("ssh") or {}
    ssh = SshEndpoint(host=str(at["host"]), port=at.get("port") or 22, user=at.get("user") or "root") if at else None
    try:
        return Route(id=check_machine_name(view.get("machine")), epoch=0, ssh=ssh, updated_at=0.0)
    except InvalidInput:
        return None


def proxy_command(url: str, *, absolute: bool) -> str:
    """What OpenSSH runs to reach a machine. `absolute`: by its path, for editors whose PATH is another one."""
    found = shutil.which("dumont")
    if found is None:
        words = [sys.executable, "-m", "dumont.cli.main"]
    else:
        words = [str(Path(found).absolute()) if absolute else "dumont"]
    line = shlex.join([*words, "ssh-proxy", *([] if url == DEFAULT_URL else ["--url", url])])
    return line.replace("%", "%%") + " %n"


def _install(folder: Path, text: str) -> tuple[Path, bool]:
    """Write the file and include it, first of all; what else is in ~/.ssh/config stays as it is."""
    from dumont.cli.credentials import write_private

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / "dumont.conf"
    changed = not file.exists() or file.read_text(encoding="utf-8") != text
    if changed:
        write_private(file, text)
    # A link to a file elsewhere (people keep theirs in a repository) stays one.
    config = (folder / "config").resolve()
    before = config.read_text(encoding="utf-8", errors="surrogateescape") if config.exists() else ""
    include = f'Include "{file}"'
    if include not in [line.strip() for line in before.splitlines()]:
        # Below a Host line it would count for that host alone.
        write_private(config, f"{include}\n\n{before}" if before else f"{include}\n", errors="surrogateescape")
        changed = True
    return file, changed


@click.command("ssh-proxy")
@click.argument("name", type=MachineName())
@click.option("--wait", "wait_seconds", type=click.FloatRange(0, 86_400), default=WAIT_SECONDS, show_default=True,
              metavar="SECONDS", help="How long to wait for a machine that is moved to another host.")  # fmt: skip
@common_options
def ssh_proxy(cli: Cli, name: str, wait_seconds: float) -> int:
    """Connect stdin and stdout to a machine's SSH port.

    For OpenSSH's ProxyCommand; see `dumont ssh-config`. It waits while the machine is moved to another host, and pins
    the host key that the machine's proof saw.
    """
    from dumont.cli.follow import lines_on_stderr

    with cli.client() as client:
        finder = RouteFinder(client, name, wait_seconds=wait_seconds, show=lines_on_stderr(), tell=_tell)
        connection, first = _connected(finder, name)
    with connection:
        return _pump(connection, first)


def _tell(text: str) -> None:
    click.echo(f"dumont: {text}", err=True)


def _connected(finder: RouteFinder, name: str) -> tuple[socket.socket, bytes]:
    """A connection to where the machine is, and the first that it said."""
    while True:
        route = finder.find()
        # Before the connection: OpenSSH looks the key up once it stands.
        pin(route)
        host, port = str(route["ssh"]["host"]), int(route["ssh"].get("port") or 22)
        try:
            return _greeted(host, port)
        except OSError as error:
            if not finder.wait_again(f"{name} does not answer at {host}:{port} ({error})"):
                raise CliError(
                    f"{name} does not answer at {host}:{port} ({error})",
                    exit_code=UNREACHABLE,
                    code="ssh_unreachable",
                    hint=f"see `dumont events {name}`",
                ) from error


def _greeted(host: str, port: int) -> tuple[socket.socket, bytes]:
    connection = socket.create_connection((host, port), timeout=CONNECT_SECONDS)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(FIRST_WORD_SECONDS)
        first = connection.recv(CHUNK_BYTES)
        if not first:
            raise ConnectionError("it took the connection and closed it")
        connection.settimeout(None)
    except BaseException:
        connection.close()
        raise
    return connection, first


def _pump(connection: socket.socket, first: bytes) -> int:
    """Carry bytes both ways until the machine closes."""
    into, out = sys.stdin.fileno(), sys.stdout.fileno()
    # A daemon: a read of a terminal that nobody types on must not outlive the connection.
    threading.Thread(target=_send_all, args=(into, connection), daemon=True).start()
    data = first
    try:
        while data:
            view = memoryview(data)
            while view:
                view = view[os.write(out, view) :]
            data = connection.recv(CHUNK_BYTES)
    except BrokenPipeError:
        return 0  # ssh has gone, and needs no more
    except OSError as error:
        raise CliError(f"the connection broke: {error}", exit_code=UNREACHABLE, code="ssh_unreachable") from error
    return 0


def _send_all(into: int, connection: socket.socket) -> None:
    try:
        while data := os.read(into, CHUNK_BYTES):
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        # The reading side meets the same end and tells of it.
        return
