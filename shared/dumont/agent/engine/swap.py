"""Puts a restored tree where the old workspace is: whole, at once, and so that a kill at any moment is made good.

Next to the workspace lies a staging folder with `tree` (what is restored) and `state.json` (which snapshot, how far).
Once the tree is complete and verified its inode is noted; from then on the next run can tell which of the two it finds
in the workspace's place. Where the system can exchange two names, old and new change places in one step; else the old
one is renamed away first, and for that moment there is none.

Where the workspace cannot be renamed (it is a mount point, or a folder of a container image's lower layer), its
entries are replaced one by one instead; a kill in the midst leaves a mixture until the next run goes on.
"""

# names are bytes here, as they are in the file system; Path wants text
# ruff: noqa: PTH
from __future__ import annotations

import ctypes
import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

from .index import replace
from .place import remove_tree
from .scan import STAGING_SUFFIX

WRITING, READY, PIECEWISE, PLACING = "writing", "ready", "piecewise", "placing"
_EXCHANGE = 2
_AT_FDCWD = -100


class Staging:
    """The staging folder of one target, and the swap."""

    def __init__(self, target: bytes) -> None:
        self.target = target
        self.folder = _folder(target)
        self.tree = os.path.join(self.folder, b"tree")
        self._old = os.path.join(self.folder, b"old")
        self._state_path = Path(os.fsdecode(self.folder)) / "state.json"

    def begin(self, identity: str) -> str:
        """Take up what an earlier run of the same restore left; the phase that it was in. Anything else is removed."""
        state = self._load()
        if state.get("identity") == identity:
            return str(state.get("phase"))
        if state.get("phase") in (PIECEWISE, PLACING):
            # Another restore's new tree is half in place: finish that first, so that no mixture is ever kept.
            self._replace_entries(str(state["phase"]), state)
        self.clean()
        os.makedirs(self.folder, mode=0o700)
        self._save(identity, WRITING)
        return WRITING

    def ready(self, identity: str) -> None:
        """The tree is complete and verified. It is brought to the disk first: what a restore has said to be there must
        not be empty files after a power cut. One call for all files; where it is missing, the system's own time counts.
        """
        _sync(self.tree)
        self._save(identity, READY, os.lstat(self.tree).st_ino)

    def swap(self) -> None:
        """Bring the tree into the target's place, from wherever an earlier run stopped."""
        state = self._load()
        if state["phase"] == READY and not self._is_in_place(state) and not self._swap_whole():
            state["phase"] = PIECEWISE
        if state["phase"] in (PIECEWISE, PLACING):
            self._replace_entries(state["phase"], state)

    def clean(self) -> None:
        """Remove the old workspace and the staging folder; the state goes last, for it says that all is done."""
        for where in (self._old, self.tree, os.fsencode(self._state_path), self.folder):
            remove_tree(where)

    def _is_in_place(self, state: dict[str, Any]) -> bool:
        try:
            return os.lstat(self.target).st_ino == state["inode"] and not _has_inode(self.tree, state["inode"])
        except FileNotFoundError:
            return False

    def _swap_whole(self) -> bool:
        """Whether the target could be renamed."""
        if _exchange(self.tree, self.target):
            return True
        try:
            if os.path.lexists(self.target):
                os.rename(self.target, self._old)
            os.rename(self.tree, self.target)
        except OSError as error:
            if error.errno in (errno.EXDEV, errno.EBUSY, errno.EINVAL, errno.EACCES, errno.EPERM):
                return False
            raise
        return True

    def _replace_entries(self, phase: str, state: dict[str, Any]) -> None:
        identity = state["identity"]
        os.makedirs(self.target, exist_ok=True)
        if phase == PIECEWISE:
            self._save(identity, PIECEWISE)
            os.makedirs(self._old, mode=0o700, exist_ok=True)
            for name in os.listdir(self.target):
                where = os.path.join(self.target, name)
                if where == self.folder:
                    continue
                try:
                    os.rename(where, os.path.join(self._old, name))
                except OSError:
                    remove_tree(where)  # the new tree is complete by now, and the old one would go next anyway
            self._save(identity, PLACING)
        status = os.lstat(self.tree)
        for name in os.listdir(self.tree):
            os.rename(os.path.join(self.tree, name), os.path.join(self.target, name))
        os.chmod(self.target, stat.S_IMODE(status.st_mode))

    def _load(self) -> dict[str, Any]:
        try:
            state = json.loads(self._state_path.read_bytes())
            return state if isinstance(state, dict) else {}
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return {}

    def _save(self, identity: str, phase: str, inode: int = 0) -> None:
        replace(self._state_path, json.dumps({"identity": identity, "phase": phase, "inode": inode}).encode())


def _folder(target: bytes) -> bytes:
    """Beside the target, or within it where it is a mount point: renames work within one file system alone."""
    parent, name = os.path.split(target.rstrip(b"/") or b"/")
    suffix = os.fsencode(STAGING_SUFFIX)
    if not name or (os.path.isdir(target) and (os.path.ismount(target) or not os.access(parent, os.W_OK))):
        return os.path.join(target, suffix)
    return os.path.join(parent, b"." + name + suffix)


def _has_inode(where: bytes, inode: int) -> bool:
    try:
        return os.lstat(where).st_ino == inode
    except FileNotFoundError:
        return False


def _sync(where: bytes) -> None:
    """Write what the file system of a place holds in memory to its disk."""
    descriptor = os.open(where, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        syncfs = ctypes.CDLL(None, use_errno=True).syncfs
        if syncfs(descriptor):
            raise OSError(ctypes.get_errno(), "the disk did not take what was restored")
    except AttributeError:
        os.sync()
    finally:
        os.close(descriptor)


def _exchange(one: bytes, other: bytes) -> bool:
    """Exchange two names in one step; False where that cannot be done."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return bool(renameat2(_AT_FDCWD, one, _AT_FDCWD, other, _EXCHANGE) == 0)
