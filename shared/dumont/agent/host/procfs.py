"""Processes as /proc shows them, and whose they are."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PROC = Path("/proc")
MARK = "DUMONT_WORKLOAD"
"""In the workload's environment, with the instance's name: by it, what an agent that died left running is known."""
_PR_SET_CHILD_SUBREAPER = 36


class Process(NamedTuple):
    """One line of /proc/PID/stat. `started_ticks` counts from the host's boot, in 1/`SC_CLK_TCK` s."""

    pid: int
    name: str
    state: str
    parent: int
    group: int
    session: int
    started_ticks: int


def read_stat(text: str) -> Process | None:
    """Parse a stat file. The name may hold spaces and brackets."""
    head, _, rest = text.rpartition(")")
    pid, _, name = head.partition("(")
    fields = rest.split()
    try:
        state, parent, group, session = fields[0], int(fields[1]), int(fields[2]), int(fields[3])
        return Process(int(pid), name, state, parent, group, session, int(fields[19]))
    except (ValueError, IndexError):
        return None


def table() -> dict[int, Process]:
    """All processes that can be seen; empty where there is no /proc."""
    found: dict[int, Process] = {}
    try:
        names = os.listdir(PROC)  # noqa: PTH208 - several times faster than iterdir
    except OSError:
        return found
    for name in names:
        if name.isdigit():
            process = read_stat(_read(int(name), "stat").decode("utf-8", "replace"))
            if process is not None:
                found[process.pid] = process
    return found


def command_line(pid: int) -> list[str]:
    """A process's words; empty if it is gone, or does not say."""
    return _read(pid, "cmdline").decode("utf-8", "replace").rstrip("\0").split("\0")


def bears_mark(pid: int, instance: str) -> bool:
    """Whether a process was started as this instance's workload, or by it."""
    return f"{MARK}={instance}".encode() in _read(pid, "environ").split(b"\0")


def descendants(processes: Mapping[int, Process], roots: Iterable[int]) -> set[int]:
    """The processes that these started, and those that they started, and so on."""
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found


def workload_pids(
    processes: Mapping[int, Process], agent: int, own: Iterable[int], session: int, marked: Iterable[int]
) -> set[int]:
    """Every living process of the workload.

    As the agent takes in orphans, all that it has below it is the workload's but its `own` commands; a system without
    that has the `session` and the mark.
    """
    mine = set(own)
    found = descendants(processes, [agent]) - mine - descendants(processes, mine)
    found |= {process.pid for process in processes.values() if session and process.session == session}
    found |= set(marked)
    return {pid for pid in found if pid in processes and processes[pid].state not in "ZX" and pid != agent}


def adopt_orphans() -> bool:
    """Become the parent of descendants whose parents end, so that none gets out of sight. Linux alone has that."""
    with contextlib.suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    return False


def _read(pid: int, name: str) -> bytes:
    try:
        return (PROC / str(pid) / name).read_bytes()
    except OSError:
        return b""  # it ended meanwhile, or is somebody else's
