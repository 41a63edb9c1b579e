"""Faults on request: what the local store does when told to, and what the adapters and clients make of it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import obstore
import pytest

from dumont.domain.errors import BlobDamaged, BlobNotFound, BlobUnavailable
from dumont.local.object_store.server import ObjectStoreServer
from dumont.ports import CALL_SECONDS_MAX, Blobs, StoreKey
from tests.contract import blob_stores
from tests.contract.blob_stores import ALL, BUCKET, MovedClock, control, fault

CONTENT = os.urandom(2_000_000)


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def server(tmp_path: Path, clock: MovedClock) -> Iterator[ObjectStoreServer]:
    with blob_stores.serving(tmp_path / "store", clock) as running:
        yield running


@pytest.fixture(params=["b2", "s3"])
def blobs(request: pytest.FixtureRequest, server: ObjectStoreServer, clock: MovedClock) -> Blobs:
    is_b2 = request.param == "b2"
    made: Blobs = blob_stores.b2_of(server, clock) if is_b2 else blob_stores.s3_of(server, clock)
    made.put("m/x", CONTENT)
    return made


@pytest.fixture
def store(server: ObjectStoreServer) -> Any:
    return blob_stores.obstore_of(everything(server))


def everything(server: ObjectStoreServer) -> StoreKey:
    key = server.make_key(*ALL, bucket=BUCKET)
    return StoreKey(
        kind="b2",
        endpoint=server.url,
        region=server.region,
        bucket=BUCKET,
        prefix="",
        key_id=key.id,
        secret=key.secret,
        expires_at=None,
    )


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_an_adapter_tries_again_after_a_passing_refusal(server: ObjectStoreServer, blobs: Blobs, status: int) -> None:
    for operation in ("upload", "download", "list"):
        fault(server, "unavailable", operation=operation, status=status)
    blobs.put("m/y", b"again")
    assert blobs.get("m/y", max_bytes=10) == b"again"
    assert [seen.key for seen in blobs.list("m/")] == ["m/x", "m/y"]
    assert control(server, "GET", "faults") == {"faults": []}


def test_an_adapter_gives_up_in_time_and_says_that_nothing_is_known(server: ObjectStoreServer, blobs: Blobs) -> None:
    fault(server, "unavailable", operation="list", count=None, retry_after_seconds=CALL_SECONDS_MAX)
    begun = time.monotonic()
    with pytest.raises(BlobUnavailable):
        blobs.list("m/")
    assert time.monotonic() - begun < 10


def test_a_listing_comes_from_all_pages(server: ObjectStoreServer, blobs: Blobs) -> None:
    fill(server)
    fault(server, "unavailable", operation="list", every=2, count=None)
    assert [seen.key for seen in blobs.list("m/")] == [f"m/{number:04}" for number in range(1_000)] + ["m/x"]
    assert server.counts()["list"]["requests"] == 3  # the second page was asked for twice


def test_a_listing_that_breaks_after_its_first_page_is_no_listing(server: ObjectStoreServer, blobs: Blobs) -> None:
    fill(server)
    for _ in range(3):  # together they let one request pass, and then refuse seven
        fault(server, "unavailable", operation="list", every=2, count=None)
    with pytest.raises(BlobUnavailable):
        blobs.list("m/")


def fill(server: ObjectStoreServer) -> None:
    """1,000 objects more: one page of a listing."""
    for number in range(1_000):
        server.catalogue.add(_like(server, f"m/{number:04}"), [])


def _like(server: ObjectStoreServer, name: str) -> Any:
    one = server.catalogue.newest(server.bucket(BUCKET).id, "m/x")
    assert one is not None
    return msgspec.structs.replace(one, id=f"id-{name}", name=name)


def test_an_adapter_goes_on_after_a_broken_connection(server: ObjectStoreServer, blobs: Blobs) -> None:
    fault(server, "reset", operation="download", at_byte=1_000_000)
    assert blobs.get("m/x", max_bytes=len(CONTENT)) == CONTENT
    fault(server, "reset", operation="upload", at_byte=300_000)
    blobs.put("m/y", CONTENT)
    assert blobs.get("m/y", max_bytes=len(CONTENT)) == CONTENT


def test_a_delete_whose_answer_is_lost_is_done_once_more(server: ObjectStoreServer, blobs: Blobs) -> None:
    fault(server, "error_after", operation="delete")
    blobs.delete(blobs.list("m/x"))
    assert blobs.list("m/x") == []


def test_damage_is_found_and_handed_to_nobody(server: ObjectStoreServer, blobs: Blobs) -> None:
    fault(server, "damage", at_byte=-1)
    assert blobs.get("m/x", max_bytes=len(CONTENT)) == CONTENT  # a second look finds it whole
    fault(server, "damage", at_byte=1_234_567, count=None)
    with pytest.raises(BlobDamaged):
        blobs.get("m/x", max_bytes=len(CONTENT))


def test_a_lost_object_is_gone_from_reads_and_listings(server: ObjectStoreServer, blobs: Blobs) -> None:
    fault(server, "lost", name_prefix="m/x", listed=True)
    with pytest.raises(BlobNotFound):
        blobs.get("m/x", max_bytes=len(CONTENT))
    assert len(blobs.list("m/")) == 1
    fault(server, "lost", name_prefix="m/x")
    assert blobs.list("m/") == []
    control(server, "DELETE", "faults")
    assert blobs.get("m/x", max_bytes=len(CONTENT)) == CONTENT


# --- As clients see them ------------------------------------------------------------------------------------------


def test_every_seventh_request_fails_and_obstore_goes_on(server: ObjectStoreServer) -> None:
    store = blob_stores.obstore_of(everything(server), retries=3)
    fault(server, "unavailable", operation="upload", every=7, count=None)
    for number in range(20):
        obstore.put(store, f"m/{number}", b"x", use_multipart=False)
    counts = server.counts()["upload"]
    assert (counts["requests"], counts["failed"]) == (23, 3)


def test_damage_is_one_bit_wherever_the_object_is_read(server: ObjectStoreServer, store: Any) -> None:
    obstore.put(store, "x", CONTENT, chunk_size=500_000)
    fault(server, "damage", name_prefix="x", at_byte=777_777, count=None)
    got = bytes(obstore.get(store, "x").bytes())
    assert [at for at in range(len(CONTENT)) if got[at] != CONTENT[at]] == [777_777]
    part = bytes(obstore.get_range(store, "x", start=777_770, end=777_780))
    assert (part[:7], part[7] ^ 1, part[8:]) == (CONTENT[777_770:777_777], CONTENT[777_777], CONTENT[777_778:777_780])
    assert bytes(obstore.get_range(store, "x", start=0, end=777_777)) == CONTENT[:777_777]


def test_a_write_that_failed_after_its_effect_is_there(server: ObjectStoreServer, store: Any) -> None:
    fault(server, "error_after", operation="upload", status=500)
    with pytest.raises(obstore.exceptions.GenericError):
        obstore.put(store, "x", b"done", use_multipart=False)
    assert bytes(obstore.get(store, "x").bytes()) == b"done"


def test_an_upload_that_breaks_off_leaves_nothing(server: ObjectStoreServer, store: Any) -> None:
    fault(server, "reset", operation="upload", at_byte=1_000_000)
    with pytest.raises(obstore.exceptions.GenericError):
        obstore.put(store, "x", CONTENT, use_multipart=False)
    assert list(server.catalogue.data.glob("*/*")) == []


def test_a_stream_and_the_whole_line_are_held_to_their_pace(server: ObjectStoreServer, store: Any) -> None:
    obstore.put(store, "x", CONTENT, use_multipart=False)
    for pace in ({"stream_megabytes_per_second": 10.0}, {"total_megabytes_per_second": 10.0}):
        control(server, "POST", "pace", pace)
        for move in (
            lambda: obstore.get(store, "x").bytes(),
            lambda: obstore.put(store, "y", CONTENT, use_multipart=False),
        ):
            begun = time.monotonic()
            move()
            assert 0.15 < time.monotonic() - begun < 10
    control(server, "DELETE", "pace")
    assert control(server, "GET", "pace")["stream_megabytes_per_second"] is None


def test_the_first_byte_takes_its_time(server: ObjectStoreServer, store: Any) -> None:
    obstore.put(store, "x", b"", use_multipart=False)
    control(server, "POST", "pace", {"first_byte_seconds": 0.1})
    begun = time.monotonic()
    obstore.head(store, "x")
    assert time.monotonic() - begun >= 0.1


def test_the_store_counts_what_it_carried(server: ObjectStoreServer, store: Any) -> None:
    control(server, "DELETE", "counts")
    obstore.put(store, "x", CONTENT, use_multipart=False)
    obstore.get_range(store, "x", start=0, end=1000)
    counts = control(server, "GET", "counts")["counts"]
    assert counts["upload"] == {"requests": 1, "failed": 0, "bytes_in": len(CONTENT), "bytes_out": 0}
    assert counts["download"]["bytes_out"] == 1000


@pytest.mark.parametrize("body", [b"{", b'{"kind": "unheard"}', b'{"kind": "reset", "operation": "dance"}', b"[]"])
def test_a_fault_that_is_none_is_refused(server: ObjectStoreServer, body: bytes) -> None:
    answer = httpx.post(f"{server.url}/_store/faults", content=body)
    assert (answer.status_code, answer.json()["success"]) == (400, False)
    assert control(server, "GET", "faults") == {"faults": []}
