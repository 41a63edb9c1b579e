"""`run` and `ssh`: the pinned host key, the arguments as they were given, the output, the status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dumont.adapters.ssh import ParamikoShell, generate_key
from dumont.cli.commands.shell import remote_line
from dumont.cli.credentials import write_private
from dumont.domain.records import SshEndpoint
from tests.contract.ssh_servers import InProcessServer
from tests.unit.cli_world import NOW, World, operation, output, route, step

FAKE_SSH = """#!/bin/sh
for word in "$@"; do printf '%s\\n' "$word"; done
for word in "$@"; do case "$word" in UserKnownHostsFile=*) cat "${word#*=}";; esac; done
echo "key: ${DUMONT_API_KEY:-none}"
exit 7
"""


@pytest.fixture(scope="module")
def keys() -> tuple[str, str]:
    return generate_key()


@pytest.fixture(scope="module")
def server(keys: tuple[str, str]) -> Iterator[tuple[SshEndpoint, str]]:
    """An SSH server that lets the key in, and the host key that it shows."""
    with InProcessServer(keys[1], ("ed25519",)) as endpoint:
        with ParamikoShell(keys[0]).connect(endpoint, host_key=None) as session:
            shown = session.host_key
        yield endpoint, shown


@pytest.fixture
def reachable(api: World, keys: tuple[str, str], server: tuple[SshEndpoint, str]) -> World:
    """A world whose machine is that server, and whose user owns the key."""
    endpoint, host_key = server
    folder = api.folder / "config" / "dumont"
    folder.mkdir(parents=True)
    write_private(folder / "id_ed25519", keys[0])
    at = {"host": endpoint.host, "port": endpoint.port, "user": endpoint.user}
    api.says("GET /routes/trainer", {"route": route(ssh=at, host_key=host_key)})
    return api


def dumont(api: World, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in api.environment(**more).items() if v is not None}
    command = [sys.executable, "-m", "dumont.cli.main", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)


def test_arguments_reach_the_command_as_they_were_given(reachable: World) -> None:
    done = dumont(reachable, "run", "trainer", "--", "printf", "<%s>", "a b", "$HOME", "'")
    assert done.stdout == "<a b><$HOME><'>"
    assert done.returncode == 0


def test_a_single_argument_is_a_line_for_the_shell(reachable: World) -> None:
    assert dumont(reachable, "run", "trainer", "--", "cd / && pwd").stdout == "/\n"
    assert remote_line(("ls", "a b")) == "ls 'a b'"


def test_outputs_stay_apart_and_the_status_is_passed_on(reachable: World) -> None:
    done = dumont(reachable, "run", "trainer", "--", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)


def test_options_after_the_dashes_are_the_commands_own(reachable: World) -> None:
    done = dumont(reachable, "run", "trainer", "--", "echo", "--json", "--url", "x")
    assert done.stdout == "--json --url x\n"


def test_in_json_the_output_is_told_with_the_status(reachable: World) -> None:
    done = dumont(reachable, "run", "--json", "trainer", "--", "echo out; echo err >&2; exit 7")
    assert done.returncode == 7
    assert output_of(done) == {"machine": "trainer", "exit_status": 7, "stdout": "out\n", "stderr": "err\n"}


def output_of(done: subprocess.CompletedProcess[str]) -> object:
    return json.loads(done.stdout)


def test_another_host_key_than_the_pinned_one_stops_it(reachable: World) -> None:
    endpoint = reachable.answers["GET /routes/trainer"][0]
    stranger = generate_key()[1]
    view = json.loads(endpoint.body or b"{}")["route"]
    reachable.says("GET /routes/trainer", {"route": {**view, "host_key": stranger}})
    done = dumont(reachable, "run", "trainer", "--", "echo hello")
    assert done.returncode == 1
    assert "another key than the one pinned" in done.stderr
    assert done.stdout == ""


def test_a_machine_that_does_not_know_this_key_says_so(reachable: World) -> None:
    write_private(reachable.folder / "config" / "dumont" / "id_ed25519", generate_key()[0])
    done = dumont(reachable, "run", "trainer", "--", "echo hello")
    assert done.returncode == 1
    assert "refused this user's key" in done.stderr


def test_without_a_key_of_its_own_it_says_where_one_comes_from(api: World) -> None:
    api.says("GET /routes/trainer", {"route": route()})
    result = api.run("run", "trainer", "--", "true")
    assert result.exit_code == 1
    assert "there is no SSH key" in result.stderr


@pytest.mark.parametrize("command", [["run", "trainer", "--", "true"], ["ssh", "trainer"]])
def test_a_machine_without_address_or_pinned_key_is_not_reached(api: World, command: list[str]) -> None:
    api.says("GET /routes/trainer", {"route": {"machine": "trainer", "state": "destroyed"}})
    result = api.run(*command)
    assert result.exit_code == 5
    assert "trainer is destroyed: it has no SSH address" in result.stderr
    api.says("GET /routes/trainer", {"route": {"machine": "trainer", "state": "hibernated"}})
    assert "next: wake it: dumont wake trainer" in api.run(*command).stderr
    api.says("GET /routes/trainer", {"route": route(host_key=None)})
    assert "no pinned host key" in api.run(*command).stderr
    api.says("GET /routes/trainer", {"route": {"machine": "trainer", "state": "failed"}})
    assert output(api.run(command[0], "--json", *command[1:]))["code"] == "not_running"


def test_ssh_runs_openssh_with_the_pinned_key_and_no_other(reachable: World, tmp_path: Path) -> None:
    fake = tmp_path / "bin" / "ssh"
    fake.parent.mkdir()
    fake.write_text(FAKE_SSH)
    fake.chmod(0o755)
    done = dumont(reachable, "ssh", "trainer", "--", "echo", "a b", PATH=f"{fake.parent}:{os.environ['PATH']}")
    assert done.returncode == 7
    words = done.stdout.splitlines()
    for option in ("StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "ForwardAgent=no", "ControlPath=none"):
        assert option in words
    assert words[words.index("-i") + 1] == str(reachable.folder / "config" / "dumont" / "id_ed25519")
    assert "echo 'a b'" in words
    assert "HostKeyAlias=trainer" in words
    assert any(word.startswith("trainer ssh-ed25519 ") for word in words)
    assert "key: none" in words
    known_hosts = next(word for word in words if word.startswith("UserKnownHostsFile=")).partition("=")[2]
    assert not Path(known_hosts).exists()


def test_without_openssh_a_command_still_runs(reachable: World, tmp_path: Path) -> None:
    assert dumont(reachable, "ssh", "trainer", "--", "echo", "hello", PATH=str(tmp_path)).stdout == "hello\n"
    shell = dumont(reachable, "ssh", "trainer", PATH=str(tmp_path))
    assert shell.returncode == 1
    assert "there is no `ssh` on this machine" in shell.stderr


def test_a_machine_on_the_move_is_waited_for_with_its_progress(reachable: World) -> None:
    there = reachable.answers["GET /routes/trainer"][0]
    moving = {"route": {"machine": "trainer", "epoch": 2, "state": "failing_over"}}
    reachable.says("GET /routes/trainer", moving, there)
    reachable.says("GET /machines/trainer", {"machine": {"name": "trainer", "operation_id": "op-7"}})
    op = operation(id="op-7", kind="failover", tried=["cold"], tried_since=NOW + 3, steps=[step("search", 3, 3.2)])
    reachable.says("GET /operations/op-7", {"operation": op})
    done = dumont(reachable, "run", "trainer", "--", "echo hello")
    assert (done.stdout, done.returncode) == ("hello\n", 0)
    assert "trainer is failing over: waiting for it, up to 300 s" in done.stderr
    assert "3.00 s  new hosts race" in done.stderr
    assert "search took 0.20 s" in done.stderr


@pytest.mark.parametrize(
    "command", [["run", "trainer", "--wait", "0", "--", "true"], ["ssh-proxy", "--wait=0", "trainer"]]
)
def test_the_wait_for_a_machine_on_the_move_has_an_end(api: World, command: list[str]) -> None:
    api.says("GET /routes/trainer", {"route": {"machine": "trainer", "epoch": 2, "state": "failing_over"}})
    result = api.run(*command)
    assert result.exit_code == 5
    assert "trainer is still failing over after 0 s" in result.stderr
    assert "dumont events trainer -f" in result.stderr


def test_a_lost_connection_says_how_to_find_the_machine_again(reachable: World, tmp_path: Path) -> None:
    fake = tmp_path / "bin" / "ssh"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nexit 255\n")
    fake.chmod(0o755)
    done = dumont(reachable, "ssh", "trainer", PATH=f"{fake.parent}:{os.environ['PATH']}")
    assert done.returncode == 255
    assert "`dumont ssh trainer` waits and connects to where it is then" in done.stderr
