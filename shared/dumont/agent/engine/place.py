"""Writes a snapshot's entries into a folder that nobody else uses yet.

Order matters for safety: folders first, files into them, then hard links, and symbolic links last, so that no write
ever goes through a link; folders get their modes and times at the very end, deepest first.
"""

# names are bytes here, as they will be in the file system; Path wants text
# ruff: noqa: PTH
from __future__ import annotations

import collections
import os
import stat
import threading
from typing import TYPE_CHECKING

from .hashing import Hasher
from .manifest import DIRECTORY, FIFO, FILE, HARDLINK, SYMLINK, Entry, Manifest, decode_name

if TYPE_CHECKING:
    from collections.abc import Iterable

_CREATE = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
OPEN_FILES_MAX = 64
WARNINGS_MAX = 100


class Target:
    """A file being written: how many of its chunks are still to come."""

    __slots__ = ("descriptor", "entry", "left", "lock", "sized", "where")

    def __init__(self, where: bytes, entry: Entry, left: int) -> None:
        self.where, self.entry, self.left = where, entry, left
        self.descriptor = -1
        self.sized = False
        self.lock = threading.Lock()


class Tree:
    """The folder that a snapshot is restored into. `write` may be called from several threads."""

    def __init__(self, root: bytes, manifest: Manifest, entries: list[Entry], base: str, hasher: Hasher) -> None:
        self.hasher = hasher
        self._root, self._manifest, self._entries, self._base = root, manifest, entries, base
        self._owner = os.geteuid() == 0
        self._users: dict[int, int] = {}
        self._groups: dict[int, int] = {}
        self._places: dict[int, list[tuple[Target, int]]] = {}
        self._open: collections.OrderedDict[int, Target] = collections.OrderedDict()
        self._open_lock = threading.Lock()
        self._linked = {entry.link for entry in entries if entry.kind == HARDLINK}
        self.stats: dict[str, os.stat_result] = {}
        self.wrong: list[str] = []
        self.warnings: list[str] = []
        self.bytes_kept = 0
        if self._owner:
            self._look_up_owners()

    def where(self, path: str) -> bytes:
        """Where a path of the manifest lies in this tree; `check` has passed the manifest, so it is within."""
        inner = path[len(self._base) :].lstrip("/") if self._base else path
        return os.path.join(self._root, decode_name(inner)) if inner else self._root

    def make_folders(self) -> None:
        """All folders, open to us alone until the end."""
        for entry in self._entries:
            if entry.kind == DIRECTORY:
                os.makedirs(self.where(entry.path), mode=0o700, exist_ok=True)
                os.chmod(self.where(entry.path), 0o700)

    def need(self, resumed: bool) -> dict[int, int]:
        """Chunk → rank, of all that is still to be written, smallest files first.

        Resumed, what an earlier run left here is read, and chunks that are right are kept.
        """
        ranks: dict[int, int] = {}
        files = sorted((entry for entry in self._entries if entry.kind == FILE), key=lambda entry: entry.size)
        for rank, entry in enumerate(files):
            where = self.where(entry.path)
            placed = self._manifest.placed(entry)
            missing = self._missing(where, entry, placed) if resumed else placed
            target = Target(where, entry, len(missing))
            if not missing:
                self._finish_file(target, self._descriptor(target))
                continue
            for chunk, offset in missing:
                if chunk in self._places:
                    self._places[chunk].append((target, offset))
                else:
                    self._places[chunk] = [(target, offset)]
                    ranks[chunk] = rank
        return ranks

    def write(self, chunk: int, data: memoryview) -> None:
        """Put a verified chunk at all its places."""
        for target, offset in self._places[chunk]:
            if len(data) == target.entry.size:
                self._write_whole(target, data)
                continue
            with target.lock:
                descriptor = self._descriptor(target)
                _write_all(descriptor, data, offset)
                target.left -= 1
                if target.left == 0:
                    self._finish_file(target, descriptor)
                elif len(target.entry.chunks) > 1:
                    self._keep_open(target)

    def finish(self) -> None:
        """Links, pipes, folders' modes and times. All files are there by now."""
        others = [entry for entry in self._entries if entry.kind != FILE]
        for entry in others:
            if entry.kind == HARDLINK:
                self._anew(entry)
                os.link(self.where(entry.link), self.where(entry.path), follow_symlinks=False)
        for entry in others:
            where = self.where(entry.path)
            if entry.kind == FIFO:
                self._anew(entry)
                os.mkfifo(where, 0o600)
                self._dress(where, entry)
            elif entry.kind == SYMLINK:
                self._anew(entry)
                os.symlink(decode_name(entry.link), where)
                self._dress(where, entry)
        for entry in reversed(others):
            if entry.kind == DIRECTORY:
                self._dress(self.where(entry.path), entry)
        for path in self._linked:
            # A hard link changes a file's change time; the index for the next snapshot needs the last one.
            self.stats[path] = os.lstat(self.where(path))

    def close(self) -> None:
        """Close what a failure left open."""
        with self._open_lock:
            for target in self._open.values():
                os.close(target.descriptor)
                target.descriptor = -1
            self._open.clear()

    def _missing(self, where: bytes, entry: Entry, placed: list[tuple[int, int]]) -> list[tuple[int, int]]:
        try:
            if not stat.S_ISREG(os.lstat(where).st_mode):
                return placed
            os.chmod(where, 0o600)
            descriptor = os.open(where, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        except FileNotFoundError:
            return placed
        missing = []
        try:
            if os.fstat(descriptor).st_size != entry.size:
                return placed
            for chunk, offset in placed:
                length = self._manifest.places[chunk][2]
                if self.hasher.chunk(os.pread(descriptor, length, offset)) == self._manifest.hashes[chunk]:
                    self.bytes_kept += length
                else:
                    missing.append((chunk, offset))
        finally:
            os.close(descriptor)
        return missing

    def _write_whole(self, target: Target, data: memoryview) -> None:
        """A file that is one chunk: thousands of them, so no lock, no call that could be spared."""
        descriptor = os.open(target.where, _CREATE | os.O_TRUNC, target.entry.mode & 0o777)
        try:
            _write_all(descriptor, data, 0)
            self._seal_file(descriptor, target.entry)
        finally:
            os.close(descriptor)

    def _descriptor(self, target: Target) -> int:
        if target.descriptor < 0:
            target.descriptor = os.open(target.where, _CREATE, 0o600)
            if not target.sized:
                os.ftruncate(target.descriptor, target.entry.size)
                target.sized = True
        return target.descriptor

    def _keep_open(self, target: Target) -> None:
        """Large files stay open between their chunks, the last `OPEN_FILES_MAX` that were written to."""
        oldest = None
        with self._open_lock:
            self._open[id(target)] = target
            self._open.move_to_end(id(target))
            if len(self._open) > OPEN_FILES_MAX:
                _, oldest = self._open.popitem(last=False)
        # Its lock may be held by a thread that waits for `_open_lock`, so it is only tried; then it is closed later.
        if oldest is not None and oldest is not target and oldest.lock.acquire(blocking=False):
            try:
                if oldest.descriptor >= 0:
                    os.close(oldest.descriptor)
                    oldest.descriptor = -1
            finally:
                oldest.lock.release()

    def _finish_file(self, target: Target, descriptor: int) -> None:
        with self._open_lock:
            self._open.pop(id(target), None)
        try:
            if os.fstat(descriptor).st_size != target.entry.size:
                os.ftruncate(descriptor, target.entry.size)
            self._seal_file(descriptor, target.entry)
        finally:
            os.close(descriptor)
            target.descriptor = -1

    def _seal_file(self, descriptor: int, entry: Entry) -> None:
        """Times, and owner, mode and attributes where they are not right already; then the file's own digest, from
        the hashes that its chunks had as they were written.
        """
        if entry.xattrs:
            self._dress(descriptor, entry)
        os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
        status = os.fstat(descriptor)
        owner = (status.st_uid, status.st_gid) if not self._owner else self._owner_of(entry)
        if stat.S_IMODE(status.st_mode) != entry.mode or (status.st_uid, status.st_gid) != owner:
            self._dress(descriptor, entry)
            status = os.fstat(descriptor)
        self.stats[entry.path] = status
        if file_digest(self._manifest, entry, self.hasher) != entry.digest:
            self.wrong.append(entry.path)

    def _owner_of(self, entry: Entry) -> tuple[int, int]:
        return self._users.get(entry.uid, entry.uid), self._groups.get(entry.gid, entry.gid)

    def _dress(self, where: bytes | int, entry: Entry) -> None:
        """Owner, attributes, mode, times, in the order in which none undoes another."""
        link = entry.kind == SYMLINK
        follow = isinstance(where, int)
        if self._owner:
            owner = self._owner_of(entry)
            if isinstance(where, int):
                self._try(entry, "owner", lambda: os.fchown(where, *owner))
            else:
                self._try(entry, "owner", lambda: os.lchown(where, *owner))
        for name, value in entry.xattrs.items():
            self._try(
                entry,
                name,
                lambda n=name, v=value: os.setxattr(where, n, v, follow_symlinks=follow),
            )
        if not link:
            os.chmod(where, entry.mode)
        times = (entry.mtime_ns, entry.mtime_ns)
        if isinstance(where, int):
            os.utime(where, ns=times)
        else:
            os.utime(where, ns=times, follow_symlinks=False)

    def _try(self, entry: Entry, what: str, work: object) -> None:
        try:
            work()  # type: ignore[operator]
        except OSError as error:
            if len(self.warnings) < WARNINGS_MAX:
                self.warnings.append(f"{entry.path}: {what}: {error.strerror}")

    def _anew(self, entry: Entry) -> None:
        """Clear the place that an earlier, interrupted run may have filled."""
        where = self.where(entry.path)
        if os.path.lexists(where):
            os.unlink(where)

    def _look_up_owners(self) -> None:
        """An owner known here by name keeps the name, not the number."""
        import grp
        import pwd

        for number, name in self._manifest.users.items():
            if name:
                try:
                    self._users[number] = pwd.getpwnam(name).pw_uid
                except KeyError:
                    self._users[number] = number
        for number, name in self._manifest.groups.items():
            if name:
                try:
                    self._groups[number] = grp.getgrnam(name).gr_gid
                except KeyError:
                    self._groups[number] = number


def read_back(tree: Tree, manifest: Manifest, entries: Iterable[Entry]) -> list[str]:
    """Read every file again and compare its digest; the paths that differ."""
    wrong, hasher = [], tree.hasher
    for entry in entries:
        if entry.kind != FILE:
            continue
        parts = []
        with open(tree.where(entry.path), "rb", buffering=0) as source:
            for chunk, offset in manifest.placed(entry):
                length = manifest.places[chunk][2]
                parts.append((offset, length, hasher.chunk(os.pread(source.fileno(), length, offset))))
            size = os.fstat(source.fileno()).st_size
        if hasher.file(size, parts) != entry.digest:
            wrong.append(entry.path)
    return wrong


def file_digest(manifest: Manifest, entry: Entry, hasher: Hasher) -> bytes:
    """A file's digest by the hashes that the manifest has of its chunks."""
    parts = [(offset, manifest.places[chunk][2], manifest.hashes[chunk]) for chunk, offset in manifest.placed(entry)]
    return hasher.file(entry.size, parts)


def remove_tree(where: bytes) -> None:
    """Remove a folder and all below it, following no link; what was not there is gone already."""
    try:
        mode = os.lstat(where).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        os.unlink(where)
        return
    os.chmod(where, 0o700)
    for name in os.listdir(where):
        remove_tree(os.path.join(where, name))
    os.rmdir(where)


def _write_all(descriptor: int, data: memoryview, offset: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], offset + done)
