"""numpy, or None where this host has none.

Its linear algebra is not used, and by itself it would start a thread a core that turns in circles for a while, waiting
for work: a tenth of a second of processor for each run of the engine.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

try:
    import numpy
except ImportError:
    numpy = None  # type: ignore[assignment]

__all__ = ["numpy"]
