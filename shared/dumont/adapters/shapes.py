"""Types made ready for msgspec, one at a time.

msgspec 0.22 reads a struct's annotations when it first meets the struct, and runs Python while it does so: a second
thread that meets the same struct in that moment finds it half read, and the process dies of a segmentation fault (36 of
40 times with 16 threads that read five kinds of records; never once each was made ready here). A function host that
starts while agents report does just that.
"""

from __future__ import annotations

import threading
from typing import TypeVar

import msgspec

T = TypeVar("T")

_turn = threading.Lock()
_ready: set[object] = set()


def ready(shape: type[T]) -> type[T]:
    """The shape itself, safe to be decoded or converted to by any thread from now on."""
    if shape not in _ready:
        with _turn:
            msgspec.json.Decoder(shape)  # reads the shape and all that is nested in it
            _ready.add(shape)
    return shape
