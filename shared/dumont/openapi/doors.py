"""The functions' own doors, read from their `main.py`: which methods they answer, and which role each needs."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from dumont.build.declarations import Entry, FunctionDeclaration
from dumont.edge.doors import Door


@dataclass(frozen=True)
class HttpFunction:
    """One HTTP entry, and its door; None for one that asks for its proof itself (the gateway)."""

    declaration: FunctionDeclaration
    entry: Entry
    door: Door | None

    @property
    def name(self) -> str:
        """As deployed, and the first part of its paths."""
        return self.entry.name


def http_functions(declarations: Sequence[FunctionDeclaration]) -> list[HttpFunction]:
    """Each HTTP entry of these folders, by name."""
    found = []
    for declaration in declarations:
        for entry in declaration.entries:
            if entry.signature == "http":
                target = getattr(_module(declaration), entry.target)
                found.append(HttpFunction(declaration, entry, getattr(target, "door", None)))
    return sorted(found, key=lambda function: function.name)


def _module(declaration: FunctionDeclaration) -> ModuleType:
    """A function's file, loaded. Not kept in `sys.modules`: all of them have the same name."""
    file = declaration.folder / "main.py"
    spec = importlib.util.spec_from_file_location(f"dumont_function_{declaration.name.replace('-', '_')}", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
