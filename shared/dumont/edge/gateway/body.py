"""A request's body on its way through: whole where it is small, so that it can be sent again; else as it comes."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Request

from dumont.domain.errors import TooLarge

BODY_BYTES_MAX = 1 << 30
"""Google's front door takes 32 MiB of HTTP/1.1; elsewhere this is the bound."""
KEPT_BYTES = 1 << 20
_PIECE_BYTES = 256 * 1024


class Body:
    """One body. `length` None: not known beforehand."""

    def __init__(self, request: Request, *, most_bytes: int = BODY_BYTES_MAX) -> None:
        self._request = request
        self._most_bytes = most_bytes
        self.length = request.content_length
        chunked = "chunked" in request.headers.get("Transfer-Encoding", "").lower()
        self.is_there = self.length is not None or chunked
        if self.length is not None and self.length > most_bytes:
            raise TooLarge(f"the body has {self.length} bytes, and at most {most_bytes} pass")
        self._kept: bytes | None = None
        self._begun = False

    @classmethod
    def of(cls, request: Request, data: bytes) -> Body:
        """A body that was read already."""
        body = cls(request)
        body._kept, body.length, body.is_there = data, len(data), True
        return body

    @property
    def can_be_sent_again(self) -> bool:
        """Whether nothing of it was lost to a try that failed."""
        return not self.is_there or self._kept is not None or not self._begun

    def content(self) -> bytes | Iterator[bytes]:
        """What to send."""
        if not self.is_there:
            return b""
        if self._kept is None and self.length is not None and self.length <= KEPT_BYTES:
            self._kept = self._request.stream.read(self.length)
        return self._kept if self._kept is not None else self._pieces()

    def _pieces(self) -> Iterator[bytes]:
        self._begun = True
        passed = 0
        while piece := self._request.stream.read(_PIECE_BYTES):
            passed += len(piece)
            if passed > self._most_bytes:
                raise TooLarge(f"the body has more than the {self._most_bytes} bytes that pass")
            yield piece


def read_whole(request: Request, *, most_bytes: int) -> bytes:
    """A body that has to be looked into. Raises `TooLarge`."""
    if request.content_length is not None and request.content_length > most_bytes:
        raise TooLarge(f"the body has {request.content_length} bytes, and at most {most_bytes} are read")
    data: bytes = request.stream.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise TooLarge(f"the body has more than the {most_bytes} bytes that are read")
    return data
