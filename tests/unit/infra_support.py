"""`infra/` as tests read it: parsed, and its expressions evaluated by Terraform itself without Google's provider."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hcl2
import pytest

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
FILES = sorted(INFRA.glob("*.tf"))
NEEDED = {"project": "dumont-test", "bucket": "dumont-test"}
"""The variables without a default."""


@dataclass(frozen=True)
class Block:
    """A block of a file: its type ("resource"), its labels, what is in it."""

    file: str
    kind: str
    labels: tuple[str, ...]
    body: Mapping[str, Any]

    @property
    def place(self) -> str:
        return f"{self.file}: {'.'.join((self.kind, *self.labels))}"


@functools.cache
def blocks() -> tuple[Block, ...]:
    """Every block at the top of every file."""
    return tuple(block for file in FILES for block in _blocks_of(file))


def of_kind(kind: str) -> list[Block]:
    return [block for block in blocks() if block.kind == kind]


def resource(type_name: str, name: str) -> Mapping[str, Any]:
    """One resource's body."""
    return next(b.body for b in of_kind("resource") if b.labels == (type_name, name))


def unquoted(value: str) -> str:
    return value[1:-1] if value[:1] == '"' == value[-1:] else value


def is_block(value: Any) -> bool:
    """Whether a value in a body is one or more nested blocks, rather than an argument's."""
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) and "__is_block__" in v for v in value)


def contents(body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Arguments and nested blocks, those that are made by `dynamic` as if they were written out."""
    for name, value in body.items():
        if name == "dynamic":
            for label, inner in ((label, inner) for made in value for label, inner in made.items()):
                if isinstance(inner, dict):
                    yield unquoted(label), inner["content"]
        elif not name.startswith("__"):
            yield name, value


def terraform() -> str:
    """The program, or a skipped test."""
    path = shutil.which("terraform")
    if path is None:
        pytest.skip("terraform is not installed")
    return path


def instances(planned: Mapping[str, dict[str, Any]], address: str) -> dict[str, dict[str, Any]]:
    """Of a resource with `for_each`: key → what the plan makes of it."""
    begins = f"{address}["
    return {json.loads(name[len(begins) : -1]): plan for name, plan in planned.items() if name.startswith(begins)}


class Evaluated:
    """The variables and those locals that need no resource, in a folder where Terraform needs no provider."""

    def __init__(self, folder: Path) -> None:
        self._program = terraform()
        self._folder = folder
        shutil.copy(INFRA / "variables.tf", folder)
        shutil.copy(INFRA / "declared.json", folder)
        texts = (text for file in FILES for text in _locals_in(file.read_text(encoding="utf-8")))
        alone = [text for text in texts if not re.search(r"\b(google_\w+|data)\.", text)]
        (folder / "locals.tf").write_text("\n".join(alone), encoding="utf-8")
        self._run("init", "-backend=false", "-input=false")

    def value(self, expression: str, **variables: Any) -> Any:
        """An expression's value."""
        done = self._run("console", *_arguments(variables), stdin=f"jsonencode({expression})\n")
        return json.loads(json.loads(done.stdout))

    def refuses(self, **variables: Any) -> bool:
        """Whether a plan fails because a variable may not have its value."""
        done = self._run("plan", "-input=false", "-lock=false", "-no-color", *_arguments(variables), may_fail=True)
        return done.returncode != 0 and "Invalid value for variable" in done.stderr

    def planned(self, **variables: Any) -> dict[str, dict[str, Any]]:
        """Address (`google_pubsub_topic.work["wake-worker"]`) → what a plan makes of it, as far as that is known before
        anything is made: what is read from another resource is left out, and so are `dynamic` blocks.

        Each resource stands in the plan as one of Terraform's own that keeps what it is given.
        """
        bundles = self._folder / "bundles"
        bundles.mkdir(exist_ok=True)
        for function in json.loads((INFRA / "declared.json").read_text(encoding="utf-8"))["functions"].values():
            (bundles / f"{function['folder']}.zip").touch()
        stand_ins = self._folder / "resources.tf"
        stand_ins.write_text("\n".join(_stand_ins()), encoding="utf-8")
        try:
            given = _arguments({**variables, "bundles": str(bundles)})
            self._run("plan", "-input=false", "-lock=false", "-out=kept", *given)
        finally:
            stand_ins.unlink()  # what else is asked of this folder would wait for hundreds of them
        shown = json.loads(self._run("show", "-json", "kept").stdout)
        found = shown["planned_values"]["root_module"]["resources"]
        return {_address(one["name"], one.get("index")): one["values"]["input"] for one in found}

    def _run(self, *arguments: str, stdin: str = "", may_fail: bool = False) -> subprocess.CompletedProcess[str]:
        command = [self._program, f"-chdir={self._folder}", *arguments]
        environment = {**os.environ, "CHECKPOINT_DISABLE": "1"}  # it would ask the world for a newer version
        done = subprocess.run(
            command, input=stdin, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert may_fail or done.returncode == 0, done.stdout + done.stderr
        return done


def _arguments(variables: Mapping[str, Any]) -> list[str]:
    given = {**NEEDED, **variables}
    return [f"-var={name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in given.items()]


def _stand_ins() -> Iterator[str]:
    for block in of_kind("resource"):
        repeated = [f"{name} = {_written(block.body[name])}" for name in ("for_each", "count") if name in block.body]
        lines = "\n  ".join([*repeated, f"input = {_written(block.body)}"])
        yield f'resource "terraform_data" "{"__".join(block.labels)}" {{\n  {lines}\n}}\n'


def _written(value: Any) -> str:
    """A parsed value as Terraform's text again, without what is only known once something is made."""
    match value:
        case str():
            return value[2:-1] if value.startswith("${") else value
        case bool():
            return str(value).lower()
        case list():
            return f"[{', '.join(_written(item) for item in value if not _comes_later(item))}]"
        case dict():
            left_out = {"for_each", "count", "depends_on", "lifecycle", "dynamic"}
            known = {n: v for n, v in value.items() if n not in left_out and not n.startswith("__")}
            inner = (f"{name} = {_written(v)}" for name, v in known.items() if not _comes_later(v))
            return "{" + ", ".join(inner) + "}"
    return str(value)


def _comes_later(value: Any) -> bool:
    return (
        isinstance(value, str) and re.search(r"\b(google_\w+|data)\.|local\.(pubsub_agent|channels)", value) is not None
    )


def _address(name: str, index: str | int | None) -> str:
    place = name.replace("__", ".")
    return place if index is None else f"{place}[{json.dumps(index)}]"


def _blocks_of(file: Path) -> Iterator[Block]:
    with file.open(encoding="utf-8") as text:
        parsed = hcl2.load(text)
    for kind, found in parsed.items():
        if kind.startswith("__"):
            continue
        for one in found:
            labels: list[str] = []
            body = one
            while "__is_block__" not in body and len(keys := [k for k in body if not k.startswith("__")]) == 1:
                if not isinstance(body[keys[0]], dict):
                    break
                labels.append(unquoted(keys[0]))
                body = body[keys[0]]
            yield Block(file.name, kind, tuple(labels), body)


def _locals_in(text: str) -> Iterator[str]:
    """The text of each `locals` block: `terraform fmt` ends a block at the top with a brace that begins a line."""
    yield from re.findall(r"^locals \{\n.*?^\}\n", text, re.DOTALL | re.MULTILINE)
