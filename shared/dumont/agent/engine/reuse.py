"""Takes over from the workspace what a restore would only bring again: on a spare, most of the last snapshot's files.

Files are copied, never linked or moved: until the new tree is whole the workspace is not touched. What is copied counts
only as far as each chunk's hash is right, as after a restore that was killed.
"""

# names are bytes here, as they are in the file system; Path wants text
# ruff: noqa: PTH
from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from .manifest import FILE, Entry, decode_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .place import Tree

_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_BLOCK_BYTES = 1 << 20


def take_over(tree: Tree, entries: Iterable[Entry], workspace: bytes) -> bool:
    """Copy into the new tree each file of the workspace that has the name and the size of one of the snapshot's.
    Whether there was any. It ends early where there is no room: what is missing then is fetched, or is too much."""
    found = False
    for entry in entries:
        if entry.kind != FILE:
            continue
        try:
            source = os.open(os.path.join(workspace, decode_name(entry.path)), _READ)
        except OSError:
            continue
        try:
            status = os.fstat(source)
            if stat.S_ISREG(status.st_mode) and status.st_size == entry.size:
                found = _copy(source, tree.where(entry.path), entry.size) or found
        except OSError:
            return found
        finally:
            os.close(source)
    return found


def _copy(source: int, where: bytes, size: int) -> bool:
    try:
        target = os.open(where, _MAKE, 0o600)
    except FileExistsError:
        return True  # an earlier run of this restore has begun it
    try:
        done = 0
        while done < size:
            block = os.pread(source, min(_BLOCK_BYTES, size - done), done)
            if not block:
                break
            done += os.write(target, block)
        os.ftruncate(target, size)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(where)
        raise
    finally:
        os.close(target)
    return True
