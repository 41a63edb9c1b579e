"""The house rules that a reader would otherwise have to check by hand: who may import whom, and what stays small."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "shared" / "dumont"
FOLDERS = ("functions", "shared", "tests")

CONTRACTS = {"domain", "ports", "optional_ports", "queries", "settings"}
MAY_IMPORT = {
    "domain": {"domain"},
    "ports": {"domain", "optional_ports"},
    "optional_ports": {"domain"},
    "queries": {"domain", "ports"},
    "settings": {"domain"},
    "operations": CONTRACTS | {"operations", "agent"},
    "adapters": CONTRACTS | {"adapters"},
    "edge": CONTRACTS | {"operations", "adapters", "edge", "agent"},
    "local": CONTRACTS | {"operations", "adapters", "edge", "build", "local", "cli"},
    "openapi": CONTRACTS | {"operations", "edge", "build", "openapi"},
    "cli": CONTRACTS | {"adapters", "local", "cli", "build", "openapi"},
    "agent": {"agent"},
    "build": CONTRACTS | {"agent", "build"},
}
"""Part of the package → the parts that it may import. What is absent here fails, so that a new part gets its line."""

PURE = ("domain", "ports", "optional_ports", "queries", "settings", "operations")
PURE_LIBRARIES = {"msgspec", "cronsim", "dumont"}
WORLD = {
    *("time", "random", "uuid", "secrets", "os", "pathlib", "tempfile", "shutil", "sqlite3"),
    *("socket", "ssl", "http", "subprocess", "threading", "multiprocessing", "asyncio", "concurrent"),
}
"""Standard modules that bring in a clock, chance or the world outside; ports are there for that."""
CLOCK_CALLS = {"now", "utcnow", "today"}

FILE_LINES_MAX = 400
DOOR_LINES_MAX = 40
DOOR_MAY_IMPORT = ("__future__", "typing", "functions_framework", "dumont.domain", "dumont.edge", "dumont.operations")


@dataclass(frozen=True)
class Import:
    """One import: the module it names, and where it stands."""

    module: str
    place: str


def files(*parts: str) -> list[Path]:
    """All Python files of these parts of the package."""
    found: list[Path] = []
    for part in parts:
        found += [PACKAGE / f"{part}.py"] if (PACKAGE / f"{part}.py").is_file() else (PACKAGE / part).rglob("*.py")
    return sorted(found)


def doors() -> list[Path]:
    return sorted((ROOT / "functions").glob("*/main.py"))


def all_files() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def place(file: Path, node: ast.stmt | ast.expr) -> str:
    return f"{file.relative_to(ROOT)}:{node.lineno}"


def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_bytes(), str(file))


def imports(file: Path) -> Iterator[Import]:
    """Every import in the file, those within functions too."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, place(file, node))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 or "engine" in file.parts, f"{place(file, node)}: a relative import"
            module = node.module or ""
            for alias in node.names:
                # `from dumont import ports` names a part just as `import dumont.ports` does
                yield Import(f"dumont.{alias.name}" if module == "dumont" else module, place(file, node))


def part_of(module: str) -> str | None:
    """The part of the package that a module's name leads to; None for other people's modules."""
    names = module.split(".")
    return names[1] if names[0] == "dumont" and len(names) > 1 else None


def test_every_part_of_the_package_has_its_rule() -> None:
    parts = {path.stem for path in PACKAGE.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert parts - {"__init__", "__pycache__"} <= MAY_IMPORT.keys()


def test_imports_point_one_way() -> None:
    wrong = [
        f"{found.place}: {part} imports {found.module}"
        for part, allowed in MAY_IMPORT.items()
        for file in files(part)
        for found in imports(file)
        if (target := part_of(found.module)) and target not in allowed
    ]
    assert wrong == []


def test_the_domain_and_the_operations_use_no_library_but_pure_ones() -> None:
    known = PURE_LIBRARIES | sys.stdlib_module_names
    wrong = [
        f"{found.place}: {found.module}"
        for file in files(*PURE)
        for found in imports(file)
        if found.module.split(".")[0] not in known
    ]
    assert wrong == []


def test_the_domain_and_the_operations_reach_the_world_through_ports_alone() -> None:
    wrong = [
        f"{found.place}: {found.module}"
        for file in files(*PURE)
        for found in imports(file)
        if found.module.split(".")[0] in WORLD
    ]
    for file in files(*PURE):
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.Call) and _reads_clock_or_file(node.func):
                wrong.append(f"{place(file, node)}: {ast.unparse(node.func)}()")
    assert wrong == []


def test_doors_are_thin() -> None:
    long = [str(file) for file in doors() if len(file.read_text(encoding="utf-8").splitlines()) > DOOR_LINES_MAX]
    assert long == []


def test_doors_import_the_edge_the_operations_and_their_words_alone() -> None:
    wrong = [
        f"{found.place}: {found.module}"
        for file in doors()
        for found in imports(file)
        if not any(found.module == name or found.module.startswith(f"{name}.") for name in DOOR_MAY_IMPORT)
    ]
    assert wrong == []


def test_a_file_can_be_held_in_the_head() -> None:
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in all_files()}
    assert [f"{file}: {lines} lines" for file, lines in lengths.items() if lines > FILE_LINES_MAX] == []


def test_nothing_is_put_off() -> None:
    mark = re.compile(r"\bTO[D]O\b|FIX[M]E|\bX[X]X\b")
    wrong = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in all_files()
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
        if mark.search(line)
    ]
    assert wrong == []


def _reads_clock_or_file(function: ast.expr) -> bool:
    """Whether a call's function is `open`, or a clock's: `datetime.now`, `datetime.datetime.utcnow`, `date.today`."""
    if isinstance(function, ast.Name):
        return function.id == "open"
    if not isinstance(function, ast.Attribute) or function.attr not in CLOCK_CALLS:
        return False
    owner = ast.unparse(function.value).rsplit(".", maxsplit=1)[-1]
    return owner in {"datetime", "date"}
