"""Puts a manifest's tables together from the chunks that its files came to."""

from __future__ import annotations

from .errors import EngineError
from .index import Chunk, Frame, PackInfo
from .manifest import Entry, Manifest


def assemble(manifest: Manifest, entries: list[Entry], chunks: dict[str, list[Chunk]]) -> list[PackInfo]:
    """Fill the manifest's tables and the entries' chunk numbers; the packs that it refers to, in its order."""
    packs: dict[str, int] = {}
    found: list[PackInfo] = []
    frames: dict[int, int] = {}
    numbers: dict[bytes, int] = {}
    for entry in entries:
        for chunk in chunks.get(entry.path, ()):
            number = numbers.get(chunk.digest)
            if number is None:
                frame, pack = _placed(chunk)
                if pack.key not in packs:
                    packs[pack.key] = len(found)
                    found.append(pack)
                if id(frame) not in frames:
                    frames[id(frame)] = len(manifest.frames)
                    row = (packs[pack.key], frame.number, frame.offset, frame.stored, frame.plain, frame.codec)
                    manifest.frames.append(row)
                number = numbers[chunk.digest] = len(manifest.hashes)
                manifest.hashes.append(chunk.digest)
                manifest.places.append((frames[id(frame)], chunk.offset, chunk.length))
            entry.chunks.append(number)
    manifest.packs = [(pack.key, pack.size, pack.md5) for pack in found]
    manifest.entries = entries
    return found


def _placed(chunk: Chunk) -> tuple[Frame, PackInfo]:
    if chunk.frame is None or chunk.frame.pack is None:
        raise EngineError("a chunk has no confirmed place in the store")
    return chunk.frame, chunk.frame.pack
