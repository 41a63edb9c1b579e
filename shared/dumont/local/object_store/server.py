"""The local object store, running: both APIs and the controls on one port."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dumont.local.object_store.catalogue import Bucket, Catalogue
from dumont.local.object_store.control import Control, Counts
from dumont.local.object_store.faults import Fault, Faults, Pace
from dumont.local.object_store.files import Files, failure
from dumont.local.object_store.http import Answer, HttpServer, Request
from dumont.local.object_store.keys import Key, Keyring
from dumont.local.object_store.native import Native
from dumont.local.object_store.refusals import Broken, Refused
from dumont.local.object_store.s3 import S3
from dumont.ports import Clock

REGION = "us-east-1"
MINIMUM_PART_BYTES, RECOMMENDED_PART_BYTES = 5_000_000, 100_000_000
"""B2's."""


class ObjectStoreServer:
    """Backblaze B2 on a port of loopback: its native API and its S3 API over the files in `folder`, which stay.

    `buckets` are made if they are missing. The account's own key (`key_id`, `key`) is for the native API alone, as
    B2's master key is; `make_key` makes others, as does `b2_create_key`.

    `takes_checksums`: accept x-amz-checksum-* headers, which B2 refuses. `takes_conditions`: accept If-None-Match: *
    on writes (412 if the object is there); B2's S3 API answers such writes with 501, and so does this one with False.
    `check_payload` False trusts the SHA-256 that a client signed, which makes uploads faster.
    """

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        *,
        clock: Clock,
        buckets: Iterable[str] = (),
        region: str = REGION,
        minimum_part_bytes: int = MINIMUM_PART_BYTES,
        recommended_part_bytes: int = RECOMMENDED_PART_BYTES,
        takes_checksums: bool = False,
        takes_conditions: bool = True,
        check_payload: bool = True,
        host: str = "127.0.0.1",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.region = region
        self.catalogue = Catalogue(folder)
        self.keyring = Keyring(self.catalogue, clock)
        self.faults = Faults()
        self._counts = Counts()
        there = {bucket.name for bucket in self.catalogue.buckets()}
        for name in buckets:
            if name not in there:
                self.catalogue.create_bucket(name)
        files = Files(
            self.catalogue,
            self.faults,
            clock,
            minimum_part_bytes=minimum_part_bytes,
            recommended_part_bytes=recommended_part_bytes,
        )
        self._native = Native(files, self.keyring)
        self._s3 = S3(
            files,
            self.keyring,
            clock,
            region=region,
            takes_checksums=takes_checksums,
            takes_conditions=takes_conditions,
            check_payload=check_payload,
        )
        self._http = HttpServer(self._handle, port, host)
        self._control = Control(self.faults, self._http.line, self._counts)

    @property
    def port(self) -> int:
        """The port, the picked one if none was asked for."""
        return int(self._http.server_port)

    @property
    def url(self) -> str:
        """The realm of the native API, and the endpoint of the S3 one."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def key_id(self) -> str:
        """The account's own key: B2_APPLICATION_KEY_ID."""
        return self.keyring.master.id

    @property
    def key(self) -> str:
        """Its secret: B2_APPLICATION_KEY."""
        return self.keyring.master.secret

    def make_key(
        self,
        *capabilities: str,
        bucket: str | None = None,
        prefix: str = "",
        valid_seconds: int | None = None,
        name: str = "made-here",
    ) -> Key:
        """A key as `b2_create_key` makes one."""
        buckets = None if bucket is None else [self.bucket(bucket)]
        return self.keyring.create(
            name=name, capabilities=capabilities, valid_seconds=valid_seconds, buckets=buckets, prefix=prefix
        )

    def bucket(self, name: str) -> Bucket:
        """The bucket of that name."""
        return self.catalogue.bucket(name=name)

    def inject(self, fault: Fault) -> None:
        """As POST `/_store/faults`."""
        self.faults.add(fault)

    def set_pace(self, pace: Pace) -> None:
        """As POST `/_store/pace`."""
        self._http.line.pace = pace

    def counts(self) -> dict[str, dict[str, int]]:
        """As GET `/_store/counts`: operation → requests, failed, bytes_in, bytes_out."""
        return self._counts.rows()

    def start(self) -> None:
        """Open the store."""
        self._http.start()

    def close(self) -> None:
        """Close it. The folder stays."""
        self._http.close()
        self.catalogue.close()

    def __enter__(self) -> ObjectStoreServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _handle(self, request: Request) -> Answer:
        if request.path.startswith("/_store/"):
            return self._answer(request, self._control)
        is_native = request.path.startswith(("/b2api/", "/file/"))
        answer = self._answer(request, self._native if is_native else self._s3)
        self._counts.add(request, answer)
        return answer

    def _answer(self, request: Request, api: Native | S3 | Control) -> Answer:
        try:
            answer = api.handle(request)
            if request.breaks_at and not request.body.length and answer.content is None:
                raise Broken
            if request.fails_after:
                raise failure(request.fails_after)
        except Refused as refused:
            answer = api.refusal(refused, request)
            if refused.retry_after_seconds is not None:
                answer.headers["Retry-After"] = f"{refused.retry_after_seconds:g}"
        return answer
