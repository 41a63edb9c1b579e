"""Packs on their way out: frames are put in the open pack, full packs are sent, several at a time.

Memory is bounded by the buffers: `connections + 1` of a pack's size, made when first needed and used again. A worker
that finds none waits, so disk and processor go no faster than the network.
"""

from __future__ import annotations

import os
import queue
import threading
from typing import TYPE_CHECKING

from .codec import Codec
from .crypto import TAG_BYTES, FrameCipher
from .errors import EngineError
from .index import Chunk, Frame, PackInfo

if TYPE_CHECKING:
    from collections.abc import Callable

    from .stores import Store


class OpenPack:
    """A pack that is being filled. `writers` counts the frames that have their place and not yet their bytes."""

    __slots__ = ("buffer", "chunks", "cipher", "count", "frames", "identity", "sealed", "used", "writers")

    def __init__(self, buffer: bytearray, data_key: bytes) -> None:
        self.buffer = buffer
        self.identity = os.urandom(16)
        self.cipher = FrameCipher(data_key, self.identity)
        self.chunks: list[Chunk] = []
        self.frames: list[Frame] = []
        self.used = self.count = self.writers = 0
        self.sealed = False


class Packer:
    """Takes frames from many threads, sends packs by `connections` threads of its own.

    After the first failure every call raises it. `sent` is called for each pack that the store has confirmed, by one
    thread at a time.
    """

    def __init__(
        self,
        store: Store,
        prefix: str,
        data_key: bytes,
        pack_bytes: int,
        connections: int,
        sent: Callable[[PackInfo, list[Chunk]], None],
    ) -> None:
        self._store, self._prefix, self._data_key = store, prefix, data_key
        self._pack_bytes, self._buffers_left = pack_bytes, connections + 1
        self._sent, self._sent_lock = sent, threading.Lock()
        self._change = threading.Condition()
        self._free: list[bytearray] = []
        self._open: OpenPack | None = None
        self._ready: queue.Queue[OpenPack | None] = queue.Queue()
        self._failure: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._send_all, name=f"send-{index}", daemon=True) for index in range(connections)
        ]
        for thread in self._threads:
            thread.start()

    def add(self, codec: Codec, plain: memoryview, holds: int, chunks: list[Chunk]) -> None:
        """Put one frame, whose plain bytes are those of the chunks one after another, in a pack."""
        how, stored = codec.encode(plain, holds)
        need = len(stored) + TAG_BYTES
        pack, offset, number = self._reserve(need)
        try:
            pack.cipher.encrypt(number, stored, memoryview(pack.buffer)[offset : offset + need])
            frame = Frame(number, offset, need, len(plain), how)
            at = 0
            for chunk in chunks:
                chunk.frame, chunk.offset = frame, at
                at += chunk.length
            pack.frames.append(frame)
            pack.chunks.extend(chunks)
        except BaseException as error:
            self.fail(error)
            raise
        finally:
            with self._change:
                pack.writers -= 1
                if pack.sealed and not pack.writers:
                    self._ready.put(pack)

    def finish(self) -> None:
        """Send what is left and wait until everything is confirmed. Raises what went wrong on the way."""
        with self._change:
            if self._open is not None:
                self._seal(self._open)
        for _ in self._threads:
            self._ready.put(None)
        for thread in self._threads:
            thread.join()
        self._raise()

    def fail(self, error: BaseException) -> None:
        """Stop everything: the first error is what every caller will see."""
        with self._change:
            self._failure = self._failure or error
            self._change.notify_all()

    def _reserve(self, need: int) -> tuple[OpenPack, int, int]:
        with self._change:
            while True:
                self._raise()
                pack = self._open
                if pack is not None and pack.used + need <= len(pack.buffer):
                    offset, number = pack.used, pack.count
                    pack.used += need
                    pack.count += 1
                    pack.writers += 1
                    return pack, offset, number
                if pack is not None:
                    self._seal(pack)
                if self._free:
                    self._open = OpenPack(self._free.pop(), self._data_key)
                elif self._buffers_left:
                    self._buffers_left -= 1
                    self._open = OpenPack(bytearray(self._pack_bytes), self._data_key)
                else:
                    self._change.wait()

    def _seal(self, pack: OpenPack) -> None:
        pack.sealed = True
        self._open = None
        if not pack.writers:
            self._ready.put(pack)

    def _raise(self) -> None:
        if self._failure is not None:
            if isinstance(self._failure, EngineError):
                raise type(self._failure)(self._failure.message, self._failure.files)
            raise self._failure

    def _send_all(self) -> None:
        while True:
            pack = self._ready.get()
            if pack is None:
                return
            try:
                if self._failure is None:
                    self._send(pack)
            except BaseException as error:  # noqa: BLE001 - handed to every caller by `_raise`
                self.fail(error)
            finally:
                with self._change:
                    self._free.append(pack.buffer)
                    self._change.notify_all()

    def _send(self, pack: OpenPack) -> None:
        key = f"{self._prefix}packs/{pack.identity.hex()}"
        md5 = self._store.put(key, memoryview(pack.buffer)[: pack.used])
        info = PackInfo(key, pack.used, md5, new=True)
        for frame in pack.frames:
            frame.pack = info
        with self._sent_lock:
            self._sent(info, pack.chunks)
