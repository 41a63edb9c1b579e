"""zstd by whatever the host has: the `zstandard` wheel, Python 3.14's own module, or the system's libzstd (reading)."""

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


class Zstd:
    """For one thread. `writes` and `reads` say what it can, `source` through what."""

    def __init__(self) -> None:
        self._module: Any = None
        self._library: Any = None
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
            self._module = _standard()
            self._library = None if self._module else _library()
            self.source = "compression.zstd" if self._module else "libzstd" if self._library else ""
        self.writes = zstandard is not None or self._module is not None
        self.reads = self.source != ""

    def compress(self, plain: memoryview, entropy_only: bool) -> bytes:
        """One zstd frame with its content's size in it."""
        if zstandard is not None:
            return (self._entropy if entropy_only else self._fast).compress(plain)
        packed: bytes = self._module.compress(plain, 1)
        return packed

    def expand(self, packed: memoryview, length: int) -> bytes:
        """At most `length` plain bytes. Raises `Damaged`, or `Unsupported` where the host has no zstd."""
        if zstandard is not None:
            # The frame's own word of its size decides how much is allocated: it must be what the manifest says.
            try:
                if zstandard.frame_content_size(packed) != length:
                    raise Damaged("a frame has another length than its manifest says")
                return self._reader.decompress(packed, max_output_size=length)
            except zstandard.ZstdError:
                raise Damaged("a frame does not decompress") from None
        if self._module is not None:
            try:
                plain: bytes = self._module.ZstdDecompressor().decompress(bytes(packed), length)
            except self._module.ZstdError:
                raise Damaged("a frame does not decompress") from None
            return plain
        if self._library is None:
            raise Unsupported(_MISSING)
        out = ctypes.create_string_buffer(max(length, 1))
        source = bytes(packed)
        made = self._library.ZSTD_decompress(out, length, source, len(source))
        if self._library.ZSTD_isError(made) or made != length:
            raise Damaged("a frame does not decompress")
        return out.raw[:length]


@functools.lru_cache(maxsize=1)
def _standard() -> Any:
    try:
        return importlib.import_module("compression.zstd")
    except ImportError:
        return None


@functools.lru_cache(maxsize=1)
def _library() -> Any:
    for name in (ctypes.util.find_library("zstd"), "libzstd.so.1"):
        if not name:
            continue
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.ZSTD_decompress.restype = ctypes.c_size_t
        library.ZSTD_decompress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
        library.ZSTD_isError.argtypes = [ctypes.c_size_t]
        return library
    return None
