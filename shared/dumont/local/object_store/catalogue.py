"""What the store holds, in SQLite: buckets, versions of files, and the parts that their content lies in.

Content lies in files beside it, one a part; a row is written when its content is whole. A version of one piece has
one part. So finishing a large file copies nothing.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from dumont.local.object_store.refusals import Refused, no_such_bucket, no_such_file, no_such_upload

UPLOAD, HIDE, START = "upload", "hide", "start"
"""A version is a file, a marker that hides the file before it, or a large file that is not finished."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS buckets (id TEXT PRIMARY KEY, name TEXT UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS keys (id TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS versions (
    id TEXT PRIMARY KEY, bucket_id TEXT NOT NULL, name TEXT NOT NULL, sequence INTEGER NOT NULL, action TEXT NOT NULL,
    size INTEGER NOT NULL, md5 TEXT, sha1 TEXT, etag TEXT NOT NULL, content_type TEXT NOT NULL, info TEXT NOT NULL,
    uploaded_ms INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS by_name ON versions (bucket_id, name, sequence);
CREATE TABLE IF NOT EXISTS parts (
    version_id TEXT NOT NULL, number INTEGER NOT NULL, file TEXT NOT NULL, size INTEGER NOT NULL, md5 TEXT NOT NULL,
    sha1 TEXT, uploaded_ms INTEGER NOT NULL, PRIMARY KEY (version_id, number));
"""

_VERSION = "id, bucket_id, name, sequence, action, size, md5, sha1, etag, content_type, info, uploaded_ms"
_PART = "number, file, size, md5, sha1, uploaded_ms"
_NEWEST = """sequence = (SELECT max(sequence) FROM versions AS other WHERE other.bucket_id = versions.bucket_id
    AND other.name = versions.name AND other.action != 'start')"""
_AFTER_ALL = "\U0010ffff"


class Bucket(msgspec.Struct, frozen=True):
    """A bucket. All are private."""

    id: str
    name: str


class Part(msgspec.Struct, frozen=True):
    """A piece of content: `file` is its path below the store's data folder, `sha1` None if it was not counted."""

    number: int
    file: str
    size: int
    md5: str
    sha1: str | None
    uploaded_ms: int


class Version(msgspec.Struct, frozen=True):
    """A version of a file. Of one name, the highest sequence is the newest; an upload counts from its end.

    `sha1` is as B2 writes it: 40 digits, "unverified:" and 40 digits, or "none"; None for markers.
    """

    id: str
    bucket_id: str
    name: str
    sequence: int
    action: str
    size: int
    md5: str | None
    sha1: str | None
    etag: str
    content_type: str
    info: dict[str, str]
    uploaded_ms: int


class Catalogue:
    """The rows. Safe for many threads; each call is one transaction."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.data.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._db = sqlite3.connect(folder / "store.db", check_same_thread=False, isolation_level=None)
        self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;" + _SCHEMA)
        self._sequence = int(self._db.execute("SELECT coalesce(max(sequence), 0) FROM versions").fetchone()[0])
        self._remove_orphans()

    def close(self) -> None:
        """Close the database; the files stay."""
        with self._lock:
            self._db.close()

    def new_file(self) -> str:
        """A path below the data folder for content that is about to come."""
        name = secrets.token_hex(16)
        (self.data / name[:2]).mkdir(exist_ok=True)
        return f"{name[:2]}/{name}"

    def discard(self, files: Iterable[str]) -> None:
        """Remove content that no row names."""
        for file in files:
            (self.data / file).unlink(missing_ok=True)

    # --- Buckets ---

    def create_bucket(self, name: str) -> Bucket:
        """A new bucket. Refuses a name that is taken."""
        bucket = Bucket(secrets.token_hex(12), name)
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM buckets WHERE name = ?", (name,)).fetchone():
                message = "Bucket name is already in use."
                raise Refused(400, "duplicate_bucket_name", message, s3_code="BucketAlreadyOwnedByYou")
            db.execute("INSERT INTO buckets VALUES (?, ?)", (bucket.id, bucket.name))
        return bucket

    def delete_bucket(self, bucket: Bucket) -> None:
        """Remove an empty bucket."""
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM versions WHERE bucket_id = ?", (bucket.id,)).fetchone():
                message = "Cannot delete non-empty bucket"
                raise Refused(400, "cannot_delete_non_empty_bucket", message, s3_code="BucketNotEmpty")
            db.execute("DELETE FROM buckets WHERE id = ?", (bucket.id,))

    def buckets(self) -> list[Bucket]:
        """All of them, by name."""
        return [Bucket(*row) for row in self._all("SELECT id, name FROM buckets ORDER BY name", ())]

    def bucket(self, *, name: str | None = None, bucket_id: str | None = None) -> Bucket:
        """The bucket of that name or id. Refuses if there is none."""
        rows = self._all("SELECT id, name FROM buckets WHERE name = ? OR id = ?", (name, bucket_id))
        if not rows:
            raise no_such_bucket(name or bucket_id or "")
        return Bucket(*rows[0])

    # --- Keys, as JSON of `keys.Key` ---

    def put_key(self, key_id: str, body: str) -> None:
        """Write a key."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO keys VALUES (?, ?)", (key_id, body))

    def delete_key(self, key_id: str) -> None:
        """Remove a key."""
        with self._transaction() as db:
            db.execute("DELETE FROM keys WHERE id = ?", (key_id,))

    def key_bodies(self) -> list[str]:
        """All keys' bodies, by id."""
        return [row[0] for row in self._all("SELECT body FROM keys ORDER BY id", ())]

    # --- Versions ---

    def add(self, version: Version, parts: Iterable[Part], *, only_if_absent: bool = False) -> Version:
        """Add a version and its content; it gets its sequence here. With `only_if_absent`, refuses if the name is
        taken by a file that can be seen.
        """
        with self._transaction() as db:
            if only_if_absent:
                self._refuse_if_present(version.bucket_id, version.name)
            return self._insert(db, version, parts)

    def finish(self, started: Version, finished: Version, parts: list[Part], *, only_if_absent: bool) -> Version:
        """Turn an unfinished large file into a file with these of its parts, in this order."""
        with self._transaction() as db:
            self.started(started.id)
            if only_if_absent:
                self._refuse_if_present(started.bucket_id, started.name)
            kept = {part.file for part in parts}
            dropped = [part.file for part in self.parts(started.id) if part.file not in kept]
            self._remove(db, started.id)
            done = self._insert(db, finished, parts)
        self.discard(dropped)
        return done

    def version(self, version_id: str) -> Version:
        """The version of that id. Refuses if there is none."""
        rows = self._versions("id = ?", (version_id,), 1)
        if not rows:
            raise no_such_file(version_id)
        return rows[0]

    def started(self, version_id: str) -> Version:
        """The unfinished large file of that id. Refuses if there is none."""
        rows = self._versions("id = ? AND action = 'start'", (version_id,), 1)
        if not rows:
            raise no_such_upload()
        return rows[0]

    def newest(self, bucket_id: str, name: str) -> Version | None:
        """What stands under a name now: a file, a marker that hides it, or nothing."""
        where = "bucket_id = ? AND name = ? AND action != 'start' ORDER BY sequence DESC"
        rows = self._versions(where, (bucket_id, name), 1)
        return rows[0] if rows else None

    def visible(self, bucket_id: str, name: str) -> Version:
        """The file that a name stands for now. Refuses if there is none."""
        version = self.newest(bucket_id, name)
        if version is None or version.action != UPLOAD:
            raise no_such_file(name)
        return version

    def names(self, bucket_id: str, prefix: str, start: str, limit: int) -> list[Version]:
        """The newest version of each visible name with the prefix, from `start` on, in the order of UTF-8 bytes."""
        where = f"bucket_id = ? AND name >= ? AND name >= ? AND name < ? AND action = 'upload' AND {_NEWEST}"
        found = self._versions(where + " ORDER BY name", (bucket_id, prefix, start, prefix + _AFTER_ALL), limit)
        return [version for version in found if version.name.startswith(prefix)]

    def versions(self, bucket_id: str, prefix: str, start: tuple[str, int | None], limit: int) -> list[Version]:
        """All versions with the prefix, by name and then newest first, from a name and a sequence on."""
        name, sequence = start
        highest = self._sequence + 1 if sequence is None else sequence
        where = "bucket_id = ? AND name >= ? AND name < ? AND (name > ? OR (name = ? AND sequence <= ?))"
        values = (bucket_id, prefix, prefix + _AFTER_ALL, name, name, highest)
        found = self._versions(where + " ORDER BY name, sequence DESC", values, limit)
        return [version for version in found if version.name.startswith(prefix)]

    def unfinished(self, bucket_id: str, prefix: str, start_id: str, limit: int) -> list[Version]:
        """The unfinished large files with the prefix, by id, from `start_id` on."""
        where = "bucket_id = ? AND action = 'start' AND substr(name, 1, ?) = ? AND id >= ? ORDER BY id"
        return self._versions(where, (bucket_id, len(prefix), prefix, start_id), limit)

    def delete(self, version: Version) -> None:
        """Remove a version and its content."""
        with self._transaction() as db:
            files = [part.file for part in self.parts(version.id)]
            self._remove(db, version.id)
        self.discard(files)

    # --- Parts ---

    def put_part(self, version_id: str, part: Part) -> None:
        """Add a part to an unfinished large file, or put it in the place of an earlier one."""
        with self._transaction() as db:
            self.started(version_id)
            earlier = [old.file for old in self.parts(version_id) if old.number == part.number]
            values = (version_id, *msgspec.structs.astuple(part))
            db.execute("INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        self.discard(earlier)

    def parts(self, version_id: str) -> list[Part]:
        """The parts, by number."""
        rows = self._all(f"SELECT {_PART} FROM parts WHERE version_id = ? ORDER BY number", (version_id,))  # noqa: S608
        return [Part(*row) for row in rows]

    # --- Within ---

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _all(self, statement: str, values: tuple[object, ...]) -> list[Any]:
        with self._lock:
            return list(self._db.execute(statement, values))

    def _versions(self, where: str, values: tuple[object, ...], limit: int) -> list[Version]:
        statement = f"SELECT {_VERSION} FROM versions WHERE {where} LIMIT ?"  # noqa: S608 - our own words alone
        rows = self._all(statement, (*values, limit))
        return [Version(*(*row[:10], json.loads(row[10]), row[11])) for row in rows]

    def _insert(self, db: sqlite3.Connection, version: Version, parts: Iterable[Part]) -> Version:
        self._sequence += 1
        version = msgspec.structs.replace(version, sequence=self._sequence)
        row = [*msgspec.structs.astuple(version)]
        row[10] = json.dumps(version.info)
        db.execute("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        rows = [(version.id, *msgspec.structs.astuple(part)) for part in parts]
        db.executemany("INSERT INTO parts VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        return version

    def _remove(self, db: sqlite3.Connection, version_id: str) -> None:
        db.execute("DELETE FROM versions WHERE id = ?", (version_id,))
        db.execute("DELETE FROM parts WHERE version_id = ?", (version_id,))

    def _refuse_if_present(self, bucket_id: str, name: str) -> None:
        version = self.newest(bucket_id, name)
        if version is not None and version.action == UPLOAD:
            message = "At least one of the pre-conditions you specified did not hold"
            raise Refused(412, "precondition_failed", message, s3_code="PreconditionFailed")

    def _remove_orphans(self) -> None:
        """Content whose upload was cut off by our own end has no row, and nobody would ever remove it."""
        named = {row[0] for row in self._all("SELECT file FROM parts", ())}
        for path in self.data.glob("*/*"):
            if str(path.relative_to(self.data)) not in named:
                path.unlink()
