"""Writes the locks in `requirements/`: each version pinned, each file's hash noted, for Linux and macOS alike.

Everything is resolved once, in `dev.txt`; the smaller locks take their versions from it, so that what is deployed is
what was tested. Run by `make lock`; nobody who only installs needs uv.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

from dumont.build.declarations import FunctionDeclaration, load

DEMO_EXTRAS = ("b2", "cli", "engine", "local", "ssh")
DEV = "dev.txt"
DEMO = "demo.txt"


def function_lock(extras: Iterable[str]) -> str:
    """The file in `requirements/` that functions with these extras install, such as function-gcp-ssh.txt."""
    return "-".join(["function", *sorted(extras)]) + ".txt"


def locks(declarations: Sequence[FunctionDeclaration]) -> dict[str, tuple[str, ...]]:
    """File name → the extras that it holds besides the core, for every lock but `dev.txt`, which holds them all."""
    return {DEMO: DEMO_EXTRAS} | {function_lock(d.extras): tuple(sorted(d.extras)) for d in declarations}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write all locks below the current folder; pins that still fit stay, unless --upgrade."""
    parser = argparse.ArgumentParser(prog="python -m dumont.build.lock", description=main.__doc__)
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    upgrade = ["--upgrade"] if parser.parse_args(arguments).upgrade else []
    folder = Path("requirements")
    folder.mkdir(exist_ok=True)
    backend = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    _compile(folder / DEV, ["--all-extras", *upgrade], also=backend)
    wanted = locks(load(Path("functions")))
    for name, extras in wanted.items():
        options = [option for extra in extras for option in ("--extra", extra)]
        constraints = ["--constraints", str(folder / DEV)]
        _compile(folder / name, [*options, *constraints, *upgrade], also=backend if name == DEMO else ())
    for stale in set(folder.glob("function*.txt")) - {folder / name for name in wanted}:
        stale.unlink()
    return 0


def _compile(lock: Path, options: Sequence[str], *, also: Iterable[str]) -> None:
    """Have uv write one lock, of pyproject and what is needed besides: the build backend, where the project itself is
    installed without build isolation. uv's own configuration is left out, so that no index of this machine gets in.
    """
    fixed = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-config", "--quiet"]
    header = ["--custom-compile-command", "make lock"]
    command = [sys.executable, "-m", "uv", "pip", "compile", *fixed, *header, *options, "pyproject.toml", "-"]
    subprocess.run([*command, "--output-file", str(lock)], check=True, text=True, input="\n".join(also))
    sys.stdout.write(f"{lock}\n")


if __name__ == "__main__":
    sys.exit(main())
