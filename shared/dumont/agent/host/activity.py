"""Who uses this machine: SSH sessions and processes that a user started. What cannot be told is None."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dumont.agent.host.procfs import Process, descendants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_SSH_SESSION = re.compile(r"^sshd(-session)?: [^\s@]+@\S+")
_SSH_NAMES = ("sshd", "sshd-session", "sshd-auth", "dropbear", "sftp-server")
_SHELLS = ("sh", "bash", "dash", "ash", "zsh", "fish", "login", "su", "sudo")
"""A shell is where work is started, not work: what it starts counts."""
_KEEPERS = ("sleep", "tail", "cat", "tini", "dumb-init", "docker-init", "catatonit", "systemd", "s6-svscan")
"""What keeps a container alive, as its first process or that one's child."""
_SERVICES = (
    *("cron", "crond", "dbus-daemon", "rsyslogd", "syslogd", "supervisord", "agetty", "screen", "tmux"),
    *("tmux: server", "tmux: client", "systemd-journal", "systemd-logind", "gpg-agent", "ssh-agent"),
)
_OURS = "/.dumont/"


def scope(processes: Mapping[int, Process], root: int) -> set[int]:
    """The machine's processes: all that can be seen in a container, whose first process adopts orphans; below `root`
    where another does, as on a computer that is several machines.
    """
    return set(processes) if root <= 1 else {root} | descendants(processes, [root])


def ssh_sessions(
    machine: Iterable[int], processes: Mapping[int, Process], words: Callable[[int], list[str]]
) -> int | None:
    """How many logins are open; None where no OpenSSH server is seen."""
    servers = [pid for pid in machine if processes[pid].name in _SSH_NAMES[:3]]
    if not servers:
        return None
    return sum(1 for pid in servers if _SSH_SESSION.match(" ".join(words(pid))))


def user_processes(
    machine: set[int],
    processes: Mapping[int, Process],
    words: Callable[[int], list[str]],
    *,
    root: int,
    not_users: Iterable[int],
) -> int | None:
    """How many processes are a user's; None if no process can be seen. `not_users`: the agent's and the workload's."""
    if not processes:
        return None
    others = set(not_users)
    count = 0
    for pid in machine - others - {root, 1}:
        process = processes[pid]
        if process.state in "ZX" or process.name in _SHELLS or process.name in _SERVICES or process.name in _SSH_NAMES:
            continue
        if process.name in _KEEPERS and process.parent in (0, 1, root):
            continue
        line = words(pid)
        if not line[0] or any(_OURS in word for word in line):
            continue  # the kernel's own; and the snapshot engine
        count += 1
    return count
