"""Why a request is not done, in words that both APIs have: each writes them in its own form."""

from __future__ import annotations


class Refused(Exception):
    """The request was not done. `code` is B2's, `s3_code` S3's; `message` reaches the client."""

    def __init__(self, status: int, code: str, message: str, *, s3_code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.s3_code = s3_code or code
        self.message = message
        self.retry_after_seconds: float | None = None


class Broken(Exception):
    """The connection is to be reset with nothing more said: a fault on request."""


def bad_request(message: str) -> Refused:
    """A request that makes no sense."""
    return Refused(400, "bad_request", message, s3_code="InvalidRequest")


def unauthorized(message: str = "") -> Refused:
    """The key is known and does not reach so far. B2 says 401, S3 403."""
    refused = Refused(401, "unauthorized", message or "unauthorized", s3_code="AccessDenied")
    if not message:
        refused.message = "not entitled"
    return refused


def no_such_file(name: str = "") -> Refused:
    """No visible file of that name, or no version of that id."""
    return Refused(404, "not_found", f"file not present: {name}" if name else "file not present", s3_code="NoSuchKey")


def no_such_bucket(name: str) -> Refused:
    """No bucket of that name or id."""
    return Refused(400, "bad_bucket_id", f"bucket {name} does not exist", s3_code="NoSuchBucket")


def no_such_upload() -> Refused:
    """No unfinished large file of that id."""
    return Refused(400, "bad_request", "no active upload for this id", s3_code="NoSuchUpload")
