"""Any S3 through `obstore` (Rust): packs go out and come in without a copy in Python and without its lock.

Each body is signed by its SHA-256, which the store checks; nothing is listed, so a key that can only write, or only
read, will do. An object is one PUT, never a multipart upload: its ETag is then the MD5 of what the store received.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import obstore
from obstore import exceptions
from obstore.store import S3Store

from .errors import EngineError, StoreMissing, StoreRefused, StoreUnavailable
from .hashing import new_md5
from .job import StoreSpec
from .stores import Store, retried

_MD5 = re.compile(r"[0-9a-f]{32}")


class ObstoreS3(Store):
    """A bucket."""

    def __init__(self, spec: StoreSpec, connections: int) -> None:
        config: dict[str, Any] = {
            "access_key_id": spec.key_id,
            "secret_access_key": spec.secret,
            "endpoint": spec.endpoint,
            "region": spec.region,
            "virtual_hosted_style_request": False,
        }
        if spec.session_token:
            config["session_token"] = spec.session_token
        self._store = S3Store(
            spec.bucket,
            config=config,  # type: ignore[arg-type]
            client_options={
                "allow_http": spec.endpoint.startswith("http://"),
                "connect_timeout": "10s",
                # A pack at 100 KB/s must get through; a dead connection is noticed by TCP before.
                "timeout": "300s",
                "pool_max_idle_per_host": str(connections),
            },
            retry_config={
                "max_retries": 4,
                "retry_timeout": timedelta(seconds=60),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=200),
                    "max_backoff": timedelta(seconds=8),
                    "base": 2,
                },
            },
        )

    def put(self, key: str, data: memoryview) -> str:
        def work() -> str:
            try:
                answer = obstore.put(self._store, key, data, use_multipart=False)
            except (exceptions.BaseError, OSError) as error:
                raise _known(key, error) from None
            return (answer["e_tag"] or "").strip('"')

        etag = retried(key, work)
        return etag if _MD5.fullmatch(etag) else new_md5(data).hexdigest()

    def get(self, key: str) -> bytes:
        def work() -> bytes:
            try:
                return bytes(obstore.get(self._store, key).bytes())
            except (exceptions.BaseError, OSError) as error:
                raise _known(key, error) from None

        return retried(key, work)

    def get_range(self, key: str, offset: int, length: int) -> memoryview:
        def work() -> memoryview:
            try:
                return memoryview(obstore.get_range(self._store, key, start=offset, length=length))
            except (exceptions.BaseError, OSError) as error:
                raise _known(key, error) from None

        return retried(key, work)


def _known(key: str, error: Exception) -> EngineError:
    """Our error for obstore's. Its text is left out: it can hold a signed URL."""
    if isinstance(error, (exceptions.NotFoundError, FileNotFoundError)):
        return StoreMissing(f"{key}: there is no such object")
    if isinstance(error, (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)):
        return StoreRefused(f"{key}: the key does not allow this")
    return StoreUnavailable(f"{key}: {type(error).__name__}")
