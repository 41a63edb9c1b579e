"""Brings frames back: fewest requests, several at a time, every frame decrypted and every chunk hashed before use.

Frames that lie near each other in a pack come with one ranged read of at most `FETCH_BYTES`. Each of the threads
fetches, opens and hands on; `SPARE_BENCHES` more than there are cores open at a time, the others wait for the network.
There are few threads at first, and one more whenever a fetch finds a core that has nothing to do: a near store is
emptied with few, large reads, which cost less, a far one with as many as are allowed. Memory: one fetch a thread.
"""

from __future__ import annotations

import os
import queue
import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .codec import Codec
from .crypto import TAG_BYTES, FrameCipher
from .errors import Damaged, EngineError, StoreMissing
from .hashing import PURE_BLAKE3_BYTES_MAX, Hasher, is_fast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .manifest import Manifest
    from .stores import Store

FETCH_BYTES = 8 * 1024 * 1024
GAP_BYTES = 128 * 1024
SPARE_BENCHES = 2
"""So that a core has something to do while one thread waits for the interpreter and another for the disk."""
MANY_CHUNKS = 4
"""A frame with more chunks than this is one of small files."""
_PACK_NAME = re.compile(r"packs/([0-9a-f]{32})$")


@dataclass
class Fetch:
    """One ranged read: a pack, where from and to, and the frames (numbers of the manifest's table) in it."""

    pack: int
    start: int
    end: int
    rank: int
    frames: list[int] = field(default_factory=list)


@dataclass
class Damage:
    """A bad place: the pack's object, the offset and length in it, and which chunks lie there."""

    pack: str
    offset: int
    length: int
    message: str
    chunks: list[int]
    code: str = "damaged"


class Bench:
    """What opening a frame needs: a codec and a buffer."""

    def __init__(self) -> None:
        self.codec = Codec()
        self.buffer = bytearray()


class Received:
    """Bytes received, for progress and the result."""

    def __init__(self) -> None:
        self.bytes_received = 0
        self.frames = 0


def plan(manifest: Manifest, ranks: dict[int, int]) -> list[Fetch]:
    """The reads that bring these frames (frame → rank), lowest rank first."""
    frames = sorted(ranks, key=lambda number: (manifest.frames[number][0], manifest.frames[number][2]))
    fetches: list[Fetch] = []
    for number in frames:
        pack, _, offset, stored, _, _ = manifest.frames[number]
        last = fetches[-1] if fetches else None
        if (
            last is None
            or last.pack != pack
            or offset - last.end > GAP_BYTES
            or offset + stored - last.start > FETCH_BYTES
        ):
            last = Fetch(pack, offset, offset, ranks[number])
            fetches.append(last)
        last.frames.append(number)
        last.end = max(last.end, offset + stored)
        last.rank = min(last.rank, ranks[number])
    return sorted(fetches, key=lambda fetch: fetch.rank)


def weave(fetches: list[Fetch], chunks_of: dict[int, list[int]]) -> list[Fetch]:
    """The same reads with those of many small chunks spread evenly among the others.

    Small files keep the interpreter busy, which one thread at a time can have; large ones are all native code. One
    after the other, the first would leave all cores but one idle.
    """
    groups: tuple[list[Fetch], list[Fetch]] = ([], [])
    for fetch in fetches:
        chunks = sum(len(chunks_of.get(number, ())) for number in fetch.frames)
        groups[chunks > MANY_CHUNKS * len(fetch.frames)].append(fetch)
    placed = [((at + 0.5) / len(group), fetch) for group in groups for at, fetch in enumerate(group)]
    return [fetch for _, fetch in sorted(placed, key=lambda pair: pair[0])]


class Fetcher:
    """Reads a snapshot's frames. `verified_by` says whether chunks are hashed here or trusted by their tag."""

    def __init__(self, store: Store, manifest: Manifest, data_key: bytes, connections: int, workers: int) -> None:
        self._store, self._manifest, self._data_key = store, manifest, data_key
        self._connections = connections
        # The few benches go from hand to hand, the last one used first, so that their buffers stay in the cache.
        self._benches: queue.LifoQueue[Bench] = queue.LifoQueue()
        for _ in range(workers or max(2, min(os.cpu_count() or 1, 8)) + SPARE_BENCHES):
            self._benches.put(Bench())
        self._hasher = Hasher(manifest.hash, data_key, manifest.machine)
        self._ciphers: dict[int, FrameCipher] = {}
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._places = 0
        self._more: Callable[[], None] = lambda: None
        self._chunks_of: dict[int, list[int]] = {}
        for number, place in enumerate(manifest.places):
            self._chunks_of.setdefault(place[0], []).append(number)
        total = sum(place[2] for place in manifest.places)
        self.verified_by = "hash" if is_fast(manifest.hash) or total <= PURE_BLAKE3_BYTES_MAX else "tag"
        self.received = Received()
        self.damage: list[Damage] = []

    def run(
        self,
        ranks: dict[int, int],
        use: Callable[[int, memoryview], None],
        wanted: Iterable[int] | None = None,
        stop_at_damage: bool = True,
    ) -> None:
        """Bring the frames and call `use(chunk, plain)` for each verified chunk (of `wanted`), from any thread.

        What `use` raises, and what the store raises, is raised here. Damage ends it too, or is gathered in `damage`.
        """
        work: queue.SimpleQueue[Fetch] = queue.SimpleQueue()
        fetches = weave(plan(self._manifest, ranks), self._chunks_of)
        for fetch in fetches:
            work.put(fetch)
        chosen = None if wanted is None else set(wanted)

        def take() -> None:
            while self._failure is None:
                try:
                    fetch = work.get_nowait()
                except queue.Empty:
                    return
                try:
                    self._one(fetch, use, chosen, stop_at_damage)
                except BaseException as error:  # noqa: BLE001 - raised to the caller below
                    self._failure = self._failure or error
                    return

        threads: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()

        def start() -> None:
            """Called before another thread ends, so that the queue is empty only when all are started."""
            with self._lock:
                if not self._places:
                    return
                self._places -= 1
            thread = threading.Thread(target=take, daemon=True)
            thread.start()
            threads.put(thread)

        self._places, self._more = min(self._connections, len(fetches)), start
        for _ in range(self._benches.qsize() + 2):
            start()
        while not threads.empty():
            threads.get().join()
        if self._failure is not None:
            raise self._failure

    def _one(
        self,
        fetch: Fetch,
        use: Callable[[int, memoryview], None],
        chosen: set[int] | None,
        stop_at_damage: bool,
    ) -> None:
        key = self._manifest.packs[fetch.pack][0]
        data = memoryview(b"")
        trouble: EngineError | None = None
        try:
            data = self._store.get_range(key, fetch.start, fetch.end - fetch.start)
        except StoreMissing as error:
            trouble = error
        with self._lock:
            self.received.bytes_received += len(data)
        if not self._benches.empty():
            self._more()
        bench = self._benches.get()
        try:
            for number in fetch.frames:
                if self._failure is not None:
                    return
                try:
                    if trouble is not None:
                        raise trouble
                    self._hand_on(number, self._open(number, fetch, data, bench), use, chosen)
                except (Damaged, StoreMissing) as error:
                    _, _, offset, stored, _, _ = self._manifest.frames[number]
                    self._note(Damage(key, offset, stored, error.message, self._chunks_of.get(number, []), error.code))
                    if stop_at_damage:
                        raise
                with self._lock:
                    self.received.frames += 1
        finally:
            self._benches.put(bench)

    def _open(self, number: int, fetch: Fetch, data: memoryview, bench: Bench) -> memoryview:
        """The plain bytes of a frame. They lie in the bench's buffers."""
        _, index, offset, stored, plain_length, how = self._manifest.frames[number]
        sealed = data[offset - fetch.start : offset - fetch.start + stored]
        if len(sealed) < stored:
            raise Damaged("the pack is cut short")
        if len(bench.buffer) < stored:
            bench.buffer = bytearray(max(stored, 1 << 21))
        opened = memoryview(bench.buffer)[: stored - TAG_BYTES]
        self._cipher(fetch.pack).decrypt(index, sealed, opened)
        return bench.codec.decode(how, opened, plain_length)

    def _hand_on(
        self, number: int, plain: memoryview, use: Callable[[int, memoryview], None], chosen: set[int] | None
    ) -> None:
        """Hash all chunks before the first is used."""
        ready = []
        for chunk in self._chunks_of.get(number, ()):
            if chosen is not None and chunk not in chosen:
                continue
            _, offset, length = self._manifest.places[chunk]
            data = plain[offset : offset + length]
            if self.verified_by == "hash" and self._hasher.chunk(data) != self._manifest.hashes[chunk]:
                raise Damaged("a chunk is not what the manifest says")
            ready.append((chunk, data))
        for chunk, data in ready:
            use(chunk, data)

    def _note(self, damage: Damage) -> None:
        with self._lock:
            self.damage.append(damage)

    def _cipher(self, pack: int) -> FrameCipher:
        cipher = self._ciphers.get(pack)
        if cipher is None:
            named = _PACK_NAME.search(self._manifest.packs[pack][0])
            if named is None:
                raise Damaged("the manifest names a pack that is none")
            cipher = self._ciphers[pack] = FrameCipher(self._data_key, bytes.fromhex(named.group(1)))
        return cipher


def damaged_files(manifest: Manifest, chunks: Iterable[int]) -> list[str]:
    """The paths whose content needs one of these chunks."""
    bad = set(chunks)
    return [entry.path for entry in manifest.entries if not bad.isdisjoint(entry.chunks)]


def describe(manifest: Manifest, damage: Damage) -> dict[str, Any]:
    """Damage as a result shows it."""
    return {
        "pack": damage.pack,
        "offset": damage.offset,
        "length": damage.length,
        "code": damage.code,
        "message": damage.message,
        "files": damaged_files(manifest, damage.chunks)[:100],
    }
