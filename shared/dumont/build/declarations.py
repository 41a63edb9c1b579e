"""`functions/<name>/function.toml`: what a function is, said once.

The bundler, the local cloud, `cloudbuild.yaml` and Terraform all follow these files.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

FILE = "function.toml"
EVENT_TIMEOUT_SECONDS_MAX = 540
"""The longest that Google lets an event-driven function run; one called by HTTP may take an hour."""

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$")]
Target = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Topic = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{2,254}$")]
Variable = Annotated[str, msgspec.Meta(pattern=r"^[A-Z][A-Z0-9_]*$")]
Schedule = Annotated[str, msgspec.Meta(pattern=r"^[0-9*/,-]+( [0-9*/,-]+){4}$")]
Extra = Literal["b2", "gcp", "slack", "ssh"]


class DeclarationError(ValueError):
    """A `function.toml` that cannot be right; the message names the file and the field."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One deployed function of a folder: a door for HTTP, or a worker behind a topic."""

    name: Name
    """As deployed, such as "provision-worker"; for HTTP also the path at which it is served."""
    target: Target
    """The function in `main.py`."""
    topic: Topic | None = None
    """The Pub/Sub topic whose messages it takes; None for HTTP."""
    secrets: tuple[Variable, ...] = ()
    """Environment variables that come from Secret Manager. By entry, so that a door never holds its worker's keys."""

    @property
    def signature(self) -> Literal["http", "cloudevent"]:
        """As functions-framework's `--signature-type` has it."""
        return "cloudevent" if self.topic else "http"


class FunctionDeclaration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One folder of `functions/`: one source bundle, deployed once for each of its entries."""

    name: Name
    folder: Path
    description: Annotated[str, msgspec.Meta(min_length=1)]
    entries: Annotated[tuple[Entry, ...], msgspec.Meta(min_length=1)]
    extras: tuple[Extra, ...] = ()
    """pyproject's extras that its requirements are made of, besides what every function needs."""
    memory_mib: Annotated[int, msgspec.Meta(ge=128, le=32768)] = 512
    timeout_seconds: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 60
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    """How many requests one instance serves at once, each in a thread; more than one takes a whole processor."""
    cpu: Annotated[float, msgspec.Meta(gt=0, le=8)] | None = None
    """Processors of an instance; None takes what Google gives with the memory, or one where requests share it."""
    instances_min: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    """Of its HTTP entry: how many are kept warm, and paid for, while nothing runs."""
    instances_max: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None = None
    """None takes the deployment's."""
    public: bool = False
    """Whether Google lets any caller through to its HTTP entry, which then asks for one of Dumont's keys itself.
    Otherwise only callers with an identity token of the project, such as Cloud Scheduler."""
    schedule: Schedule | None = None
    """Cron, UTC: when Cloud Scheduler calls its HTTP entry."""

    @property
    def processors(self) -> str | None:
        """As Google's API has `available_cpu`: "1", "0.5"; None for what goes with the memory."""
        if self.cpu is not None:
            return f"{self.cpu:g}"
        return "1" if self.concurrency > 1 else None

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets of all its entries, sorted."""
        return tuple(sorted({secret for entry in self.entries for secret in entry.secrets}))


def load(functions_folder: Path) -> list[FunctionDeclaration]:
    """The declarations of all folders that hold a `function.toml`, by name. Raises `DeclarationError`."""
    files = sorted(functions_folder.glob(f"*/{FILE}"))
    if not files:
        raise DeclarationError(f"{functions_folder}: no folder in it holds a {FILE}")
    declarations = [load_one(file) for file in files]
    names = Counter(entry.name for declaration in declarations for entry in declaration.entries)
    if twice := sorted(name for name, count in names.items() if count > 1):
        raise DeclarationError(f"{functions_folder}: declared more than once: {', '.join(twice)}")
    return declarations


def load_one(file: Path) -> FunctionDeclaration:
    """The declaration in one `function.toml`. Raises `DeclarationError`."""
    try:
        table: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
        if outside := {"name", "folder"} & table.keys():
            raise DeclarationError(f"{file}: {', '.join(sorted(outside))}: the folder says it")
        declaration = msgspec.convert(
            {**table, "name": file.parent.name, "folder": file.parent},
            FunctionDeclaration,
            dec_hook=lambda _type, value: value,  # only the Path, which is one already
        )
    except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise DeclarationError(f"{file}: {error}") from error
    if fault := _fault(declaration):
        raise DeclarationError(f"{file}: {fault}")
    return declaration


def secret_id(variable: str) -> str:
    """The name in Secret Manager of what a function reads from an environment variable: VAST_API_KEY is kept as
    dumont-vast-api-key.
    """
    return "dumont-" + re.sub(r"^DUMONT_", "", variable).lower().replace("_", "-")


def _fault(declaration: FunctionDeclaration) -> str | None:
    """What is wrong with fields that are each right, in words; None if nothing is."""
    doors = [entry for entry in declaration.entries if entry.signature == "http"]
    if len(doors) > 1:
        return "entries: a function has one HTTP entry at most"
    if (declaration.public or declaration.schedule) and not doors:
        return "public and schedule are for functions with an HTTP entry"
    if declaration.concurrency > 1 and declaration.cpu is not None and declaration.cpu < 1:
        return "cpu: more than one request at once needs a whole processor"
    if len(doors) < len(declaration.entries) and declaration.timeout_seconds > EVENT_TIMEOUT_SECONDS_MAX:
        return f"timeout_seconds: a worker behind a topic gets {EVENT_TIMEOUT_SECONDS_MAX} at most"
    return None
