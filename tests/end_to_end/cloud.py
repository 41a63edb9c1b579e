"""A local cloud as its own process, for tests: started, waited for by its own word, and ended without a trace."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

from dumont.cli.keys import ensure_key
from tests import waiting

T = TypeVar("T")

ENDED = ("succeeded", "failed", "superseded")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: Callable[[], T | None], *, seconds: float, why: str, every_seconds: float = 0.05) -> T:
    """The first answer that is not None or False; fails after so many seconds."""
    return waiting.wait_for(what, why, seconds=seconds, every_seconds=every_seconds)


@dataclass
class Cloud:
    """A running local cloud."""

    process: subprocess.Popen[str] | None
    """None where its parts are processes of their own."""
    folder: Path
    port: int
    market_port: int

    def __post_init__(self) -> None:
        self.url = f"http://localhost:{self.port}"
        credentials = json.loads((self.folder / "config/dumont/credentials.json").read_text())
        self.key = next(iter(credentials.values()))
        self.public_key = ensure_key(folder=self.folder / "config/dumont")[1]
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers={"Authorization": f"Bearer {self.key}"}, timeout=30
        )
        self.market = httpx.Client(base_url=f"http://127.0.0.1:{self.market_port}/_market", timeout=30)

    @property
    def pid(self) -> int:
        """Of the process that runs all of it."""
        assert self.process is not None, "its parts are processes of their own"
        return self.process.pid

    @property
    def environment(self) -> dict[str, str]:
        """What the CLI needs to find this cloud, and nothing else of the user's."""
        return clean_environment(self.folder) | {"DUMONT_URL": self.url}

    def cli(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run the `dumont` command against it."""
        return subprocess.run(
            [sys.executable, "-m", "dumont.cli.main", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def up(self, name: str, **spec: Any) -> dict[str, Any]:
        """Ask for a machine; answers with the operation."""
        asked = {"gpu": "RTX 4090", "max_price_usd_per_hour": 0.4, "ssh_public_keys": [self.public_key]}
        body = {"name": name} | asked | spec
        answer = self.http.post("/provision", json=body)
        assert answer.status_code == 202, answer.text
        operation: dict[str, Any] = answer.json()["operation"]
        return operation

    def down(self, name: str, *, discard: bool = True, snapshot: bool = False) -> dict[str, Any]:
        """Ask for a machine's end; answers with the operation."""
        answer = self.http.post("/destroy", json={"name": name, "discard": discard, "snapshot": snapshot})
        assert answer.status_code == 202, answer.text
        operation: dict[str, Any] = answer.json()["operation"]
        return operation

    def ended(self, operation: dict[str, Any], *, seconds: float = 60) -> dict[str, Any]:
        """The operation, once it has ended."""

        def look() -> dict[str, Any] | None:
            seen: dict[str, Any] = self.http.get(f"/operations/{operation['id']}").json()["operation"]
            return seen if seen["state"] in ENDED else None

        return wait_for(look, seconds=seconds, why=f"{operation['kind']} {operation['id']} ended")

    def machine(self, name: str) -> dict[str, Any]:
        """The machine as the API shows it."""
        seen: dict[str, Any] = self.http.get(f"/machines/{name}").json()["machine"]
        return seen

    def fault(self, kind: str, **details: Any) -> None:
        """Let something go wrong on the market."""
        answer = self.market.post("/faults", json={"kind": kind, **details})
        assert answer.status_code == 200, answer.text

    def mend(self) -> None:
        """Forget the faults that have not befallen yet."""
        assert self.market.delete("/faults").status_code == 200

    def live(self) -> list[dict[str, Any]]:
        """What bills on the market now, by the market's own word."""
        lines = self.market.get("/bill").json()["instances"]
        return [line for line in lines if line["destroyed_at"] is None]

    def bill_usd(self) -> float:
        """What the market charges for everything so far."""
        return float(self.market.get("/bill").json()["total_usd"])


def clean_environment(folder: Path) -> dict[str, str]:
    """An environment without the user's keys and settings, whose home is in `folder`."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("VAST", "DUMONT", "GOOGLE", "B2_", "FIRESTORE", "PUBSUB", "XDG_"))
    }
    return kept | {"XDG_CONFIG_HOME": str(folder / "config"), "XDG_DATA_HOME": str(folder / "share")}


@contextlib.contextmanager
def local_cloud(
    folder: Path, *options: str, time_scale: float = 0.02, environment: Mapping[str, str] | None = None
) -> Iterator[Cloud]:
    """Start `dumont local up` in `folder`; end it as Ctrl-C does, and check that nothing of it is left."""
    port, market_port = free_port(), free_port()
    output = folder / "up.log"
    with output.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dumont.cli.main", "local", "up", "--port", str(port), "--market-port",
             str(market_port), "--data", str(folder / "data"), "--time-scale", str(time_scale), *options],
            env=clean_environment(folder) | dict(environment or {}), stdout=log, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    try:
        wait_for(lambda: "\nready " in output.read_text() or process.poll() is not None, seconds=60, why="it is ready")
        assert process.poll() is None, output.read_text()
        yield Cloud(process, folder, port, market_port)
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    left = [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert not left, f"it left processes behind: {left}"
    assert process.returncode == 0, output.read_text()
    credentials = folder / "config/dumont/credentials.json"
    assert not credentials.exists() or "dmt_" not in credentials.read_text(), "it left its key behind"
