"""Google's own Firestore and Pub/Sub emulators as context managers that leave no process behind.

The jars are started directly: killing the `gcloud emulators` wrapper leaves its children (seen).
"""

from __future__ import annotations

import abc
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from dumont.domain.errors import DumontError

START_SECONDS = 60.0
_STARTS = 3

_WELL_KNOWN = (
    "/usr/lib/google-cloud-sdk",  # Google's Debian and RPM packages
    "/usr/share/google-cloud-sdk",
    "/opt/google-cloud-sdk",
    "/snap/google-cloud-cli/current",
    "/opt/homebrew/share/google-cloud-sdk",
    "/usr/local/share/google-cloud-sdk",
    "~/google-cloud-sdk",
)

_JVM = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Duser.language=en")

# Run by a Python in between, not by `preexec_fn`, which is unsafe in a process with threads: has Linux kill the
# emulator when its parent dies, however that died.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent is gone already")
os.execvp(sys.argv[2], sys.argv[2:])
"""


class EmulatorMissing(DumontError):
    """The emulator, or Java, is not on this machine. The message says how to get it."""


class EmulatorFailed(DumontError):
    """The emulator did not start; the message ends with its last output."""


class _Emulator(abc.ABC):
    """A running emulator between `with` and its end. Enter it from a thread that outlives it: on Linux the process
    dies with the thread that started it.
    """

    name: str
    component: str

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.host = ""
        """host:port, as `FIRESTORE_EMULATOR_HOST` and `PUBSUB_EMULATOR_HOST` have it."""

    @abc.abstractmethod
    def _jar(self, sdk_root: Path) -> Path | None:
        """Where it lies within an SDK; None if it is not installed."""

    @abc.abstractmethod
    def _command(self, jar: Path, port: int) -> list[str]:
        """What is given to Java after its own options."""

    def __enter__(self) -> Self:
        java = find_java(self._environment)
        jar = self._find_jar()
        self._folder = tempfile.TemporaryDirectory(prefix="dumont-emulator-")
        try:
            for start in range(1, _STARTS + 1):
                port = _free_port()
                try:
                    self._start(self._folder.name, [java, *_JVM, *self._command(jar, port)], port)
                except EmulatorFailed:
                    # Someone may have taken the port between our looking and its listening.
                    if start == _STARTS:
                        raise
                else:
                    return self
        except BaseException:
            self._stop()
            raise
        raise AssertionError("unreachable")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _find_jar(self) -> Path:
        roots = sdk_roots(self._environment)
        for root in roots:
            jar = self._jar(root)
            if jar is not None:
                return jar
        raise EmulatorMissing(
            f"Google's {self.name} emulator is not here (looked in {', '.join(map(str, roots)) or 'no SDK folder'}); "
            f"install the Debian package google-cloud-cli-{self.component}, or run: "
            f"gcloud components install {self.component}"
        )

    def _start(self, folder: str, command: list[str], port: int) -> None:
        output = Path(folder) / "output"
        with output.open("wb") as sink:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=folder,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not _answers(port):
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = self._process.wait(timeout=0.05)
                raise EmulatorFailed(f"the {self.name} emulator ended with {status}: {_tail(output)}")
            if time.monotonic() > deadline:
                self._kill()
                raise EmulatorFailed(f"no {self.name} emulator after {START_SECONDS:.0f} s: {_tail(output)}")
        self.host = f"127.0.0.1:{port}"

    def _kill(self) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):  # its group is gone: what we want
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def _stop(self) -> None:
        self._kill()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


class FirestoreEmulator(_Emulator):
    """Google's Firestore emulator; 1.3–3 s to start, up to 420 MiB."""

    name = "Firestore"
    component = "firestore-emulator"

    def _jar(self, sdk_root: Path) -> Path | None:
        jar = sdk_root / "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar"
        return jar if jar.is_file() else None

    def _command(self, jar: Path, port: int) -> list[str]:
        main = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
        return ["-cp", str(jar), main, "--host=127.0.0.1", f"--port={port}"]


class PubSubEmulator(_Emulator):
    """Google's Pub/Sub emulator; 1–1.5 s to start."""

    name = "Pub/Sub"
    component = "pubsub-emulator"

    def _jar(self, sdk_root: Path) -> Path | None:
        jars = sorted((sdk_root / "platform/pubsub-emulator/lib").glob("cloud-pubsub-emulator-*-all.jar"))
        return jars[-1] if jars else None

    def _command(self, jar: Path, port: int) -> list[str]:
        return ["-jar", str(jar), "--host=127.0.0.1", f"--port={port}"]


def subscribe_by_push(host: str, project: str, topic: str, function_url: str) -> None:
    """Make the topic and a subscription that pushes its messages to a function, on the emulator at `host`.

    The emulator pushes as plain Pub/Sub does, and functions-framework makes a CloudEvent of that if the URL's path
    names the topic; so it is appended to `function_url`.
    """
    import grpc
    from google.pubsub_v1 import PublisherClient, SubscriberClient
    from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
    from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

    path = f"projects/{project}/topics/{topic}"
    with grpc.insecure_channel(host) as channel:
        PublisherClient(transport=PublisherGrpcTransport(channel=channel)).create_topic(name=path, timeout=10)
        SubscriberClient(transport=SubscriberGrpcTransport(channel=channel)).create_subscription(
            request={
                "name": f"projects/{project}/subscriptions/{topic}",
                "topic": path,
                "push_config": {"push_endpoint": f"{function_url.rstrip('/')}/{path}"},
                "ack_deadline_seconds": 60,
            },
            timeout=10,
        )


# --- Finding ------------------------------------------------------------------------------------------------------


def sdk_roots(environment: Mapping[str, str]) -> list[Path]:
    """The folders that may hold Google's SDK, likeliest first; `gcloud` itself is asked only if none is found."""
    named = environment.get("CLOUDSDK_ROOT_DIR")
    candidates = [Path(named)] if named else [Path(place).expanduser() for place in _WELL_KNOWN]
    gcloud = shutil.which("gcloud", path=environment.get("PATH"))
    if gcloud and not named:
        candidates.append(Path(gcloud).resolve().parent.parent)
    found = list(dict.fromkeys(root for root in candidates if (root / "platform").is_dir()))
    if found or named or not gcloud:
        return found
    with contextlib.suppress(subprocess.SubprocessError, OSError):  # a gcloud that does not run finds nothing
        answer = subprocess.run(
            [gcloud, "info", "--format=value(installation.sdk_root)"], capture_output=True, text=True, timeout=30
        )
        root = Path(answer.stdout.strip())
        return [root] if answer.stdout.strip() and (root / "platform").is_dir() else []
    return []


def find_java(environment: Mapping[str, str]) -> str:
    """The path of Java's launcher; raises `EmulatorMissing`."""
    home = environment.get("JAVA_HOME")
    if home and (Path(home) / "bin/java").is_file():
        return str(Path(home) / "bin/java")
    java = shutil.which("java", path=environment.get("PATH"))
    if java is None:
        raise EmulatorMissing("Google's emulators need Java 11 or newer; on Debian: apt install default-jre-headless")
    return java


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _tail(output: Path) -> str:
    return output.read_text(errors="replace")[-800:]
