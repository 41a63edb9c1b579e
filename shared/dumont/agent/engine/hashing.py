"""Hashes of chunks and files, keyed for one machine, so that nobody can ask the store "who has this file?".

- A chunk's hash: keyed BLAKE3 of its plain bytes, 32 bytes.
- A file's digest: the same hash over its size and each chunk's place, length and hash: a tree of height two, so that
  one changed chunk in 13 GB costs one chunk. A file's MD5 (plain, as md5sum shows it) stands beside it.

Where the blake3 wheel is missing, snapshots are made with keyed BLAKE2b (the standard library's) and say so in their
manifest. To read a BLAKE3 snapshot there, a BLAKE3 in pure Python exists (about 0.5 MB/s): it is used up to
`PURE_BLAKE3_BYTES_MAX`; above, AES-GCM's tag, which binds each frame to the data key, its pack and its place, is what
content is checked by, and results say `verified_by: tag`.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
import sys
from collections.abc import Iterable, Iterator

from .blake3_pure import blake3_keyed

try:
    from blake3 import blake3 as _blake3
except ImportError:
    _blake3 = None  # type: ignore[assignment,misc]

BLAKE3 = "blake3"
BLAKE2B = "blake2b"
PURE_BLAKE3_BYTES_MAX = 8 * 1024 * 1024

_PLACE = struct.Struct(">QQ")


def native_hash() -> str:
    """The hash that snapshots made on this host use."""
    return BLAKE3 if _blake3 is not None else BLAKE2B


def is_fast(name: str) -> bool:
    """Whether this host computes the hash in native code."""
    return name == BLAKE2B or _blake3 is not None


def new_md5(data: bytes | bytearray | memoryview = b"") -> hashlib._Hash:
    """MD5 as md5sum and stores' listings show it. Where OpenSSL is in FIPS mode it must be told that nothing is proved
    by it; Python 3.8 cannot tell.
    """
    if sys.version_info >= (3, 9):
        return hashlib.md5(data, usedforsecurity=False)
    return hashlib.md5(data)  # noqa: S324 - see above


def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 (RFC 5869), 32 bytes."""
    extracted = hmac.new(salt or bytes(32), key, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


class Hasher:
    """Chunk hashes and file digests of one machine."""

    def __init__(self, name: str, data_key: bytes, machine: str) -> None:
        self.name = name
        self._chunk_key = hkdf(data_key, b"", b"dumont chunk hash v1|" + machine.encode())
        self._file_key = hkdf(data_key, b"", b"dumont file digest v1|" + machine.encode())

    def chunk(self, data: bytes | bytearray | memoryview) -> bytes:
        """The hash of a chunk's plain bytes."""
        return self._keyed(self._chunk_key, data)

    def file(self, size: int, chunks: Iterable[tuple[int, int, bytes]]) -> bytes:
        """The digest of a file: its size in bytes, and (offset, length, hash) of each chunk in order of offset."""
        parts = [_PLACE.pack(size, 0)]
        for offset, length, digest in chunks:
            parts.append(_PLACE.pack(offset, length))
            parts.append(digest)
        return self._keyed(self._file_key, b"".join(parts))

    def _keyed(self, key: bytes, data: bytes | bytearray | memoryview) -> bytes:
        if self.name == BLAKE2B:
            return hashlib.blake2b(data, digest_size=32, key=key).digest()
        if _blake3 is not None:
            return _blake3(data, key=key).digest()
        return blake3_keyed(key, bytes(data))


def split(hashes: bytes) -> Iterator[bytes]:
    """The 32-byte hashes of a run of them."""
    for start in range(0, len(hashes), 32):
        yield hashes[start : start + 32]
