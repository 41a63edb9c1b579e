"""What is raised where an invariant does not hold."""

from __future__ import annotations


class Broken(AssertionError):
    """An invariant does not hold; the message names it."""
