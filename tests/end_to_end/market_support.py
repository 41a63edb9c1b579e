"""A simulated market with real machines, and what tests need to use it as a client would."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import asyncssh
import httpx
import psutil

from dumont.local.market.server import MarketServer
from tests import waiting

T = TypeVar("T")

KEY = "the-account-s-key"
SECONDS_MOST = 20.0
BODY = {"image": "pytorch/pytorch:latest", "disk": 20}


class WallClock:
    """Real time."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Rig:
    """A market's HTTP client with its key, and an SSH key pair. `server` is there if it runs in this process."""

    def __init__(self, http: httpx.Client, folder: Path, server: MarketServer | None = None) -> None:
        self.server = server
        self.http = http
        self.folder = folder
        self.private_key = asyncssh.generate_private_key("ssh-ed25519")
        self.public_key = self.private_key.export_public_key().decode().strip()

    def offers(self, **query: Any) -> list[dict[str, Any]]:
        body = {"rentable": {"eq": True}, "num_gpus": {"eq": 1}, "gpu_name": {"eq": "RTX 4090"}, **query}
        found: list[dict[str, Any]] = self.http.post("/api/v0/bundles/", json=body).json()["offers"]
        return found

    def create(self, **body: Any) -> int:
        """Rent a single RTX 4090, with our key let in."""
        answer = self.http.put(f"/api/v0/asks/{self.offers()[0]['id']}/", json={**BODY, **body}).json()
        instance_id = int(answer["new_contract"])
        attached = self.http.post(f"/api/v0/instances/{instance_id}/ssh/", json={"ssh_key": self.public_key})
        assert attached.status_code == 200
        return instance_id

    def row(self, instance_id: int) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.http.get(f"/api/v0/instances/{instance_id}/").json()["instances"]
        return found

    def until(self, instance_id: int, status: str | None) -> dict[str, Any]:
        """The instance's row once it has that status."""

        def there() -> dict[str, Any] | None:
            row = self.row(instance_id)
            return row if row is not None and row["actual_status"] == status else None

        return wait_for(there, f"status {status}")

    def fault(self, kind: str, **details: Any) -> None:
        answer = self.http.post("/_market/faults", json={"kind": kind, **details})
        assert answer.status_code == 200, answer.text

    def bill(self) -> dict[str, Any]:
        bill: dict[str, Any] = self.http.get("/_market/bill").json()
        return bill

    @contextlib.asynccontextmanager
    async def login(self, row: dict[str, Any]) -> AsyncIterator[asyncssh.SSHClientConnection]:
        """An SSH connection to a running instance; it may answer some milliseconds after the market says running."""
        deadline = time.monotonic() + SECONDS_MOST
        while True:
            try:
                connection = await asyncssh.connect(
                    row["ssh_host"],
                    row["ssh_port"],
                    username="root",
                    client_keys=[self.private_key],
                    known_hosts=None,
                    config=None,
                    agent_path=None,
                )
                break
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
        try:
            yield connection
        finally:
            connection.abort()
            with contextlib.suppress(asyncssh.Error, OSError):
                await connection.wait_closed()


@contextlib.contextmanager
def market(folder: Path, **options: Any) -> Iterator[Rig]:
    """A running market whose boots take a 200th of their real time, and no process of it afterwards."""
    settings: dict[str, Any] = {"time_scale": 0.005, **options}
    with (
        MarketServer(folder=folder, clock=WallClock(), api_keys=[KEY], **settings) as server,
        httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=30.0) as http,
    ):
        yield Rig(http, folder, server)
    assert processes_of(folder) == []


def processes_of(folder: Path) -> list[str]:
    """What runs for the machines of a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            inside = process.environ().get("WORKSPACE", "") + process.cwd()
            if str(folder) in inside and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {process.name()}")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def wait_for(condition: Callable[[], T | None], what: str, seconds: float = SECONDS_MOST) -> T:
    """What the condition gives, as soon as it gives anything that holds; an assertion error after so many seconds."""
    return waiting.wait_for(condition, what, seconds=seconds)
