"""An API that says what a test tells it to, behind real HTTP, and a command line that talks to it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from click.testing import CliRunner, Result

from dumont.cli.main import cli
from tests.contract.scripted_http import Asked, Said, ScriptedServer, said

NOW = 1_795_000_000.0
KEY = "dmt_abc_0123456789"
Json = dict[str, Any]


def offer(**fields: Any) -> Json:
    known = {"provider": "vast", "id": "101", "gpu": "RTX 4090", "gpu_count": 1, "gpu_usd_per_hour": 0.31}
    return {**known, "region": "Sweden, SE", "vram_gib": 24.0, "reliability": 0.991, "host_id": "77", **fields}


def instance(name: str, **fields: Any) -> Json:
    view = {"id": f"dumont.main.trainer.1.{name}", "machine": "trainer", "epoch": 1, "state": "created"}
    return {**view, "provider": "vast", "offer": offer(), "intended_at": NOW, "cost_usd": 0.0, **fields}


def machine(**fields: Any) -> Json:
    view: Json = {"name": "trainer", "state": "running", "epoch": 1, "spec": {"gpu": "RTX 4090", "workspace": "work"}}
    view |= {"ssh": {"host": "203.0.113.7", "port": 40022, "user": "root"}, "host_key": "ssh-ed25519 AAAAhost"}
    view |= {"created_at": NOW, "updated_at": NOW, "running_since": NOW + 12, "offer": offer()}
    return {**view, "price_usd_per_hour": 0.3128, "cost_usd": 0.0123, **fields}


def route(**fields: Any) -> Json:
    view: Json = {"machine": "trainer", "epoch": 1, "state": "running", "updated_at": NOW}
    view |= {"ssh": {"host": "203.0.113.7", "port": 40022, "user": "root"}, "host_key": "ssh-ed25519 AAAAhost"}
    return {**view, **fields}


def operation(**fields: Any) -> Json:
    view: Json = {"id": "op-1", "kind": "provision", "machine": "trainer", "state": "running", "phase": "race"}
    view |= {"created_at": NOW, "updated_at": NOW, "requested_by": "local", "cost_usd": 0.0021}
    return {**view, "steps": [], "instances": [], **fields}


def step(name: str, start: float, end: float, **fields: Any) -> Json:
    times = {"started_at": NOW + start, "ended_at": NOW + end, "seconds": end - start}
    return {"name": name, **times, "ok": True, "cost_usd": 0.0001, **fields}


def problem(status: int, code: str, detail: str, **fields: Any) -> Said:
    body = {"type": f"about:blank#{code}", "title": code, "status": status, "detail": detail, "code": code, **fields}
    return said(status, body, Content_Type="application/problem+json")


@dataclass
class World:
    """What the API answers: by "METHOD /path", each answer once and the last one for ever; and how it is asked."""

    url: str
    folder: Path
    answers: dict[str, list[Said]]
    asked: list[Asked] = field(default_factory=list)

    def says(self, request: str, *answers: Json | Said) -> None:
        self.answers[request] = [a if isinstance(a, Said) else said(200, a) for a in answers]

    def run(self, *arguments: str, stdin: str | None = None, key: str | None = KEY, **environment: str) -> Result:
        return CliRunner().invoke(cli, list(arguments), input=stdin, env=self.environment(key, **environment))

    def environment(self, key: str | None = KEY, **more: str) -> dict[str, str | None]:
        mine = {"DUMONT_URL": self.url, "DUMONT_API_KEY": key, "XDG_CONFIG_HOME": str(self.folder / "config")}
        return {**mine, "TERM": "dumb", "PATH": os.environ["PATH"], **more}

    def last(self, request: str) -> Asked:
        return next(asked for asked in reversed(self.asked) if request == f"{asked.method} {urlsplit(asked.path).path}")

    def query(self, request: str) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.last(request).path).query).items()}

    def answer(self, asked: Asked) -> Said:
        self.asked.append(asked)
        left = self.answers.get(f"{asked.method} {urlsplit(asked.path).path}")
        if asked.headers.get("Authorization") != f"Bearer {KEY}":
            return problem(401, "unauthenticated", "no key, or a wrong one", hint="send it as a header")
        if not left:
            return problem(404, "not_found", f"nothing at {asked.path}")
        return left.pop(0) if len(left) > 1 else left[0]


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """A world on a free port."""
    made: list[World] = []
    with ScriptedServer(lambda asked: made[0].answer(asked)) as server:
        made.append(World(server.url, folder, {}))
        yield made[0]


def output(result: Result) -> Json:
    """The JSON on stdout; there must be nothing else on it."""
    value: Json = json.loads(result.stdout)
    return value
