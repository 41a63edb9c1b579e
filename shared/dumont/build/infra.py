"""Writes `infra/declared.json`, what Terraform makes its resources of: the functions as their `function.toml` says,
with what their code can reach of the world, and the indexes that the queries need.

A test holds the file in step with the code.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from dumont.build import indexes, reach
from dumont.build.declarations import FunctionDeclaration, load, secret_id

FILE = Path("infra/declared.json")


class DeclaredFunction(msgspec.Struct, frozen=True, kw_only=True):
    """One deployed function, as `infra/functions.tf` reads it."""

    folder: str
    description: str
    target: str
    topic: str | None
    schedule: str | None
    public: bool
    memory_mib: int
    cpu: str | None
    timeout_seconds: int
    concurrency: int
    instances_min: int
    instances_max: int | None
    secrets: tuple[str, ...]
    needs: tuple[reach.Need, ...]


def declared(declarations: Sequence[FunctionDeclaration]) -> dict[str, DeclaredFunction]:
    """Each entry of each folder by the name that it is deployed under."""
    return {
        entry.name: DeclaredFunction(
            folder=declaration.name,
            description=declaration.description,
            target=entry.target,
            topic=entry.topic,
            schedule=declaration.schedule if entry.topic is None else None,
            public=declaration.public and entry.topic is None,
            memory_mib=declaration.memory_mib,
            cpu=declaration.processors,
            timeout_seconds=declaration.timeout_seconds,
            concurrency=declaration.concurrency if entry.topic is None else 1,
            instances_min=declaration.instances_min if entry.topic is None else 0,
            instances_max=declaration.instances_max,
            secrets=entry.secrets,
            needs=tuple(sorted(reach.needs(declaration, entry))),
        )
        for declaration in declarations
        for entry in declaration.entries
    }


def render(declarations: Sequence[FunctionDeclaration]) -> str:
    """The whole of `infra/declared.json`."""
    found = indexes.uses()
    secrets = sorted({variable for declaration in declarations for variable in declaration.secrets})
    content: dict[str, Any] = {
        "functions": declared(declarations),
        "secrets": {variable: secret_id(variable) for variable in secrets},
        "indexes": indexes.needed(found),
        "exemptions": indexes.exemptions(found),
        "expiring": indexes.expiring(),
        "expires": indexes.EXPIRES,
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n"


def main() -> int:
    """Write the file below the current folder."""
    FILE.write_text(render(load(Path("functions"))), encoding="utf-8")
    sys.stdout.write(f"{FILE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
