"""Source bundles: for each function a folder and a zip, as `gcloud functions deploy --source` takes them.

A bundle holds `main.py`, the part of `dumont` that functions use, and the function's own locked `requirements.txt`.
The same sources make the same bytes, so that a bundle's hash says whether a deployment would change anything.
"""

from __future__ import annotations

import ast
import hashlib
import shutil
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import dumont
from dumont.build.declarations import FunctionDeclaration, load
from dumont.build.lock import function_lock

LEFT_OUT = frozenset({"build", "cli", "local", "openapi"})
"""Subpackages that no deployed function uses."""
SUFFIXES = frozenset({".py", ".json", ".html", ".sh", ".txt"})
"""What pyproject declares as package data, and Python; anything else in the tree is somebody's litter."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can hold."""


class BundleError(Exception):
    """A bundle that would not start; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """One function's bundle on disk."""

    declaration: FunctionDeclaration
    folder: Path
    archive: Path
    sha256: str


def build(functions: Path, requirements: Path, out: Path) -> list[Bundle]:
    """Build all bundles anew into `out`, by name. Raises `DeclarationError` or `BundleError`."""
    declarations = load(functions)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    return [_bundle(declaration, requirements, out) for declaration in declarations]


def contents(declaration: FunctionDeclaration, requirements: Path) -> dict[str, bytes]:
    """Path in the bundle → content, sorted by path. Raises `BundleError`."""
    source = declaration.folder / "main.py"
    lock = requirements / function_lock(declaration.extras)
    for needed, remedy in ((source, "write it"), (lock, "run make lock")):
        if not needed.is_file():
            raise BundleError(f"{declaration.name}: {needed} is missing: {remedy}")
    _check_targets(declaration, source)
    files = {"main.py": source.read_bytes(), "requirements.txt": lock.read_bytes(), **_package()}
    return dict(sorted(files.items()))


def main() -> int:
    """Build all bundles below the current folder and say what came out."""
    try:
        bundles = build(Path("functions"), Path("requirements"), Path("build/functions"))
    except (BundleError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for bundle in bundles:
        size_kib = bundle.archive.stat().st_size / 1024
        sys.stdout.write(f"{bundle.archive}  {size_kib:.0f} KiB  sha256 {bundle.sha256[:16]}\n")
    return 0


def _package() -> dict[str, bytes]:
    """The part of the `dumont` package that is deployed, by its path in a bundle."""
    root = Path(dumont.__file__).parent
    files: dict[str, bytes] = {}
    for path in root.rglob("*"):
        inner = path.relative_to(root)
        if inner.parts[0] not in LEFT_OUT and path.suffix in SUFFIXES and path.is_file():
            files[f"dumont/{inner.as_posix()}"] = path.read_bytes()
    return files


def _check_targets(declaration: FunctionDeclaration, source: Path) -> None:
    """Refuse a `main.py` without the functions that it is declared to hold: it would fail only once deployed."""
    names: set[str] = set()
    for node in ast.parse(source.read_bytes(), str(source)).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
    if missing := [entry.target for entry in declaration.entries if entry.target not in names]:
        raise BundleError(f"{source} has no {', '.join(missing)}, which function.toml declares")


def _bundle(declaration: FunctionDeclaration, requirements: Path, out: Path) -> Bundle:
    files = contents(declaration, requirements)
    folder = out / declaration.name
    archive = out / f"{declaration.name}.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            entry = zipfile.ZipInfo(name, date_time=EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, whichever system builds
            entry.external_attr = 0o100644 << 16
            packed.writestr(entry, content, compresslevel=9)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    return Bundle(declaration=declaration, folder=folder, archive=archive, sha256=digest)


if __name__ == "__main__":
    sys.exit(main())
