"""One request's way to a machine's port and back: waits for the machine, sends, streams the answer."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpcore
from flask import Response

from dumont.adapters.tunnel import StaleRoute, TooManyTunnels, Tunnel, TunnelRoute
from dumont.adapters.tunnel_stream import HostSilent, PortClosed
from dumont.domain.errors import DumontError
from dumont.domain.records import Machine
from dumont.edge import wiring
from dumont.edge.gateway.body import Body
from dumont.edge.gateway.headers import Headers, towards_caller
from dumont.edge.gateway.traffic import Traffic
from dumont.operations import gateway
from dumont.operations.gateway import NotServing
from dumont.ports import Ports

log = logging.getLogger(__name__)

SILENT_SECONDS = 600.0
"""A program may think so long before its next byte. A host that is gone is noticed long before."""
WRITE_SECONDS = 60.0
YOUNG_SECONDS = 180.0
"""So long after a machine began to serve, a port on which nothing listens is that of a program which still starts."""
AGAIN_SECONDS = 0.2
WAITING_MOST = 32
"""More requests than this do not wait in one process: they would keep those from being served that could be."""
STALE_MOST = 5
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})


class GatewayFault(DumontError):
    """The machine, or the way to it, did not do what was asked; `status` is 502, 503 or 504."""

    def __init__(
        self, message: str, *, status: int, code: str, hint: str = "", retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.hint = hint
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, kw_only=True)
class Passage:
    """What is to be sent, to whom, and how long it may wait for a machine that does not serve yet."""

    machine: str
    port: int
    method: str
    target: str
    headers: Headers
    body: Body
    prefix: str
    wait_seconds: float
    request_id: str = ""
    woken: gateway.Woken = gateway.unheard


@functools.cache
def traffic() -> Traffic:
    """This process's requests under way."""
    ports = wiring.ports()
    return Traffic(lambda name: gateway.touch(ports, name), ports.clock.now)


@functools.cache
def _waiting() -> threading.BoundedSemaphore:
    return threading.BoundedSemaphore(WAITING_MOST)


def forward(ports: Ports, passage: Passage) -> Response:
    """The machine's answer, streamed. Raises `Unknown`, `NotServing`, `GatewayFault`, or what reading the body does."""
    ends = ports.clock.now() + passage.wait_seconds
    sent_again = False
    stale = 0
    while True:
        machine = _serving(ports, passage, ends)
        try:
            return _send(machine, passage)
        except StaleRoute as error:
            stale += 1  # the machine moved on since it was read; it does so once, or twice
            if stale > STALE_MOST:
                raise _unreachable(machine.id) from error
        except TooManyTunnels as error:
            raise _busy(str(error)) from error
        except (PortClosed, HostSilent) as error:
            _check_worth_waiting(ports, machine, passage, ends, error)
            ports.clock.sleep(AGAIN_SECONDS)
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            again = passage.method in IDEMPOTENT and passage.body.can_be_sent_again and not sent_again
            if not again or isinstance(error, httpcore.TimeoutException | httpcore.LocalProtocolError):
                raise _fault(error, passage) from error
            sent_again = True  # a connection at rest that its server closed just then, or a host that moved


def _serving(ports: Ports, passage: Passage, ends: float) -> Machine:
    name, request_id, woken = passage.machine, passage.request_id, passage.woken
    try:
        return gateway.serving(ports, name, wait_seconds=0.0, request_id=request_id, woken=woken)
    except NotServing as error:
        left_seconds = ends - ports.clock.now()
        if error.code != "not_serving_yet" or left_seconds <= 0 or not _waiting().acquire(blocking=False):
            raise
    try:
        return gateway.serving(ports, name, wait_seconds=left_seconds, request_id=request_id, woken=woken)
    finally:
        _waiting().release()


def _check_worth_waiting(
    ports: Ports, machine: Machine, passage: Passage, ends: float, error: PortClosed | HostSilent
) -> None:
    """Return if the next try may succeed in time."""
    now = ports.clock.now()
    if isinstance(error, PortClosed):
        young = now - (machine.running_since or 0.0) < YOUNG_SECONDS
        if not young:
            raise GatewayFault(
                f"nothing on {machine.id} answers on port {passage.port}",
                status=502,
                code="port_closed",
                hint=f"look whether its program runs: dumont logs {machine.id}",
            ) from error
        if now >= ends:
            what = f"{machine.id} has just begun to serve, and nothing answers on its port {passage.port} yet"
            raise gateway.not_yet(ports, machine, what=what) from error
    elif now >= ends:
        raise _unreachable(machine.id) from error


def _unreachable(name: str) -> GatewayFault:
    return GatewayFault(
        f"{name} cannot be reached; if its host is gone it is moved by itself",
        status=502,
        code="machine_unreachable",
        retry_after_seconds=5.0,
    )


def _busy(detail: str) -> GatewayFault:
    return GatewayFault(detail, status=503, code="gateway_busy", retry_after_seconds=2.0)


def _fault(error: Exception, passage: Passage) -> Exception:
    """An error of the exchange itself, in our words."""
    name, port = passage.machine, passage.port
    match error:
        case httpcore.LocalProtocolError():
            return GatewayFault(f"the request cannot be passed on: {error}", status=400, code="malformed_request")
        case httpcore.PoolTimeout():
            return _busy(f"too many requests to {name} are under way")
        case httpcore.TimeoutException():
            return GatewayFault(f"{name} was silent for too long", status=504, code="machine_silent")
        case httpcore.RemoteProtocolError() if "disconnected" not in str(error):
            detail = f"what answers on port {port} of {name} does not speak HTTP: {str(error)[:200]}"
            return GatewayFault(detail, status=502, code="not_http")
    return GatewayFault(
        f"the connection to port {port} of {name} broke before there was an answer; what was asked may have been done",
        status=502,
        code="connection_lost",
        retry_after_seconds=2.0,
    )


def route_of(machine: Machine) -> TunnelRoute:
    """Where a machine that serves is."""
    if machine.ssh is None or machine.host_key is None:
        raise _unreachable(machine.id)
    return TunnelRoute(
        machine=machine.id,
        epoch=machine.epoch,
        instance_id=machine.instance_id or "",
        endpoint=machine.ssh,
        host_key=machine.host_key,
    )


def _send(machine: Machine, passage: Passage) -> Response:
    tunnel = wiring.tunnels().take(route_of(machine))
    busy = traffic()
    busy.begin(machine.id)

    def let_go() -> None:
        busy.end(machine.id)
        tunnel.let_go()

    try:
        answer = tunnel.send(_request(passage))
    except BaseException:
        let_go()
        raise
    return _streamed(answer, tunnel, passage, let_go)


def _request(passage: Passage) -> httpcore.Request:
    return httpcore.Request(
        method=passage.method.encode("ascii"),
        url=httpcore.URL(
            scheme=b"http", host=b"127.0.0.1", port=passage.port, target=passage.target.encode("latin-1", "replace")
        ),
        headers=[(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in passage.headers],
        content=passage.body.content(),
        extensions={"timeout": {"connect": 10.0, "read": SILENT_SECONDS, "write": WRITE_SECONDS, "pool": 30.0}},
    )


def _streamed(answer: httpcore.Response, tunnel: Tunnel, passage: Passage, let_go: Callable[[], None]) -> Response:
    over = threading.Event()

    def finish() -> None:
        if not over.is_set():
            over.set()
            try:
                answer.close()
            finally:
                let_go()

    def pieces() -> Iterator[bytes]:
        try:
            yield from answer.iter_stream()
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            # The status is out already: the caller learns by an answer that breaks off, as ours did.
            log.warning(
                "an answer broke off",
                extra={"machine": passage.machine, "epoch": tunnel.route.epoch, "error": type(error).__name__},
            )
            raise
        finally:
            finish()

    received = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers]
    headers = towards_caller(received, port=passage.port, prefix=passage.prefix)
    # Not `direct_passthrough`: werkzeug hands such an iterable to the server as it is, without what is to be closed.
    response = Response(pieces(), status=answer.status, headers=headers)
    if not any(name.lower() == "content-type" for name, _ in headers):
        response.headers.pop("Content-Type", None)
    response.call_on_close(finish)
    return response
