"""The demo's sleep: nothing uses the machine, so it hibernates by itself; the first request for it wakes it."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable

import httpx

from dumont.cli.client import Client
from dumont.cli.errors import CliError, Json
from dumont.cli.follow import failure, follow
from dumont.cli.output import Cli, duration, money
from dumont.local.demo.recording import Check, Resource, Span

WINDOW_SECONDS = 3.0
"""Shorter than the default (15 min), so that nobody has to wait."""
SPEC: Json = {
    "idle_after_minutes": WINDOW_SECONDS / 60,
    "sleep_tier": "hibernate",
    # A simulated machine has no OpenSSH server to ask, and its processor and network are this whole computer's.
    "idle_ignore": ["ssh_sessions", "cpu", "network"],
}
AWAKE_SECONDS = 3600.0
ASLEEP_SECONDS_MOST = 60.0
REQUEST_SECONDS_MOST = 90.0
ASKED_FOR, ANSWER = "runs/log%207.txt", b"step 7 loss 0.7\n"
_POLL_SECONDS = 0.1


def served_by(run: str, port: int) -> str:
    """The workload `run`, with a small web server beside it: the workspace, by HTTP, to nobody but the machine."""
    server = f"{shlex.quote(sys.executable)} -m http.server {port} --bind 127.0.0.1"
    return f"{server} >/dev/null 2>&1 & {run}"


class Sleeping:
    """One sleep and one wake. `look` answers with the machine's view; `live` with how many rentals the market has."""

    def __init__(
        self, cli: Cli, client: Client, machine: str, *, port: int, look: Callable[[], Json], live: Callable[[], int]
    ) -> None:
        self._cli = cli
        self._client = client
        self._machine = machine
        self._port = port
        self._look = look
        self._live = live
        self.checks: list[Check] = []
        self.spans: list[Span] = []
        self.lines: tuple[Resource, ...] = ()
        self._slept: Json = {}
        self._idle_seconds = 0.0
        self._slept_at = 0.0

    def keep_awake(self, seconds: float = AWAKE_SECONDS) -> None:
        """It does not sleep by itself for so long; 0: it may again."""
        self._client.post("idle", self._machine, "keep", body={"seconds": seconds})

    def sleep(self) -> None:
        """Let it fall asleep, unasked."""
        began = time.time()
        self.keep_awake(0)
        operation = follow(self._cli, self._client, self._begun("hibernate", began))
        error = failure(operation)
        if error is not None:
            raise error
        begun_at, slept_at = float(operation["created_at"]), float(operation.get("ended_at") or time.time())
        self.spans += [
            Span(name="sleep: idle", started_at=began, ended_at=begun_at),
            Span(name="sleep: save, release", started_at=begun_at, ended_at=slept_at),
        ]
        view, live = self._look(), self._live()
        self._slept = operation
        self._idle_seconds, self._slept_at = begun_at - began, slept_at
        self.checks += [
            Check(
                name="a machine that nothing uses falls asleep by itself",
                ok=operation.get("requested_by") == "idleness" and view.get("state") == "hibernated",
                seen=f"asked for by {operation.get('requested_by')}; the machine is {view.get('state')}",
            ),
            Check(
                name="asleep it is saved, and nothing is rented for it",
                ok=live == 0 and bool(operation.get("snapshot_id")),
                seen=f"{live} live rentals at the market, snapshot {operation.get('snapshot_id') or 'none'}",
            ),
        ]
        self._cli.note("    nothing is rented now, and nothing bills but its snapshot")

    def wake(self) -> None:
        """Ask it for a file, as a caller who does not know that it sleeps."""
        token = str(self._client.post("gateway", self._machine, "token", body={}).get("token"))
        url = f"{self._client.url}/gateway/{self._machine}/{self._port}/{ASKED_FOR}"
        self._cli.note(f"    GET /gateway/{self._machine}/{self._port}/{ASKED_FOR}, and wait")
        asked_at = time.time()
        answer = httpx.get(
            url,
            headers={"Authorization": f"Bearer {token}", "X-Dumont-Wait": f"{REQUEST_SECONDS_MOST:g}"},
            timeout=REQUEST_SECONDS_MOST + 10.0,
            trust_env=False,
        )
        answered_at = time.time()
        self.keep_awake()
        operation = follow(self._cli, self._client, self._begun("wake", asked_at))
        error = failure(operation)
        if error is not None:
            raise error
        view = self._look()
        self.spans += [
            Span(name="asleep", started_at=self._slept_at, ended_at=asked_at),
            Span(name="wake: request to answer", started_at=asked_at, ended_at=answered_at),
        ]
        same = answer.status_code == 200 and answer.content == ANSWER
        self.checks.append(
            Check(
                name="the first request wakes it, waits, and is answered from its own files",
                ok=same and view.get("state") == "running",
                seen=f"{answer.status_code} after {answered_at - asked_at:.1f} s: {answer.text[:40].strip()!r}",
            )
        )
        self._cli.note(f"    {answer.status_code} after {answered_at - asked_at:.1f} s: {answer.text[:40].strip()}")
        self.lines = self._told(asked_at, answered_at)

    def savings(self) -> tuple[Resource, ...]:
        """What it saved so far, with each formula and the date of its prices: as `dumont savings` has it."""
        found: Json = self._client.get("costs", "savings", machine=self._machine).get("savings") or {}
        told = [
            Resource(
                name=f"against {saving.get('cloud')}",
                value=f"{money(saving.get('saved_usd'))} = {saving.get('formula')} "
                f"({saving.get('cloud_gpu')} in {saving.get('machine_type')}, {saving.get('as_of')})",
            )
            for saving in found.get("clouds") or []
        ]
        for saving in found.get("sleep") or []:
            lost = float(saving.get("saved_usd") or 0.0) < 0
            why = ": in a life of a minute its races cost more than its sleep saves" if lost else ""
            value = f"{money(saving.get('saved_usd'))} = {saving.get('formula')}{why}"
            told.append(Resource(name="against never sleeping", value=value))
        return tuple(told)

    def _told(self, asked_at: float, answered_at: float) -> tuple[Resource, ...]:
        took = (self._slept.get("ended_at") or 0.0) - (self._slept.get("created_at") or 0.0)
        return (
            Resource(name="idle", value=f"noticed {duration(self._idle_seconds)} after its last use"),
            Resource(name="fell asleep", value=f"saved, verified and released in {duration(took)}"),
            Resource(name="asleep", value=f"{duration(asked_at - self._slept_at)} without a rental"),
            Resource(name="woken", value=f"by a request, answered {duration(answered_at - asked_at)} after it came"),
            Resource(
                name="in this demo",
                value=f"{WINDOW_SECONDS:g} s without use are enough, so that it does not last; 15 min are usual",
            ),
        )

    def _begun(self, kind: str, since: float) -> Json:
        """The operation of this kind that has begun by itself; waits for it, within reason."""
        ends_at = time.monotonic() + ASLEEP_SECONDS_MOST
        while True:
            found = self._client.get("operations", machine=self._machine).get("operations") or []
            mine = [op for op in found if op.get("kind") == kind and (op.get("created_at") or 0.0) >= since]
            if mine:
                return self._client.operation(str(mine[0].get("id")))
            if time.monotonic() > ends_at:
                words = (self._client.get("idle", self._machine).get("idle") or {}).get("words") or []
                raise CliError(
                    f"no {kind} began within {ASLEEP_SECONDS_MOST:.0f} s: {'; '.join(map(str, words))}",
                    code="not_begun",
                )
            time.sleep(_POLL_SECONDS)
