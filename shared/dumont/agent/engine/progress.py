"""Says twice a second how far a job is."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

EVERY_SECONDS = 0.5


class Progress:
    """While entered, reports {"event": "progress", "phase", "files", "bytes", "bytes_sent" …} from a thread.

    `counters` is any object whose public number attributes are what is reported.
    """

    def __init__(self, phase: str, counters: object, report: Callable[[dict[str, Any]], None] | None) -> None:
        self._phase, self._counters, self._report = phase, counters, report
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Progress:
        if self._report is not None:
            self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(EVERY_SECONDS):
            if self._report is not None:
                numbers = {name: value for name, value in vars(self._counters).items() if not name.startswith("_")}
                self._report({"event": "progress", "phase": self._phase, **numbers})


def peak_rss_bytes() -> int:
    """The most memory that this process has held; 0 where the system does not say."""
    try:
        # `getrusage` would count what the process that started us held.
        found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    except (OSError, ValueError):
        return 0
    return int(found.group(1)) * 1024 if found else 0
