"""What this host knows of earlier snapshots: what is in the store already, and which files have not changed since.

Two files in the state folder. `packs.journal`: one line for each pack whose upload the store has confirmed, with the
chunks in it; a torn last line (a kill while it was written) fails its checksum and is dropped, which costs one upload.
`files.json`: the stat and the chunks of each file of the last snapshot. Both hold keyed hashes and paths, no key and
no content. They belong to one machine, one store, one data key: with another of these they start empty.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .hashing import hkdf
from .job import Job, ObjectInfo


class PackInfo:
    """A pack that is in the store."""

    __slots__ = ("key", "md5", "new", "sha256", "size")

    def __init__(self, key: str, size: int, md5: str, new: bool, sha256: str = "") -> None:
        self.key, self.size, self.md5, self.new, self.sha256 = key, size, md5, new, sha256

    def info(self) -> ObjectInfo:
        return ObjectInfo(key=self.key, size=self.size, md5=self.md5, sha256=self.sha256, new=self.new)


class Frame:
    """A frame of a pack; `pack` is set once the store has it."""

    __slots__ = ("codec", "number", "offset", "pack", "plain", "stored")

    def __init__(self, number: int, offset: int, stored: int, plain: int, codec: int) -> None:
        self.pack: PackInfo | None = None
        self.number, self.offset, self.stored, self.plain, self.codec = number, offset, stored, plain, codec


class Chunk:
    """A chunk; `frame` is set once it has a place."""

    __slots__ = ("digest", "frame", "length", "offset")

    def __init__(self, digest: bytes, length: int) -> None:
        self.digest, self.length = digest, length
        self.frame: Frame | None = None
        self.offset = 0


class State:
    """The state folder of one machine."""

    def __init__(self, job: Job, hash_name: str) -> None:
        self._folder = Path(job.state_dir)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        store = "|".join((job.store.kind, job.store.path, job.store.endpoint, job.store.bucket))
        check = hkdf(job.data_key, b"", b"dumont state v1").hex()
        self.identity = hashlib.sha256("|".join((job.machine, store, check, hash_name)).encode()).hexdigest()
        self._journal_path = self._folder / "packs.journal"
        self._files_path = self._folder / "files.json"
        self._journal: int | None = None

    def load_chunks(self, forget: Iterable[str], fresh: bool) -> dict[bytes, Chunk]:
        """Hash → chunk of all that is in the store by this journal."""
        gone = set(forget)
        found: dict[bytes, Chunk] = {}
        kept: list[bytes] = []
        try:
            lines = [] if fresh else self._journal_path.read_bytes().rstrip(b"\n").split(b"\n")
        except FileNotFoundError:
            lines = []
        head = lines[0] if lines else b""
        if head != self.identity.encode():
            lines = []
        for line in lines[1:]:
            record = _open_line(line)
            if record is None or record["key"] in gone:
                continue
            kept.append(line)
            pack = PackInfo(record["key"], record["size"], record["md5"], new=False, sha256=record.get("sha256", ""))
            _add_chunks(found, pack, record)
        if len(kept) != len(lines) - 1:
            replace(self._journal_path, b"\n".join([self.identity.encode(), *kept, b""]))
        return found

    def add_pack(self, pack: PackInfo, chunks: list[Chunk]) -> None:
        """Note a pack that the store has confirmed. Called by one thread at a time."""
        if self._journal is None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._journal = os.open(self._journal_path, flags, 0o600)
        os.write(self._journal, _seal_line(_pack_record(pack, chunks)) + b"\n")

    def write_journal(self, packs: Iterable[tuple[PackInfo, list[Chunk]]]) -> None:
        """Start the journal anew, from what a restored manifest says is in the store."""
        lines = [self.identity.encode()]
        lines += [_seal_line(_pack_record(pack, chunks)) for pack, chunks in packs]
        replace(self._journal_path, b"\n".join([*lines, b""]))

    def load_files(self) -> dict[str, list[Any]]:
        """Path → [size, mtime_ns, ctime_ns, inode, device, chunk hashes (hex), digest, md5, extents]."""
        try:
            raw = json.loads(self._files_path.read_bytes())
            return dict(raw["files"]) if raw["identity"] == self.identity else {}
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return {}

    def save_files(self, files: dict[str, list[Any]]) -> None:
        """Replace what is known of files, at once or not at all."""
        raw = json.dumps({"identity": self.identity, "files": files}, separators=(",", ":"))
        replace(self._files_path, raw.encode())

    def close(self) -> None:
        if self._journal is not None:
            os.close(self._journal)
            self._journal = None


def replace(path: Path, content: bytes) -> None:
    """Write a file so that it is either the old or the new one, whatever dies when."""
    partial = path.with_name(path.name + ".part")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    partial.replace(path)


def _pack_record(pack: PackInfo, chunks: list[Chunk]) -> dict[str, Any]:
    frames: dict[int, int] = {}
    rows: list[list[int]] = []
    places: list[int] = []
    for chunk in chunks:
        frame = chunk.frame
        if frame is None:
            continue
        if frame.number not in frames:
            frames[frame.number] = len(rows)
            rows.append([frame.number, frame.offset, frame.stored, frame.plain, frame.codec])
        places += [frames[frame.number], chunk.offset, chunk.length]
    hashes = b"".join(chunk.digest for chunk in chunks if chunk.frame is not None)
    head = {"key": pack.key, "size": pack.size, "md5": pack.md5, "sha256": pack.sha256}
    return {**head, "frames": rows, "hashes": hashes.hex(), "places": places}


def _add_chunks(found: dict[bytes, Chunk], pack: PackInfo, record: dict[str, Any]) -> None:
    frames = [Frame(*row) for row in record["frames"]]
    for frame in frames:
        frame.pack = pack
    hashes = bytes.fromhex(record["hashes"])
    places = record["places"]
    for index in range(len(hashes) // 32):
        frame_index, offset, length = places[3 * index : 3 * index + 3]
        chunk = Chunk(hashes[32 * index : 32 * index + 32], length)
        chunk.frame, chunk.offset = frames[frame_index], offset
        found[chunk.digest] = chunk


def _seal_line(record: dict[str, Any]) -> bytes:
    body = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %s" % (zlib.crc32(body), body)


def _open_line(line: bytes) -> dict[str, Any] | None:
    checksum, _, body = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    record: dict[str, Any] = json.loads(body)
    return record
