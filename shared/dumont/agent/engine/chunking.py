"""Where files are cut. The same content is cut at the same places wherever it stands in a file.

- safetensors: at each tensor's start, then every MiB within it; the header names tensors and their types.
- other files above 1 MiB: at places that the content chooses (a hash of the 8 bytes there is small), 512 KiB to 2 MiB
  apart; so an insertion changes the chunks around it alone. Computed by numpy at about 1 GB/s; a host without numpy
  cuts every MiB, which restores as well and deduplicates worse.
- files up to 1 MiB: one chunk.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator

from .codec import ANY, HALF
from .numpy_any import numpy

CHUNK = 1024 * 1024
SMALL_FILE_MAX = CHUNK
"""A file up to this size is one chunk."""
CUT_MIN, CUT_MAX = 512 * 1024, 2 * 1024 * 1024

_BLOCK = 64 * 1024
_WINDOW = 8
_MULTIPLIER = 0x9E3779B97F4A7C15
_BOUND = 1 << (64 - 19)  # one place in 512 KiB, beyond the smallest length
_HEADER_MAX = 100 * 1024 * 1024
_HALF_TYPES = {"BF16", "F16", "I16", "U16"}


def cuts_by_content() -> bool:
    """Whether this host finds cuts in the content."""
    return numpy is not None


def even_pieces(start: int, end: int, holds: int = ANY) -> Iterator[tuple[int, int, int]]:
    """(offset, length, holds) of every MiB."""
    for offset in range(start, end, CHUNK):
        yield offset, min(CHUNK, end - offset), holds


def tensor_pieces(descriptor: int, size: int) -> list[tuple[int, int, int]] | None:
    """The pieces of a safetensors file, or None if it is not one (its name says nothing, its header all)."""
    head = os.pread(descriptor, 9, 0)
    if len(head) < 9 or head[8:9] != b"{":
        return None
    (length,) = struct.unpack_from("<Q", head)
    start = 8 + length
    if not 2 <= length <= min(_HEADER_MAX, size - 8):
        return None
    try:
        header = json.loads(os.pread(descriptor, length, 8))
        tensors = sorted(
            (int(item["data_offsets"][0]), int(item["data_offsets"][1]), str(item["dtype"]))
            for name, item in header.items()
            if name != "__metadata__"
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None
    pieces = list(even_pieces(0, start))
    at = 0
    for begin, end, kind in tensors:
        if begin != at or end < begin or start + end > size:
            return None  # gaps or overlaps: not what it says it is, so the content decides
        pieces += even_pieces(start + begin, start + end, HALF if kind in _HALF_TYPES else ANY)
        at = end
    pieces += even_pieces(start + at, size)
    return pieces


class Cutter:
    """Finds cuts; it keeps its buffers, so one for each thread."""

    def __init__(self) -> None:
        places = _BLOCK // _WINDOW
        self._products = numpy.empty(places, dtype="<u8")
        self._hits = numpy.empty(places, dtype=bool)

    def cut(self, data: memoryview) -> int:
        """The length of the first chunk of data, which is the file's rest or at least `CUT_MAX` bytes of it."""
        end = min(len(data), CUT_MAX)
        if end <= CUT_MIN:
            return end
        for start in range(CUT_MIN, end, _BLOCK):
            found = self._first(data, start, min(start + _BLOCK, end))
            if found:
                return found
        return end

    def _first(self, data: memoryview, start: int, end: int) -> int:
        """The first cut in [start, end), or 0: a place whose 8 bytes before it hash to a small number."""
        best = 0
        for shift in range(_WINDOW):
            begin = start - _WINDOW + shift
            places = (end - start - shift + _WINDOW - 1) // _WINDOW
            if places <= 0:
                continue
            words = numpy.frombuffer(data, dtype="<u8", count=places, offset=begin)
            products, hits = self._products[:places], self._hits[:places]
            numpy.multiply(words, numpy.uint64(_MULTIPLIER), out=products)
            numpy.less(products, numpy.uint64(_BOUND), out=hits)
            first = int(hits.argmax())
            if hits[first]:
                place = start + shift + first * _WINDOW
                best = min(best, place) if best else place
        return best
