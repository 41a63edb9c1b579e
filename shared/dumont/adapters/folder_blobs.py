"""A folder as an object store: for one machine and its tests, or a disk that all machines mount.

It has no versions, and its keys are none: whoever reaches the folder may do anything in it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from dumont.domain.errors import BlobNotFound, BlobRefused, BlobTooLarge, BlobUnavailable
from dumont.ports import CALL_SECONDS_MAX, BlobSeen, Clock, KeyRight, StoreKey

UNFINISHED = ".dumont-unfinished-"
"""What files are called until they are whole; nobody sees them."""

_PIECE_BYTES = 1 << 20
_BUDGET_SECONDS = CALL_SECONDS_MAX - 1.0


class FolderBlobs:
    """`dumont.ports.Blobs`. A key's segments are folders and a file; "", "." and ".." are none. Safe for several
    threads and processes.
    """

    def __init__(self, folder: Path, *, clock: Clock) -> None:
        self._folder = folder.absolute()
        self._clock = clock
        self._digests: dict[tuple[str, int, int, int], str] = {}

    def mint_key(
        self,
        prefix: str,
        right: KeyRight,  # noqa: ARG002 - not enforced
        valid_seconds: int,
        *,
        holder: str = "",  # noqa: ARG002
    ) -> StoreKey:
        """The folder's path. Neither prefix nor right nor end are enforced by anyone."""
        return StoreKey(
            kind="folder",
            endpoint=str(self._folder),
            region="",
            bucket="",
            prefix=prefix,
            key_id="",
            secret="",
            expires_at=self._clock.now() + valid_seconds,
        )

    def revoke_key(self, key_id: str) -> None:
        """There is none to revoke."""

    def revoke_keys(self, holder: str) -> None:
        """There is none to revoke."""

    def list(self, prefix: str) -> list[BlobSeen]:
        """See the port. The MD5 of each file that is new or changed is counted, which reads it."""
        ends = time.monotonic() + _BUDGET_SECONDS
        found = [(path, key) for path, key in self._files() if key.startswith(prefix)]
        rows = []
        for path, key in sorted(found, key=lambda pair: pair[1].encode()):
            try:
                rows.append(self._seen(path, key, ends))
            except FileNotFoundError:
                continue  # deleted meanwhile
        return rows

    def get(self, key: str, *, max_bytes: int, version_id: str | None = None) -> bytes:  # noqa: ARG002 - none here
        """See the port."""
        try:
            with self._path(key).open("rb") as file:
                content = file.read(max_bytes + 1)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise BlobNotFound(f"getting {key}: it is not there") from None
        except OSError as problem:
            raise BlobUnavailable(f"getting {key}: {type(problem).__name__}") from None
        if len(content) > max_bytes:
            raise BlobTooLarge(f"{key} has more than {max_bytes} bytes")
        return content

    def put(self, key: str, data: bytes) -> BlobSeen:
        """See the port. Whoever reads the name meanwhile sees the old content or the new."""
        path = self._path(key)
        unfinished = path.parent / f"{UNFINISHED}{secrets.token_hex(8)}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
            return self._seen(path, key, time.monotonic() + _BUDGET_SECONDS)
        except (NotADirectoryError, IsADirectoryError, FileExistsError):
            raise BlobRefused(f"putting {key}: a file and a folder cannot have one name") from None
        except OSError as problem:
            raise BlobUnavailable(f"putting {key}: {type(problem).__name__}") from None
        finally:
            unfinished.unlink(missing_ok=True)

    def delete(self, blobs: Iterable[BlobSeen]) -> None:
        """See the port."""
        for blob in blobs:
            self._delete(self._path(blob.key))

    def delete_all(self, prefix: str) -> None:
        """See the port."""
        if not prefix:
            raise BlobRefused("deleting all needs a prefix")
        for path, key in self._files(unfinished=True):
            if key.startswith(prefix):
                self._delete(path)

    def exists(self, key: str) -> bool:
        """See the port."""
        return self._path(key).is_file()

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if any(part in ("", ".", "..") or "\0" in part or part.startswith(UNFINISHED) for part in parts):
            raise BlobRefused(f"no key for a folder: {key!r}")
        return self._folder.joinpath(*parts)

    def _files(self, *, unfinished: bool = False) -> Sequence[tuple[Path, str]]:
        def fail(problem: OSError) -> None:
            # A folder that cannot be read must not pass for an empty one.
            if not isinstance(problem, FileNotFoundError):
                raise BlobUnavailable(f"listing: {type(problem).__name__}") from None

        found = []
        for root, _, names in os.walk(self._folder, onerror=fail):
            for name in names:
                if unfinished or not name.startswith(UNFINISHED):
                    path = Path(root, name)
                    found.append((path, path.relative_to(self._folder).as_posix()))
        return found

    def _seen(self, path: Path, key: str, ends: float) -> BlobSeen:
        status = path.stat()
        known = (key, status.st_ino, status.st_size, status.st_mtime_ns)
        if known not in self._digests:
            self._digests[known] = _md5(path, key, ends)
        return BlobSeen(
            key=key,
            size=status.st_size,
            md5=self._digests[known],
            sha1=None,
            uploaded_at=status.st_mtime,
            version_id="",
            is_latest=True,
        )

    def _delete(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except NotADirectoryError:
            return  # gone already, and a file where its folder was
        except OSError as problem:
            raise BlobUnavailable(f"deleting: {type(problem).__name__}") from None


def _md5(path: Path, key: str, ends: float) -> str:
    count = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            count.update(piece)
            if time.monotonic() > ends:
                raise BlobUnavailable(f"listing: no time to count the MD5 of {key}; what was counted is kept")
    return count.hexdigest()
