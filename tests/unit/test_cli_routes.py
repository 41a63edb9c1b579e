"""`ssh-config` and `ssh-proxy`: what is written for OpenSSH, what is left alone, and how a moved machine is found."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dumont.cli.commands.routes import proxy_command
from dumont.cli.routing import known_hosts_line, pin
from tests.unit.cli_world import World, output, problem, route


@contextmanager
def listener(first: bytes) -> Iterator[int]:
    """A port that says `first` to each who connects, then answers with what it is told; without `first` it hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve, args=(server, first), daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def _serve(server: socket.socket, first: bytes) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            if not first:
                continue
            connection.sendall(first)
            while data := connection.recv(65536):
                connection.sendall(data)


def at(port: int) -> dict[str, Any]:
    return {"route": route(ssh={"host": "127.0.0.1", "port": port})}


def proxy(api: World, *options: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environment = {k: v for k, v in api.environment().items() if v is not None}
    command = [sys.executable, "-m", "dumont.cli.main", "ssh-proxy", "trainer", *options]
    return subprocess.run(command, env=environment, input=stdin, capture_output=True, timeout=30, check=False)


def test_the_proxy_carries_bytes_both_ways_and_pins_the_key(api: World) -> None:
    sent = os.urandom(3_000_000)
    with listener(b"SSH-2.0-test\r\n") as port:
        api.says("GET /routes/trainer", at(port))
        done = proxy(api, stdin=sent)
    assert done.stdout == b"SSH-2.0-test\r\n" + sent
    assert (done.stderr, done.returncode) == (b"", 0)
    pinned = api.folder / "config/dumont/known_hosts"
    assert pinned.read_text() == "trainer ssh-ed25519 AAAAhost\n"
    assert pinned.stat().st_mode & 0o777 == 0o600


def test_the_proxy_looks_for_a_host_that_hangs_up_again_at_its_new_place(api: World) -> None:
    with listener(b"") as dead, listener(b"SSH-2.0-new\r\n") as alive:
        api.says("GET /routes/trainer", at(dead), at(alive))
        done = proxy(api)
    assert (done.stdout, done.returncode) == (b"SSH-2.0-new\r\n", 0)
    assert b"trainer does not answer at 127.0.0.1" in done.stderr
    assert b"trying for up to 300 s" in done.stderr


def test_the_proxy_survives_a_restart_of_the_api_while_it_waits(api: World) -> None:
    moving = {"route": {"machine": "trainer", "epoch": 2, "state": "failing_over"}}
    with listener(b"SSH-2.0-new\r\n") as port:
        api.says("GET /routes/trainer", moving, problem(503, "store_unavailable", "away"), at(port))
        done = proxy(api)
    assert (done.stdout, done.returncode) == (b"SSH-2.0-new\r\n", 0)


def test_the_proxy_gives_up_in_time_and_says_where_to_look(api: World) -> None:
    with listener(b"") as dead:
        api.says("GET /routes/trainer", at(dead))
        done = proxy(api, "--wait", "0")
    assert (done.stdout, done.returncode) == (b"", 3)
    assert b"dumont events trainer" in done.stderr


def test_pinning_a_key_leaves_other_machines_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    pin(route(machine="trainer", host_key="ssh-ed25519 AAAAold"))
    pin(route(machine="trainer-2", host_key="ssh-ed25519 AAAAother"))
    pin(route(machine="trainer", host_key="ssh-ed25519 AAAAnew"))
    lines = (tmp_path / "dumont/known_hosts").read_text().splitlines()
    assert sorted(lines) == ["trainer ssh-ed25519 AAAAnew", "trainer-2 ssh-ed25519 AAAAother"]


@pytest.mark.parametrize(
    "fields", [{"host_key": None}, {"host_key": "a\nevil b"}, {"machine": "x *"}, {"machine": None}]
)
def test_what_is_no_key_or_no_name_is_not_pinned(fields: dict[str, Any]) -> None:
    assert known_hosts_line(route(**fields)) == ""


# --- ssh-config ---------------------------------------------------------------------------------------------------


def install(api: World, home: Path) -> dict[str, Any]:
    return output(api.run("ssh-config", "--install", "--json", HOME=str(home)))


def test_the_configuration_has_a_block_for_each_machine(api: World) -> None:
    moving = {"machine": "web", "epoch": 2, "state": "failing_over"}
    api.says("GET /routes", {"routes": [route(), moving, {"machine": "evil\nHost *"}]})
    text = api.run("ssh-config").stdout
    assert [line for line in text.splitlines() if line.startswith("Host ")] == ["Host trainer", "Host web"]
    assert f"ssh-proxy --url {api.url} %n" in text
    assert str(api.folder / "config/dumont/known_hosts") in text
    assert output(api.run("ssh-config", "--json"))["machines"] == ["trainer", "web"]


def test_installing_includes_it_first_and_keeps_what_was_there(api: World, tmp_path: Path) -> None:
    api.says("GET /routes", {"routes": [route()]})
    theirs = tmp_path / "dotfiles"
    theirs.write_bytes(b"Host work\n    User caf\xe9\n")
    folder = tmp_path / ".ssh"
    folder.mkdir()
    (folder / "config").symlink_to(theirs)
    first = install(api, tmp_path)
    assert first == {"machines": ["trainer"], "file": str(folder / "dumont.conf"), "changed": True}
    include = f'Include "{folder}/dumont.conf"\n\n'.encode()
    assert theirs.read_bytes() == include + b"Host work\n    User caf\xe9\n"
    assert (folder / "config").is_symlink()
    assert install(api, tmp_path)["changed"] is False, "twice is once"
    assert theirs.read_bytes().count(b"Include") == 1
    api.says("GET /routes", {"routes": [route(), route(machine="web")]})
    assert install(api, tmp_path)["changed"] is True
    assert "Host web" in (folder / "dumont.conf").read_text()


def test_installing_makes_what_is_not_there_yet_for_its_owner_alone(api: World, tmp_path: Path) -> None:
    api.says("GET /routes", {"routes": []})
    install(api, tmp_path)
    assert (tmp_path / ".ssh").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / ".ssh/config").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / ".ssh/config").read_text() == f'Include "{tmp_path}/.ssh/dumont.conf"\n'


def test_the_default_api_needs_no_naming_in_the_command() -> None:
    assert proxy_command("http://localhost:8080", absolute=True).endswith(" ssh-proxy %n")
    assert proxy_command("https://x.example/a%20b", absolute=True).endswith("--url https://x.example/a%%20b %n")


def test_names_complete_for_the_new_commands(api: World) -> None:
    api.says("GET /machines", {"machines": [{"name": "trainer"}]})
    for command in ("events", "failover", "ssh-proxy"):
        asked = {"_DUMONT_COMPLETE": "bash_complete", "COMP_WORDS": f"dumont {command} t", "COMP_CWORD": "2"}
        assert api.run(**asked).stdout.split() == ["plain,trainer"]
