"""Tunnels to machines' ports, against OpenSSH's sshd and against asyncssh: one connection a machine, of its latest
epoch alone, noticed when it is dead.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpcore
import pytest

from dumont.adapters.ssh import ParamikoSession, ParamikoShell, generate_key
from dumont.adapters.tunnel import Patience, StaleRoute, TooManyTunnels, Tunnel, TunnelRoute, Tunnels
from dumont.adapters.tunnel_stream import HostSilent, PortClosed
from dumont.domain.records import SshEndpoint
from tests.contract.ssh_servers import Wire, asyncssh_server, free_port, openssh, sshd_path, wait_until
from tests.end_to_end.model_server import Handler, Server

PRIVATE, PUBLIC = generate_key()


class CountingShell(ParamikoShell):
    """Counts its connections."""

    def __init__(self) -> None:
        super().__init__(PRIVATE)
        self.dialled = 0
        self._lock = threading.Lock()

    def connect(self, endpoint: SshEndpoint, *, host_key: str | None, timeout_seconds: float = 10.0) -> ParamikoSession:
        with self._lock:
            self.dialled += 1
        return super().connect(endpoint, host_key=host_key, timeout_seconds=timeout_seconds)


@pytest.fixture(scope="module", params=[pytest.param("openssh", marks=pytest.mark.openssh), "asyncssh"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshEndpoint]:
    if request.param == "openssh" and sshd_path() is None:
        if os.environ.get("DUMONT_REQUIRE_ALL") == "1":
            pytest.fail("DUMONT_REQUIRE_ALL=1, and OpenSSH's sshd is not installed", pytrace=False)
        pytest.skip("OpenSSH's sshd is not installed (Debian: openssh-server)")
    start = openssh if request.param == "openssh" else asyncssh_server
    with start(tmp_path_factory.mktemp("server"), PUBLIC) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def host_key(server: SshEndpoint) -> str:
    with ParamikoShell(PRIVATE).connect(server, host_key=None) as session:
        return session.host_key


@pytest.fixture(scope="module")
def program() -> Iterator[int]:
    """A port on which a program speaks HTTP."""
    with Server(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield int(running.server_address[1])
        running.shutdown()


@contextlib.contextmanager
def tunnels(
    shell: CountingShell | None = None, *, most: int = 8, patience: Patience | None = None
) -> Iterator[Tunnels]:
    chosen = shell or CountingShell()
    made = Tunnels(lambda: chosen, most=most, patience=patience)
    try:
        yield made
    finally:
        made.close()


def route(endpoint: SshEndpoint, host_key: str, *, machine: str = "trainer", epoch: int = 1) -> TunnelRoute:
    return TunnelRoute(
        machine=machine, epoch=epoch, instance_id=f"{machine}.{epoch}", endpoint=endpoint, host_key=host_key
    )


def begin(tunnel: Tunnel, port: int, target: str = "/echo") -> httpcore.Response:
    url = httpcore.URL(scheme=b"http", host=b"127.0.0.1", port=port, target=target.encode())
    return tunnel.send(httpcore.Request(b"GET", url, headers=[(b"Host", b"127.0.0.1")]))


def ask(tunnel: Tunnel, port: int, target: str = "/echo") -> bytes:
    answer = begin(tunnel, port, target)
    try:
        assert answer.status == 200
        return answer.read()
    finally:
        answer.close()


def test_many_requests_at_once_share_one_connection(server: SshEndpoint, host_key: str, program: int) -> None:
    shell = CountingShell()

    def once(number: int) -> bool:
        with made.through(route(server, host_key)) as tunnel:
            return f"/echo?n={number}".encode() in ask(tunnel, program, f"/echo?n={number}")

    with tunnels(shell) as made, ThreadPoolExecutor(20) as pool:
        assert all(pool.map(once, range(100)))
    assert shell.dialled == 1


def test_a_large_answer_is_whole(server: SshEndpoint, host_key: str, program: int) -> None:
    with tunnels() as made, made.through(route(server, host_key)) as tunnel:
        assert len(ask(tunnel, program, "/noise?bytes=20000000")) == 20_000_000


def test_a_port_where_nothing_listens_is_told_from_a_host_that_is_gone(server: SshEndpoint, host_key: str) -> None:
    with tunnels() as made:
        with made.through(route(server, host_key)) as tunnel, pytest.raises(PortClosed):
            begin(tunnel, free_port())
        gone = SshEndpoint(host="127.0.0.1", port=free_port())
        with pytest.raises(HostSilent):
            made.take(route(gone, host_key, machine="gone"))


def test_a_host_with_another_key_is_not_spoken_to(server: SshEndpoint) -> None:
    other = " ".join(generate_key()[1].split()[:2])
    with tunnels() as made, pytest.raises(HostSilent, match="HostKeyChanged"):
        made.take(route(server, other))


def test_nothing_goes_to_an_older_epoch_once_a_newer_one_was_seen(
    server: SshEndpoint, host_key: str, program: int
) -> None:
    with tunnels() as made:
        with made.through(route(server, host_key, epoch=2)) as old:
            under_way = begin(old, program, "/events?count=100&seconds=0.1")
            pieces = under_way.iter_stream()
            assert next(iter(pieces))
            with made.through(route(server, host_key, epoch=3)) as new:
                assert ask(new, program)
            with pytest.raises(httpcore.ReadError):  # what was under way is cut, and does not pass for a whole answer
                for _ in pieces:
                    pass
            under_way.close()
        with pytest.raises(StaleRoute):
            made.take(route(server, host_key, epoch=2))


def test_a_connection_that_broke_is_made_anew(server: SshEndpoint, host_key: str, program: int) -> None:
    shell = CountingShell()
    with Wire(server) as wire, tunnels(shell) as made:
        with made.through(route(wire.endpoint, host_key)) as tunnel:
            ask(tunnel, program)
        wire.cut()
        wait_until(lambda: not tunnel.is_good, "the break is noticed")
        with made.through(route(wire.endpoint, host_key)) as tunnel:
            ask(tunnel, program)
    assert shell.dialled == 2


def test_a_host_that_fell_silent_is_noticed_under_a_request(server: SshEndpoint, host_key: str, program: int) -> None:
    patience = Patience(look_seconds=0.2, silence_seconds=1.0)
    with Wire(server) as wire, tunnels(patience=patience) as made:
        with made.through(route(wire.endpoint, host_key)) as tunnel:
            answer = begin(tunnel, program, "/events?count=1000&seconds=0.1")
            pieces = answer.iter_stream()
            next(iter(pieces))
            wire.silence()
            began = time.monotonic()
            with pytest.raises(httpcore.ReadError):
                for _ in pieces:
                    pass
            answer.close()
        assert time.monotonic() - began < 10


def test_a_program_that_thinks_for_long_is_not_taken_for_a_dead_host(
    server: SshEndpoint, host_key: str, program: int
) -> None:
    patience = Patience(look_seconds=0.2, silence_seconds=0.8)
    with tunnels(patience=patience) as made, made.through(route(server, host_key)) as tunnel:
        assert b"slept" in ask(tunnel, program, "/slow?seconds=3")


def test_what_nobody_uses_is_closed(server: SshEndpoint, host_key: str) -> None:
    with tunnels(patience=Patience(idle_seconds=0.2, look_seconds=0.1)) as made:
        with made.through(route(server, host_key)) as tunnel:
            assert tunnel.is_good
        wait_until(lambda: not tunnel.is_good, "it is closed")


def test_room_is_made_by_closing_what_rests_and_never_what_is_used(
    server: SshEndpoint, host_key: str, program: int
) -> None:
    with tunnels(most=1) as made:
        with made.through(route(server, host_key, machine="one")) as one:
            with pytest.raises(TooManyTunnels):
                made.take(route(server, host_key, machine="two"))
            ask(one, program)
        with made.through(route(server, host_key, machine="two")) as two:
            assert not one.is_good
            ask(two, program)


def test_the_key_that_opens_it_is_the_control_planes_own(server: SshEndpoint, host_key: str) -> None:
    stranger = Tunnels(lambda: ParamikoShell(generate_key()[0]))
    with pytest.raises(HostSilent, match="ShellRefused"):
        stranger.take(route(server, host_key))
