"""How a frame's plain bytes are stored: raw, zstd, zlib, or as two byte planes, each raw or compressed.

16-bit float weights look random to a compressor, byte by byte; split in planes, the high bytes (sign and exponent)
of Gaussian bf16 shrink to a third and the low bytes, which do not shrink, are kept as they are: 0.67 in all. What a
plane or a frame does not gain at least 3 % by stays raw, decided on a sample.

zlib is what a host without zstandard writes; every host reads it. zstd is read through `zstandard`, Python's own
`compression.zstd` (3.14) or the system's libzstd (Debian and Ubuntu images have it: dpkg needs it).
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

from .errors import Damaged
from .numpy_any import numpy
from .planes import Planes, sizes
from .zstd_any import Zstd

RAW, ZSTD, ZLIB, PLANES = 0, 1, 2, 3
"""A frame's codec, as manifests name it."""

ANY, HALF = 0, 1
"""What a chunk holds, as far as is known: anything, or 16-bit numbers from its first byte on."""

FRAME_BYTES_MAX = 4 * 1024 * 1024
"""The longest plain frame; a manifest that names a longer one is refused before memory is taken for it."""

_PLANES = struct.Struct(">BBI")
_SAMPLE = 16 * 1024
_GAIN = 0.97


class Codec:
    """Encodes and decodes frames, for one thread: it owns its buffers, and what it returns is valid until next used."""

    def __init__(self) -> None:
        self._zstd = Zstd()
        self._planes = Planes()
        self._out = bytearray()
        self._spare = bytearray()

    def encode(self, plain: memoryview, holds: int) -> tuple[int, memoryview]:
        """The codec taken and the bytes to store."""
        if holds == HALF or (holds == ANY and self._looks_half(plain)):
            return PLANES, self._encode_planes(plain)
        if self._pays(plain):
            how, packed = self._compress(plain)
            if len(packed) < len(plain) * _GAIN:
                return how, memoryview(packed)
        return RAW, plain

    def decode(self, how: int, stored: memoryview, length: int) -> memoryview:
        """The plain bytes, `length` of them. Raises `Damaged` or `Unsupported`."""
        if how == RAW:
            if len(stored) != length:
                raise Damaged("a frame has another length than its manifest says")
            return stored
        self._make_room(length)
        plain = memoryview(self._out)[:length]
        if how == PLANES:
            self._decode_planes(stored, plain)
        else:
            self._expand(how, stored, plain)
        return plain

    def _compress(self, plain: memoryview, entropy_only: bool = False) -> tuple[int, bytes]:
        if self._zstd.writes:
            return ZSTD, self._zstd.compress(plain, entropy_only)
        if entropy_only:
            packer = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_HUFFMAN_ONLY)
            return ZLIB, packer.compress(plain) + packer.flush()
        return ZLIB, zlib.compress(plain, 1)

    def _expand(self, how: int, stored: memoryview, out: memoryview) -> None:
        if how == ZSTD:
            self._zstd.expand_into(stored, out)
            return
        if how != ZLIB:
            raise Damaged("a frame names no codec that exists")
        try:
            # Bounded, so that a crafted frame cannot fill the memory.
            plain = zlib.decompressobj().decompress(stored, len(out) + 1)
        except zlib.error:
            raise Damaged("a frame does not decompress") from None
        if len(plain) != len(out):
            raise Damaged("a frame has another length than its manifest says")
        out[:] = plain

    def _pays(self, plain: memoryview, entropy_only: bool = False) -> bool:
        """Whether samples from the start, middle and end compress."""
        part = _SAMPLE // 4 if entropy_only else _SAMPLE
        if len(plain) <= 4 * part:
            return len(plain) > 64
        half = len(plain) // 2
        sample = b"".join((plain[:part], plain[half : half + part], plain[-part:]))
        return len(self._compress(memoryview(sample), entropy_only)[1]) < len(sample) * _GAIN

    def _looks_half(self, plain: memoryview) -> bool:
        """Whether planes serve a chunk of unknown kind better than plain compression: other weight formats do."""
        if len(plain) < 16 * _SAMPLE:
            return False
        sample = bytes(plain[len(plain) // 2 :][: 2 * _SAMPLE])
        whole = len(self._compress(memoryview(sample))[1])
        planes = sum(min(len(self._compress(memoryview(sample[at::2]))[1]), _SAMPLE) for at in (0, 1))
        return planes < 0.9 * whole and planes < 0.9 * len(sample)

    def _make_room(self, length: int) -> None:
        if len(self._out) < length + _PLANES.size + 64:
            self._out = bytearray(length + _PLANES.size + 64)
            self._spare = bytearray(length + 64)

    def _encode_planes(self, plain: memoryview) -> memoryview:
        low_length, high_length = sizes(len(plain))
        self._make_room(len(plain))
        out, spare = memoryview(self._out), memoryview(self._spare)
        low, high = spare[:low_length], spare[low_length : low_length + high_length]
        self._planes.split(plain, low, high)
        at = _PLANES.size
        methods, lengths = [], []
        for plane in (low, high):
            how, packed = RAW, plane
            if self._pays(plane, entropy_only=True):
                how, shorter = self._compress(plane, entropy_only=True)
                if len(shorter) < len(plane) * _GAIN:
                    packed = memoryview(shorter)
                else:
                    how = RAW
            out[at : at + len(packed)] = packed
            at += len(packed)
            methods.append(how)
            lengths.append(len(packed))
        _PLANES.pack_into(out, 0, methods[0], methods[1], lengths[0])
        return out[:at]

    def _decode_planes(self, stored: memoryview, plain: memoryview) -> None:
        if len(stored) < _PLANES.size:
            raise Damaged("a frame is cut short")
        low_how, high_how, cut = _PLANES.unpack_from(stored)
        body = stored[_PLANES.size :]
        low_length, high_length = sizes(len(plain))
        low = self._plane(low_how, body[:cut], memoryview(self._spare)[:low_length])
        high = self._plane(high_how, body[cut:], memoryview(self._spare)[low_length : low_length + high_length])
        self._planes.join(low, high, plain)

    def _plane(self, how: int, packed: memoryview, space: memoryview) -> memoryview:
        if how != RAW:
            self._expand(how, packed, space)
            return space
        if len(packed) != len(space):
            raise Damaged("a frame has another length than its manifest says")
        return packed


def can_read(how: int) -> bool:
    """Whether this host can decode frames of that codec (planes may hold zstd)."""
    return how not in (ZSTD, PLANES) or Zstd().reads


def described() -> dict[str, Any]:
    """What this host has, for a result or a log."""
    return {"zstd": Zstd().source, "numpy": numpy is not None}
