"""The snapshot engine as one file that `python3` runs: the package as it stands, zipped the same way each time."""

from __future__ import annotations

import functools
import io
import zipfile
from pathlib import Path

_MAIN = "from engine.command import run\n\nrun()\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def wheels() -> bytes:
    """The lock of what the engine is fast with, each by its hash; without it, it runs on the standard library."""
    return (Path(__file__).parent / "wheels.txt").read_bytes()


@functools.cache
def engine() -> bytes:
    """The file's bytes. The same sources give the same bytes, so that a host keeps the one that it has."""
    folder = Path(__file__).parent / "engine"
    sources = {"__main__.py": _MAIN.encode()}
    sources |= {f"engine/{path.name}": path.read_bytes() for path in sorted(folder.glob("*.py"))}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(sources.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return out.getvalue()
