"""zstd by whatever the host has: the `zstandard` wheel, Python 3.14's own module, or the system's libzstd (reading).

The system's library is what reads where it is new enough: its Huffman decoder is written in assembler, which the wheel
is built without, and a fifth faster.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import importlib
from typing import Any

from .errors import Damaged, Unsupported

try:
    import zstandard
except ImportError:
    zstandard = None  # type: ignore[assignment]

_MISSING = "this snapshot is compressed with zstd, and this host has none: install libzstd1 or the zstandard wheel"
_ASSEMBLER_SINCE = 10502


class Zstd:
    """For one thread. `writes` and `reads` say what it can, `source` through what it writes, or else reads."""

    def __init__(self) -> None:
        self._module: Any = None if zstandard is not None else _standard()
        self._native = _Native.of_host(fast_only=zstandard is not None or self._module is not None)
        if zstandard is not None:
            self.source = "zstandard"
            self._fast = zstandard.ZstdCompressor(level=1, write_content_size=True)
            # No matches are worth finding among the bytes of a plane of weights: a table of 64 places and matches of
            # 7 bytes leave the entropy coder, which is all that is wanted, 2-3 times as fast as level 1 and smaller.
            self._entropy = zstandard.ZstdCompressor(
                compression_params=zstandard.ZstdCompressionParameters(
                    strategy=zstandard.STRATEGY_FAST,
                    window_log=20,
                    hash_log=6,
                    chain_log=6,
                    search_log=1,
                    min_match=7,
                    target_length=0,
                    write_content_size=True,
                )
            )
            self._reader = zstandard.ZstdDecompressor()
        else:
            self.source = "compression.zstd" if self._module else "libzstd" if self._native else ""
        self.writes = zstandard is not None or self._module is not None
        self.reads = self.source != ""

    def compress(self, plain: memoryview, entropy_only: bool) -> bytes:
        """One zstd frame with its content's size in it."""
        if zstandard is not None:
            return (self._entropy if entropy_only else self._fast).compress(plain)
        packed: bytes = self._module.compress(plain, 1)
        return packed

    def expand(self, packed: memoryview, length: int) -> bytearray:
        """The plain bytes, `length` of them. Raises `Damaged`, or `Unsupported` where the host has no zstd."""
        out = bytearray(length)
        self.expand_into(packed, memoryview(out))
        return out

    def expand_into(self, packed: memoryview, out: memoryview) -> None:
        """Fill `out` exactly. Raises `Damaged`, or `Unsupported` where the host has no zstd."""
        if not self.reads:
            raise Unsupported(_MISSING)
        if self._native is not None:
            made = self._native.expand(packed, out)
        elif zstandard is not None:
            made = self._expand_by_wheel(packed, out)
        else:
            made = self._expand_by_module(packed, out)
        if made != len(out):
            raise Damaged("a frame does not decompress to what its manifest says")

    def _expand_by_wheel(self, packed: memoryview, out: memoryview) -> int:
        try:
            if zstandard.frame_content_size(packed) != len(out):
                return -1
            return self._reader.stream_reader(packed).readinto(out) if len(out) else 0
        except zstandard.ZstdError:
            return -1

    def _expand_by_module(self, packed: memoryview, out: memoryview) -> int:
        try:
            plain = self._module.ZstdDecompressor().decompress(bytes(packed), len(out) + 1)
        except self._module.ZstdError:
            return -1
        if len(plain) == len(out):
            out[:] = plain
        return len(plain)


class _Native:
    """The system's library, and a context of its."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._context = library.ZSTD_createDCtx()
        if not self._context:
            raise MemoryError("libzstd")

    @staticmethod
    def of_host(fast_only: bool) -> _Native | None:
        """The library, or None; `fast_only`: only where it is faster than the others."""
        library = _library()
        if library is None or (fast_only and library.ZSTD_versionNumber() < _ASSEMBLER_SINCE):
            return None
        return _Native(library)

    def __del__(self) -> None:
        self._library.ZSTD_freeDCtx(self._context)

    def expand(self, packed: memoryview, out: memoryview) -> int:
        """The bytes written to `out`, or -1. The library writes no more than `out` has room for."""
        if not len(out):
            return 0
        source: Any = bytes(packed) if packed.readonly else ctypes.byref(ctypes.c_char.from_buffer(packed))
        target = ctypes.byref(ctypes.c_char.from_buffer(out))
        made = self._library.ZSTD_decompressDCtx(self._context, target, len(out), source, len(packed))
        return -1 if self._library.ZSTD_isError(made) else int(made)


@functools.lru_cache(maxsize=1)
def _standard() -> Any:
    try:
        return importlib.import_module("compression.zstd")
    except ImportError:
        return None


@functools.lru_cache(maxsize=1)
def _library() -> Any:
    # `find_library` runs programs, so the name that it nearly always finds comes first.
    for name in ("libzstd.so.1", ""):
        try:
            library = ctypes.CDLL(name or ctypes.util.find_library("zstd") or "no libzstd")
            library.ZSTD_createDCtx.restype = ctypes.c_void_p
            library.ZSTD_freeDCtx.argtypes = [ctypes.c_void_p]
            library.ZSTD_decompressDCtx.restype = ctypes.c_size_t
            library.ZSTD_decompressDCtx.argtypes = [
                ctypes.c_void_p,
                ctypes.c_void_p,
                ctypes.c_size_t,
                ctypes.c_void_p,
                ctypes.c_size_t,
            ]
            library.ZSTD_isError.argtypes = [ctypes.c_size_t]
        except (OSError, AttributeError):
            continue
        return library
    return None
