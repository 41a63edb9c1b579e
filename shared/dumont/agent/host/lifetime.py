"""One agent a machine, that does not die: its lock, its place in the background, and the parent that looks after it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dumont.agent.host import procfs

if TYPE_CHECKING:
    from collections.abc import Callable

MISUSED = 2
"""The exit status of an agent that cannot run with what it was given: it would not help to start it again."""
REPLACE_SECONDS = 20.0
"""How long an agent that is replaced has to stop its workload before both are killed."""
GIVE_UP_SECONDS = 5.0
RESTART_SECONDS_FIRST, RESTART_SECONDS_MOST = 1.0, 30.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Lock:
    """Held by the agent and its guard as long as one of them lives; it says who they are and what they run."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def take(self) -> bool:
        """Whether it is ours now."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def sign(self, fingerprint: str) -> None:
        """Write down who holds it."""
        content = json.dumps({"pid": os.getpid(), "fingerprint": fingerprint}).encode()
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, content, 0)

    def holder(self) -> tuple[int, str]:
        """Whose it is: the guard's pid (0 if it does not say) and its fingerprint."""
        try:
            given = json.loads(os.pread(self._fd, 4096, 0))
            return int(given["pid"]), str(given["fingerprint"])
        except (ValueError, KeyError, TypeError):
            return 0, ""

    def close(self) -> None:
        """Give it back."""
        os.close(self._fd)


def take_over(lock: Lock, fingerprint: str, sleep: Callable[[float], Any] = time.sleep) -> bool | None:
    """Take the lock from an agent that runs with something else. False: one runs with just this already; None: it
    cannot be made to end.

    It is asked to end, which stops its workload in order; then killed, its workload to be found by its mark.
    """
    asked: set[tuple[int, int]] = set()
    ends = time.monotonic() + REPLACE_SECONDS
    while not lock.take():
        pid, held = lock.holder()
        if held == fingerprint:
            return False
        number = signal.SIGKILL if time.monotonic() > ends else signal.SIGTERM
        family = {pid} | (procfs.descendants(procfs.table(), [pid]) if number == signal.SIGKILL else set())
        for member in family - {0, os.getpid()}:
            if (member, number) not in asked:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(member, number)
                asked.add((member, number))
        if time.monotonic() > ends + GIVE_UP_SECONDS:
            return None
        sleep(0.1)
    return True


def detach() -> int:
    """Go on in the background; the pipe to tell the process that waits in front what became of it (`tell`)."""
    out, into = os.pipe()
    if os.fork() > 0:
        os.close(into)
        with os.fdopen(out, "r") as told:
            word = told.read().strip()
        sys.stdout.write(f"dumont agent: {word or 'failed; see agent.log'}\n")
        sys.stdout.flush()
        os._exit(0 if word else 1)
    os.close(out)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    if nothing > 2:
        os.close(nothing)
    return into


def tell(pipe: int | None, word: str) -> None:
    """Let the process in front end, saying this; None where there is none."""
    if pipe is not None:
        os.write(pipe, word.encode())
        os.close(pipe)


def outlive(starter: int) -> None:
    """Wait until the process in front has ended: then our parent is the machine's first process."""
    ends = time.monotonic() + 2.0
    # Looked for: Linux tells a child of its parent's end by a signal alone, and only if it was asked to before that.
    while os.getppid() == starter and time.monotonic() < ends:
        time.sleep(0.01)


def guard(run: Callable[[], int], say: Callable[[str], None]) -> int:
    """Run the agent in a child. If that is killed or fails, all that it started is killed, and it is started anew: a
    workload that nobody holds to its lease would run beside its replacement.
    """
    procfs.adopt_orphans()
    child = 0
    ending = False

    def end(*_: object) -> None:
        nonlocal ending
        ending = True
        if child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)

    for number in _SIGNALS:
        signal.signal(number, end)
    pause = RESTART_SECONDS_FIRST
    while True:
        # Between the fork and the child's own handlers a signal would reach neither.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        started_at = time.monotonic()
        child = os.fork()
        if child == 0:
            _be_the_agent(run, say)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        _, status = os.waitpid(child, 0)
        child = 0
        _kill_the_rest()
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
        if ending or code in (0, MISUSED):
            return code
        say(f"the agent ended with status {code}; it is started again")
        if time.monotonic() - started_at > 600:
            pause = RESTART_SECONDS_FIRST
        # Blocked first: a signal that came just before a wait would be noticed only after it. This wait takes it.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        if ending or signal.sigtimedwait(_SIGNALS, pause) is not None:
            return 0
        pause = min(RESTART_SECONDS_MOST, pause * 2)


def _be_the_agent(run: Callable[[], int], say: Callable[[str], None]) -> None:
    """In the child; never comes back. `run` sets its handlers and unblocks the signals by `ready_for_signals`."""
    code = 1
    try:
        procfs.adopt_orphans()
        code = run()
    except Exception as failure:  # noqa: BLE001 - whatever it is, it is told, and the guard starts afresh
        frame = failure.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        where = f"{Path(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno}" if frame else "?"
        say(f"{type(failure).__name__} at {where}")  # the message may quote anything, a secret too
    finally:
        os._exit(code)


def ready_for_signals(end: Callable[[], None]) -> None:
    """Call `end` when this process is asked to end; it must do no more than note that."""
    for number in _SIGNALS:
        signal.signal(number, lambda *_: end())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _kill_the_rest() -> None:
    """Kill all that the agent has left to us, and take note of their ends."""
    for _ in range(50):
        for pid in procfs.descendants(procfs.table(), [os.getpid()]):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        # Some are the children of others, which no wait of ours hears of, until their parents have ended.
        time.sleep(0.02)
