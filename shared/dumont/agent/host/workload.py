"""Carries out the workload's course: starts it, stops all of it, runs its health checks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from dumont.agent.host import procfs
from dumont.agent.host.answers import WorkloadSpec
from dumont.agent.host.children import Children, shell_status
from dumont.agent.host.course import Course, Do
from dumont.agent.host.health import read_check, run_check
from dumont.agent.host.rotating import RotatingLog, pump

LOG_BYTES_MOST = 10_000_000
KILL_PASSES = 5
DETAIL_CHARACTERS_MOST = 200


class Workload:
    """The user's command, in a session of its own. `tick` is called often, from one thread; `report` from any."""

    def __init__(
        self, instance: str, folder: Path, log: RotatingLog, diary: RotatingLog, children: Children, now: float
    ) -> None:
        """`folder` is where it runs; `log` takes its output, and `diary` what the agent has to say of it. `now` is by
        the clock of `tick`.
        """
        self._instance = instance
        self._folder = folder
        self._log = log
        self._diary = diary
        self._children = children
        self._process: subprocess.Popen[bytes] | None = None
        self._session = 0
        self._checker = _Checker(children, folder)
        self._course = Course(now, leftovers=bool(self.pids()))
        self._report = self._read_report(now)

    def tick(self, now: float, wanted: WorkloadSpec | None, kill_by: float | None) -> None:
        """See how it is, and do what is next."""
        exit_status = self._poll()
        for failure in self._checker.outcomes():
            self._course.checked(now, failure)
        left = bool(self.pids()) if self._course.stopping else False
        todo = self._course.step(now, wanted, exit_status=exit_status, left=left, kill_by=kill_by)
        if todo is Do.START:
            self._kill_all()  # what the last run left behind has had its SIGTERM
            self._course.started(now, self._start())
        elif todo is Do.TERM:
            self._signal_all(signal.SIGTERM)
        elif todo is Do.KILL:
            self._kill_all()
        self._set_checks()
        self._note(now)

    @property
    def stopping(self) -> bool:
        """Whether some of its processes are still to go."""
        return self._course.stopping

    @property
    def runs(self) -> bool:
        """Whether its command runs."""
        return self._process is not None

    def report(self) -> dict[str, Any]:
        """For the heartbeat."""
        return self._report

    def pids(self) -> set[int]:
        """Its processes, wherever they have gone."""
        processes = procfs.table()
        marked = [pid for pid in processes if procfs.bears_mark(pid, self._instance)]
        return procfs.workload_pids(processes, os.getpid(), self._children.pids(), self._session, marked)

    def reap(self, dead_before: set[int]) -> set[int]:
        """Take note of the ends of adopted orphans, which would stay zombies; the ones that are dead now.

        Only of those that were dead at the last look too: a child that someone here waits for is gone by then.
        """
        ours = {self._process.pid if self._process else 0} | self._children.pids()
        dead = {
            process.pid
            for process in procfs.table().values()
            if process.parent == os.getpid() and process.state == "Z" and process.pid not in ours
        }
        for pid in dead & dead_before:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        return dead

    def close(self) -> None:
        """End the checks' thread."""
        self._checker.close()

    def _start(self) -> str | None:
        """Start it; why it could not be."""
        spec = self._course.spec
        assert spec is not None  # noqa: S101 - the course starts only what it has
        out, into = os.pipe()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", spec.run],
                cwd=str(self._folder),
                env={**os.environ, procfs.MARK: self._instance},
                stdin=subprocess.DEVNULL,
                stdout=into,
                stderr=into,
                start_new_session=True,
            )
        except (OSError, ValueError) as failure:
            os.close(out)
            return f"it could not be started: {getattr(failure, 'strerror', None) or type(failure).__name__}"
        finally:
            os.close(into)
        self._session = self._process.pid
        threading.Thread(target=pump, args=(out, self._log), daemon=True).start()
        return None

    def _poll(self) -> int | None:
        if self._process is None or self._process.poll() is None:
            return None
        status, self._process = shell_status(self._process.returncode), None
        return status

    def _signal_all(self, number: int) -> set[int]:
        pids = self.pids()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        return pids

    def _kill_all(self) -> None:
        # A process may start another between the look and the signal: look again until there is none.
        for _ in range(KILL_PASSES):
            if not self._signal_all(signal.SIGKILL):
                return

    def _set_checks(self) -> None:
        health = self._course.health if self._process is not None else None
        spec = self._course.spec
        if health is None or spec is None:
            self._checker.watch(None, 0, "", 0.0)
        else:
            self._checker.watch(self._session, id(health), spec.health, health.pause_seconds())

    def _note(self, now: float) -> None:
        before, self._report = self._report, self._read_report(now)
        if (before["state"], before["restarts"]) != (self._report["state"], self._report["restarts"]):
            told = f": {self._report['detail']}" if self._report["detail"] else ""
            self._diary.say(f"workload {self._report['state']}{told}")

    def _read_report(self, now: float) -> dict[str, Any]:
        course = self._course
        return {
            "state": course.state,
            "restarts": course.restarts,
            "exit_status": course.exit_status,
            "since": round(time.time() - (now - course.since), 1),
            "detail": course.detail[:DETAIL_CHARACTERS_MOST],
        }


class _Checker:
    """Runs checks in a thread of its own: one that hangs holds nothing else up."""

    def __init__(self, children: Children, folder: Path) -> None:
        self._children = children
        self._folder = folder
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._closed = False
        self._target: tuple[int, int, str] | None = None
        self._pause_seconds = 0.0
        self._outcomes: list[str | None] = []
        threading.Thread(target=self._run, daemon=True).start()

    def watch(self, run: int | None, verdict: int, check: str, pause_seconds: float) -> None:
        """What to check from now on: another run or check forgets what is known of the one before."""
        target = None if run is None else (run, verdict, check)
        with self._lock:
            self._pause_seconds = pause_seconds
            if target != self._target:
                self._target, self._outcomes = target, []
                self._changed.set()

    def outcomes(self) -> list[str | None]:
        """What came out since the last call; None is success."""
        with self._lock:
            found, self._outcomes = self._outcomes, []
        return found

    def close(self) -> None:
        """End the thread when its check has ended."""
        self._closed = True
        self._changed.set()

    def _run(self) -> None:
        while not self._closed:
            self._changed.clear()
            with self._lock:
                target, pause = self._target, self._pause_seconds
            check = read_check(target[2]) if target else None
            if target is None or check is None:
                self._changed.wait()
                continue
            failure = run_check(check, self._children, self._folder)
            with self._lock:
                if target == self._target:
                    self._outcomes.append(failure)
            self._changed.wait(pause)
