"""The simulated machines: real SSH servers and real processes, in step with the market."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import httpx
import psutil
import pytest

from tests.end_to_end.market_support import BODY, KEY, Rig, market, processes_of, wait_for


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    os.environ["DUMONT_TEST_SECRET"] = "must not be seen"
    try:
        with market(tmp_path_factory.mktemp("market")) as running:
            yield running
    finally:
        del os.environ["DUMONT_TEST_SECRET"]


@pytest.fixture(scope="module")
def instance(rig: Rig) -> int:
    """One that runs, for all tests that only use it."""
    created = rig.create(env={"GREETING": "hello world", "-p 8080:8080": "1"}, onstart="echo started by $CONTAINER_ID")
    rig.until(created, "running")
    return created


def run(rig: Rig, instance: int, command: str, input: str = "") -> asyncssh.SSHCompletedProcess:  # noqa: A002
    async def once() -> asyncssh.SSHCompletedProcess:
        async with rig.login(rig.until(instance, "running")) as connection:
            return await connection.run(command, input=input)

    return asyncio.run(once())


def test_commands_run_in_the_machine_s_home_with_an_environment_of_its_own(rig: Rig, instance: int) -> None:
    text = str(run(rig, instance, "pwd; env").stdout)
    of_the_machine_itself = str(run(rig, instance, "tr '\\0' '\\n' < /proc/$PPID/environ").stdout)
    folder = rig.folder / str(instance)
    assert text.splitlines()[0] == str(folder / "home")
    names = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    assert names["GREETING"] == "hello world"
    assert names["HOME"] == str(folder / "home")
    assert names["WORKSPACE"] == str(folder / "home" / "workspace")
    assert names["CONTAINER_ID"] == str(instance)
    assert names["PATH"].startswith(f"{folder}/bin:")
    assert "must not be seen" not in text + of_the_machine_itself
    assert "-p 8080:8080" not in names


def test_output_error_and_exit_status_come_apart(rig: Rig, instance: int) -> None:
    done = run(rig, instance, "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.exit_status) == ("out\n", "err\n", 7)


def test_a_command_ended_by_a_signal_says_so(rig: Rig, instance: int) -> None:
    done = run(rig, instance, "kill -9 $$")
    assert done.exit_signal is not None
    assert done.exit_signal[0] == "KILL"


def test_input_is_streamed_and_ends(rig: Rig, instance: int) -> None:
    assert str(run(rig, instance, "wc -c", input="x" * 3_000_000).stdout).strip() == "3000000"


def test_a_command_need_not_read_its_input(rig: Rig, instance: int) -> None:
    async def ignored() -> int | None:
        async with rig.login(rig.until(instance, "running")) as connection:
            process = await connection.create_process("exit 3")
            with contextlib.suppress(BrokenPipeError):  # it may have ended by now
                process.stdin.write("x" * 3_000_000)
            await process.wait()
            return process.exit_status

    assert asyncio.run(ignored()) == 3


def test_output_is_streamed_as_it_comes(rig: Rig, instance: int) -> None:
    async def first_line() -> str:
        async with rig.login(rig.until(instance, "running")) as connection:
            process = await connection.create_process("echo first; read line; echo $line")
            line = await asyncio.wait_for(process.stdout.readline(), 20)
            process.stdin.write("second\n")
            return str(line + await process.stdout.read())

    assert asyncio.run(first_line()) == "first\nsecond\n"


def test_signals_reach_the_command(rig: Rig, instance: int) -> None:
    async def interrupted() -> int | None:
        async with rig.login(rig.until(instance, "running")) as connection:
            process = await connection.create_process("trap 'exit 42' TERM; echo ready; while :; do sleep 0.01; done")
            await process.stdout.readline()
            process.send_signal("TERM")
            await process.wait()
            return process.exit_status

    assert asyncio.run(interrupted()) == 42


def test_a_shell_has_a_terminal_of_the_client_s_size(rig: Rig, instance: int) -> None:
    async def shell() -> tuple[str, int | None]:
        async with rig.login(rig.until(instance, "running")) as connection:
            process = await connection.create_process(term_type="xterm", term_size=(101, 31))
            process.stdin.write("stty size; tty; exit 5\n")
            text = await process.stdout.read()
            await process.wait()
            return str(text), process.exit_status

    text, status = asyncio.run(shell())
    assert "31 101" in text
    assert "/dev/pts/" in text
    assert status == 5


def test_a_lost_connection_ends_its_command(rig: Rig, instance: int) -> None:
    async def hang_up() -> int:
        async with rig.login(rig.until(instance, "running")) as connection:
            process = await connection.create_process("echo $$; exec sleep 4321")
            return int(await process.stdout.readline())

    pid = asyncio.run(hang_up())
    wait_for(lambda: not psutil.pid_exists(pid), "the command's end")


def test_files_go_over_sftp_and_ports_are_forwarded(rig: Rig, instance: int) -> None:
    async def use() -> tuple[object, bytes]:
        async with rig.login(rig.until(instance, "running")) as connection:
            async with connection.start_sftp_client() as sftp:
                async with sftp.open("workspace/file", "wb") as file:
                    await file.write(b"\x00\xff" * 50_000)
                async with sftp.open("workspace/file", "rb") as file:
                    content = await file.read()
            # Through the machine to its own SSH port: whatever listens there says its name first.
            port = connection.get_extra_info("peername")[1]
            reader, writer = await connection.open_connection("127.0.0.1", port)
            banner = await reader.readline()
            writer.close()
            return content, banner

    content, banner = asyncio.run(use())
    assert content == b"\x00\xff" * 50_000
    assert (rig.folder / str(instance) / "home" / "workspace" / "file").read_bytes() == content
    assert banner.startswith(b"SSH-2.0-OpenSSH")


def test_nvidia_smi_shows_the_gpu_that_was_offered_in_login_shells_too(rig: Rig, instance: int) -> None:
    query = "nvidia-smi --query-gpu=name,memory.total --format=csv,noheader"
    for command in (query, f"bash -lc '{query}'"):
        assert run(rig, instance, command).stdout == "NVIDIA GeForce RTX 4090, 24564 MiB\n"


def test_what_the_on_start_script_printed_is_in_the_log(rig: Rig, instance: int) -> None:
    def log() -> bool:
        asked = rig.http.put(f"/api/v0/instances/request_logs/{instance}/", json={"tail": "100"}).json()
        return f"started by {instance}" in httpx.get(asked["result_url"]).text

    wait_for(log, "the log")


def test_files_can_be_listed_by_the_api(rig: Rig, instance: int) -> None:
    run(rig, instance, "echo hi > workspace/listed")
    for command, expected in (
        ("ls /workspace", "listed"),
        ("ls /etc", "No such file"),
        ("ls -d ../..", "No such file"),
    ):
        asked = rig.http.put(f"/api/v0/instances/command/{instance}/", json={"command": command}).json()
        assert expected in httpx.get(asked["result_url"]).text
    refused = rig.http.put(f"/api/v0/instances/command/{instance}/", json={"command": "cat /etc/passwd"})
    assert refused.status_code == 400


def test_a_stranger_s_key_is_refused_until_it_is_attached(rig: Rig, instance: int) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    public = key.export_public_key().decode()
    row = rig.until(instance, "running")
    wait_for(lambda: _accepts(row), "an open port")

    async def try_it(user: str = "root") -> bool:
        try:
            async with asyncssh.connect(
                row["ssh_host"], row["ssh_port"], username=user, client_keys=[key], known_hosts=None, config=None
            ):
                return True
        except asyncssh.PermissionDenied:
            return False

    assert asyncio.run(try_it()) is False
    rig.http.post(f"/api/v0/instances/{instance}/ssh/", json={"ssh_key": public})
    assert asyncio.run(try_it()) is True
    assert asyncio.run(try_it("somebody")) is False


def test_ssh_answers_when_the_boot_ends_and_not_before(rig: Rig) -> None:
    def in_its_boot() -> dict[str, Any] | None:
        """One that has its port and does not run yet: a computer that is busy may look too late, and takes another."""
        created = rig.create()
        row = wait_for(lambda: r if (r := rig.row(created)) and r["ssh_port"] else None, "a port")
        if row["actual_status"] != "running":
            return row
        rig.http.delete(f"/api/v0/instances/{created}/")
        return None

    row = wait_for(in_its_boot, "one that boots")
    created = int(row["id"])
    with contextlib.suppress(OSError):
        socket.create_connection((row["ssh_host"], row["ssh_port"]), 1).close()
        assert (rig.row(created) or {})["actual_status"] == "running"
    rig.until(created, "running")
    assert run(rig, created, "true").exit_status == 0
    rig.http.delete(f"/api/v0/instances/{created}/")


def test_a_stopped_machine_keeps_its_disk_and_host_key_and_none_of_its_processes(rig: Rig) -> None:
    created = rig.create()
    before = rig.until(created, "running")
    run(rig, created, "echo kept > workspace/file; (setsid sleep 1234 >/dev/null 2>&1 &)")
    key = _host_key(before)
    rig.http.put(f"/api/v0/instances/{created}/", json={"state": "stopped"})
    wait_for(lambda: not processes_of(rig.folder / str(created)), "the end of its processes")
    rig.http.put(f"/api/v0/instances/{created}/", json={"state": "running"})
    after = rig.until(created, "running")
    assert run(rig, created, "cat workspace/file").stdout == "kept\n"
    assert _host_key(after) == key
    rig.http.delete(f"/api/v0/instances/{created}/")


def _host_key(row: dict[str, object]) -> str:
    async def get() -> str:
        key = await asyncssh.get_server_host_key(str(row["ssh_host"]), int(str(row["ssh_port"])), config=None)
        assert key is not None
        return key.export_public_key().decode()

    wait_for(lambda: _accepts(row), "an open port")
    return asyncio.run(get())


def _accepts(row: dict[str, object]) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((str(row["ssh_host"]), int(str(row["ssh_port"]))), 1):
        return True
    return False


def test_a_destroyed_machine_leaves_no_process_and_no_file(rig: Rig) -> None:
    created = rig.create()
    rig.until(created, "running")
    run(rig, created, "(setsid nohup sleep 1234 >/dev/null 2>&1 &)")
    # It becomes nohup and then sleep after its shell has ended.
    wait_for(lambda: any("sleep" in process for process in processes_of(rig.folder / str(created))), "its sleep")
    rig.http.delete(f"/api/v0/instances/{created}/")
    wait_for(lambda: not processes_of(rig.folder / str(created)), "the end of its processes")
    wait_for(lambda: not (rig.folder / str(created)).exists(), "the end of its folder")


def test_a_machine_that_kills_itself_is_exited(rig: Rig) -> None:
    created = rig.create()
    rig.until(created, "running")
    with contextlib.suppress(asyncssh.Error, OSError):
        run(rig, created, "kill -9 $PPID")
    assert rig.until(created, "exited")["intended_status"] == "running"
    rig.http.delete(f"/api/v0/instances/{created}/")


def test_nothing_outlives_a_market_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    command = [sys.executable, "-m", "dumont.local.market", "--port", "0", "--time-scale", "0.001"]
    options = ["--folder", str(tmp_path / "disks"), "--api-key-file", str(tmp_path / "key")]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip().removeprefix("VAST_URL=")
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}) as http:
            rig = Rig(http, tmp_path / "disks")
            created = rig.create(onstart="setsid sleep 1234 & sleep 1234")
            rig.until(created, "running")
            wait_for(lambda: len(processes_of(tmp_path)) >= 3, "its processes")
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_for(lambda: not processes_of(tmp_path), "the end of the machine's processes")
    wait_for(lambda: not any(child.is_running() for child in children), "the end of the nursery")


def test_a_market_that_opens_again_knows_nothing_of_the_last_one_s_instances(tmp_path: Path) -> None:
    with market(tmp_path) as rig:
        first = rig.create()
        run(rig, first, "echo old > workspace/file")
    assert (tmp_path / str(first) / "home" / "workspace" / "file").exists()
    closed = int(time.time())
    wait_for(lambda: int(time.time()) > closed, "the next second")
    with market(tmp_path) as rig:
        assert not (tmp_path / str(first)).exists()
        assert rig.row(first) is None
        assert rig.create() != first


def test_five_machines_boot_at_once_no_slower_than_planned(tmp_path: Path) -> None:
    def late_seconds(rig: Rig) -> float:
        asks = [offer["id"] for offer in rig.offers()[:5]]
        created = [rig.http.put(f"/api/v0/asks/{ask}/", json=BODY).json()["new_contract"] for ask in asks]
        rows = [rig.until(each, "running") for each in created]
        for row in rows:
            wait_for(lambda row=row: _accepts(row), "an open port")  # type: ignore[misc]
        assert rig.server is not None
        planned = max(rig.server.market.instance(i, time.time()).timeline.first("running") or 0.0 for i in created)
        late = time.time() - planned
        for each in created:
            rig.http.delete(f"/api/v0/instances/{each}/")
        return late

    # Others use this computer, too: what boots in time once is fast enough.
    with market(tmp_path, time_scale=0.01) as running:
        wait_for(lambda: late_seconds(running) < 1.0, "five boots in time")
