"""AES-256-GCM for frames and manifests, by the best that the host has: libcrypto, `cryptography`, pure Python.

Keys: each pack has a key of its own, HKDF(data key, pack id); a frame's nonce is its number in the pack, so no nonce
is ever used twice under one key: a pack id is 16 random bytes, and a pack is written once. The associated data binds
a frame to its pack and number, a manifest to its machine and snapshot: none can be put in another's place.
"""

from __future__ import annotations

import struct
from typing import Any

from . import crypto_pure
from .crypto_libcrypto import load_libcrypto
from .errors import Damaged
from .hashing import hkdf

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
except ImportError:
    AESGCM = None  # type: ignore[assignment,misc]

TAG_BYTES = 16
NONCE_BYTES = 12
_FRAME = struct.Struct(">12s16sI")


class FrameCipher:
    """Encrypts and decrypts the frames of one pack. Safe to use from several threads at once."""

    def __init__(self, data_key: bytes, pack_id: bytes) -> None:
        self._pack_id = pack_id
        self._aead = Aead(hkdf(data_key, pack_id, b"dumont pack v1"))

    def encrypt(self, number: int, plain: memoryview, out: memoryview) -> None:
        """Write the frame's ciphertext and tag to `out`, which is `TAG_BYTES` longer than the plain bytes."""
        self._aead.encrypt(_nonce(number), plain, self._bound(number), out)

    def decrypt(self, number: int, sealed: memoryview, out: memoryview) -> None:
        """Write the plain bytes to `out`. Raises `Damaged`; then what `out` holds is not to be used."""
        self._aead.decrypt(_nonce(number), sealed, self._bound(number), out)

    def _bound(self, number: int) -> bytes:
        return _FRAME.pack(b"dumont frame", self._pack_id, number)


def manifest_cipher(data_key: bytes, machine: str, snapshot_id: str) -> Aead:
    """What encrypts one snapshot's manifest."""
    return Aead(hkdf(data_key, snapshot_id.encode(), b"dumont manifest v1|" + machine.encode()))


class Aead:
    """AES-256-GCM under one key, into buffers of the caller's."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._library = load_libcrypto()
        self._wheel: Any = AESGCM(key) if self._library is None and AESGCM is not None else None

    def encrypt(self, nonce: bytes, plain: memoryview, bound: bytes, out: memoryview) -> None:
        """Fill `out` (len(plain) + 16 bytes) with ciphertext and tag."""
        if self._library is not None:
            self._library.encrypt(self._key, nonce, plain, bound, out)
        elif self._wheel is not None:
            out[:] = self._wheel.encrypt(nonce, plain, bound)
        else:
            out[:] = crypto_pure.encrypt(self._key, nonce, bytes(plain), bound)

    def decrypt(self, nonce: bytes, sealed: memoryview, bound: bytes, out: memoryview) -> None:
        """Fill `out` (len(sealed) - 16 bytes) with the plain bytes. Raises `Damaged`."""
        if self._library is not None:
            fits = self._library.decrypt(self._key, nonce, sealed, bound, out)
        else:
            opened = self._open(nonce, sealed, bound)
            fits = opened is not None
            if opened is not None:
                out[:] = opened
        if not fits:
            raise Damaged("the content is not what was stored")

    def _open(self, nonce: bytes, sealed: memoryview, bound: bytes) -> bytes | None:
        if self._wheel is None:
            return crypto_pure.decrypt(self._key, nonce, bytes(sealed), bound)
        try:
            opened: bytes = self._wheel.decrypt(nonce, sealed, bound)
        except InvalidTag:
            return None
        return opened


def _nonce(number: int) -> bytes:
    return number.to_bytes(NONCE_BYTES, "big")
