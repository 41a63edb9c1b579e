"""How the agent gets onto a machine: the on-start script under several shells and with what an image has, and SSH."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dumont.agent import boot
from tests import agent_rig
from tests.agent_rig import Host, answer, serve, wait_for

TOOLS = ("sh", "mkdir", "cat", "mv", "rm", "cut", "grep", "sleep", "wc")
SHELLS = [["dash"], ["bash"], ["busybox", "sh"]]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with agent_rig.host(tmp_path) as made:
        yield made


def only(host: Host, *tools: str) -> None:
    """Leave nothing on PATH but a bare image's tools and these (python3 is there already)."""
    host.path = str(host.programs)
    for name in (*TOOLS, *tools):
        found = shutil.which(name)
        if found is None:
            pytest.skip(f"needs {name}")
        (host.programs / name).symlink_to(os.path.realpath(found))


def refuse_absolute_pythons(script: str) -> str:
    """The script as it is on an image whose Python is nowhere but on PATH."""
    return script.replace("/usr/", "/no/")


@pytest.mark.parametrize(
    "tools",
    [("curl", "sha256sum"), ("wget", "sha256sum"), ()],
    ids=["curl", "wget", "python alone"],
)
def test_the_on_start_script_fetches_checks_and_starts(host: Host, tools: tuple[str, ...]) -> None:
    only(host, *tools)
    done = host.shell(boot.on_start(host.config()))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"dumont agent: started\n", b"")
    wait_for(lambda: len(host.plane.beats) > 1, "it phones home")
    fetched = [seen for seen in host.plane.requests if seen.method == "GET"]
    assert [(seen.path, seen.token) for seen in fetched] == [("/agent", "")]
    assert host.plane.beats[0].body["agent"]["sha256"] == boot.agent_sha256()
    assert (host.folder / "config.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_it_runs_under_any_shell_and_a_second_start_is_no_second_agent(host: Host, shell: list[str]) -> None:
    program = shutil.which(shell[0])
    if program is None:
        pytest.skip(f"needs {shell[0]}")
    script = boot.on_start(host.config())
    assert host.shell(script, program, *shell[1:]).stdout == b"dumont agent: started\n"
    wait_for(lambda: host.plane.beats, "it phones home")
    agents = host.agents()
    again = host.shell(f"set -e\n{script}\necho and on", program, *shell[1:])
    assert (again.stdout, again.stderr) == (b"dumont agent: runs already\nand on\n", b"")
    wait_for(lambda: host.agents() == agents, "no second agent")
    assert len([seen for seen in host.plane.requests if seen.method == "GET"]) == 1


@pytest.mark.parametrize("tools", [("curl", "sha256sum"), ()], ids=["sha256sum", "python"])
def test_a_program_with_another_hash_is_refused(host: Host, tools: tuple[str, ...]) -> None:
    only(host, *tools)
    host.plane.program = boot.agent_file() + b" "
    done = host.shell(boot.on_start(host.config()))
    assert (done.returncode, done.stderr) == (0, b"dumont: the agent that was fetched is not the right one\n")
    assert host.processes() == []
    assert not list(host.folder.glob("*.pyz*"))


@pytest.mark.parametrize("python", ["", "exit 127", "exit 1"], ids=["none", "broken", "old"])
def test_an_image_without_a_python_that_will_do_says_so(host: Host, python: str) -> None:
    only(host, "curl")
    (host.programs / "python3").unlink()
    if python:
        host.program("python3", python)
    done = host.shell(refuse_absolute_pythons(boot.on_start(host.config())))
    assert (done.returncode, done.stderr) == (0, b"dumont: no Python 3.8 or later: no agent\n")
    assert host.plane.requests == []


def test_a_configuration_that_ssh_brought_outlives_a_start(host: Host) -> None:
    script = boot.on_start(host.config())
    assert boot.push(host, host.config(machine="other", epoch=2)) == "started"
    wait_for(lambda: host.plane.beats, "it phones home")
    host.kill()
    assert host.shell(script).stdout == b"dumont agent: started\n"
    count = len(host.plane.beats)
    wait_for(lambda: len(host.plane.beats) > count, "it phones home")
    assert (host.plane.last["machine"], host.plane.last["epoch"]) == ("other", 2)


def test_a_configuration_of_another_instance_does_not(host: Host) -> None:
    # As when a home was restored from a machine that is gone.
    assert boot.push(host, host.config(instance="dumont.test.trainer.1.gone")) == "started"
    host.kill()
    assert host.shell(boot.on_start(host.config())).stdout == b"dumont agent: started\n"
    wait_for(lambda: host.plane.last.get("instance") == host.config().instance, "it phones home as itself")


def test_pushed_twice_it_runs_once_and_another_configuration_takes_its_place(host: Host) -> None:
    host.plane.says = serve("exec sleep 60")
    assert boot.push(host, host.config()) == "started"
    host.plane.wait_state("running")
    agents, workload = host.agents(), host.others()
    assert boot.push(host, host.config()) == "runs already"
    wait_for(lambda: (host.agents(), host.others()) == (agents, workload), "nothing has changed")
    host.plane.says = answer("wait")
    assert boot.push(host, host.config(epoch=2)) == "started"
    wait_for(lambda: host.plane.last["epoch"] == 2, "it phones home in its new epoch")
    assert host.others() == []
    assert len(host.agents()) == 2


def test_one_whose_guard_was_killed_gives_way_too(host: Host) -> None:
    assert boot.push(host, host.config()) == "started"
    wait_for(lambda: host.plane.beats, "it phones home")
    guard, agent = sorted(host.agents(), key=lambda process: process.pid)
    guard.kill()
    lock = host.folder / "lock"
    wait_for(lambda: f'"pid": {agent.pid},' in lock.read_text(), "the agent stands for itself")
    assert boot.push(host, host.config(epoch=2)) == "started"
    wait_for(lambda: host.plane.last["epoch"] == 2, "the other")
    assert agent not in host.agents()


def test_a_machine_without_python_cannot_be_pushed_to(host: Host) -> None:
    only(host)
    host.program("python3", "exit 127")
    original = host.run

    class Bare:
        def run(self, command: str, *, stdin: bytes = b"", timeout_seconds: float = 30.0) -> boot.Result:
            return original(refuse_absolute_pythons(command), stdin=stdin, timeout_seconds=timeout_seconds)

    with pytest.raises(boot.AgentNotStarted, match="no Python") as raised:
        boot.push(Bare(), host.config())
    assert host.config().token not in str(raised.value)
