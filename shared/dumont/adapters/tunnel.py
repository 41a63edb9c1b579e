"""SSH connections to machines, kept while they are used: the gateway's way to ports that are open to nobody else.

One connection a machine, shared by all requests. It is bound to the machine's epoch and instance: once a later epoch
was seen, nothing goes to an earlier one, and what still does is cut (invariant 1).
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import httpcore

from dumont.adapters.ssh import ParamikoSession, ParamikoShell
from dumont.adapters.tunnel_stream import ChannelBackend, HostSilent
from dumont.domain.errors import ShellError
from dumont.domain.records import SshEndpoint

log = logging.getLogger(__name__)

TUNNELS_MOST = 32
CONNECTIONS_MOST = 64
"""At once through one tunnel; more wait for one to be free."""
KEEPALIVE_SECONDS = 4.0
"""Below the usual 5 s of servers: a connection at rest is ours to close, not theirs under a request."""
DIAL_SECONDS = 10.0


class StaleRoute(Exception):
    """The machine has moved on since this route was read: read it again."""


class TooManyTunnels(Exception):
    """All tunnels are in use."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a tunnel that nobody uses is kept, how often the host is asked for a sign of life, and how long it may
    owe one before it is taken for gone. In seconds."""

    idle_seconds: float = 60.0
    look_seconds: float = 5.0
    silence_seconds: float = 15.0


@dataclass(frozen=True, kw_only=True)
class TunnelRoute:
    """Where a machine is, in one epoch."""

    machine: str
    epoch: int
    instance_id: str
    endpoint: SshEndpoint
    host_key: str


class Tunnel:
    """One machine's connection, with HTTP to its ports."""

    def __init__(
        self, route: TunnelRoute, session: ParamikoSession, monotonic: Callable[[], float], patience: Patience
    ) -> None:
        self.route = route
        self._patience = patience
        self._session = session
        self._monotonic = monotonic
        self._heard_at = self._used_at = monotonic()
        self._users = 0
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._http = httpcore.ConnectionPool(
            max_connections=CONNECTIONS_MOST,
            keepalive_expiry=KEEPALIVE_SECONDS,
            network_backend=ChannelBackend(session, self._heard),
        )
        threading.Thread(target=self._watch, name=f"tunnel-{route.machine}", daemon=True).start()

    def send(self, request: httpcore.Request) -> httpcore.Response:
        """The answer to a request, its body unread: the caller closes it. Raises httpcore's errors."""
        return self._http.handle_request(request)

    @property
    def in_use(self) -> bool:
        """Whether a request goes through it."""
        return self._users > 0

    @property
    def used_at(self) -> float:
        """When it was last taken or let go."""
        return self._used_at

    @property
    def is_good(self) -> bool:
        """Whether to trust it with a request. One that nobody looked after for a while (Google stops a function's
        processor between requests) may be dead without our knowing."""
        fresh = self.in_use or self._monotonic() - self._heard_at < self._patience.silence_seconds
        return fresh and not self._closed.is_set() and self._session.is_open

    def take(self) -> None:
        """A request begins to use it."""
        with self._lock:
            self._users += 1
            self._used_at = self._monotonic()

    def let_go(self) -> None:
        """A request has ended."""
        with self._lock:
            self._users -= 1
            self._used_at = self._monotonic()

    def close(self) -> None:
        """Cut it, with all that goes through it."""
        self._closed.set()
        self._session.close()

    def _heard(self) -> None:
        self._heard_at = self._monotonic()

    def _watch(self) -> None:
        """Notice a host that vanished without a word, and end what nobody uses."""
        while not self._closed.wait(self._patience.look_seconds):
            if not self.in_use and self._monotonic() - self._used_at > self._patience.idle_seconds:
                break
            asking = threading.Thread(target=self._session.ask_for_a_sign, daemon=True)
            asked_at = self._monotonic()
            asking.start()
            while asking.is_alive():
                asking.join(min(1.0, self._patience.silence_seconds))
                if self._monotonic() - max(self._heard_at, asked_at) > self._patience.silence_seconds:
                    log.warning("a machine fell silent", extra={"machine": self.route.machine})
                    self.close()
                    return
            if not self._session.is_open:
                break
            self._heard()
        self.close()


@dataclass
class _Slot:
    """A route's place: its tunnel, and who may dial."""

    route: TunnelRoute
    tunnel: Tunnel | None = None
    dialling: threading.Lock = field(default_factory=threading.Lock)

    def drop(self) -> None:
        """Cut its tunnel."""
        if self.tunnel is not None:
            self.tunnel.close()
            self.tunnel = None


class Tunnels:
    """The tunnels of this process."""

    def __init__(
        self,
        shell: Callable[[], ParamikoShell],
        *,
        most: int = TUNNELS_MOST,
        patience: Patience | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shell = shell
        self._most = most
        self._patience = patience or Patience()
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._slots: dict[str, _Slot] = {}

    @contextlib.contextmanager
    def through(self, route: TunnelRoute) -> Iterator[Tunnel]:
        """A tunnel to use within the block; see `take`."""
        tunnel = self.take(route)
        try:
            yield tunnel
        finally:
            tunnel.let_go()

    def take(self, route: TunnelRoute) -> Tunnel:
        """A tunnel along this route, taken: `let_go` of it. Raises `StaleRoute`, `TooManyTunnels`, or `HostSilent`
        (which is also said of a host that shows another key than the pinned one, or refuses ours).
        """
        slot = self._slot(route)
        with slot.dialling:  # so that requests at once make one connection
            with self._lock:
                if slot.tunnel is not None and slot.tunnel.is_good:
                    slot.tunnel.take()
                    return slot.tunnel
                slot.drop()
                self._make_room()
            session = self._dial(route)
            with self._lock:
                if self._slots.get(route.machine) is not slot:
                    session.close()
                    raise StaleRoute(f"{route.machine} moved on from epoch {route.epoch} meanwhile")
                slot.tunnel = Tunnel(route, session, self._monotonic, self._patience)
                slot.tunnel.take()
                return slot.tunnel

    def close(self) -> None:
        """Cut all."""
        with self._lock:
            for slot in self._slots.values():
                slot.drop()

    def _slot(self, route: TunnelRoute) -> _Slot:
        with self._lock:
            slot = self._slots.get(route.machine)
            if slot is not None and route.epoch < slot.route.epoch:
                raise StaleRoute(f"{route.machine} is at epoch {slot.route.epoch}, and {route.epoch} was asked for")
            if slot is None or slot.route != route:
                if slot is not None:
                    slot.drop()
                # A new place, with a lock of its own: whoever dials the old host may be held up by its death.
                slot = self._slots[route.machine] = _Slot(route)
            return slot

    def _make_room(self) -> None:
        held = [slot for slot in self._slots.values() if slot.tunnel is not None]
        if len(held) < self._most:
            return
        at_rest = [slot for slot in held if slot.tunnel is not None and not slot.tunnel.in_use]
        if not at_rest:
            raise TooManyTunnels(f"{len(held)} machines are being spoken to, and no more at once")
        min(at_rest, key=lambda slot: slot.tunnel.used_at if slot.tunnel is not None else 0.0).drop()

    def _dial(self, route: TunnelRoute) -> ParamikoSession:
        try:
            return self._shell().connect(route.endpoint, host_key=route.host_key, timeout_seconds=DIAL_SECONDS)
        except ShellError as problem:
            raise HostSilent(f"{type(problem).__name__}: {problem}") from problem
