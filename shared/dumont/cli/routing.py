"""Where a machine's name leads: waiting for a route, and pinning its host key for OpenSSH."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from dumont.cli.client import Client
from dumont.cli.credentials import config_folder, locked, write_private
from dumont.cli.errors import CONFLICT, CliError, Json

WAIT_SECONDS = 300.0
"""For how long a machine on the move is waited for if nobody says otherwise: a cold failover takes a minute or two."""
POLL_SECONDS = 0.5
ON_THE_MOVE = ("requested", "provisioning", "failing_over", "waking")
"""The states from which a machine comes to run by itself."""


class RouteFinder:
    """Finds the route to a machine, and waits for it while the machine is on the move.

    All waits of one finder together take at most `wait_seconds`. `show` gets the views of the operation that moves the
    machine, `tell` a line for a person.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        *,
        wait_seconds: float,
        show: Callable[[Json], None],
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._name = name
        self._show = show
        self._tell = tell
        self._clock = clock
        self._pause = pause
        self._wait_seconds = wait_seconds
        self._until = clock() + wait_seconds
        self._told: set[str] = set()

    def find(self) -> Json:
        """The route, with an address and a host key. Raises `CliError` if there is none and none is to come, or time
        is up.
        """
        while True:
            route = self._look()
            if route is not None:
                self._check_key(route)
                return route
            self._pause(POLL_SECONDS)

    def wait_again(self, why: str) -> bool:
        """Whether there is time for another try, after a pause; `why` is told once."""
        if self._clock() >= self._until:
            return False
        self.say_once(f"{why}; trying for up to {self._wait_seconds:.0f} s (Dumont moves it if its host has died)")
        self._pause(2 * POLL_SECONDS)
        return True

    def say_once(self, text: str) -> None:
        """Tell something, unless it was told before."""
        if text not in self._told:
            self._told.add(text)
            self._tell(text)

    def _look(self) -> Json | None:
        try:
            route: Json = self._client.get("routes", self._name).get("route") or {}
        except CliError as error:
            if not error.may_pass or not self._told or self._clock() >= self._until:
                raise
            return None  # the API restarts while we wait: no reason to give up
        if (route.get("ssh") or {}).get("host") and route.get("state") not in ON_THE_MOVE:
            return route
        state = str(route.get("state"))
        words = state.replace("_", " ")
        if state not in ON_THE_MOVE:
            raise CliError(
                f"{self._name} is {words}: it has no SSH address",
                exit_code=CONFLICT,
                code="not_running",
                hint=f"wake it: dumont wake {self._name}"
                if state == "hibernated"
                else f"see `dumont show {self._name}`",
            )
        if self._clock() >= self._until:
            raise CliError(
                f"{self._name} is still {words} after {self._wait_seconds:.0f} s",
                exit_code=CONFLICT,
                code="not_running",
                safe="It goes on by itself.",
                hint=f"watch it with `dumont events {self._name} -f`, or wait longer: --wait SECONDS",
            )
        self.say_once(f"{self._name} is {words}: waiting for it, up to {self._wait_seconds:.0f} s")
        self._show_progress()
        return None

    def _show_progress(self) -> None:
        try:
            operation_id = self._client.machine(self._name).get("operation_id")
            if operation_id:
                self._show(self._client.operation(str(operation_id)))
        except CliError as error:
            # What is shown meanwhile is a courtesy: the route decides.
            self.say_once(f"(its progress cannot be read: {error.detail})")

    def _check_key(self, route: Json) -> None:
        if not known_hosts_line(route):
            # Without the key that the proof saw, anyone who answers at that address would be believed.
            raise CliError(
                f"{self._name} has no pinned host key yet",
                exit_code=CONFLICT,
                code="not_proven",
                hint=f"see `dumont show {self._name}`",
            )


def known_hosts_line(route: Json) -> str:
    """The machine's name with its pinned key, as OpenSSH's HostKeyAlias looks it up; empty where there is no key."""
    from dumont.domain.errors import InvalidInput
    from dumont.domain.names import check_machine_name
    from dumont.domain.routing import Route, known_hosts_text

    try:
        name = check_machine_name(route.get("machine"))
    except InvalidInput:
        return ""
    key = str(route.get("host_key") or "")
    return known_hosts_text([Route(id=name, epoch=0, host_key=key, updated_at=0.0)])


def known_hosts_file() -> Path:
    """The machines' pinned host keys: `$XDG_CONFIG_HOME/dumont/known_hosts`."""
    return config_folder() / "known_hosts"


def pin(route: Json) -> None:
    """Make the route's host key the only one that its machine's name has in `known_hosts_file`."""
    path, name = known_hosts_file(), str(route.get("machine"))
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Two proxies at once must not lose each other's machine.
    with locked(path.with_name("known_hosts.lock")):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        others = [line for line in lines if line.split(" ", 1)[0] != name]
        after = [*others, known_hosts_line(route)]
        if after != lines:
            write_private(path, "".join(after))
