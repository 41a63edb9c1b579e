"""Three versions of Dumont side by side: each commit of a history is written as one of them would write it.

The last one knew no schema version. The next one has added a field to every record, and to every struct in it. Ours,
which runs, must go on with what either wrote, and lose nothing of the next one's.
"""

from __future__ import annotations

import json
import random
from typing import Any

from dumont.adapters.store_rules import Key
from dumont.domain.collections import RECORDS
from tests.golden_records import KINDS_WITHOUT_PAST, as_the_last_version_wrote
from tests.simulation.world import World

MARK = "of_the_next_version"
KIND_OF = {kind.collection: kind for kind in RECORDS}


class SideBySide:
    """Rewrites the commits of a world. `lost`: records that once had the next version's field, and have it no more."""

    def __init__(self, world: World) -> None:
        self._rng = random.Random(f"versions/{world.seed}")
        self._marked: dict[Key, Any] = {}
        """The records that the next version wrote, and when each was made: a machine's new life is another record."""
        self.lost: list[Key] = []
        self.written: dict[str, int] = {"last": 0, "ours": 0, "next": 0}
        self.steps: set[tuple[str, str]] = set()
        """Kind and phase of each operation that the last version left under way."""
        world.store.as_documents(self._rewrite)

    def _rewrite(self, key: Key, text: str | None) -> str | None:
        if text is None:
            self._marked.pop(key, None)
            return None
        document: dict[str, Any] = json.loads(text)
        if key in self._marked and MARK not in document:
            if self._marked[key] == document.get("created_at"):
                self.lost.append(key)
            del self._marked[key]
        version = self._rng.choice(["last", "ours", "next"])
        if version == "last" and key[0] not in KINDS_WITHOUT_PAST:
            if document.get("state") == "running" and key[0] == "operations":
                self.steps.add((document["kind"], document["phase"]))
            document = as_the_last_version_wrote(KIND_OF[key[0]], document)
        elif version == "next":
            self._marked[key] = document.get("created_at")
            document = _marked(document) | {MARK: self._rng.random()}
        self.written[version] += 1
        return json.dumps(document)


def _marked(document: dict[str, Any]) -> dict[str, Any]:
    """A document whose structs have a field more. What is a mapping of data, and not a struct, stays as it is."""
    return {
        name: {**value, MARK: True} if isinstance(value, dict) and name in ("spec", "ssh", "offer", "proof") else value
        for name, value in document.items()
    }
