"""Time and randomness from the operating system."""

from __future__ import annotations

import base64
import secrets
import time

_ID_CHARACTERS = 20
_ID_BYTES = 13  # 104 random bits give 21 base32 characters, of which 20 are kept: 100 bits that nobody can guess


class SystemClock:
    """`dumont.ports.Clock` by the machine's own clock."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait; not at all for a negative number."""
        time.sleep(max(0.0, seconds))


class SystemIds:
    """`dumont.ports.Ids` by the operating system's random numbers."""

    def new(self, prefix: str) -> str:
        """The prefix, a hyphen and 20 characters of a–z and 2–7 (base32)."""
        text = base64.b32encode(secrets.token_bytes(_ID_BYTES)).decode().lower()
        return f"{prefix}-{text[:_ID_CHARACTERS]}"

    def random_bytes(self, count: int) -> bytes:
        """Bytes that nobody can guess."""
        return secrets.token_bytes(count)
