"""AES-256-GCM in pure Python (NIST SP 800-38D), for a host with neither `cryptography` nor libcrypto.

Some 100 KB/s: a last resort that makes a small workspace restorable anywhere. Not hardened against timing: the host
that runs it holds the key and the data in memory anyway.
"""

from __future__ import annotations

import hmac
import struct


def _sbox() -> list[int]:
    box, p, q = [0] * 256, 1, 1
    while True:
        p = p ^ ((p << 1) & 0xFF) ^ (0x1B if p & 0x80 else 0)
        for shift in (1, 2, 4):
            q ^= (q << shift) & 0xFF
        if q & 0x80:
            q ^= 0x09
        turned = q
        for shift in (1, 2, 3, 4):
            turned ^= ((q << shift) | (q >> (8 - shift))) & 0xFF
        box[p] = turned ^ 0x63
        if p == 1:
            break
    box[0] = 0x63
    return box


_S = _sbox()


def _table() -> list[int]:
    words = []
    for value in _S:
        double = ((value << 1) ^ (0x1B if value & 0x80 else 0)) & 0xFF
        words.append((double << 24) | (value << 16) | (value << 8) | (double ^ value))
    return words


_T0 = _table()
_T1 = [((word >> 8) | (word << 24)) & 0xFFFFFFFF for word in _T0]
_T2 = [((word >> 16) | (word << 16)) & 0xFFFFFFFF for word in _T0]
_T3 = [((word >> 24) | (word << 8)) & 0xFFFFFFFF for word in _T0]
_WORDS = struct.Struct(">4I")


def _expand(key: bytes) -> list[int]:
    words = list(struct.unpack(">8I", key))
    constant = 1
    while len(words) < 60:
        last = words[-1]
        if len(words) % 8 == 0:
            last = ((last << 8) | (last >> 24)) & 0xFFFFFFFF
        if len(words) % 4 == 0:
            last = (
                (_S[last >> 24] << 24)
                | (_S[(last >> 16) & 0xFF] << 16)
                | (_S[(last >> 8) & 0xFF] << 8)
                | _S[last & 0xFF]
            )
        if len(words) % 8 == 0:
            last ^= constant << 24
            constant <<= 1
        words.append(words[-8] ^ last)
    return words


def _block(keys: list[int], block: bytes) -> bytes:
    a, b, c, d = (word ^ key for word, key in zip(_WORDS.unpack(block), keys))  # noqa: B905 - Python 3.8
    for at in range(4, 56, 4):
        a, b, c, d = (
            _T0[a >> 24] ^ _T1[(b >> 16) & 255] ^ _T2[(c >> 8) & 255] ^ _T3[d & 255] ^ keys[at],
            _T0[b >> 24] ^ _T1[(c >> 16) & 255] ^ _T2[(d >> 8) & 255] ^ _T3[a & 255] ^ keys[at + 1],
            _T0[c >> 24] ^ _T1[(d >> 16) & 255] ^ _T2[(a >> 8) & 255] ^ _T3[b & 255] ^ keys[at + 2],
            _T0[d >> 24] ^ _T1[(a >> 16) & 255] ^ _T2[(b >> 8) & 255] ^ _T3[c & 255] ^ keys[at + 3],
        )
    rows = ((a, b, c, d), (b, c, d, a), (c, d, a, b), (d, a, b, c))
    return _WORDS.pack(
        *(
            ((_S[w >> 24] << 24) | (_S[(x >> 16) & 255] << 16) | (_S[(y >> 8) & 255] << 8) | _S[z & 255]) ^ keys[56 + i]
            for i, (w, x, y, z) in enumerate(rows)
        )
    )


def _counted(keys: list[int], nonce: bytes, data: bytes) -> bytes:
    """CTR mode from counter 2."""
    blocks = (len(data) + 15) // 16
    stream = b"".join(_block(keys, nonce + struct.pack(">I", 2 + index)) for index in range(blocks))
    mixed = int.from_bytes(stream[: len(data)], "big") ^ int.from_bytes(data, "big")
    return mixed.to_bytes(len(data), "big")


def _shifted(h: int) -> list[list[int]]:
    """Products of H with each byte at each of the 16 places."""
    powers, value = [], h
    for _ in range(128):
        powers.append(value)
        value = (value >> 1) ^ (0xE1 << 120 if value & 1 else 0)
    tables = []
    for place in range(16):
        row = [0] * 256
        for byte in range(256):
            for bit in range(8):
                if byte & (0x80 >> bit):
                    row[byte] ^= powers[8 * place + bit]
        tables.append(row)
    return tables


def _tag(keys: list[int], nonce: bytes, sealed: bytes, bound: bytes) -> bytes:
    tables = _shifted(int.from_bytes(_block(keys, bytes(16)), "big"))
    padded = bound + bytes(-len(bound) % 16) + sealed + bytes(-len(sealed) % 16)
    padded += struct.pack(">QQ", 8 * len(bound), 8 * len(sealed))
    value = 0
    for start in range(0, len(padded), 16):
        value ^= int.from_bytes(padded[start : start + 16], "big")
        product = 0
        for place, byte in enumerate(value.to_bytes(16, "big")):
            product ^= tables[place][byte]
        value = product
    mask = _block(keys, nonce + b"\0\0\0\1")
    return (value ^ int.from_bytes(mask, "big")).to_bytes(16, "big")


def encrypt(key: bytes, nonce: bytes, plain: bytes, bound: bytes) -> bytes:
    """The ciphertext and its 16-byte tag; the key is 32 bytes, the nonce 12."""
    keys = _expand(key)
    sealed = _counted(keys, nonce, plain)
    return sealed + _tag(keys, nonce, sealed, bound)


def decrypt(key: bytes, nonce: bytes, sealed: bytes, bound: bytes) -> bytes | None:
    """The plain bytes, or None where the tag does not fit."""
    keys = _expand(key)
    if len(sealed) < 16 or not hmac.compare_digest(_tag(keys, nonce, sealed[:-16], bound), sealed[-16:]):
        return None
    return _counted(keys, nonce, sealed[:-16])
