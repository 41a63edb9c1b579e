"""16-bit numbers taken apart into their high and their low bytes, and put together again.

Half of the numbers, A, come from the first half of the bytes, the others, B, from the second. The high plane has the
high bytes of A and B by turns, the low plane the low bytes:

    high plane   B[h-1].high A[0].high  B[0].high A[1].high  …
    low plane    A[0].low    B[0].low   A[1].low  B[1].low   …   and the 0 to 3 bytes that are left over

For seen as 16-bit words, with B moved on by one byte, that is to exchange the low bytes of two arrays: four passes of
vector instructions that only exclusive-or, where the plain order needs widening or strides and takes twice as long. A
compressor that looks at one byte after another finds the same in either order.
"""

from __future__ import annotations

from .numpy_any import numpy


class Planes:
    """For one thread: it keeps a buffer."""

    def __init__(self) -> None:
        self._mixed = bytearray()

    def split(self, plain: memoryview, low: memoryview, high: memoryview) -> None:
        """Fill the planes; `sizes` says how long they are."""
        half = len(high)
        end = 2 * half
        low[half:] = plain[end:]
        if not half:
            return
        first, second = plain[:half], plain[half:end]
        if numpy is None:
            source = bytes(plain)
            tops = source[half + 1 : end : 2]
            bytearray_low, bytearray_high = bytearray(half), bytearray(half)
            bytearray_low[0::2], bytearray_low[1::2] = source[0:half:2], source[half:end:2]
            bytearray_high[0::2], bytearray_high[1::2] = tops[-1:] + tops[:-1], source[1:half:2]
            low[:half], high[:] = bytearray_low, bytearray_high
            return
        # B moved on by one byte is where it is, read from a byte before; what is there belongs to A, and is put right.
        one, other = numpy.frombuffer(first, "u1"), numpy.frombuffer(plain[half - 1 : end - 1], "u1")
        mixed = self._mix(one, other)
        mixed[0] = first[0] ^ second[-1]
        numpy.bitwise_xor(one, mixed, out=numpy.frombuffer(high, "u1"))
        numpy.bitwise_xor(other, mixed, out=numpy.frombuffer(low[:half], "u1"))
        low[0] = first[0]

    def join(self, low: memoryview, high: memoryview, plain: memoryview) -> None:
        """Fill the plain bytes."""
        half = len(high)
        end = 2 * half
        plain[end:] = low[half:]
        if not half:
            return
        if numpy is None:
            lows, tops = bytes(low[:half]), bytes(high)
            made = bytearray(end)
            made[0:half:2], made[half:end:2] = lows[0::2], lows[1::2]
            made[1:half:2], made[half + 1 : end : 2] = tops[1::2], tops[2::2] + tops[:1]
            plain[:end] = made
            return
        one, other = numpy.frombuffer(high, "u1"), numpy.frombuffer(low[:half], "u1")
        mixed = self._mix(one, other)
        numpy.bitwise_xor(other, mixed, out=numpy.frombuffer(plain[half - 1 : end - 1], "u1"))
        plain[end - 1] = plain[half - 1]
        numpy.bitwise_xor(one, mixed, out=numpy.frombuffer(plain[:half], "u1"))

    def _mix(self, one: numpy.ndarray, other: numpy.ndarray) -> numpy.ndarray:
        """What turns the low bytes of one into those of the other."""
        if len(self._mixed) < len(one):
            self._mixed = bytearray(len(one))
        mixed = numpy.frombuffer(self._mixed, "u1", count=len(one))
        numpy.bitwise_xor(one, other, out=mixed)
        words = mixed.view("<u2")
        numpy.bitwise_and(words, numpy.uint16(0x00FF), out=words)
        return mixed


def sizes(length: int) -> tuple[int, int]:
    """How long the low and the high plane of so many bytes are."""
    half = length // 4 * 2
    return length - half, half
