"""`agent.pyz [--detach] [--replace] CONFIG`: puts the parts together and runs them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dumont.agent.host import activity, gauges, gpus, lifetime, procfs
from dumont.agent.host.children import Children
from dumont.agent.host.config import BadConfig, Config, read_config
from dumont.agent.host.engine import Engine
from dumont.agent.host.farewell import Farewell
from dumont.agent.host.heartbeat import Heartbeats
from dumont.agent.host.mandate import Mandate
from dumont.agent.host.rotating import RotatingLog
from dumont.agent.host.transport import Transport
from dumont.agent.host.workload import LOG_BYTES_MOST, Workload

if TYPE_CHECKING:
    from collections.abc import Callable

    from dumont.agent.host.answers import Answer

USAGE = "usage: agent.pyz [--detach] [--replace] CONFIG\n"
DIARY_BYTES_MOST = 1_000_000
TICK_SECONDS = 0.1
REAP_SECONDS = 1.0
SAMPLE_SECONDS_LEAST, SAMPLE_SECONDS_MOST = 1.0, 15.0
STALE_SAMPLES = 3
END_SECONDS_MORE = 3.0
VERSION = 1


def lease_clock() -> float:
    """Seconds that only go forward, and also while the machine is suspended: its lease runs out then too."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        with contextlib.suppress(OSError):
            return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Watch:
    """Runs a slow look again and again in a thread, and gives the latest finding as long as it is fresh."""

    def __init__(self, look: Callable[[], Any], interval: Callable[[], float], slack_seconds: float) -> None:
        self._look = look
        self._interval = interval
        self._slack = slack_seconds
        self._found: tuple[float, Any] | None = None
        self._closed = threading.Event()

    def run(self) -> None:
        """Look until closed."""
        while not self._closed.is_set():
            self._found = (lease_clock(), self._look())
            self._closed.wait(self._interval())

    def latest(self) -> Any:
        """The latest finding; None before the first, and once the look has hung for some rounds."""
        found = self._found
        if found is None or lease_clock() - found[0] > STALE_SAMPLES * self._interval() + self._slack:
            return None
        return found[1]

    def close(self) -> None:
        """Look no more."""
        self._closed.set()


class Agent:
    """The parts, and what they tell one another."""

    def __init__(
        self, config: Config, sha256: str, home: Path, diary: RotatingLog, orphaned: Callable[[], None]
    ) -> None:
        """`orphaned` is called when the guard has been killed: the agent goes on without."""
        self._config = config
        self._sha256 = sha256
        self._diary = diary
        self._orphaned: Callable[[], None] | None = orphaned
        self._ending = False
        self._guard = os.getppid()
        self._children = Children()
        self._mandate = Mandate()
        self._workload = Workload(
            config.instance,
            config.workspace,
            RotatingLog(home / ".dumont" / "workload.log", LOG_BYTES_MOST),
            diary,
            self._children,
            lease_clock(),
        )
        self._engine = Engine(home)
        self._gauges = gauges.Gauges()
        self._readings = Watch(self._sample, self._sample_seconds, 2.0)
        self._gpus = Watch(lambda: gpus.query(self._children), self._sample_seconds, gpus.QUERY_SECONDS_MOST)
        self._boot_id, self._booted_at = self._read_boot()
        self._wake = threading.Event()
        transport = Transport()
        self._heartbeats = Heartbeats(
            config.url,
            config.token,
            config.interval_seconds,
            transport,
            body=self._body,
            hear=self._hear,
            say=diary.say,
            now=lease_clock,
        )
        self._farewell = Farewell(transport, ordered=self._destroys, say=diary.say)

    def run(self) -> int:
        """Until asked to end; then the workload is stopped first."""
        lifetime.ready_for_signals(self._end)
        parts = (self._heartbeats, self._readings, self._gpus, self._farewell)
        for part in parts:
            threading.Thread(target=self._last, args=(part.run,), daemon=True).start()
        dead: set[int] = set()
        reap_at = 0.0
        while not self._ending:
            self._tick()
            if lease_clock() >= reap_at:
                dead, reap_at = self._workload.reap(dead), lease_clock() + REAP_SECONDS
                if self._orphaned is not None and os.getppid() != self._guard:
                    self._orphaned()
                    self._orphaned = None
            self._wake.wait(TICK_SECONDS)
            self._wake.clear()
        for part in parts:
            part.close()
        self._stop()
        self._diary.say("ended as asked")
        return 0

    def _tick(self) -> None:
        before = self._workload.report()
        now = lease_clock()
        self._workload.tick(now, self._mandate.wanted(now), self._mandate.ends_at())
        after = self._workload.report()
        engine_ended = self._engine.look()
        if engine_ended or (before["state"], before["restarts"]) != (after["state"], after["restarts"]):
            self._heartbeats.tell_news()

    def _stop(self) -> None:
        answer = self._mandate.answer
        seconds = answer.workload.stop_seconds if answer and answer.workload else 0.0
        ends = lease_clock() + seconds + END_SECONDS_MORE
        while lease_clock() < ends:
            now = lease_clock()
            self._workload.tick(now, None, self._mandate.ends_at())
            if not self._workload.runs and not self._workload.stopping:
                break
            time.sleep(TICK_SECONDS / 2)  # a tick may have to go from asking to killing; its end alone is no wait
        self._workload.close()

    def _end(self) -> None:
        self._ending = True  # and no more: a signal's handler must take no lock

    def _last(self, run: Callable[[], None]) -> None:
        """Run a part that must not end by itself: without it the whole would be a half-truth, so all starts anew."""
        try:
            run()
        except Exception as failure:  # noqa: BLE001
            self._diary.say(f"{run.__qualname__}: {type(failure).__name__}")
            os._exit(1)

    def _hear(self, answer: Answer, sent_at: float) -> None:
        before = self._mandate.answer
        self._mandate.hear(answer, sent_at)
        if before is None or before.state != answer.state:
            self._diary.say(f"told to {answer.state}" if answer.state != "fenced" else "fenced")
        self._wake.set()

    def _destroys(self) -> bool:
        now = lease_clock()
        idle = not self._workload.runs and not self._workload.stopping
        return not self._ending and idle and self._mandate.destroys(now)

    def _sample_seconds(self) -> float:
        answer = self._mandate.answer
        interval = answer.interval_seconds if answer else self._config.interval_seconds
        return min(SAMPLE_SECONDS_MOST, max(SAMPLE_SECONDS_LEAST, interval))

    def _root(self, processes: dict[int, procfs.Process]) -> int:
        """The machine's first process, or who stands for it: the parent of the agent's guard, or of the agent."""
        parent = os.getppid()
        return processes[parent].parent if parent == self._guard and parent in processes else parent

    def _sample(self) -> dict[str, Any]:
        processes = procfs.table()
        root = self._root(processes)
        machine = activity.scope(processes, root)
        ours = {os.getpid(), self._guard} | procfs.descendants(processes, [os.getpid()]) | self._workload.pids()
        words = procfs.command_line
        return {
            **self._gauges.sample(lease_clock(), machine & set(processes)),
            "disk_free_gib": gauges.disk_free_gib(self._config.workspace),
            "ssh_sessions": activity.ssh_sessions(machine & set(processes), processes, words),
            "user_processes": activity.user_processes(
                machine & set(processes), processes, words, root=root, not_users=ours
            ),
        }

    def _read_boot(self) -> tuple[str, float]:
        """An id that is new at each start of the machine, and when that was: a container starts anew without its
        host's boot id changing, so its first process's start is part of it.
        """
        processes = procfs.table()
        first = processes.get(self._root(processes))
        ticks = first.started_ticks if first else 0
        text = f"{gauges.read_file('/proc/sys/kernel/random/boot_id')}:{first.pid if first else 0}:{ticks}"
        booted_at = ticks / float(os.sysconf("SC_CLK_TCK")) if first else lease_clock()
        return hashlib.sha256(text.encode()).hexdigest()[:32], booted_at

    def _body(self, sequence: int) -> dict[str, Any]:
        config = self._config
        return {
            "version": VERSION,
            "machine": config.machine,
            "instance": config.instance,
            "epoch": config.epoch,
            "boot_id": self._boot_id,
            "sequence": sequence,
            "sent_at": time.time(),
            "uptime_seconds": round(max(0.0, lease_clock() - self._booted_at), 1),
            "readings": {**NO_READINGS, **(self._readings.latest() or {}), "gpus": self._gpus.latest()},
            "workload": self._workload.report(),
            "engine": self._engine.report(),
            "agent": {"sha256": self._sha256, "python": platform.python_version()},
        }


NO_READINGS = dict.fromkeys(
    (
        *("gpus", "cpu_percent", "memory_used_mib", "memory_total_mib", "disk_free_gib", "load_1m"),
        *("disk_write_bytes_per_second", "network_receive_bytes_per_second", "network_send_bytes_per_second"),
        *("ssh_sessions", "user_processes"),
    )
)


def main(words: list[str]) -> int:
    """Run as the command line says. 0: ended as asked, or one runs already; 2: it cannot run so."""
    options = {word for word in words if word.startswith("--")}
    paths = [word for word in words if not word.startswith("--")]
    if len(paths) != 1 or options - {"--detach", "--replace"}:
        sys.stderr.write(USAGE)
        return lifetime.MISUSED
    home = Path.home()
    folder = home / ".dumont" / "agent"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        content = Path(paths[0]).read_bytes()
        config = read_config(content, home)
    except (OSError, BadConfig) as failure:
        told = failure.strerror if isinstance(failure, OSError) else str(failure)
        sys.stderr.write(f"dumont agent: the configuration cannot be used: {told}\n")
        return lifetime.MISUSED
    program = Path(sys.argv[0])
    sha256 = hashlib.sha256(program.read_bytes() if program.is_file() else b"").hexdigest()
    fingerprint = hashlib.sha256(sha256.encode() + content).hexdigest()
    starter = os.getpid()
    pipe = lifetime.detach() if "--detach" in options else None
    lock = lifetime.Lock(folder / "lock")
    held = lifetime.take_over(lock, fingerprint) if "--replace" in options else lock.take()
    if not held:
        lifetime.tell(pipe, "does not give way" if held is None else "runs already")
        return 0 if held is False else 1
    lock.sign(fingerprint)
    lifetime.tell(pipe, "started")
    if pipe is not None:
        lifetime.outlive(starter)
    os.chdir(home)
    diary = RotatingLog(folder / "agent.log", DIARY_BYTES_MOST)
    diary.say(f"agent of {config.machine}, epoch {config.epoch}, on {config.instance}")
    return lifetime.guard(lambda: Agent(config, sha256, home, diary, lambda: lock.sign(fingerprint)).run(), diary.say)
