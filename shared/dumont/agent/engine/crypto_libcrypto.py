"""AES-256-GCM through the OpenSSL library that Python's own `ssl` has loaded.

It is taken before `cryptography`, whose calls keep the interpreter's lock: with it no two threads would ever encrypt
at once, nor do anything else meanwhile. A library that does not pass a known answer is not taken.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import re
from pathlib import Path
from typing import Any

from .numpy_any import numpy

_SET_IV_LENGTH, _GET_TAG, _SET_TAG = 0x9, 0x10, 0x11
_TAG_BYTES = 16
_EMPTY_TAG = bytes.fromhex("530f8afbc74536b9a963b4f1c4cb738b")
"""The tag of nothing under a key and a nonce of zeros: test case 13 of the GCM specification."""


class Libcrypto:
    """The few functions of OpenSSL's EVP that are needed. Raises `OSError` where the library cannot do this."""

    def __init__(self, library: ctypes.CDLL) -> None:
        for name in ("EVP_CIPHER_CTX_new", "EVP_aes_256_gcm"):
            getattr(library, name).restype = ctypes.c_void_p
        for name in ("EVP_EncryptInit_ex", "EVP_DecryptInit_ex"):
            getattr(library, name).argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_char_p] * 2
        for name in ("EVP_EncryptUpdate", "EVP_DecryptUpdate"):
            getattr(library, name).argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_int]
        for name in ("EVP_EncryptFinal_ex", "EVP_DecryptFinal_ex"):
            getattr(library, name).argtypes = [ctypes.c_void_p] * 3
        library.EVP_CIPHER_CTX_ctrl.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
        library.EVP_CIPHER_CTX_free.argtypes = [ctypes.c_void_p]
        library.EVP_CIPHER_CTX_free.restype = None
        self._library: Any = library
        out = bytearray(_TAG_BYTES)
        self.encrypt(bytes(32), bytes(12), memoryview(b""), b"", memoryview(out))
        if out != _EMPTY_TAG:
            raise OSError("libcrypto does not know AES-256-GCM")

    def encrypt(self, key: bytes, nonce: bytes, plain: memoryview, bound: bytes, out: memoryview) -> None:
        """Fill `out`, 16 bytes longer than the plain bytes, with the ciphertext and its tag."""
        tag = ctypes.create_string_buffer(_TAG_BYTES)
        if not self._run("Encrypt", key, nonce, plain, bound, out, tag):
            raise OSError("libcrypto refused AES-256-GCM")
        out[len(plain) :] = tag.raw

    def decrypt(self, key: bytes, nonce: bytes, sealed: memoryview, bound: bytes, out: memoryview) -> bool:
        """Fill `out`, 16 bytes shorter than the sealed bytes; whether the tag fits."""
        if len(sealed) < _TAG_BYTES:
            return False
        tag = ctypes.create_string_buffer(bytes(sealed[-_TAG_BYTES:]), _TAG_BYTES)
        return self._run("Decrypt", key, nonce, sealed[:-_TAG_BYTES], bound, out, tag)

    def _run(
        self, way: str, key: bytes, nonce: bytes, data: memoryview, bound: bytes, out: memoryview, tag: Any
    ) -> bool:
        library = self._library
        init, update = getattr(library, f"EVP_{way}Init_ex"), getattr(library, f"EVP_{way}Update")
        if len(out) < len(data):
            raise ValueError("no room for what comes out")
        source, target = _Address(data), _Address(out)
        context = library.EVP_CIPHER_CTX_new()
        if not context:
            raise MemoryError("libcrypto")
        try:
            length = ctypes.c_int(0)
            made = ctypes.byref(length)
            fine = init(context, library.EVP_aes_256_gcm(), None, None, None) == 1
            fine = fine and library.EVP_CIPHER_CTX_ctrl(context, _SET_IV_LENGTH, len(nonce), None) == 1
            fine = fine and init(context, None, None, key, nonce) == 1
            fine = fine and (not bound or update(context, None, made, bound, len(bound)) == 1)
            fine = fine and (not len(data) or update(context, target.at, made, source.at, len(data)) == 1)
            if not fine:
                raise OSError("libcrypto refused AES-256-GCM")
            if way == "Decrypt":
                library.EVP_CIPHER_CTX_ctrl(context, _SET_TAG, _TAG_BYTES, tag)
            rest = ctypes.create_string_buffer(32)
            final: bool = getattr(library, f"EVP_{way}Final_ex")(context, rest, made) == 1
            if way == "Encrypt":
                final = final and library.EVP_CIPHER_CTX_ctrl(context, _GET_TAG, _TAG_BYTES, tag) == 1
            return final
        finally:
            library.EVP_CIPHER_CTX_free(context)


class _Address:
    """Where a buffer's bytes lie, and stay while this lives. Read-only ones are found by numpy, or copied."""

    __slots__ = ("_held", "at")

    def __init__(self, view: memoryview) -> None:
        self._held: Any
        if not len(view):
            self._held, self.at = None, 0
        elif not view.readonly:
            self._held = ctypes.c_char.from_buffer(view)
            self.at = ctypes.addressof(self._held)
        elif numpy is not None:
            self._held = numpy.frombuffer(view, "u1")
            self.at = int(self._held.ctypes.data)
        else:
            self._held = ctypes.create_string_buffer(bytes(view), len(view))
            self.at = ctypes.addressof(self._held)


@functools.lru_cache(maxsize=1)
def load_libcrypto() -> Libcrypto | None:
    """The library, or None. The one that `ssl` has loaded comes first: it is there and it fits this Python."""
    for name in _candidates():
        try:
            return Libcrypto(ctypes.CDLL(name))
        except (OSError, AttributeError):
            continue
    return None


def _candidates() -> list[str]:
    names: list[str] = []
    try:
        import ssl  # noqa: F401 - loading it is the point: its libcrypto is then mapped

        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
        names += sorted(set(re.findall(r"(/\S*libcrypto[^\s/]*)$", maps, re.MULTILINE)))
    except (ImportError, OSError):
        names = []
    return [*names, "libcrypto.so.3", "libcrypto.so.1.1", *filter(None, [ctypes.util.find_library("crypto")])]
