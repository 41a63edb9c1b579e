"""The local object store, as b2sdk and obstore find it; what its two APIs share, and what stays of it."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import obstore
import pytest
from b2sdk.v3 import exception as b2

from dumont.local.object_store.server import ObjectStoreServer
from tests.contract import blob_stores
from tests.contract.blob_stores import ALL, BUCKET, PART_BYTES, MovedClock

CONTENT = os.urandom(5 * PART_BYTES + 17)


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def server(tmp_path: Path, clock: MovedClock) -> Iterator[ObjectStoreServer]:
    with blob_stores.serving(tmp_path / "store", clock) as running:
        yield running


@pytest.fixture
def s3(server: ObjectStoreServer) -> Any:
    key = server.make_key(*ALL, bucket=BUCKET)
    return blob_stores.boto(server.url, key.id, key.secret)


@pytest.fixture
def bucket(server: ObjectStoreServer) -> Any:
    return blob_stores.native(server).get_bucket_by_name(BUCKET)


# --- B2's own API by b2sdk ----------------------------------------------------------------------------------------


def test_b2sdk_uploads_downloads_lists_hides_and_deletes(bucket: Any) -> None:
    made = bucket.upload_bytes(CONTENT[:PART_BYTES], "a/größe +%", file_info={"epoch": "3 é"})
    assert made.content_sha1 == hashlib.sha1(CONTENT[:PART_BYTES]).hexdigest()  # noqa: S324
    got = io.BytesIO()
    bucket.download_file_by_name("a/größe +%").save(got)
    assert got.getvalue() == CONTENT[:PART_BYTES]
    assert bucket.get_file_info_by_name("a/größe +%").file_info == {"epoch": "3 é"}
    part = io.BytesIO()
    bucket.download_file_by_id(made.id_, range_=(10, 19)).save(part)
    assert part.getvalue() == CONTENT[10:20]
    bucket.hide_file("a/größe +%")
    assert [version.file_name for version, _ in bucket.ls(recursive=True)] == []
    assert [version.action for version in bucket.list_file_versions("a/größe +%")] == ["hide", "upload"]
    with pytest.raises(b2.FileNotPresent):
        bucket.download_file_by_name("a/größe +%")
    bucket.delete_file_version(made.id_, "a/größe +%")
    with pytest.raises(b2.FileNotPresent):
        bucket.download_file_by_id(made.id_)


def test_b2sdk_uploads_empty_files(bucket: Any) -> None:
    assert bucket.upload_bytes(b"", "empty").size == 0
    assert bucket.get_file_info_by_name("empty").size == 0


def test_b2sdk_uploads_large_files_and_goes_on_with_them(bucket: Any, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(CONTENT)
    started = bucket.api.session.start_large_file(bucket.id_, "a/large", "b2/x-auto", {})["fileId"]
    assert [unfinished.file_id for unfinished in bucket.list_unfinished_large_files()] == [started]
    bucket.api.cancel_large_file(started)
    made = bucket.upload_local_file(str(path), "a/large", min_part_size=PART_BYTES)
    got = io.BytesIO()
    bucket.download_file_by_name("a/large").save(got)
    assert (made.size, got.getvalue()) == (len(CONTENT), CONTENT)
    assert next(bucket.list_file_versions("a/large")).content_md5 is None
    assert list(bucket.list_unfinished_large_files()) == []


def test_b2sdk_manages_buckets_and_keys(server: ObjectStoreServer, bucket: Any) -> None:
    api = blob_stores.native(server)
    other = api.create_bucket("another-bucket", "allPrivate")
    assert [found.name for found in api.list_buckets()] == ["another-bucket", BUCKET]
    with pytest.raises(b2.DuplicateBucketName):
        api.create_bucket("another-bucket", "allPrivate")
    api.delete_bucket(other)
    made = api.create_key(["readFiles"], "reader", 60, bucket_ids=[bucket.id_], name_prefix="m/1/")
    listed = next(key for key in api.list_keys() if key.id_ == made.id_)
    assert (listed.capabilities, listed.bucket_ids, listed.name_prefix) == (["readFiles"], [bucket.id_], "m/1/")
    api.delete_key_by_id(made.id_)
    assert [key.id_ for key in api.list_keys()] == []


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_every_version_of_the_native_api_tells_where_to_go_on(server: ObjectStoreServer, version: int) -> None:
    key = server.make_key("readFiles", bucket=BUCKET, prefix="m/")
    answer = httpx.get(f"{server.url}/b2api/v{version}/b2_authorize_account", auth=(key.id, key.secret)).json()
    storage = answer["apiInfo"]["storageApi"] if version > 2 else answer
    allowed = storage if version == 3 else storage["allowed"]
    assert (storage["apiUrl"], storage["absoluteMinimumPartSize"]) == (server.url, PART_BYTES)
    assert (allowed["capabilities"], allowed["namePrefix"]) == (["readFiles"], "m/")
    assert (allowed["buckets"][0]["name"] if version == 4 else allowed["bucketName"]) == BUCKET


def test_files_of_one_api_are_there_for_the_other(s3: Any, bucket: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="by/s3", Body=b"s3")
    bucket.upload_bytes(b"native", "by/b2")
    assert s3.get_object(Bucket=BUCKET, Key="by/b2")["Body"].read() == b"native"
    listed = {version.file_name: version for version, _ in bucket.ls("by", recursive=True)}
    assert listed["by/s3"].content_md5 == hashlib.md5(b"s3").hexdigest()  # noqa: S324


# --- obstore, and the rest ----------------------------------------------------------------------------------------


def test_obstore_puts_gets_ranges_parts_and_lists(server: ObjectStoreServer) -> None:
    minted = blob_stores.b2_of(server, MovedClock()).mint_key("", "write", 60)
    key = server.make_key(*ALL, bucket=BUCKET)
    store = blob_stores.obstore_of(_as(minted, key.id, key.secret))
    obstore.put(store, "a/pack", CONTENT, use_multipart=False)
    obstore.put(store, "a/big é+", CONTENT, chunk_size=2 * PART_BYTES)
    assert bytes(obstore.get(store, "a/big é+").bytes()) == CONTENT
    ranges = obstore.get_ranges(store, "a/pack", starts=[0, 500_000], ends=[10, 500_010])
    assert [bytes(part) for part in ranges] == [CONTENT[:10], CONTENT[500_000:500_010]]
    assert sorted(meta["path"] for page in obstore.list(store) for meta in page) == ["a/big é+", "a/pack"]
    assert obstore.head(store, "a/pack")["size"] == len(CONTENT)


def _as(key: Any, key_id: str, secret: str) -> Any:
    return msgspec.structs.replace(key, key_id=key_id, secret=secret)


def test_all_is_still_there_after_a_restart(tmp_path: Path, clock: MovedClock) -> None:
    with blob_stores.serving(tmp_path, clock) as first:
        key = first.make_key(*ALL)
        blob_stores.boto(first.url, key.id, key.secret).put_object(Bucket=BUCKET, Key="x", Body=CONTENT)
        account = (first.key_id, first.key)
    (tmp_path / "data" / "ff").mkdir(exist_ok=True)
    (tmp_path / "data" / "ff" / "cut-off").write_bytes(b"part of an upload")
    with blob_stores.serving(tmp_path, clock) as second:
        client = blob_stores.boto(second.url, key.id, key.secret)
        assert client.get_object(Bucket=BUCKET, Key="x")["Body"].read() == CONTENT
        assert (second.key_id, second.key) == account
        assert len(list((tmp_path / "data").glob("*/*"))) == 1


def test_it_runs_by_itself_and_keeps_its_secret_in_a_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dumont.local.object_store", "--port", "0", "--folder", str(tmp_path)]
    with subprocess.Popen([*command, "--bucket", BUCKET], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        kept = tmp_path / "account.env"
        account = dict(line.split("=", 1) for line in kept.read_text().split())
        answer = httpx.get(
            said.split()[0] + "/b2api/v4/b2_authorize_account",
            auth=(account["B2_APPLICATION_KEY_ID"], account["B2_APPLICATION_KEY"]),
        )
        process.terminate()
        assert process.wait(10) == 0
    assert answer.status_code == 200
    assert account["B2_APPLICATION_KEY"] not in said
    assert kept.stat().st_mode & 0o777 == 0o600
