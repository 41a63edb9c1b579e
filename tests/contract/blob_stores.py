"""Object stores for contracts: each with what its adapter needs, and time that a test moves."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import botocore.config
import httpx
from b2sdk.v3 import B2Api, InMemoryAccountInfo
from obstore.store import S3Store

from dumont.adapters.b2 import B2Blobs
from dumont.adapters.folder_blobs import FolderBlobs
from dumont.adapters.s3_blobs import S3Blobs
from dumont.local.object_store.server import ObjectStoreServer
from dumont.ports import Blobs, StoreKey

if TYPE_CHECKING:
    from obstore.store import BackoffConfig

BUCKET = "dumont-test"
PART_BYTES = 200_000
ALL = ("writeFiles", "readFiles", "listFiles", "deleteFiles", "listBuckets", "listAllBucketNames", "readBuckets")


class MovedClock:
    """The machine's time, and as much on top as a test says. Clients sign with the machine's own."""

    def __init__(self) -> None:
        self.ahead_seconds = 0.0
        self.slept: list[float] = []

    def now(self) -> float:
        return time.time() + self.ahead_seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.ahead_seconds += seconds


@dataclass
class Rig:
    """An adapter and what stands behind it."""

    kind: str
    blobs: Blobs
    hide: Callable[[str], None] | None = None
    """Hides an object behind the adapter's back; None where the store cannot."""


@contextlib.contextmanager
def serving(folder: Path, clock: MovedClock, **options: Any) -> Iterator[ObjectStoreServer]:
    sizes = {"minimum_part_bytes": PART_BYTES, "recommended_part_bytes": 2 * PART_BYTES}
    options = {**sizes, "buckets": [BUCKET], **options}
    with ObjectStoreServer(folder, clock=clock, **options) as server:
        yield server


def b2_of(server: ObjectStoreServer, clock: MovedClock) -> B2Blobs:
    return B2Blobs(server.key_id, server.key, BUCKET, clock=clock, realm=server.url)


def s3_of(server: ObjectStoreServer, clock: MovedClock) -> S3Blobs:
    key = server.make_key(*ALL, bucket=BUCKET)
    return S3Blobs(server.url, BUCKET, key.id, key.secret, clock=clock, region=server.region)


def folder_of(folder: Path, clock: MovedClock) -> FolderBlobs:
    folder.mkdir()
    return FolderBlobs(folder, clock=clock)


def native(server: ObjectStoreServer, key_id: str = "", secret: str = "") -> B2Api:
    """b2sdk, as anyone uses it."""
    api = B2Api(InMemoryAccountInfo())
    api.authorize_account(key_id or server.key_id, secret or server.key, realm=server.url)
    return api


def boto(url: str, key_id: str, secret: str, *, checksums: bool = False, **options: Any) -> Any:
    """boto3, as it must be set for B2 (`checksums`: as it is by itself)."""
    needed = "when_supported" if checksums else "when_required"
    config = botocore.config.Config(
        request_checksum_calculation=needed,
        response_checksum_validation=needed,
        s3={"addressing_style": "path", **options},
        retries={"total_max_attempts": 1},
    )
    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        region_name="us-east-1",
        config=config,
    )


_SOON: BackoffConfig = {
    "init_backoff": timedelta(milliseconds=10),
    "max_backoff": timedelta(milliseconds=10),
    "base": 2,
}


def obstore_of(key: StoreKey, *, retries: int = 0, **options: Any) -> S3Store:
    """obstore, as an agent uses a `StoreKey`."""
    return S3Store(
        key.bucket,
        endpoint=key.endpoint,
        region=key.region,
        access_key_id=key.key_id,
        secret_access_key=key.secret,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
        retry_config={"max_retries": retries, "retry_timeout": timedelta(seconds=20), "backoff": _SOON},
        **options,
    )


def control(server: ObjectStoreServer, method: str, name: str, body: object = None) -> Any:
    answer = httpx.request(method, f"{server.url}/_store/{name}", content=json.dumps(body).encode())
    assert answer.status_code == 200, answer.text
    return answer.json()


def fault(server: ObjectStoreServer, kind: str, **details: Any) -> None:
    control(server, "POST", "faults", {"kind": kind, **details})
