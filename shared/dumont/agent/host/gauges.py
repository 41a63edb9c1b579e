"""Readings of the machine: of its container where that tells, of its host otherwise. Unknown is None, never 0."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_MIB = 1 << 20
_GIB = 1 << 30
_NO_LIMIT_BYTES = 1 << 60
"""A control group without a limit says a number beyond any memory."""


def read_file(path: str) -> str | None:
    """A file's text; None if it is not there or not ours to read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


class Rate:
    """Per second, from a total that grows."""

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None

    def of(self, now: float, total: float | None) -> float | None:
        """The rate since the last call; None at first, after a gap, and when the total has begun anew."""
        last, self._last = self._last, None if total is None else (now, total)
        if last is None or total is None or now <= last[0] or total < last[1]:
            return None
        return (total - last[1]) / (now - last[0])


class Gauges:
    """Samples what needs two looks: rates are between one `sample` and the next."""

    def __init__(self, read: Callable[[str], str | None] = read_file, processors: int | None = os.cpu_count()) -> None:
        self._read = read
        self._processors = processors or 1
        self._busy, self._received, self._sent = Rate(), Rate(), Rate()
        self._written: dict[int, int] = {}
        self._written_at: float | None = None

    def sample(self, now: float, pids: set[int]) -> dict[str, Any]:
        """Processor, memory, network, load; and what these processes write."""
        received, sent = network_bytes(self._read("/proc/net/dev"))
        used, total = self._memory()
        return {
            "cpu_percent": self._cpu_percent(now),
            "memory_used_mib": used,
            "memory_total_mib": total,
            "disk_write_bytes_per_second": self._write_rate(now, pids),
            "network_receive_bytes_per_second": _whole(self._received.of(now, received)),
            "network_send_bytes_per_second": _whole(self._sent.of(now, sent)),
            "load_1m": _first_number(self._read("/proc/loadavg")),
        }

    def _cpu_percent(self, now: float) -> float | None:
        """Of all that this machine may use. The control group's own, as a host's other tenants are not our user."""
        usage, limit = _keyed(self._read("/sys/fs/cgroup/cpu.stat"), "usage_usec"), float(self._processors)
        if usage is not None:
            quota = (self._read("/sys/fs/cgroup/cpu.max") or "").split()
            if len(quota) == 2 and quota[0].isdigit() and float(quota[1]) > 0:
                limit = min(limit, float(quota[0]) / float(quota[1]))
            seconds: float | None = usage / 1e6
        else:
            nanoseconds = _first_number(self._read("/sys/fs/cgroup/cpuacct/cpuacct.usage"))
            seconds = nanoseconds / 1e9 if nanoseconds is not None else busy_seconds(self._read("/proc/stat"))
        busy = self._busy.of(now, seconds)
        return None if busy is None else round(min(100.0, 100 * busy / limit), 1)

    def _memory(self) -> tuple[int | None, int | None]:
        """Used and total MiB, without what is only cache."""
        info = self._read("/proc/meminfo")
        total_kib, available_kib = _keyed(info, "MemTotal:"), _keyed(info, "MemAvailable:")
        total = None if total_kib is None else total_kib * 1024
        used = None if total is None or available_kib is None else total - available_kib * 1024
        for current, limit, stat, cache in (
            ("memory.current", "memory.max", "memory.stat", "inactive_file"),
            (
                "memory/memory.usage_in_bytes",
                "memory/memory.limit_in_bytes",
                "memory/memory.stat",
                "total_inactive_file",
            ),
        ):
            group_used = _first_number(self._read(f"/sys/fs/cgroup/{current}"))
            if group_used is not None:
                used = group_used - (_keyed(self._read(f"/sys/fs/cgroup/{stat}"), cache) or 0)
                most = _first_number(self._read(f"/sys/fs/cgroup/{limit}"))
                if most is not None and most < _NO_LIMIT_BYTES:
                    total = most if total is None else min(total, most)
                break
        return (None if used is None else int(used // _MIB)), (None if total is None else int(total // _MIB))

    def _write_rate(self, now: float, pids: set[int]) -> int | None:
        """Of the machine's own processes: the disks' own counters would be those of the host with all its tenants."""
        written = {}
        for pid in pids:
            count = _keyed(self._read(f"/proc/{pid}/io"), "write_bytes:")
            if count is not None:
                written[pid] = int(count)
        before, before_at = self._written, self._written_at
        self._written, self._written_at = written, now
        if not written or before_at is None or now <= before_at:
            return None
        # One that is new has written all of its bytes since the last look; what ended in between is not seen.
        grown = sum(max(0, count - before.get(pid, 0)) for pid, count in written.items())
        return int(grown / (now - before_at))


def disk_free_gib(folder: Path) -> float | None:
    """Room for a user's files below the folder, or below the nearest folder above that is there."""
    for place in (folder, *folder.parents):
        try:
            found = os.statvfs(place)
        except FileNotFoundError:
            continue
        except OSError:
            return None
        return round(found.f_bavail * found.f_frsize / _GIB, 3)
    return None


def network_bytes(text: str | None) -> tuple[int | None, int | None]:
    """Received and sent, by all interfaces but the loopback, from /proc/net/dev."""
    if text is None:
        return None, None
    received = sent = 0
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        fields = rest.split()
        if name.strip() != "lo" and len(fields) >= 9 and fields[0].isdigit() and fields[8].isdigit():
            received += int(fields[0])
            sent += int(fields[8])
    return received, sent


def busy_seconds(text: str | None) -> float | None:
    """All processors' time that was not idle, from /proc/stat."""
    fields = (text or "").partition("\n")[0].split()
    if len(fields) < 6 or fields[0] != "cpu" or not all(field.isdigit() for field in fields[1:]):
        return None
    user, nice, system, _, _, *rest = (int(field) for field in fields[1:])
    return (user + nice + system + sum(rest[:3])) / float(os.sysconf("SC_CLK_TCK"))


def _keyed(text: str | None, key: str) -> float | None:
    """The number that follows a key at a line's beginning."""
    for line in (text or "").splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == key and words[1].isdigit():
            return float(words[1])
    return None


def _first_number(text: str | None) -> float | None:
    words = (text or "").split()
    try:
        return float(words[0]) if words else None
    except ValueError:
        return None


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
