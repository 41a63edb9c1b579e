"""The demo's snapshot: files are written, saved, lost and restored, and hashed on the machine before and after."""

from __future__ import annotations

import re
from collections.abc import Callable

from dumont.cli.client import Client
from dumont.cli.errors import Json
from dumont.cli.follow import failure, follow
from dumont.cli.output import Cli, duration, number, size
from dumont.cli.views import seconds_between
from dumont.local.demo.recording import Check, Resource

WRITE = """
cd workspace && mkdir -p runs && head -c 24000000 /dev/urandom > weights.bin && chmod 600 weights.bin &&
i=0; while [ $i -lt 200 ]; do echo "step $i loss 0.$i" > "runs/log $i.txt"; i=$((i+1)); done; ln -s weights.bin latest
"""
LOSE = 'cd workspace && rm -r runs latest && printf spoilt > weights.bin && chmod 644 weights.bin && ls | tr "\\n" " "'
HASHES = (
    "cd workspace && find . ! -type d -exec stat -c '%a %F %s %n' {} + | sort && "
    "find . -type f -exec sha256sum {} + | sort"
)
"""Mode, type and size of all that is there, and the SHA-256 of each file."""


_SHA256 = re.compile(r"[0-9a-f]{64} ")


class Saving:
    """One snapshot and one restore, as a user does them. `run` carries out a command on the machine: its output."""

    def __init__(self, cli: Cli, client: Client, machine: str, run: Callable[[str], str]) -> None:
        self._cli = cli
        self._client = client
        self._machine = machine
        self._run = run
        self._before = ""
        self._snapshot: Json = {}
        self._lines: list[Resource] = []
        self.checks: list[Check] = []

    @property
    def lines(self) -> tuple[Resource, ...]:
        """What was saved and restored, for the report."""
        return tuple(self._lines)

    @property
    def hashes(self) -> str:
        """What the snapshot holds, as `hash` shows it."""
        return self._before

    def hash(self) -> str:
        """What is in the workspace now: the mode, type, size and SHA-256 of all of it."""
        return self._run(HASHES)

    def write(self) -> None:
        """Fill the workspace."""
        self._run(WRITE)
        self._before = self.hash()

    def take(self) -> None:
        """Take the snapshot, and see that it counts from its verification on, not before."""
        accepted = self._client.post("snapshot", body={"name": self._machine})
        identifier = str((accepted.get("snapshot") or {}).get("id"))
        operation = self._ended(accepted)
        self._snapshot = self._client.get("snapshot", identifier).get("snapshot") or {}
        verified = _step(operation, "verify")
        counted_at = self._snapshot.get("completed_at") or 0.0
        self.checks.append(
            Check(
                name="a snapshot is verified before it counts",
                ok=bool(verified.get("ok"))
                and self._state() == "complete"
                and counted_at >= float(verified.get("started_at") or "inf"),
                seen=f"{verified.get('detail') or 'nothing'} found by the store's own listing, then {self._state()}",
            )
        )
        seconds = seconds_between(operation.get("created_at"), operation.get("ended_at"))
        files, whole = number(self._snapshot.get("files")), size(self._snapshot.get("bytes_total"))
        sent, packs = size(self._snapshot.get("bytes_sent")), number(self._snapshot.get("packs"))
        self._lines += [
            Resource(name="workspace", value=f"{files} files, {whole}"),
            Resource(
                name="snapshot",
                value=f"{sent} sent in {packs} packs; {duration(self._snapshot.get('seconds'))} of copying, "
                f"{duration(seconds)} in all",
            ),
        ]
        self._cli.note(f"    {files} files, {whole}, {sent} sent; {self._state()}")

    def lose(self) -> None:
        """Delete most of the workspace and spoil the rest."""
        left = self._run(LOSE).strip()
        self._cli.note(f"    left: {left}")
        before, after = _contents(self._before), _contents(self.hash())
        lost = f"{len(before - after)} of {len(before)} files changed or deleted"
        self._lines.append(Resource(name="accident", value=lost))

    def restore(self) -> None:
        """Restore it, and compare."""
        # What the accident left differs from what was saved: without this word a restore would keep it.
        body = {"name": self._machine, "snapshot": self._snapshot.get("id"), "discard": True}
        operation = self._ended(self._client.post("restore", body=body))
        after = self.hash()
        count = len(after.splitlines())
        same = bool(after) and after == self._before
        step = _step(operation, "restore")
        self.checks.append(
            Check(
                name="what is restored equals what was saved, byte for byte",
                ok=same,
                seen=f"{count} lines of modes, sizes and SHA-256 {'are' if same else 'are NOT'} the same",
            )
        )
        self._lines.append(
            Resource(name="restore", value=f"{step.get('detail') or 'nothing'} in {duration(step.get('seconds'))}")
        )
        self._cli.note(f"    {step.get('detail')}: {'the same, byte for byte' if same else 'NOT the same'}")

    def _state(self) -> str:
        return str(self._snapshot.get("state"))

    def _ended(self, accepted: Json) -> Json:
        operation = follow(self._cli, self._client, accepted.get("operation") or {})
        error = failure(operation)
        if error is not None:
            raise error
        return operation


def _contents(listing: str) -> set[str]:
    """The lines of a listing that are a file's SHA-256 and name."""
    return {line for line in listing.splitlines() if _SHA256.match(line)}


def _step(operation: Json, name: str) -> Json:
    found: Json = next((s for s in operation.get("steps") or [] if s.get("name") == name), {})
    return found
