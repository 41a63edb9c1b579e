"""The manifest: everything that a snapshot holds, as one encrypted object.

Bytes: `DMM1`, one letter (z: zstd, g: zlib), a 12-byte random nonce, then AES-256-GCM of the compressed JSON. Names are
UTF-8 with surrogate escapes, so that any bytes that a file system holds come back as they were.

A manifest read from the store is taken for hostile until `check` has passed it: whoever wrote it could have been a
rented host. After `check`, every path lies within the workspace and below directories that the manifest itself names.
"""

from __future__ import annotations

import json
import os
import re
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

from .codec import FRAME_BYTES_MAX
from .crypto import NONCE_BYTES, TAG_BYTES, manifest_cipher
from .errors import Damaged, UnsafePath, Unsupported
from .hashing import BLAKE2B, BLAKE3
from .zstd_any import Zstd

MAGIC = b"DMM1"
VERSION = 2
JSON_BYTES_MAX = 1 << 31
FILE, DIRECTORY, SYMLINK, HARDLINK, FIFO = "f", "d", "l", "h", "p"
_LEAVES = re.compile(r"(?:^|/)\.{0,2}(?:/|\Z)")
"""A part of a path that is empty, one dot or two."""


@dataclass
class Entry:
    """One path. `path` is relative, with slashes, "" for the workspace itself. Times in ns.

    `chunks` index the manifest's chunk table, in order; `extents` are (offset, length) of what is not a hole, None
    where the file has no holes. `link` is a symlink's target, or the path that a hard link shares its content with.
    """

    path: str
    kind: str
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    size: int = 0
    chunks: list[int] = field(default_factory=list)
    extents: list[tuple[int, int]] | None = None
    digest: bytes = b""
    md5: str = ""
    link: str = ""
    xattrs: dict[str, bytes] = field(default_factory=dict)

    def spans(self) -> list[tuple[int, int]]:
        """(offset, length) of what is stored."""
        if self.extents is not None:
            return self.extents
        return [(0, self.size)] if self.size else []


@dataclass
class Manifest:
    """Packs (key, size, MD5), frames and chunks as flat tables, entries sorted so that parents come first.

    A frame: (pack, number, offset, stored length, plain length, codec). A chunk: hash, and (frame, offset, length).
    """

    snapshot_id: str
    machine: str
    created_ns: int
    hash: str
    complete: bool
    packs: list[tuple[str, int, str]] = field(default_factory=list)
    frames: list[tuple[int, int, int, int, int, int]] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    places: list[tuple[int, int, int]] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    users: dict[int, str] = field(default_factory=dict)
    groups: dict[int, str] = field(default_factory=dict)
    unreadable: list[dict[str, str]] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)

    def placed(self, entry: Entry) -> list[tuple[int, int]]:
        """(chunk index, offset in the file) of each of the entry's chunks."""
        if len(entry.chunks) == 1 and entry.extents is None:
            return [(entry.chunks[0], 0)]
        found: list[tuple[int, int]] = []
        spans = iter(entry.spans())
        at, end = 0, 0
        for chunk in entry.chunks:
            if at == end:
                start, length = next(spans)
                at, end = start, start + length
            found.append((chunk, at))
            at += self.places[chunk][2]
        return found


def encode_name(name: bytes) -> str:
    """A file system's bytes as text that comes back."""
    return name.decode("utf-8", "surrogateescape")


def decode_name(name: str) -> bytes:
    """The bytes of such a text."""
    return name.encode("utf-8", "surrogateescape")


def seal(manifest: Manifest, data_key: bytes) -> bytes:
    """The object's bytes."""
    text = json.dumps(_to_json(manifest), separators=(",", ":")).encode()
    zstd = Zstd()
    letter, packed = (b"z", zstd.compress(memoryview(text), False)) if zstd.writes else (b"g", zlib.compress(text, 1))
    nonce = os.urandom(NONCE_BYTES)
    head = MAGIC + letter + struct.pack(">I", len(text)) + nonce
    out = bytearray(len(head) + len(packed) + TAG_BYTES)
    out[: len(head)] = head
    cipher = manifest_cipher(data_key, manifest.machine, manifest.snapshot_id)
    cipher.encrypt(nonce, memoryview(packed), head, memoryview(out)[len(head) :])
    return bytes(out)


def unseal(sealed: bytes, data_key: bytes, machine: str, snapshot_id: str) -> Manifest:
    """The manifest, checked. Raises `Damaged`, `UnsafePath` or `Unsupported`."""
    head_length = len(MAGIC) + 1 + 4 + NONCE_BYTES
    if len(sealed) < head_length + TAG_BYTES or sealed[:4] != MAGIC:
        raise Damaged(f"snapshot {snapshot_id}: this is no manifest")
    head = sealed[:head_length]
    packed = bytearray(len(sealed) - head_length - TAG_BYTES)
    try:
        cipher = manifest_cipher(data_key, machine, snapshot_id)
        cipher.decrypt(head[-NONCE_BYTES:], memoryview(sealed)[head_length:], head, memoryview(packed))
    except Damaged:
        raise Damaged(f"snapshot {snapshot_id}: the manifest is damaged, or not this machine's") from None
    (length,) = struct.unpack_from(">I", head, 5)
    if length > JSON_BYTES_MAX:
        raise Damaged(f"snapshot {snapshot_id}: the manifest is too large")
    try:
        text = (
            Zstd().expand(memoryview(packed), length)
            if head[4:5] == b"z"
            else zlib.decompressobj().decompress(bytes(packed), length + 1)
        )
        # No number of a manifest is a fraction; so what is a number here is an index, and comparisons are checks.
        manifest = _from_json(json.loads(text, parse_float=_no_fraction))
    except (ValueError, KeyError, TypeError, IndexError, zlib.error, Damaged) as error:
        raise Damaged(f"snapshot {snapshot_id}: the manifest cannot be read ({type(error).__name__})") from None
    if manifest.snapshot_id != snapshot_id or manifest.machine != machine:
        raise Damaged(f"snapshot {snapshot_id}: the manifest is another snapshot's")
    try:
        check(manifest)
    except (TypeError, ValueError) as error:
        raise Damaged(f"snapshot {snapshot_id}: the manifest cannot be read ({type(error).__name__})") from None
    return manifest


def _no_fraction(text: str) -> int:
    raise ValueError(f"{len(text)} digits of a fraction")


def check(manifest: Manifest) -> None:
    """Refuse what could write outside of a workspace or beyond a buffer. Raises `UnsafePath` or `Damaged`."""
    kinds: dict[str, str] = {}
    for entry in manifest.entries:
        _check_path(entry.path)
        parent = entry.path.rpartition("/")[0]
        if entry.path and kinds.get(parent) != DIRECTORY:
            raise UnsafePath("a path lies below something that is no directory", [entry.path])
        if entry.path in kinds:
            raise UnsafePath("a path is named twice", [entry.path])
        if entry.kind == HARDLINK and kinds.get(entry.link) != FILE:
            raise UnsafePath("a hard link leads to something that is no file before it", [entry.path])
        if not entry.path and entry.kind != DIRECTORY:
            raise UnsafePath("the workspace itself is no directory")
        if entry.kind not in (FILE, DIRECTORY, SYMLINK, HARDLINK, FIFO):
            raise UnsafePath("a path is of no known kind", [entry.path])
        kinds[entry.path] = entry.kind
    _check_tables(manifest)
    for entry in manifest.entries:
        _check_extents(manifest, entry)


def _check_path(path: str) -> None:
    if path and _LEAVES.search(path):
        raise UnsafePath("a path leaves the workspace", [path])
    if "\0" in path:
        raise UnsafePath("a path holds a zero byte")


def _check_tables(manifest: Manifest) -> None:
    wrong = any(
        not 0 <= pack < len(manifest.packs)
        or not 0 <= plain <= FRAME_BYTES_MAX
        or not TAG_BYTES <= stored <= FRAME_BYTES_MAX + 4096
        or offset < 0
        or number < 0
        or offset + stored > manifest.packs[pack][1]
        for pack, number, offset, stored, plain, _codec in manifest.frames
    )
    wrong = wrong or len(manifest.hashes) != len(manifest.places)
    wrong = wrong or any(
        not 0 <= frame < len(manifest.frames) or offset < 0 or length < 1 or offset + length > manifest.frames[frame][4]
        for frame, offset, length in manifest.places
    )
    if wrong:
        raise Damaged(f"snapshot {manifest.snapshot_id}: the manifest's tables do not fit together")
    if manifest.hash not in (BLAKE3, BLAKE2B):
        raise Unsupported(f"snapshot {manifest.snapshot_id} is hashed with something that this engine does not know")


def _check_extents(manifest: Manifest, entry: Entry) -> None:
    """Chunks must fill the extents exactly, none across two."""
    if entry.kind != FILE:
        return
    if len(entry.chunks) == 1 and entry.extents is None:
        chunk = entry.chunks[0]
        if not 0 <= chunk < len(manifest.places) or manifest.places[chunk][2] != entry.size:
            raise Damaged("a file's chunks do not fit its size", [entry.path])
        return
    end, chunks = 0, iter(entry.chunks)
    for offset, length in entry.spans():
        if offset < end or length <= 0 or offset + length > entry.size:
            raise Damaged("a file's extents do not fit its size", [entry.path])
        end, filled = offset + length, 0
        while filled < length:
            chunk = next(chunks, -1)
            if not 0 <= chunk < len(manifest.places):
                raise Damaged("a file's chunks do not fit its size", [entry.path])
            filled += manifest.places[chunk][2]
        if filled != length:
            raise Damaged("a file's chunks do not fit its size", [entry.path])
    if next(chunks, None) is not None:
        raise Damaged("a file's chunks do not fit its size", [entry.path])


def _to_json(manifest: Manifest) -> dict[str, Any]:
    return {
        "version": VERSION,
        "snapshot": manifest.snapshot_id,
        "machine": manifest.machine,
        "created_ns": manifest.created_ns,
        "hash": manifest.hash,
        "complete": manifest.complete,
        "packs": manifest.packs,
        "frames": manifest.frames,
        "hashes": b"".join(manifest.hashes).hex(),
        "places": manifest.places,
        "entries": [entry_to_json(entry) for entry in manifest.entries],
        "users": {str(key): value for key, value in manifest.users.items()},
        "groups": {str(key): value for key, value in manifest.groups.items()},
        "unreadable": manifest.unreadable,
        "torn": manifest.torn,
        "skipped": manifest.skipped,
    }


def _from_json(raw: dict[str, Any]) -> Manifest:
    if raw["version"] != VERSION:
        raise Unsupported("the manifest is of a version that this engine does not know")
    hashes = bytes.fromhex(raw["hashes"])
    return Manifest(
        snapshot_id=str(raw["snapshot"]),
        machine=str(raw["machine"]),
        created_ns=int(raw["created_ns"]),
        hash=str(raw["hash"]),
        complete=raw["complete"] is True,
        packs=[(str(key), int(size), str(md5)) for key, size, md5 in raw["packs"]],
        frames=[(a, b, c, d, e, f) for a, b, c, d, e, f in raw["frames"]],
        hashes=[hashes[at : at + 32] for at in range(0, len(hashes), 32)],
        places=[(frame, offset, length) for frame, offset, length in raw["places"]],
        entries=[entry_from_json(item) for item in raw["entries"]],
        users={int(key): str(value) for key, value in raw["users"].items()},
        groups={int(key): str(value) for key, value in raw["groups"].items()},
        unreadable=list(raw["unreadable"]),
        torn=[str(path) for path in raw["torn"]],
        skipped=list(raw["skipped"]),
    )


def entry_to_json(entry: Entry) -> list[Any]:
    """An entry as a row; what most entries lack comes last, in an object, and only where it is there."""
    rare: dict[str, Any] = {}
    if entry.extents is not None:
        rare["extents"] = entry.extents
    if entry.link:
        rare["link"] = entry.link
    if entry.xattrs:
        rare["xattrs"] = {name: value.hex() for name, value in entry.xattrs.items()}
    row = [entry.path, entry.kind, entry.mode, entry.uid, entry.gid, entry.mtime_ns, entry.size, entry.chunks]
    row += [entry.digest.hex(), entry.md5]
    return [*row, rare] if rare else row


def entry_from_json(row: list[Any]) -> Entry:
    """The entry of a row. Raises `ValueError`, `TypeError` or `IndexError` on what is none."""
    path, kind, mode, uid, gid, mtime_ns, size, chunks, digest, md5 = row[:10]
    if not isinstance(chunks, list):
        raise TypeError("chunks")
    entry = Entry(
        str(path),
        str(kind),
        int(mode) & 0o7777,
        int(uid),
        int(gid),
        int(mtime_ns),
        int(size),
        chunks,
        None,
        bytes.fromhex(digest),
        str(md5),
    )
    if len(row) > 10:
        rare = row[10]
        extents = rare.get("extents")
        entry.extents = None if extents is None else [(int(offset), int(length)) for offset, length in extents]
        entry.link = str(rare.get("link", ""))
        entry.xattrs = {str(name): bytes.fromhex(value) for name, value in rare.get("xattrs", {}).items()}
    return entry
