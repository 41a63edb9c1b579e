"""Walks a workspace: every path once, parents before children, files of a folder before its folders, sorted."""

# names are bytes here, as the file system has them; Path wants text
# ruff: noqa: PTH
from __future__ import annotations

import errno
import fnmatch
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .manifest import DIRECTORY, FIFO, FILE, SYMLINK, Entry, encode_name

STAGING_SUFFIX = ".dumont-restore"
"""A hidden folder with this at its name's end holds a restore that is under way; it is no part of a workspace."""


@dataclass
class Found:
    """A path that is there: where, its manifest entry, its stat."""

    where: bytes
    entry: Entry
    status: os.stat_result


class Walk:
    """One walk. After it, `unreadable` and `skipped` name what is not in it, and why."""

    def __init__(self, root: str, exclude: Sequence[str], leave_out: Sequence[str]) -> None:
        self._root = os.path.realpath(os.fsencode(root))
        self._exclude = tuple(exclude)
        self._leave_out = {os.path.realpath(os.fsencode(path)) for path in leave_out if path}
        self.unreadable: list[dict[str, str]] = []
        self.skipped: list[dict[str, str]] = []

    def __iter__(self) -> Iterator[Found]:
        status = os.stat(self._root)
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "the workspace is no directory")
        yield Found(self._root, self._entry(self._root, "", status, DIRECTORY), status)
        yield from self._below(self._root, "")

    def _below(self, top: bytes, top_path: str) -> Iterator[Found]:
        pending = [(top, top_path)]
        while pending:
            folder, path = pending.pop()
            folders = []
            for where, inner in self._names(folder, path):
                found = self._look(where, inner)
                if found is None:
                    continue
                yield found
                if found.entry.kind == DIRECTORY:
                    folders.append((where, inner))
            pending += reversed(folders)

    def _names(self, folder: bytes, path: str) -> list[tuple[bytes, str]]:
        try:
            names = sorted(os.listdir(folder))
        except OSError as error:
            self._unreadable(path, error)
            return []
        below = path + "/" if path else ""
        return [(os.path.join(folder, name), below + encode_name(name)) for name in names]

    def _look(self, where: bytes, path: str) -> Found | None:
        name = path.rpartition("/")[2]
        if (name[:1] == "." and name.endswith(STAGING_SUFFIX)) or self._is_left_out(where, path):
            return None
        try:
            status = os.lstat(where)
            kind = _kind(status.st_mode)
            if kind is None:
                self.skipped.append({"path": path, "type": "socket" if stat.S_ISSOCK(status.st_mode) else "device"})
                return None
            entry = self._entry(where, path, status, kind)
            if kind == SYMLINK:
                entry.link = encode_name(os.readlink(where))
        except FileNotFoundError:
            return None  # deleted since its folder was listed: it is not there any more, and nothing is missing
        except OSError as error:
            self._unreadable(path, error)
            return None
        return Found(where, entry, status)

    def _is_left_out(self, where: bytes, path: str) -> bool:
        if self._leave_out and where in self._leave_out:
            return True
        return any(fnmatch.fnmatchcase(path, pattern) for pattern in self._exclude)

    def _entry(self, where: bytes, path: str, status: os.stat_result, kind: str) -> Entry:
        return Entry(
            path=path,
            kind=kind,
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            mtime_ns=status.st_mtime_ns,
            size=status.st_size if kind == FILE else 0,
            xattrs=_xattrs(where),
        )

    def _unreadable(self, path: str, error: OSError) -> None:
        self.unreadable.append({"path": path, "why": error.strerror or type(error).__name__})


def data_extents(descriptor: int, status: os.stat_result) -> list[tuple[int, int]] | None:
    """(offset, length) of a file's data where it has holes; None where it has none, or the system cannot tell."""
    size = status.st_size
    if status.st_blocks * 512 >= size or not hasattr(os, "SEEK_DATA"):
        return None
    extents = []
    at = 0
    while at < size:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole up to the end
                break
            return None
        at = min(os.lseek(descriptor, start, os.SEEK_HOLE), size)
        if at <= start:
            break
        extents.append((start, at - start))
    return extents


def _kind(mode: int) -> str | None:
    for test, kind in (
        (stat.S_ISREG, FILE),
        (stat.S_ISDIR, DIRECTORY),
        (stat.S_ISLNK, SYMLINK),
        (stat.S_ISFIFO, FIFO),
    ):
        if test(mode):
            return kind
    return None


def _xattrs(where: bytes) -> dict[str, bytes]:
    if not hasattr(os, "listxattr"):
        return {}
    try:
        names = os.listxattr(where, follow_symlinks=False)
        return {name: os.getxattr(where, name, follow_symlinks=False) for name in names} if names else {}
    except OSError:
        return {}  # a file system without them, or one whose attributes change as we look: content matters more
