"""Operations that another version of Dumont left under way: `tests/data/operations_under_way.jsonl`.

Each line is a scene: all that the store held of an operation and its machine once a commit had brought it to a step.
`python -m tests.simulation.under_way` writes those of today's version beside what is there, which stays: each is played
for ever (`test_under_way.py`). Run it when an operation has new steps, or a kind of record the next schema version.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from dumont.adapters.store_rules import Key
from dumont.domain.records import Operation
from tests.simulation.history import run
from tests.simulation.world import Weather, World

FILE = Path(__file__).parents[1] / "data" / "operations_under_way.jsonl"
SEEDS = (*range(1, 12), 6_000_002)
LETS_GO_SECONDS = 6 * 3600.0
_OF_OTHERS = ("ledger", "hosts", "schedules", "budgets", "credits", "audit", "idle_histories", "collected")


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """An operation in a step, at a time (seconds since the epoch), with the documents of its machine by collection."""

    kind: str
    phase: str
    at: float
    operation: str
    documents: dict[str, list[dict[str, Any]]]


def scenes() -> list[Scene]:
    """All that are kept."""
    lines = FILE.read_text(encoding="utf-8").splitlines() if FILE.is_file() else []
    return [msgspec.json.decode(line, type=Scene) for line in lines]


class Collector:
    """Notes the first commit that brings an operation to each step that is not known yet."""

    def __init__(self, world: World, known: set[tuple[str, str]]) -> None:
        self._world, self._known = world, known
        self.found: list[Scene] = []
        self._fresh: list[tuple[str, str, str, str]] = []
        world.store.as_documents(self._seen)

    def _seen(self, key: Key, text: str | None) -> str | None:
        if key[0] == Operation.collection and text is not None:
            document = json.loads(text)
            step = (document["kind"], document.get("phase", "start"))
            if document["state"] == "running" and step not in self._known:
                self._known.add(step)
                self._fresh.append((*step, document["id"], document["machine"]))
                # After the commit, and before anybody else runs.
                self._world.hub.after(0.0, self._note)
        return text

    def _note(self) -> None:
        for kind, phase, operation, machine in self._fresh:
            documents = dict(self._of(operation, machine))
            states = {document["id"]: document for document in documents.get("operations", ())}
            if operation in states and states[operation].get("phase", "start") == phase:
                at = self._world.hub.now
                made = Scene(kind=kind, phase=phase, at=at, operation=operation, documents=documents)
                self.found.append(made)
            else:
                self._known.discard((kind, phase))
        self._fresh = []

    def _of(self, operation: str, machine: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        for collection, records in self._world.store.quiet._collections.items():
            documents = [json.loads(text) for text in records.values()]
            mine = [
                d
                for d in documents
                if machine in (d["id"], d.get("machine")) and (collection != "operations" or d["state"] == "running")
            ]
            if collection == "instances":
                mine = [d for d in mine if d.get("open", True) or d["operation_id"] == operation]
            if mine and collection not in _OF_OTHERS:
                yield collection, mine[-6:]


def play(scene: Scene) -> tuple[World, Operation]:
    """The scene in a world where the market knows nothing of it: every host is gone. Who takes it over brings it to an
    end all the same. The world then, and the operation."""
    world = World(1, Weather())
    world.hub.run(scene.at)
    world.store.as_documents(lambda _key, text: text)
    for collection, documents in scene.documents.items():
        kept = world.store.quiet._collections.setdefault(collection, {})
        kept.update({document["id"]: json.dumps(document) for document in documents})
    world.start_schedule()
    until = world.hub.now + LETS_GO_SECONDS
    while True:
        world.hub.run(world.hub.now + 60.0)
        operation = world.store.quiet.get(Operation, scene.operation)
        assert operation is not None
        if not operation.open or world.defects or world.hub.now > until:
            return world, operation


def main() -> int:
    """Write the scenes of steps that are not kept yet."""
    known = {(scene.kind, scene.phase) for scene in scenes()}
    found: list[Scene] = []
    for seed in SEEDS:
        made: list[Collector] = []
        run(seed, jobs=True, watch=lambda world, made=made: made.append(Collector(world, known)))  # type: ignore[misc]
        found += made[0].found
    with FILE.open("a", encoding="utf-8") as file:
        for scene in sorted(found, key=lambda scene: (scene.kind, scene.phase)):
            file.write(msgspec.json.encode(scene).decode() + "\n")
    sys.stdout.write(f"{len(found)} scenes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
