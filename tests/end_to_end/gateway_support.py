"""A machine that serves HTTP, and a caller of the gateway, for tests and benchmarks."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from dumont.adapters.sqlite_store import SqliteStore
from dumont.domain.records import Machine
from tests.end_to_end.cloud import Cloud, free_port, wait_for

Json = dict[str, Any]

SERVER = Path(__file__).with_name("model_server.py")
SPEC: Json = {"race_width": 1, "heartbeat_seconds": 0.5, "fence_after_seconds": 2.0}


@dataclass
class Served:
    """A machine with a server on a port, and its gateway token."""

    cloud: Cloud
    name: str
    spec: Json = field(default_factory=dict)
    start_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.port = free_port()
        self.records = SqliteStore(self.cloud.folder / "data/store.sqlite3")
        run = f"exec {sys.executable} {SERVER} {self.port} {self.start_seconds}"
        up = self.cloud.ended(self.cloud.up(self.name, **SPEC | {"run": run, "model_port": self.port} | self.spec))
        assert up["state"] == "succeeded", up.get("problem")
        self.token = self.new_token()
        self.http = self.caller(self.token)

    def new_token(self, **wish: Any) -> str:
        """A token from the API."""
        answer = self.cloud.http.post(f"/gateway/{self.name}/token", json=wish)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["token"])

    def caller(self, secret: str | None, **headers: str) -> httpx.Client:
        """A client of the machine's port that brings this secret."""
        proof = {"Authorization": f"Bearer {secret}"} if secret is not None else {}
        return httpx.Client(base_url=self.url, headers=proof | headers, timeout=90)

    @property
    def url(self) -> str:
        """Where its port lies."""
        return f"http://127.0.0.1:{self.cloud.port}/gateway/{self.name}/{self.port}"

    def answers(self) -> Json:
        """Its echo, once the program listens."""
        answer = self.http.get("/echo", headers={"X-Dumont-Wait": "60"})
        assert answer.status_code == 200, answer.text
        echo: Json = answer.json()
        return echo

    def record(self) -> Machine:
        """The machine in our books."""
        found = self.records.get(Machine, self.name)
        assert found is not None
        return found

    def operations(self, kind: str) -> list[Json]:
        """Its operations of a kind, newest first."""
        found: list[Json] = self.cloud.http.get("/operations", params={"machine": self.name}).json()["operations"]
        return [op for op in found if op["kind"] == kind]

    def sleep(self, *, pause: bool = False) -> None:
        """Put it to sleep and wait until it does."""
        wish = {"name": self.name, "tier": "pause" if pause else "hibernate"}
        answer = self.cloud.http.post("/hibernate", json=wish)
        assert answer.status_code == 202, answer.text
        slept = self.cloud.ended(answer.json()["operation"])
        assert slept["state"] == "succeeded", slept.get("problem")
        wait_for(lambda: self.cloud.machine(self.name)["state"] == "hibernated", seconds=20, why="it sleeps")

    def end(self) -> None:
        """Give it back."""
        self.http.close()
        down = self.cloud.ended(self.cloud.down(self.name))
        assert down["state"] == "succeeded", down.get("problem")
