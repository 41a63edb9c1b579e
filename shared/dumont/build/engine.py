"""`engine.pyz`: the snapshot engine as one file for rented machines, the same bytes from the same sources.

Each host gets it over SSH and runs it with its own Python. `wheels` is what it installs beside it for speed, each by
its hash; without them the engine runs on the standard library.
"""

from __future__ import annotations

import hashlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from dumont.agent import archive

NAME = "engine.pyz"
LOCK = Path(archive.__file__).with_name("wheels.txt")


@dataclass(frozen=True, kw_only=True)
class EngineArchive:
    """The archive on disk."""

    path: Path
    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """One pinned distribution: what pip is given, and the SHA-256s that its files may have."""

    requirement: str
    sha256: tuple[str, ...]


def build(out: Path) -> EngineArchive:
    """Write `engine.pyz` into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / NAME
    content = archive.engine()
    path.write_bytes(content)
    return EngineArchive(path=path, sha256=hashlib.sha256(content).hexdigest(), size=len(content))


def wheels(lock: Path = LOCK) -> list[Wheel]:
    """What the lock pins, in its order. Raises `FileNotFoundError`, or `ValueError` where something is not pinned."""
    text = lock.read_text(encoding="utf-8").replace("\\\n", " ")
    found = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        requirement = line.partition("--hash")[0].strip()
        hashes = tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
        if "==" not in requirement or not hashes:
            raise ValueError(f"{lock.name}: {requirement or line} is not pinned by version and hash")
        found.append(Wheel(requirement=requirement, sha256=hashes))
    return found


def main() -> int:
    """Build into build/agent below the current folder and say what came out."""
    made = build(Path("build/agent"))
    sys.stdout.write(f"{made.path}  {made.size / 1024:.0f} KiB  sha256 {made.sha256}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
