"""The courier against real receivers: connected to the address that was looked at, with TLS for the URL's name."""

from __future__ import annotations

import itertools
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from dumont.adapters.http_courier import BODY_BYTES_MOST, HttpCourier, look_up
from dumont.domain.addresses import Target, fault, parse
from dumont.domain.errors import NotDelivered
from dumont.domain.happenings import Happening
from dumont.domain.subscriptions import DeliveryState
from dumont.operations import deliveries, subscribers
from tests.contract.webhook_receiver import Receiver, certificate, receiver
from tests.unit.webhook_support import Office

NAME = "hook.example.com"
HERE = ["127.0.0.1"]


def nowhere(host: str) -> Sequence[str]:
    raise AssertionError(f"{host} was looked up a second time")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificate")


@pytest.fixture(scope="module")
def secure(folder: Path) -> Iterator[Receiver]:
    with receiver(certificate(folder, NAME)) as running:
        yield running


@pytest.fixture
def plain() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


def trusting(folder: Path, **options: float) -> HttpCourier:
    return HttpCourier(nowhere, context=ssl.create_default_context(cafile=str(folder / "cert.pem")), **options)


def at(running: Receiver, host: str = "127.0.0.1", path: str = "/hook") -> Target:
    return parse(f"http://{host}:{running.port}{path}", loopback=True)


def test_the_name_stays_the_urls_and_the_connection_goes_to_the_address(secure: Receiver, folder: Path) -> None:
    target = parse(f"https://{NAME}:{secure.port}/a?b=c")
    posted = trusting(folder).post(target, HERE, {"webhook-id": "msg_1"}, b'{"x":1}')
    assert posted.status == 204
    got = secure.got[-1]
    assert got.headers["host"] == f"{NAME}:{secure.port}"
    assert (got.path, got.body, got.headers["webhook-id"]) == ("/a?b=c", b'{"x":1}', "msg_1")
    assert secure.names[-1] == NAME
    assert {"cookie", "authorization", "accept-encoding", "transfer-encoding"} & got.headers.keys() == set()


def test_a_certificate_for_another_name_or_of_nobody_is_refused(secure: Receiver, folder: Path) -> None:
    before = len(secure.got)
    with pytest.raises(NotDelivered, match="certificate"):
        trusting(folder).post(parse(f"https://other.example.com:{secure.port}/"), HERE, {}, b"{}")
    with pytest.raises(NotDelivered, match="certificate") as refused:
        HttpCourier(nowhere).post(parse(f"https://{NAME}:{secure.port}/?key=abc"), HERE, {}, b"{}")
    assert "abc" not in str(refused.value)
    assert len(secure.got) == before


@pytest.mark.parametrize("path", ["/a;b=c/d;e=f?g;h", "/a;b", "/?key=1", "/%3b%2F/", "/twice//"])
def test_the_whole_of_a_urls_path_is_asked_for(plain: Receiver, path: str) -> None:
    HttpCourier(nowhere).post(at(plain, path=path), HERE, {}, b"{}")
    assert plain.got[-1].path == path


def test_of_several_addresses_the_first_that_answers_is_taken(plain: Receiver) -> None:
    posted = HttpCourier(nowhere).post(at(plain), ["127.0.0.9", "127.0.0.1"], {}, b"{}")
    assert posted.status == 204


def test_a_redirect_is_not_followed(plain: Receiver) -> None:
    with receiver() as inside:
        plain.headers = {"Location": f"http://127.0.0.1:{inside.port}/"}
        for status in (301, 302, 303, 307, 308):
            plain.answers = [status]
            assert HttpCourier(nowhere).post(at(plain), HERE, {}, b"{}").status == status
        assert inside.got == []


def test_a_proxy_of_the_environment_is_not_used(plain: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert HttpCourier(nowhere).post(at(plain), HERE, {}, b"{}").status == 204


def test_what_the_answer_asks_for_is_read(plain: Receiver) -> None:
    plain.answers, plain.headers, plain.body = [429], {"Retry-After": "17"}, b"slow down"
    posted = HttpCourier(nowhere).post(at(plain), HERE, {}, b"{}")
    assert (posted.status, posted.retry_after_seconds) == (429, 17.0)
    plain.headers = {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}
    assert HttpCourier(nowhere).post(at(plain), HERE, {}, b"{}").retry_after_seconds == 0.0


@contextmanager
def raw(*pieces: bytes, pause_seconds: float = 0.0, for_ever: bytes = b"") -> Iterator[tuple[int, list[int]]]:
    """A server that writes bytes as they are, whatever it is asked; how many it could write."""
    listening = socket.create_server(("127.0.0.1", 0))
    written = [0]
    ended = threading.Event()

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.settimeout(5)
            connection.recv(65536)
            try:
                for piece in itertools.chain(pieces, itertools.repeat(for_ever) if for_ever else ()):
                    connection.sendall(piece)
                    written[0] += len(piece)
                    if ended.wait(pause_seconds):
                        return
            except OSError:
                return
            ended.wait(5)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1], written
    finally:
        ended.set()
        listening.close()
        thread.join(10)


def post_raw(port: int, *, seconds: float = 1.0) -> int:
    target = parse(f"http://127.0.0.1:{port}/", loopback=True)
    return HttpCourier(nowhere, answer_seconds=seconds).post(target, HERE, {}, b"{}").status


def test_a_body_without_an_end_is_not_read_to_it() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 9000000000\r\n\r\n"
    with raw(head, for_ever=b"x" * 65536) as (port, written):
        assert post_raw(port, seconds=10.0) == 200
    assert written[0] < 50_000_000, f"more than {BODY_BYTES_MOST} bytes and what the sockets hold were taken"


@pytest.mark.parametrize(
    ("pieces", "for_ever"),
    [
        ((), b"H"),
        ((b"HTTP/1.1 200 OK\r\n",), b"X-Drip: 1\r\n"),
        ((), b"HTTP/1.1 100 Continue\r\n\r\n"),
        ((b"HTTP/1.1 ",), b""),
    ],
)
def test_an_answer_that_drips_has_failed_when_its_time_is_up(pieces: tuple[bytes, ...], for_ever: bytes) -> None:
    with raw(*pieces, pause_seconds=0.05, for_ever=for_ever) as (port, _):
        began = time.monotonic()
        with pytest.raises(NotDelivered):
            post_raw(port, seconds=0.7)
        assert time.monotonic() - began < 5


def test_a_success_whose_body_drips_is_a_success() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    with raw(head, pause_seconds=0.05, for_ever=b"x") as (port, _):
        assert post_raw(port, seconds=2.0) == 200


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\x15\x03\x01\x00\x02\x02\x0a", b"HTTP/1.1 99999 X\r\n\r\n"]
)
def test_what_speaks_no_http_has_failed(said: bytes) -> None:
    with raw(said) as (port, _), pytest.raises(NotDelivered):
        post_raw(port)


def test_nobody_there_has_failed() -> None:
    with receiver() as gone:
        target = at(gone)
    with pytest.raises(NotDelivered, match="no connection"):
        HttpCourier(nowhere).post(target, HERE, {}, b"{}")


def test_names_are_looked_up_by_the_system() -> None:
    assert "127.0.0.1" in look_up("localhost")
    assert look_up("127.0.0.1") == ["127.0.0.1"]
    assert look_up("::1") == ["::1"]
    with pytest.raises(NotDelivered, match="nowhere"):
        look_up("no-such-host.invalid")
    assert fault(parse(f"https://{NAME}/"), look_up("localhost"))


# --- Rebinding ----------------------------------------------------------------------------------------------------


def test_a_name_that_turns_to_us_between_two_looks_reaches_nothing(folder: Path) -> None:
    """An attacker's name server answers with a public address when the name is registered, and from then on with ours:
    also with the one, then the other, within one try."""
    office = Office()
    with receiver(certificate(folder, NAME)) as inside:
        answers = iter([["93.184.215.14"], ["127.0.0.1"], ["93.184.215.14", "127.0.0.1"], ["::ffff:127.0.0.1"]])
        looks: list[str] = []

        def rebinding(host: str) -> Sequence[str]:
            looks.append(host)
            return next(answers)

        trusts = ssl.create_default_context(cafile=str(folder / "cert.pem"))
        courier = HttpCourier(rebinding, context=trusts, answer_seconds=2.0)
        office.courier = courier  # type: ignore[assignment]
        made = office.subscribe(url=f"https://{NAME}:{inside.port}/")
        for number in range(3):
            (delivery,) = office.happens(identifier=str(number))
            office.bus.sent.clear()
            office.put(_last_try(office, delivery.id))
            assert deliveries.deliver(office.ports, courier, delivery.id) is DeliveryState.PENDING
            (attempt,) = office.delivery(delivery.id).attempts
            assert "not the internet's" in attempt.error
        assert inside.got == []
        assert inside.names == [], "nor was it connected to"
        assert looks == [NAME] * 4, "once each time"
        assert made.enabled


def _last_try(office: Office, identifier: str) -> object:
    """A delivery whose next wait is long: so that one call is one try."""
    return replace(office.delivery(identifier), tries=3)


def test_what_happens_reaches_a_real_receiver_with_its_certificate(folder: Path) -> None:
    office = Office()
    with receiver(certificate(folder, NAME)) as running:
        trusts = ssl.create_default_context(cafile=str(folder / "cert.pem"))
        courier = HttpCourier(lambda _host: ["127.0.0.1"], context=trusts)
        office.put(_subscribed(office, f"https://{NAME}:{running.port}/"))
        news = Happening(id="x", type="job.ended", at=office.clock.now(), data={})
        ports = office.ports
        (delivery,) = ports.store.transact(lambda tx: subscribers.write(ports, tx, [news]))
        assert deliveries.deliver(ports, courier, delivery.id, loopback=True) is DeliveryState.DELIVERED
        assert running.got[0].headers["webhook-id"] == delivery.id


def _subscribed(office: Office, url: str) -> object:
    return replace(office.subscribe(), url=url)
