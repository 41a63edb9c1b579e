"""AES-256-GCM through the OpenSSL library that Python's own `ssl` has loaded, where `cryptography` is missing."""

from __future__ import annotations

import ctypes
import ctypes.util
import re
from pathlib import Path
from typing import Any

_SET_IV_LENGTH, _GET_TAG, _SET_TAG = 0x9, 0x10, 0x11


class Libcrypto:
    """The few functions of OpenSSL's EVP that are needed."""

    def __init__(self, library: ctypes.CDLL) -> None:
        for name in ("EVP_CIPHER_CTX_new", "EVP_aes_256_gcm"):
            getattr(library, name).restype = ctypes.c_void_p
        for name in ("EVP_EncryptInit_ex", "EVP_DecryptInit_ex"):
            getattr(library, name).argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_char_p] * 2
        for name in ("EVP_EncryptUpdate", "EVP_DecryptUpdate"):
            getattr(library, name).argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_char_p, ctypes.c_int]
        for name in ("EVP_EncryptFinal_ex", "EVP_DecryptFinal_ex"):
            getattr(library, name).argtypes = [ctypes.c_void_p] * 3
        library.EVP_CIPHER_CTX_ctrl.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
        library.EVP_CIPHER_CTX_free.argtypes = [ctypes.c_void_p]
        library.EVP_CIPHER_CTX_free.restype = None
        self._library: Any = library

    def encrypt(self, key: bytes, nonce: bytes, plain: bytes, bound: bytes) -> bytes:
        """The ciphertext and its tag."""
        out, tag = self._run("Encrypt", key, nonce, plain, bound, None)
        return out + tag

    def decrypt(self, key: bytes, nonce: bytes, sealed: bytes, bound: bytes) -> bytes | None:
        """The plain bytes, or None where the tag does not fit."""
        if len(sealed) < 16:
            return None
        out, tag = self._run("Decrypt", key, nonce, sealed[:-16], bound, sealed[-16:])
        return out if tag else None

    def _run(
        self, way: str, key: bytes, nonce: bytes, data: bytes, bound: bytes, tag: bytes | None
    ) -> tuple[bytes, bytes]:
        library = self._library
        init, update = getattr(library, f"EVP_{way}Init_ex"), getattr(library, f"EVP_{way}Update")
        context = library.EVP_CIPHER_CTX_new()
        if not context:
            raise MemoryError("libcrypto")
        try:
            out = ctypes.create_string_buffer(len(data) + 32)
            length = ctypes.c_int(0)
            fine = init(context, library.EVP_aes_256_gcm(), None, None, None) == 1
            fine = fine and library.EVP_CIPHER_CTX_ctrl(context, _SET_IV_LENGTH, len(nonce), None) == 1
            fine = fine and init(context, None, None, key, nonce) == 1
            fine = fine and update(context, None, ctypes.byref(length), bound, len(bound)) == 1
            fine = fine and update(context, out, ctypes.byref(length), data, len(data)) == 1
            if not fine:
                raise OSError("libcrypto refused AES-256-GCM")
            if tag is not None:
                expected = ctypes.create_string_buffer(tag, 16)
                library.EVP_CIPHER_CTX_ctrl(context, _SET_TAG, 16, expected)
            rest = ctypes.create_string_buffer(32)
            final = getattr(library, f"EVP_{way}Final_ex")(context, rest, ctypes.byref(length))
            if tag is not None:
                return out.raw[: len(data)], tag if final == 1 else b""
            made = ctypes.create_string_buffer(16)
            if final != 1 or library.EVP_CIPHER_CTX_ctrl(context, _GET_TAG, 16, made) != 1:
                raise OSError("libcrypto refused AES-256-GCM")
            return out.raw[: len(data)], made.raw
        finally:
            library.EVP_CIPHER_CTX_free(context)


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
    found = ctypes.util.find_library("crypto")
    return [*names, *([found] if found else []), "libcrypto.so.3", "libcrypto.so.1.1"]
