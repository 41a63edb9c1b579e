"""Keyed BLAKE3 in pure Python, after the reference implementation of its specification. Slow; see `hashing`."""

from __future__ import annotations

import struct

_IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A)
_ORDER = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
_CHUNK_START, _CHUNK_END, _PARENT, _ROOT, _KEYED = 1, 2, 4, 8, 16
_BLOCK, _CHUNK = 64, 1024
_MASK = 0xFFFFFFFF
_QUARTERS = (
    (0, 4, 8, 12),
    (1, 5, 9, 13),
    (2, 6, 10, 14),
    (3, 7, 11, 15),
    (0, 5, 10, 15),
    (1, 6, 11, 12),
    (2, 7, 8, 13),
    (3, 4, 9, 14),
)


def _schedule() -> tuple[tuple[int, ...], ...]:
    rounds = [tuple(range(16))]
    while len(rounds) < 7:
        rounds.append(tuple(rounds[-1][index] for index in _ORDER))
    return tuple(rounds)


_SCHEDULE = _schedule()


def _compress(value: tuple[int, ...], block: bytes, counter: int, length: int, flags: int) -> tuple[int, ...]:
    words = struct.unpack("<16I", block)
    state = [*value, *_IV, counter & _MASK, counter >> 32, length, flags]
    for order in _SCHEDULE:
        for step, (ia, ib, ic, id_) in enumerate(_QUARTERS):
            a, b, c, d = state[ia], state[ib], state[ic], state[id_]
            a = (a + b + words[order[2 * step]]) & _MASK
            d ^= a
            d = (d >> 16) | ((d << 16) & _MASK)
            c = (c + d) & _MASK
            b ^= c
            b = (b >> 12) | ((b << 20) & _MASK)
            a = (a + b + words[order[2 * step + 1]]) & _MASK
            d ^= a
            d = (d >> 8) | ((d << 24) & _MASK)
            c = (c + d) & _MASK
            b ^= c
            b = (b >> 7) | ((b << 25) & _MASK)
            state[ia], state[ib], state[ic], state[id_] = a, b, c, d
    return tuple(state[index] ^ state[index + 8] for index in range(8))


def blake3_keyed(key: bytes, data: bytes) -> bytes:
    """The 32-byte keyed BLAKE3 of the data; the key is 32 bytes."""
    words = struct.unpack("<8I", key)
    chunks = [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)] or [b""]
    if len(chunks) == 1:
        return struct.pack("<8I", *_chunk(words, chunks[0], 0, _ROOT))
    level = [_chunk(words, chunk, index, 0) for index, chunk in enumerate(chunks)]
    while len(level) > 1:
        root = _ROOT if len(level) == 2 else 0
        above = [
            _compress(words, struct.pack("<16I", *level[index], *level[index + 1]), 0, _BLOCK, _PARENT | _KEYED | root)
            for index in range(0, len(level) - 1, 2)
        ]
        # An odd last node goes up as it is: the left tree is then the largest power of two, as the format demands.
        level = above + level[len(level) - len(level) % 2 :]
    return struct.pack("<8I", *level[0])


def _chunk(key: tuple[int, ...], chunk: bytes, counter: int, root: int) -> tuple[int, ...]:
    value = key
    blocks = [chunk[start : start + _BLOCK] for start in range(0, len(chunk), _BLOCK)] or [b""]
    for index, block in enumerate(blocks):
        flags = _KEYED | (_CHUNK_START if index == 0 else 0)
        if index == len(blocks) - 1:
            flags |= _CHUNK_END | root
        value = _compress(value, block.ljust(_BLOCK, b"\0"), counter, len(block), flags)
    return value
