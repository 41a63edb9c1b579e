"""Seeds that nobody has run before: drawn from the code."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import dumont


def first_seed() -> int:
    """As asked for; else drawn from the code itself: each change meets fresh seeds, and each run of a version the same,
    so that what fails in one place fails in all."""
    asked = os.environ.get("SIMULATION_FIRST_SEED")
    if asked:
        return int(asked)
    digest = hashlib.sha256()
    for folder in (Path(dumont.__file__).parent, Path(__file__).parent):
        for file in sorted(folder.rglob("*.py")):
            digest.update(file.read_bytes())
    return int(digest.hexdigest()[:7], 16)
