"""Which parts of a history are left out, when it is shrunk."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass
class Mask:
    """Names of parts ("wish 3", "weather dies", "market offline", …) that have no effect; what is drawn stays drawn."""

    dropped: frozenset[str] = frozenset()
    busy_seconds: float = math.inf
    """After so long it is calm already."""
    asked: dict[str, None] = field(default_factory=dict)
    """The parts that the history has, in the order in which it came to them."""

    def has(self, part: str) -> bool:
        """Whether a part has its effect."""
        self.asked[part] = None
        return part not in self.dropped
