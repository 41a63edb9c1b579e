"""The snapshot engine's newest run on this machine: which it is, and whether it has ended. It is told at once: whoever
waits for a copy or a restore waits no longer than that.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

NAME_CHARACTERS_MOST = 512


class Engine:
    """Looks at the folders that runs leave (`runs/NAME`, with a file `status` once a run has ended). A look costs two
    calls of the system, unless there is a new run.
    """

    def __init__(self, home: Path) -> None:
        self._runs = home / ".dumont" / "runs"
        self._seen_at: int | None = None
        self._known: frozenset[str] = frozenset()
        self._newest = ""
        self._ended = False

    def look(self) -> bool:
        """Look again; whether the newest run has ended since the last look."""
        try:
            changed_at = self._runs.stat().st_mtime_ns
            if changed_at != self._seen_at:
                self._find_newest()
                self._seen_at = changed_at
        except OSError:
            return False  # there was none yet, or it is being made: the next look sees it
        if self._ended or not self._newest:
            return False
        self._ended = (self._runs / self._newest / "status").exists()
        return self._ended

    def _find_newest(self) -> None:
        with os.scandir(self._runs) as found:
            folders = {entry.name: entry.stat().st_mtime_ns for entry in found if entry.is_dir(follow_symlinks=False)}
        fresh = [name for name in folders if name not in self._known] or list(folders)
        self._known = frozenset(folders)
        newest = max(fresh, key=lambda name: (folders[name], name), default="")
        if newest != self._newest:
            self._newest, self._ended = newest, False

    def report(self) -> dict[str, Any] | None:
        """For a heartbeat; None where the engine never ran."""
        if not self._newest:
            return None
        return {"run": self._newest[:NAME_CHARACTERS_MOST], "ended": self._ended}
