"""The shell contract, held by the paramiko adapter against OpenSSH's sshd and against asyncssh."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dumont.adapters.ssh import OUTPUT_BYTES_MAX, ParamikoSession, ParamikoShell, generate_key, stream
from dumont.domain.errors import HostKeyChanged, InvalidInput, ShellRefused, ShellUnreachable
from dumont.domain.records import SshEndpoint
from tests.contract.ssh_servers import (
    InProcessServer,
    Wire,
    asyncssh_server,
    free_port,
    openssh,
    sshd_path,
    wait_until,
)

Start = Callable[..., contextlib.AbstractContextManager[SshEndpoint]]
PRIVATE, PUBLIC = generate_key()


@pytest.fixture(scope="module", params=[pytest.param("openssh", marks=pytest.mark.openssh), "asyncssh"])
def start(request: pytest.FixtureRequest) -> Start:
    if request.param == "asyncssh":
        return asyncssh_server
    if sshd_path() is None:
        reason = "OpenSSH's sshd is not installed (Debian: openssh-server)"
        if os.environ.get("DUMONT_REQUIRE_ALL") == "1":
            pytest.fail(f"DUMONT_REQUIRE_ALL=1, and: {reason}", pytrace=False)
        pytest.skip(reason)
    return openssh


@pytest.fixture(scope="module")
def server(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshEndpoint]:
    with start(tmp_path_factory.mktemp("server"), PUBLIC) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def shell() -> ParamikoShell:
    return ParamikoShell(PRIVATE)


@pytest.fixture
def session(shell: ParamikoShell, server: SshEndpoint) -> Iterator[ParamikoSession]:
    with shell.connect(server, host_key=None) as connected:
        yield connected


# --- Commands -----------------------------------------------------------------------------------------------------


def test_a_command_has_a_status_and_two_outputs(session: ParamikoSession) -> None:
    result = session.run("echo out; echo err >&2; exit 7")
    assert (result.exit_status, result.stdout, result.stderr) == (7, b"out\n", b"err\n")


def test_a_session_runs_many_commands(session: ParamikoSession) -> None:
    assert [session.run(f"exit {n}").exit_status for n in range(20)] == list(range(20))


def test_a_command_that_a_signal_ends_has_status_minus_one(session: ParamikoSession) -> None:
    assert session.run("kill -9 $$").exit_status == -1
    assert session.run("echo still here").stdout == b"still here\n"


def test_a_command_gets_the_end_of_its_input(session: ParamikoSession) -> None:
    assert session.run("cat").stdout == b""
    assert session.run("cat", stdin=b"\x00\xff\r\n").stdout == b"\x00\xff\r\n"


def test_a_mebibyte_comes_back_as_it_was(session: ParamikoSession) -> None:
    payload = os.urandom(1 << 20)
    assert session.run("cat", stdin=payload).stdout == payload


def test_a_large_input_arrives_whole(session: ParamikoSession) -> None:
    payload = os.urandom(8 << 20)
    assert session.run("sha256sum", stdin=payload).stdout.split()[0].decode() == hashlib.sha256(payload).hexdigest()


def test_output_is_cut_and_the_command_still_ends(session: ParamikoSession) -> None:
    result = session.run("head -c 9000000 /dev/zero; head -c 9000000 /dev/zero >&2; exit 3")
    assert result.exit_status == 3
    assert (len(result.stdout), len(result.stderr)) == (OUTPUT_BYTES_MAX, OUTPUT_BYTES_MAX)


def test_three_full_streams_at_once_do_not_block_each_other(session: ParamikoSession) -> None:
    payload = os.urandom(3 << 19)
    result = session.run("tee /dev/stderr", stdin=payload)
    assert result.stdout == payload
    assert result.stderr == payload


def test_one_output_first_and_then_the_other_does_not_block(session: ParamikoSession) -> None:
    result = session.run("head -c 5000000 /dev/zero >&2; echo done")
    assert result.stdout == b"done\n"


def test_a_command_need_not_read_its_input(session: ParamikoSession) -> None:
    result = session.run("exit 5", stdin=os.urandom(8 << 20))
    assert result.exit_status == 5


@pytest.mark.parametrize("stdin", [b"", bytes(8 << 20)], ids=["no input", "an input that nobody reads"])
def test_a_command_that_takes_too_long_is_given_up(session: ParamikoSession, stdin: bytes) -> None:
    began = time.monotonic()
    with pytest.raises(ShellUnreachable, match="within 0"):
        session.run("sleep 30", stdin=stdin, timeout_seconds=0.4)
    assert time.monotonic() - began < 5.0
    with pytest.raises(ShellUnreachable):
        session.run("true")


def test_sessions_side_by_side(shell: ParamikoShell, server: SshEndpoint) -> None:
    def one(number: int) -> bytes:
        with shell.connect(server, host_key=None, timeout_seconds=20.0) as session:
            return session.run(f"sleep 0.1; echo {number}").stdout

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(8))) == [f"{n}\n".encode() for n in range(8)]


def test_no_thread_is_left_behind(shell: ParamikoShell, server: SshEndpoint) -> None:
    before = threading.active_count()
    session = shell.connect(server, host_key=None)
    session.run("cat", stdin=b"x" * 100_000)
    session.close()
    session.close()
    wait_until(lambda: threading.active_count() <= before, "the threads of the session end")


# --- Who is there, and who are we ---------------------------------------------------------------------------------


def test_the_first_key_is_told_and_then_holds(shell: ParamikoShell, server: SshEndpoint) -> None:
    with shell.connect(server, host_key=None) as session:
        pinned = session.host_key
    assert pinned.startswith("ssh-ed25519 AAAA")
    for same in (pinned, f"{pinned} with a comment"):
        with shell.connect(server, host_key=same) as session:
            assert session.run("echo in").stdout == b"in\n"
            assert session.host_key == pinned


def test_another_key_of_the_pinned_type_is_refused(shell: ParamikoShell, server: SshEndpoint) -> None:
    with pytest.raises(HostKeyChanged):
        shell.connect(server, host_key=generate_key()[1])


@pytest.mark.parametrize("kind", ["rsa-sha2-512", "ecdsa-sha2-nistp521", "ssh-rsa", "nonsense", ""])
def test_a_host_without_a_key_of_the_pinned_type_is_refused(
    shell: ParamikoShell, server: SshEndpoint, kind: str
) -> None:
    with pytest.raises(HostKeyChanged):
        shell.connect(server, host_key=f"{kind} AAAAB3NzaC1yc2E=")


def test_of_a_host_with_several_keys_the_pinned_one_is_asked_for(
    shell: ParamikoShell, start: Start, tmp_path: Path
) -> None:
    with start(tmp_path, PUBLIC, ("ed25519", "ecdsa")) as endpoint:
        with shell.connect(endpoint, host_key=None) as session:
            assert session.host_key.startswith("ssh-ed25519 ")
        with pytest.raises(HostKeyChanged) as refused:
            shell.connect(endpoint, host_key="ecdsa-sha2-nistp256 AAAA")
        assert "another ecdsa-sha2-nistp256 key" in str(refused.value)


def test_a_host_with_another_key_learns_nothing_of_us(shell: ParamikoShell) -> None:
    server = InProcessServer(PUBLIC, ("ed25519",))
    with server as endpoint:
        with pytest.raises(HostKeyChanged):
            shell.connect(endpoint, host_key=generate_key()[1])
        assert server.logins_begun == 0
        shell.connect(endpoint, host_key=None).close()
        assert server.logins_begun == 1


def test_a_key_that_is_not_let_in_is_refused(server: SshEndpoint) -> None:
    stranger, _ = generate_key()
    with pytest.raises(ShellRefused):
        ParamikoShell(stranger).connect(server, host_key=None)


def test_a_generated_key_is_its_own_public_half(shell: ParamikoShell) -> None:
    assert shell.public_key == PUBLIC
    assert generate_key() != generate_key()


@pytest.mark.parametrize(
    "text",
    ["", "secret", PRIVATE.replace("b3Bl", "AAAA", 1), PRIVATE[:120], PUBLIC],
    ids=["nothing", "a word", "spoilt", "cut off", "the public half"],  # the same in each process: the keys are new
)
def test_a_private_key_that_is_none_is_refused_unquoted(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        ParamikoShell(text)
    assert refused.value.field == "DUMONT_SSH_PRIVATE_KEY"
    assert not text or text not in f"{refused.value} {refused.value.__cause__!r}"


def test_a_key_may_lack_its_last_line_end(server: SshEndpoint) -> None:
    ParamikoShell(PRIVATE.strip()).connect(server, host_key=None).close()


# --- Broken wires -------------------------------------------------------------------------------------------------


def test_a_port_that_nobody_listens_on(shell: ParamikoShell) -> None:
    with pytest.raises(ShellUnreachable):
        shell.connect(SshEndpoint(host="127.0.0.1", port=free_port()), host_key=None)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 300, "..", ""])
def test_a_host_that_there_is_not(shell: ParamikoShell, host: str) -> None:
    with pytest.raises(ShellUnreachable):
        shell.connect(SshEndpoint(host=host, port=1), host_key=None, timeout_seconds=3.0)


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n", b"\x00" * 70_000])
def test_a_server_that_does_not_go_on_is_given_up(shell: ParamikoShell, greeting: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        greeted: list[socket.socket] = []

        def greet() -> None:
            connection, _ = listener.accept()
            greeted.append(connection)
            with contextlib.suppress(OSError):
                connection.sendall(greeting)

        thread = threading.Thread(target=greet)
        thread.start()
        began = time.monotonic()
        with pytest.raises(ShellUnreachable):
            shell.connect(
                SshEndpoint(host="127.0.0.1", port=listener.getsockname()[1]), host_key=None, timeout_seconds=0.5
            )
        assert time.monotonic() - began < 5.0
        thread.join()
        greeted[0].close()


@pytest.mark.parametrize("command", ["echo begun; sleep 30", "echo begun; cat /dev/zero"])
def test_a_connection_that_breaks_within_a_command(shell: ParamikoShell, server: SshEndpoint, command: str) -> None:
    with Wire(server) as wire, shell.connect(wire.endpoint, host_key=None) as session:
        begun = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(session.stream, command, lambda _: begun.set(), lambda _: None)
            assert begun.wait(30.0)
            wire.cut()
            with pytest.raises(ShellUnreachable):
                running.result(10.0)


def test_a_wire_that_falls_silent(shell: ParamikoShell, server: SshEndpoint) -> None:
    with Wire(server) as wire, shell.connect(wire.endpoint, host_key=None) as session:
        wire.silence()
        with pytest.raises(ShellUnreachable):
            session.run("true", timeout_seconds=0.4)
    with Wire(server) as wire:
        wire.silence()
        with pytest.raises(ShellUnreachable):
            shell.connect(wire.endpoint, host_key=None, timeout_seconds=0.4)


# --- Streams ------------------------------------------------------------------------------------------------------


def test_a_stream_is_written_as_it_comes(server: SshEndpoint, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    class Opens(io.BytesIO):
        def flush(self) -> None:
            # The command goes on only once its first line has come through.
            if self.getvalue() == b"one\n":
                gate.write_bytes(b"two\n")

    out, err = Opens(), io.BytesIO()
    status = stream(server, None, PRIVATE, f"echo one; cat {gate}; echo three >&2; exit 4", out, err)
    assert (status, out.getvalue(), err.getvalue()) == (4, b"one\ntwo\n", b"three\n")


@pytest.mark.parametrize("command", ["cat /dev/zero", "cat /dev/zero >&2"], ids=["stdout", "stderr"])
def test_a_stream_whose_reader_goes_ends_with_the_readers_error(session: ParamikoSession, command: str) -> None:
    def gone(_: bytes) -> None:
        raise BrokenPipeError("the reader went")

    with pytest.raises(BrokenPipeError, match="the reader went"):
        session.stream(command, gone, gone, timeout_seconds=10.0)
