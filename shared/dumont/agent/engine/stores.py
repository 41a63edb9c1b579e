"""Object stores, as the engine needs them: put an object, get one, get a range of one. Nothing is listed or deleted.

Each call is retried with growing, jittered pauses while the store is unavailable, and raises a `StoreRefused`,
`StoreMissing` or `StoreUnavailable` that names the object and never the key that was used.
"""

from __future__ import annotations

import abc
import importlib.util
import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import BadJob, StoreMissing, StoreRefused, StoreUnavailable
from .hashing import new_md5
from .job import StoreSpec

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
TRIES = 6
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 10.0


class Store(abc.ABC):
    """What every store offers. Several threads use one at once."""

    @abc.abstractmethod
    def put(self, key: str, data: memoryview) -> str:
        """Store an object; the answer is the MD5 (hex) of what the store received."""

    @abc.abstractmethod
    def get(self, key: str) -> bytes:
        """A whole object: a manifest."""

    @abc.abstractmethod
    def get_range(self, key: str, offset: int, length: int) -> memoryview:
        """That many bytes of an object, or fewer where it ends before."""


def open_store(spec: StoreSpec, connections: int) -> Store:
    """The store of a job. Raises `BadJob`."""
    if spec.kind == "folder":
        if not spec.path.startswith("/"):
            raise BadJob("store.path is an absolute path")
        return FolderStore(Path(spec.path))
    if not (spec.endpoint and spec.bucket and spec.key_id and spec.secret):
        raise BadJob("an s3 store needs endpoint, bucket, key_id and secret")
    native = importlib.util.find_spec("obstore") is not None
    if spec.client == "obstore" and not native:
        raise BadJob("obstore is not installed on this host")
    if native and spec.client != "pure":
        from .s3_obstore import ObstoreS3

        return ObstoreS3(spec, connections)
    from .s3_pure import PureS3

    return PureS3(spec)


def retried(key: str, work: Callable[[], T], sleep: Callable[[float], None] = time.sleep) -> T:
    """The work's result, tried again while the store is unavailable; its last error otherwise."""
    pause = FIRST_PAUSE_SECONDS
    for attempt in range(TRIES):
        try:
            return work()
        except StoreUnavailable:
            if attempt == TRIES - 1:
                raise
        sleep(pause * random.uniform(0.5, 1.0))
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
    raise StoreUnavailable(f"{key}: the store did not answer")


class FolderStore(Store):
    """Objects as files below a folder: a mounted disk, or a test."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, key: str, data: memoryview) -> str:
        path = self._root / key
        partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as out:
                out.write(data)
            partial.replace(path)
        except OSError as error:
            raise _folder_error(key, error) from None
        return new_md5(data).hexdigest()

    def get(self, key: str) -> bytes:
        try:
            return (self._root / key).read_bytes()
        except OSError as error:
            raise _folder_error(key, error) from None

    def get_range(self, key: str, offset: int, length: int) -> memoryview:
        try:
            with (self._root / key).open("rb", buffering=0) as source:
                source.seek(offset)
                out = bytearray(length)
                got = source.readinto(out) or 0
                return memoryview(out)[:got]
        except OSError as error:
            raise _folder_error(key, error) from None


def _folder_error(key: str, error: OSError) -> Exception:
    known: Any = {FileNotFoundError: StoreMissing, PermissionError: StoreRefused}
    kind = known.get(type(error), StoreUnavailable)
    made: Exception = kind(f"{key}: {error.strerror or type(error).__name__}")
    return made
