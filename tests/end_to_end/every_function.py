"""Every function of `functions/` in one process of its own, as the local cloud mounts them but without its bus, its
sweeps and its market; and the routes that they answer, read from their code: a function that is new is held to what
these tests say on the day that it is written.

Run as a program it serves: `python -m tests.end_to_end.every_function PORT`.
"""

from __future__ import annotations

import ast
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from dumont.adapters.sqlite_store import SqliteStore
from dumont.adapters.ssh import generate_key
from dumont.build.declarations import FunctionDeclaration, load
from tests.contract.google_tokens import CALLER
from tests.end_to_end.bundle_support import stop, wait_until_up
from tests.end_to_end.cloud import free_port

ROOT = Path(__file__).parents[2]
FUNCTIONS = load(ROOT / "functions")
TOKEN_KEY = "every-function-" + "k" * 40
MACHINE = "trainer"

NOT_IN_MAIN = {
    "gateway": (f"/{MACHINE}/8000/", f"/{MACHINE}/8000/deep/path", f"/{MACHINE}/token", f"/{MACHINE}", "/"),
    "v1": ("/models", "/models/tiny", "/chat/completions", "/completions", "/embeddings", "/nothing"),
    "slack": ("/commands", "/actions", "/events", "/"),
}
"""Functions whose paths are told apart elsewhere."""


@dataclass(frozen=True)
class Served:
    """The functions, up and answering, and the store behind them."""

    client: httpx.Client
    store: SqliteStore
    log: Path
    folder: Path


@contextlib.contextmanager
def serving(folder: Path, **settings: str) -> Iterator[Served]:
    """All functions with secrets of their own, where nothing else is: no bus, no market, no object store."""
    port, nowhere = free_port(), f"http://127.0.0.1:{free_port()}"
    log = folder / f"functions-{port}.log"
    ours = ("DUMONT_", "GOOGLE_", "VAST_", "B2_")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(ours)},
        "PYTHONPATH": f"{ROOT / 'shared'}:{ROOT}",
        "DUMONT_STORE": f"sqlite:{folder / 'store.db'}",
        "DUMONT_BUS": nowhere,
        "DUMONT_TOKEN_KEY": TOKEN_KEY,
        "DUMONT_SSH_PRIVATE_KEY": generate_key()[0],
        "DUMONT_SLACK_SIGNING_SECRET": "slack-" + "s" * 32,
        "DUMONT_VAST_WEBHOOK_SECRET": "webhook-" + "w" * 32,
        "VAST_API_KEY": "vast-" + "v" * 32,
        "VAST_URL": nowhere,
        # Workers and the sweep ask for Google's caller, as deployed.
        "DUMONT_CALLER": CALLER,
        "DUMONT_AUDIENCE": "https://functions.example/none",
        "DUMONT_GOOGLE_KEYS_URL": nowhere,
        "DUMONT_WRONG_KEYS_PER_MINUTE": "0",
        "DUMONT_CHANGES_PER_MINUTE": "0",
        **settings,
    }
    command = [sys.executable, "-m", "tests.end_to_end.every_function", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        wait_until_up(process, port, log)
        with (
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client,
            contextlib.closing(SqliteStore(folder / "store.db")) as store,
        ):
            yield Served(client, store, log, folder)
    finally:
        stop(process)


def door_of(declaration: FunctionDeclaration) -> str | None:
    """The path at which a folder's HTTP entry is mounted."""
    return next((f"/{entry.name}" for entry in declaration.entries if entry.topic is None), None)


def workers() -> list[str]:
    """Where each worker takes its messages."""
    return [f"/_events/{entry.name}" for one in FUNCTIONS for entry in one.entries if entry.topic is not None]


def paths_of(declaration: FunctionDeclaration) -> list[str]:
    """Every path that a folder's HTTP entry tells apart, below where it is mounted, with `MACHINE` for what varies."""
    if declaration.name in NOT_IN_MAIN:
        return list(NOT_IN_MAIN[declaration.name])
    tree = ast.parse((declaration.folder / "main.py").read_text(encoding="utf-8"))
    found = {""}
    for match in (node for node in ast.walk(tree) if isinstance(node, ast.Match)):
        by_method = isinstance(match.subject, ast.Tuple)
        for case in match.cases:
            pattern = case.pattern
            if by_method and isinstance(pattern, ast.MatchSequence):
                pattern = pattern.patterns[-1]
            if isinstance(pattern, ast.MatchSequence):
                found.add("".join(f"/{_part(part)}" for part in pattern.patterns))
    return sorted(found)


def tells_paths_apart(declaration: FunctionDeclaration) -> bool:
    """Whether `paths_of` can know: by a match, by a refusal of all paths, or by the list above."""
    source = (declaration.folder / "main.py").read_text(encoding="utf-8")
    return declaration.name in NOT_IN_MAIN or "match call." in source or "if call.path:" in source


def _part(pattern: ast.pattern) -> str:
    if isinstance(pattern, ast.MatchValue) and isinstance(pattern.value, ast.Constant):
        return str(pattern.value.value)
    return MACHINE


def _serve(port: int) -> None:
    from dumont.local.host import FunctionHost

    FunctionHost(FUNCTIONS, port, {}).serve()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
