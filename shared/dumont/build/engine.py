"""`engine.pyz`: the snapshot engine as one file for rented machines, the same bytes from the same sources.

The agent fetches it, checks its SHA-256 and runs it with the host's own Python. `wheels` is what it may install beside
The agent fetches it, checks its SHA-256, runs it with the host's own Python. `wheels` is what it may install beside
"""

from __future__ import annotations

import hashlib
import re
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "agent" / "engine"
NAME = "engine.pyz"
LOCK = Path(__file__).with_name("engine.txt")
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can hold."""
_START = "import sys\n\nfrom engine.command import main\n\nsys.exit(main())\n"


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
    files = {f"engine/{source.name}": source.read_bytes() for source in SOURCE.glob("*.py")}
    files["__main__.py"] = _START.encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, date_time=EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, whichever system builds
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content, compresslevel=9)
    content = path.read_bytes()
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
