"""What can go wrong, by name. `code` is what the control plane decides on; the message is for people.

No message ever holds a key, a secret or a file's content.
"""

from __future__ import annotations

from collections.abc import Sequence


class EngineError(Exception):
    """Any failure of the engine; `files` names the paths that it touches (at most `FILES_NAMED`)."""

    code = "failed"

    def __init__(self, message: str, files: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.files = list(files[:FILES_NAMED])


FILES_NAMED = 100
"""An error names this many files at most: a pack can hold thousands."""


class BadJob(EngineError):
    """The job cannot be carried out as it was given; nothing was done."""

    code = "bad_job"


class StoreRefused(EngineError):
    """The object store said no to the key that we hold. A second try with the same key will not help."""

    code = "store_refused"


class StoreMissing(EngineError):
    """An object that should be there is not."""

    code = "object_missing"


class StoreUnavailable(EngineError):
    """The object store did not answer, or not well, after all retries. The next run goes on from here."""

    code = "store_unavailable"


class Damaged(EngineError):
    """Content is not what was stored: a flipped byte, a swapped object, a wrong key. Nothing of it was written."""

    code = "damaged"


class UnsafePath(EngineError):
    """A manifest names a path that would leave the workspace."""

    code = "unsafe_path"


class NoSpace(EngineError):
    """The disk cannot hold what is to be restored; nothing was written."""

    code = "no_space"


class Unsupported(EngineError):
    """This host lacks what the snapshot needs; the message says what to install."""

    code = "unsupported"
