"""What a key for a host can do, and above all what it cannot: on both APIs, of the local store as of B2."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import obstore
import pytest
from b2sdk.v3 import exception as b2

from dumont.adapters.b2 import B2Blobs
from dumont.domain.errors import BlobRefused
from dumont.local.object_store.server import ObjectStoreServer
from dumont.ports import StoreKey
from tests.contract import blob_stores
from tests.contract.blob_stores import BUCKET, PART_BYTES, MovedClock

CONTENT = os.urandom(5 * PART_BYTES)
OURS, THEIRS = "m-1/3/", "m-2/1/"
DENIED = (obstore.exceptions.PermissionDeniedError, obstore.exceptions.UnauthenticatedError)
LISTING_DENIED = pytest.raises(obstore.exceptions.GenericError, match="AccessDenied")


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def server(tmp_path: Path, clock: MovedClock) -> Iterator[ObjectStoreServer]:
    with blob_stores.serving(tmp_path / "store", clock) as running:
        yield running


@pytest.fixture
def blobs(server: ObjectStoreServer, clock: MovedClock) -> B2Blobs:
    made = blob_stores.b2_of(server, clock)
    made.put(f"{OURS}pack", b"ours")
    made.put(f"{THEIRS}pack", b"theirs")
    return made


@pytest.fixture
def writer(blobs: B2Blobs) -> StoreKey:
    return blobs.mint_key(OURS, "write", 3600)


@pytest.fixture
def reader(blobs: B2Blobs) -> StoreKey:
    return blobs.mint_key(OURS, "read", 3600)


def of_boto(key: StoreKey) -> Any:
    return blob_stores.boto(key.endpoint, key.key_id, key.secret)


def of_b2sdk(server: ObjectStoreServer, key: StoreKey) -> Any:
    """The bucket, found without being asked for: a key for a host may not list buckets."""
    api = blob_stores.native(server, key.key_id, key.secret)
    return api.get_bucket_by_id(server.bucket(BUCKET).id)


# --- A snapshot's key ---------------------------------------------------------------------------------------------


def test_a_snapshot_key_is_for_writing_in_one_place_and_nothing_else(
    server: ObjectStoreServer, writer: StoreKey
) -> None:
    made = server.keyring.find(writer.key_id)
    assert made is not None
    assert (made.capabilities, made.prefix, made.bucket_ids) == (("writeFiles",), OURS, (server.bucket(BUCKET).id,))


def test_obstore_needs_no_more_than_a_snapshot_key(blobs: B2Blobs, writer: StoreKey) -> None:
    store = blob_stores.obstore_of(writer)
    obstore.put(store, f"{OURS}whole", CONTENT, use_multipart=False)
    obstore.put(store, f"{OURS}parts", CONTENT, chunk_size=PART_BYTES)
    assert {seen.key: seen.size for seen in blobs.list(OURS)} == {
        f"{OURS}pack": 4,
        f"{OURS}parts": len(CONTENT),
        f"{OURS}whole": len(CONTENT),
    }


def test_b2sdk_uploads_large_files_with_a_snapshot_key(
    server: ObjectStoreServer, blobs: B2Blobs, writer: StoreKey, tmp_path: Path
) -> None:
    path = tmp_path / "large"
    path.write_bytes(CONTENT)
    of_b2sdk(server, writer).upload_local_file(str(path), f"{OURS}large", min_part_size=PART_BYTES)
    assert blobs.get(f"{OURS}large", max_bytes=len(CONTENT)) == CONTENT


@pytest.mark.parametrize("name", [f"{OURS}pack", f"{THEIRS}pack"])
def test_a_snapshot_key_cannot_read(server: ObjectStoreServer, writer: StoreKey, name: str) -> None:
    store = blob_stores.obstore_of(writer)
    for read in (obstore.get, obstore.head):
        with pytest.raises(DENIED):
            read(store, name)
    with pytest.raises(DENIED):
        obstore.get_range(store, name, start=0, end=1)
    with pytest.raises(b2.Unauthorized):
        of_b2sdk(server, writer).download_file_by_name(name)


def test_a_snapshot_key_cannot_list(server: ObjectStoreServer, writer: StoreKey) -> None:
    for prefix in (None, OURS, THEIRS):
        with LISTING_DENIED:
            list(obstore.list(blob_stores.obstore_of(writer), prefix))
    client = of_boto(writer)
    for call in (client.list_object_versions, client.list_multipart_uploads, client.list_objects_v2):
        with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
            call(Bucket=BUCKET, Prefix=OURS)
    with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
        client.list_buckets()
    bucket = of_b2sdk(server, writer)
    for listing in (bucket.ls("", recursive=True), bucket.list_unfinished_large_files()):
        with pytest.raises(b2.Unauthorized):
            list(listing)


def test_a_snapshot_key_deletes_nothing_for_ever(server: ObjectStoreServer, blobs: B2Blobs, writer: StoreKey) -> None:
    kept = blobs.list(OURS)[0]
    client = of_boto(writer)
    with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
        client.delete_object(Bucket=BUCKET, Key=kept.key, VersionId=kept.version_id)
    with pytest.raises(b2.Unauthorized):
        of_b2sdk(server, writer).delete_file_version(kept.version_id, kept.key)
    # As on B2, it may hide and cover what is in its own place; the version stays, and is found by its id.
    client.delete_object(Bucket=BUCKET, Key=kept.key)
    client.put_object(Bucket=BUCKET, Key=kept.key, Body=b"swapped")
    assert blobs.get(kept.key, max_bytes=10, version_id=kept.version_id) == b"ours"
    assert [seen.is_latest for seen in blobs.list(OURS)] == [True, False]


def test_a_snapshot_key_does_not_touch_another_machines_place(
    server: ObjectStoreServer, blobs: B2Blobs, writer: StoreKey
) -> None:
    for name in (f"{THEIRS}pack", f"{THEIRS}new", "m-1/4/x", "m-1/3", "x"):
        with pytest.raises(DENIED):
            obstore.put(blob_stores.obstore_of(writer), name, b"bad", use_multipart=False)
        with pytest.raises(b2.B2Error, match="unauthorized"):
            of_b2sdk(server, writer).upload_bytes(b"bad", name)
    client = of_boto(writer)
    for call in (client.delete_object, client.create_multipart_upload):
        with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
            call(Bucket=BUCKET, Key=f"{THEIRS}pack")
    with pytest.raises(b2.Unauthorized):
        of_b2sdk(server, writer).hide_file(f"{THEIRS}pack")
    assert [(seen.key, seen.size) for seen in blobs.list("")] == [(f"{OURS}pack", 4), (f"{THEIRS}pack", 6)]


def test_a_snapshot_key_does_not_touch_an_upload_that_another_machine_began(
    server: ObjectStoreServer, blobs: B2Blobs, writer: StoreKey
) -> None:
    other = of_boto(blobs.mint_key(THEIRS, "write", 60))
    upload_id = other.create_multipart_upload(Bucket=BUCKET, Key=f"{THEIRS}big")["UploadId"]
    client = of_boto(writer)
    for name in (f"{THEIRS}big", f"{OURS}big"):
        with pytest.raises(client.exceptions.ClientError, match=r"AccessDenied|NoSuchUpload"):
            client.upload_part(Bucket=BUCKET, Key=name, UploadId=upload_id, PartNumber=1, Body=b"bad")
        with pytest.raises(client.exceptions.ClientError, match=r"AccessDenied|NoSuchUpload"):
            client.abort_multipart_upload(Bucket=BUCKET, Key=name, UploadId=upload_id)
    with pytest.raises(b2.Unauthorized):
        of_b2sdk(server, writer).api.cancel_large_file(upload_id)


def test_a_key_does_not_reach_another_bucket(server: ObjectStoreServer, writer: StoreKey) -> None:
    server.catalogue.create_bucket("other-bucket")
    for name in ("other-bucket", "no-such-bucket"):
        elsewhere = blob_stores.obstore_of(msgspec.structs.replace(writer, bucket=name))
        with pytest.raises(DENIED):
            obstore.put(elsewhere, f"{OURS}x", b"bad", use_multipart=False)
    with pytest.raises(b2.RestrictedBucket):
        blob_stores.native(server, writer.key_id, writer.secret).get_bucket_by_name("other-bucket")


def test_a_key_makes_no_other_key(server: ObjectStoreServer, writer: StoreKey) -> None:
    api = blob_stores.native(server, writer.key_id, writer.secret)
    with pytest.raises(b2.Unauthorized):
        api.create_key(["readFiles"], "more")
    with pytest.raises(b2.Unauthorized):
        list(api.list_keys())
    with pytest.raises(b2.Unauthorized):
        api.session.delete_key(writer.key_id)


# --- A restore's key ----------------------------------------------------------------------------------------------


def test_a_restore_key_reads_what_it_knows_the_name_of(server: ObjectStoreServer, reader: StoreKey) -> None:
    store = blob_stores.obstore_of(reader)
    assert bytes(obstore.get(store, f"{OURS}pack").bytes()) == b"ours"
    assert bytes(obstore.get_range(store, f"{OURS}pack", start=1, end=3)) == b"ur"
    got = io.BytesIO()
    of_b2sdk(server, reader).download_file_by_name(f"{OURS}pack").save(got)
    assert got.getvalue() == b"ours"


def test_a_restore_key_does_nothing_else(server: ObjectStoreServer, blobs: B2Blobs, reader: StoreKey) -> None:
    store = blob_stores.obstore_of(reader)
    with pytest.raises(DENIED):
        obstore.get(store, f"{THEIRS}pack")
    with pytest.raises(DENIED):
        obstore.put(store, f"{OURS}new", b"bad", use_multipart=False)
    with LISTING_DENIED:
        list(obstore.list(store, OURS))
    theirs = blobs.list(THEIRS)[0]
    with pytest.raises(b2.Unauthorized):
        of_b2sdk(server, reader).api.download_file_by_id(theirs.version_id)
    client = of_boto(reader)
    with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
        client.delete_object(Bucket=BUCKET, Key=f"{OURS}pack")
    with pytest.raises(b2.Unauthorized):
        of_b2sdk(server, reader).hide_file(f"{OURS}pack")


# --- The end of a key ---------------------------------------------------------------------------------------------


def test_a_key_ends_when_its_time_is_over(
    server: ObjectStoreServer, blobs: B2Blobs, clock: MovedClock, writer: StoreKey
) -> None:
    short = blobs.mint_key(OURS, "write", 60)
    store, bucket = blob_stores.obstore_of(short), of_b2sdk(server, short)
    obstore.put(store, f"{OURS}in-time", b"", use_multipart=False)
    bucket.upload_bytes(b"", f"{OURS}in-time-too")
    clock.ahead_seconds = 61
    with pytest.raises(DENIED):
        obstore.put(store, f"{OURS}late", b"", use_multipart=False)
    with pytest.raises(b2.B2Error):
        bucket.api.session.get_upload_url(bucket.id_)
    with pytest.raises(b2.B2Error):
        blob_stores.native(server, short.key_id, short.secret)
    obstore.put(blob_stores.obstore_of(writer), f"{OURS}other-key", b"", use_multipart=False)


def test_a_revoked_key_ends_at_once(server: ObjectStoreServer, blobs: B2Blobs, writer: StoreKey) -> None:
    bucket = of_b2sdk(server, writer)
    blobs.revoke_key(writer.key_id)
    with pytest.raises(DENIED):
        obstore.put(blob_stores.obstore_of(writer), f"{OURS}x", b"", use_multipart=False)
    with pytest.raises(b2.B2Error):
        bucket.api.session.get_upload_url(bucket.id_)


def test_the_keys_of_a_holder_end_together_also_those_that_nobody_wrote_down(
    server: ObjectStoreServer, blobs: B2Blobs
) -> None:
    mine = [blobs.mint_key(OURS, right, 3600, holder="op-1") for right in ("write", "read")]
    others = [blobs.mint_key(OURS, "write", 3600, holder=holder) for holder in ("op-2", "op-12", "")]
    blobs.revoke_keys("op-1")
    assert [server.keyring.find(key.key_id) for key in mine] == [None, None]
    assert None not in [server.keyring.find(key.key_id) for key in others]
    blobs.revoke_keys("op-1")
    with pytest.raises(BlobRefused):
        blobs.revoke_keys("")


@pytest.mark.parametrize("seconds", [0, -1, 86_400_001])
def test_a_key_must_have_a_life_that_b2_gives(blobs: B2Blobs, seconds: int) -> None:
    with pytest.raises(BlobRefused):
        blobs.mint_key(OURS, "write", seconds)


def test_a_control_plane_with_a_wrong_key_is_refused(server: ObjectStoreServer, clock: MovedClock) -> None:
    wrong = B2Blobs(server.key_id, "K00wrong", BUCKET, clock=clock, realm=server.url)
    with pytest.raises(BlobRefused) as problem:
        wrong.list("")
    assert "K00wrong" not in str(problem.value)
    missing = B2Blobs(server.key_id, server.key, "no-such-bucket", clock=clock, realm=server.url)
    with pytest.raises(BlobRefused):
        missing.list("")
