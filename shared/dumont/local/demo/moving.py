"""The demo's death: the host is killed under a running workload, and the machine comes back by itself on another."""

from __future__ import annotations

import time
from collections.abc import Callable

from dumont.cli.client import Client
from dumont.cli.errors import CliError, Json
from dumont.cli.follow import failure, follow
from dumont.cli.output import Cli, duration
from dumont.cli.views import gpu_text
from dumont.local.demo.recording import Check, Resource, Span

RUN = 'while sleep 0.2; do echo "$(date +%s) $(wc -c < "$HOME/workspace/weights.bin")" >> "$HOME/served.log"; done'
"""The workload: it uses the weights again and again, and writes down that it did, outside of its workspace."""
HEARTBEAT_SECONDS, LEASE_SECONDS = 1.0, 4.0
"""Shorter than the defaults (5 s, 30 s), so that nobody has to wait: a demo's network loses no packets."""
SPEC: Json = {"run": RUN, "heartbeat_seconds": HEARTBEAT_SECONDS, "fence_after_seconds": LEASE_SECONDS}

NOTICED_SECONDS_MOST = 60.0
WORKS_SECONDS_MOST = 20.0
_PROOF = ("ssh", "mkdir", "write", "read back", "nvidia-smi", "disk")
_POLL_SECONDS = 0.1


class Moving:
    """One death and what follows. `kill` ends a rental's processes; `run` carries out a command on the machine that
    serves now: its output; `look` answers with the machine's view."""

    def __init__(
        self,
        cli: Cli,
        client: Client,
        machine: str,
        *,
        kill: Callable[[str], None],
        run: Callable[[str], str],
        look: Callable[[], Json],
    ) -> None:
        self._cli = cli
        self._client = client
        self._machine = machine
        self._kill = kill
        self._run = run
        self._look = look
        self.checks: list[Check] = []
        self.spans: list[Span] = []
        self.lines: tuple[Resource, ...] = ()

    def works(self) -> bool:
        """Whether the workload serves the weights: new lines come. Waits for them, within reason."""
        before = self._served()
        ends_at = time.monotonic() + WORKS_SECONDS_MOST
        while self._served() < before + 2:
            if time.monotonic() > ends_at:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def _served(self) -> int:
        return int(self._run("touch served.log; grep -c ' 24000000$' served.log || true").strip() or 0)

    def die(self, hashes: str, hash_again: Callable[[], str]) -> None:
        """Kill the host and tell nobody; follow what Dumont does until the machine serves, and look at it closely."""
        before = self._look()
        worked = self.works()
        killed_at = time.time()
        self._kill(str(before.get("instance_id")))
        self._cli.note("    all its processes are dead, the market goes on saying “running”, and nobody was told")
        operation = follow(self._cli, self._client, self._noticed(killed_at))
        error = failure(operation)
        if error is not None:
            raise error
        after = self._look()
        serving_at = float(after.get("running_since") or time.time())
        self._check(before, after, operation, worked, hash_again() == hashes, serving_at - killed_at)
        self.spans = spans_of(operation, killed_at, str(after.get("instance_id")), serving_at)
        self.lines = self._lines_of(operation, killed_at, serving_at)
        offer = _rental(operation, after.get("instance_id")).get("offer") or {}
        self._cli.note(
            f"    it serves again in {offer.get('region') or 'another place'} on its {gpu_text(offer)}, "
            f"{serving_at - killed_at:.1f} s after its host died"
        )

    def _noticed(self, killed_at: float) -> Json:
        """The operation that Dumont begins by itself."""
        ends_at = time.monotonic() + NOTICED_SECONDS_MOST
        while True:
            found = self._client.get("operations", machine=self._machine).get("operations") or []
            mine = [op for op in found if op.get("kind") == "failover" and (op.get("created_at") or 0.0) >= killed_at]
            if mine:
                return self._client.operation(str(mine[0].get("id")))
            if time.monotonic() > ends_at:
                raise CliError(
                    f"its host died {NOTICED_SECONDS_MOST:.0f} s ago and nothing noticed it", code="not_noticed"
                )
            time.sleep(_POLL_SECONDS)

    def _check(self, before: Json, after: Json, operation: Json, worked: bool, same: bool, seconds: float) -> None:
        by_itself = operation.get("requested_by") == "heartbeat"
        moved = after.get("instance_id") not in (None, before.get("instance_id"))
        self.checks += [
            Check(
                name="a dead host is noticed and its machine comes back on another, without a command",
                ok=by_itself and moved and after.get("state") == "running",
                seen=f"epoch {before.get('epoch')} → {after.get('epoch')}, serving {seconds:.1f} s after the death",
            ),
            Check(
                name="what it has there equals its last snapshot, byte for byte",
                ok=same,
                seen=f"modes, sizes and SHA-256 {'are' if same else 'are NOT'} the same",
            ),
            Check(
                name="its workload ran before, and runs there again",
                ok=worked and self.works(),
                seen="it reads the weights five times a second" if worked else "it did not run before",
            ),
        ]
        lost = _rental(operation, before.get("instance_id"))
        self.checks.append(
            Check(
                name="the dead host is not paid for any more",
                ok=lost.get("state") == "gone",
                seen=f"its rental is {lost.get('state')}, as its provider says",
            )
        )

    def _lines_of(self, operation: Json, killed_at: float, serving_at: float) -> tuple[Resource, ...]:
        confirm = _step(operation, "confirm")
        fenced_at = float(confirm.get("ended_at") or killed_at)
        return (
            Resource(name="died", value="every process of the host killed; its market said “running” all the time"),
            Resource(name="noticed", value=f"fenced {duration(fenced_at - killed_at)} after: {confirm.get('detail')}"),
            Resource(name="restored", value=str(_step(operation, "restore").get("detail") or "nothing")),
            Resource(name="served again", value=f"{duration(serving_at - killed_at)} after its host died"),
            Resource(
                name="in this demo",
                value=f"heartbeats each {HEARTBEAT_SECONDS:g} s and a lease of {LEASE_SECONDS:g} s, so that it does "
                "not last; by default 5 s and 30 s",
            ),
        )


def spans_of(operation: Json, killed_at: float, winner_id: str, serving_at: float) -> list[Span]:
    """The failover's main path. Its names are its own: a provision has a boot, too."""
    winner = _rental(operation, winner_id)
    spans = [Span(name="move: detect", started_at=killed_at, ended_at=_step(operation, "detect")["ended_at"])]
    restored_at = 0.0
    for step in operation.get("steps") or []:
        name, started_at, ended_at = str(step.get("name")), step["started_at"], step["ended_at"]
        if name == "rent" and started_at < (winner.get("created_at") or 0.0):
            spans.append(Span(name="move: rent", started_at=started_at, ended_at=ended_at))
        elif name in ("confirm", "search", "release"):
            spans.append(Span(name=f"move: {name}", started_at=started_at, ended_at=ended_at))
        elif step.get("instance_id") == winner_id and name in ("boot", "restore", *_PROOF):
            shown = "proof" if name in _PROOF else name
            spans.append(Span(name=f"move: {shown}", started_at=started_at, ended_at=ended_at))
            restored_at = max(restored_at, ended_at)
    if 0.0 < restored_at < serving_at - 0.05:  # less is the transaction that makes it serve
        spans.append(Span(name="move: lease", started_at=restored_at, ended_at=serving_at))
    return spans


def _rental(operation: Json, identifier: object) -> Json:
    found: Json = next((i for i in operation.get("instances") or [] if i.get("id") == identifier), {})
    return found


def _step(operation: Json, name: str) -> Json:
    found: Json = next((s for s in reversed(operation.get("steps") or []) if s.get("name") == name), {})
    return found
