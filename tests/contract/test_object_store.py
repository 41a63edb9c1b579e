"""The local object store, as the official clients find it: b2sdk, boto3 and obstore."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.exceptions
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


def refusal(problem: pytest.ExceptionInfo[botocore.exceptions.ClientError]) -> tuple[str, int]:
    response: Any = problem.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


# --- S3 by boto3 --------------------------------------------------------------------------------------------------


def test_boto_puts_gets_heads_and_deletes(s3: Any) -> None:
    put = s3.put_object(Bucket=BUCKET, Key="a/b c+d", Body=CONTENT, Metadata={"epoch": "3"}, ContentType="text/plain")
    assert put["ETag"] == f'"{hashlib.md5(CONTENT).hexdigest()}"'  # noqa: S324
    got = s3.get_object(Bucket=BUCKET, Key="a/b c+d")
    assert got["Body"].read() == CONTENT
    head = s3.head_object(Bucket=BUCKET, Key="a/b c+d")
    assert (head["ContentLength"], head["Metadata"], head["ContentType"]) == (
        len(CONTENT),
        {"epoch": "3"},
        "text/plain",
    )
    s3.delete_object(Bucket=BUCKET, Key="a/b c+d")
    with pytest.raises(botocore.exceptions.ClientError) as problem:
        s3.get_object(Bucket=BUCKET, Key="a/b c+d")
    assert refusal(problem) == ("NoSuchKey", 404)


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [("bytes=0-0", 0, 1), ("bytes=3-9", 3, 10), ("bytes=1000000-", 1_000_000, None), ("bytes=-5", -5, None)],
)
def test_a_range_is_that_part_alone(s3: Any, asked: str, first: int, end: int | None) -> None:
    s3.put_object(Bucket=BUCKET, Key="x", Body=CONTENT)
    got = s3.get_object(Bucket=BUCKET, Key="x", Range=asked)
    assert got["Body"].read() == CONTENT[first:end]
    assert got["ContentRange"].endswith(f"/{len(CONTENT)}")


def test_a_range_past_the_end_is_refused(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="x", Body=b"12345")
    with pytest.raises(botocore.exceptions.ClientError) as problem:
        s3.get_object(Bucket=BUCKET, Key="x", Range="bytes=5-")
    assert refusal(problem) == ("InvalidRange", 416)


def test_a_listing_goes_over_pages_and_by_folders(s3: Any) -> None:
    for name in ("a/1", "a/2", "a/b/3", "b/4", "c"):
        s3.put_object(Bucket=BUCKET, Key=name, Body=b"")
    pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, PaginationConfig={"PageSize": 2}))
    assert [row["Key"] for page in pages for row in page["Contents"]] == ["a/1", "a/2", "a/b/3", "b/4", "c"]
    assert len(pages) == 3
    folders: list[str] = []
    for page in s3.get_paginator("list_objects_v2").paginate(
        Bucket=BUCKET, Delimiter="/", PaginationConfig={"PageSize": 1}
    ):
        folders += [row["Prefix"] for row in page.get("CommonPrefixes", [])]
        folders += [row["Key"] for row in page.get("Contents", [])]
    assert folders == ["a/", "b/", "c"]
    after = s3.list_objects_v2(Bucket=BUCKET, Prefix="a/", StartAfter="a/1")
    assert [row["Key"] for row in after["Contents"]] == ["a/2", "a/b/3"]


def test_an_upload_in_parts_is_resumed_from_the_list_of_its_parts(s3: Any) -> None:
    upload_id = s3.create_multipart_upload(Bucket=BUCKET, Key="big")["UploadId"]
    pieces = [CONTENT[at : at + 2 * PART_BYTES] for at in range(0, len(CONTENT), 2 * PART_BYTES)]
    for number in (1, 2):
        s3.upload_part(Bucket=BUCKET, Key="big", UploadId=upload_id, PartNumber=number, Body=pieces[number - 1])
    there = s3.list_parts(Bucket=BUCKET, Key="big", UploadId=upload_id, MaxParts=1)
    assert (there["IsTruncated"], there["NextPartNumberMarker"]) == (True, 1)
    s3.upload_part(Bucket=BUCKET, Key="big", UploadId=upload_id, PartNumber=3, Body=pieces[2])
    parts = s3.list_parts(Bucket=BUCKET, Key="big", UploadId=upload_id)["Parts"]
    chosen = {"Parts": [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in parts]}
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)
    done = s3.complete_multipart_upload(Bucket=BUCKET, Key="big", UploadId=upload_id, MultipartUpload=chosen)
    digests = b"".join(hashlib.md5(piece).digest() for piece in pieces)  # noqa: S324
    assert done["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-3"'  # noqa: S324
    assert s3.get_object(Bucket=BUCKET, Key="big")["Body"].read() == CONTENT
    over_a_seam = s3.get_object(Bucket=BUCKET, Key="big", Range=f"bytes={2 * PART_BYTES - 3}-{2 * PART_BYTES + 2}")
    assert over_a_seam["Body"].read() == CONTENT[2 * PART_BYTES - 3 : 2 * PART_BYTES + 3]
    again = s3.complete_multipart_upload(Bucket=BUCKET, Key="big", UploadId=upload_id, MultipartUpload=chosen)
    assert again["ETag"] == done["ETag"]


def test_an_upload_in_parts_can_be_ended_and_leaves_nothing(server: ObjectStoreServer, s3: Any) -> None:
    upload_id = s3.create_multipart_upload(Bucket=BUCKET, Key="big")["UploadId"]
    s3.upload_part(Bucket=BUCKET, Key="big", UploadId=upload_id, PartNumber=1, Body=CONTENT)
    assert [row["UploadId"] for row in s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]] == [upload_id]
    s3.abort_multipart_upload(Bucket=BUCKET, Key="big", UploadId=upload_id)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)
    assert list(server.catalogue.data.glob("*/*")) == []


@pytest.mark.parametrize("fault", ["too small", "wrong digest", "missing"])
def test_parts_that_do_not_fit_are_refused(s3: Any, fault: str) -> None:
    upload_id = s3.create_multipart_upload(Bucket=BUCKET, Key="big")["UploadId"]
    bodies = (b"small", b"last") if fault == "too small" else (CONTENT, b"last")
    tags = [
        s3.upload_part(Bucket=BUCKET, Key="big", UploadId=upload_id, PartNumber=number, Body=body)["ETag"]
        for number, body in enumerate(bodies, start=1)
    ]
    tags = ['"' + "0" * 32 + '"', tags[1]] if fault == "wrong digest" else tags
    numbers = (1, 3) if fault == "missing" else (1, 2)
    chosen = {"Parts": [{"PartNumber": number, "ETag": tag} for number, tag in zip(numbers, tags, strict=True)]}
    with pytest.raises(botocore.exceptions.ClientError) as problem:
        s3.complete_multipart_upload(Bucket=BUCKET, Key="big", UploadId=upload_id, MultipartUpload=chosen)
    assert refusal(problem) == ("EntityTooSmall" if fault == "too small" else "InvalidPart", 400)


def test_a_write_on_condition_fails_if_the_object_is_there(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="x", Body=b"first", IfNoneMatch="*")
    with pytest.raises(botocore.exceptions.ClientError) as problem:
        s3.put_object(Bucket=BUCKET, Key="x", Body=b"second", IfNoneMatch="*")
    assert refusal(problem) == ("PreconditionFailed", 412)
    assert s3.get_object(Bucket=BUCKET, Key="x")["Body"].read() == b"first"


def test_of_many_writes_on_condition_one_succeeds(server: ObjectStoreServer) -> None:
    key = server.make_key(*ALL, bucket=BUCKET)
    outcomes: list[str] = []

    def put(number: int) -> None:
        client = blob_stores.boto(server.url, key.id, key.secret)
        try:
            client.put_object(Bucket=BUCKET, Key="x", Body=bytes([number]), IfNoneMatch="*")
            outcomes.append("done")
        except botocore.exceptions.ClientError:
            outcomes.append("refused")

    threads = [threading.Thread(target=put, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["done"] + ["refused"] * 5


def test_as_on_b2_conditions_on_writes_can_be_unknown(tmp_path: Path, clock: MovedClock) -> None:
    with blob_stores.serving(tmp_path / "other", clock, takes_conditions=False) as strict:
        key = strict.make_key(*ALL)
        client = blob_stores.boto(strict.url, key.id, key.secret)
        with pytest.raises(botocore.exceptions.ClientError) as problem:
            client.put_object(Bucket=BUCKET, Key="x", Body=b"", IfNoneMatch="*")
        assert refusal(problem) == ("NotImplemented", 501)


@pytest.mark.parametrize(("md5", "code"), [("1B2M2Y8AsgTpgAmY7PhCfg==", "BadDigest"), ("nonsense", "InvalidDigest")])
def test_content_of_another_md5_is_refused_and_not_kept(
    server: ObjectStoreServer, s3: Any, md5: str, code: str
) -> None:
    with pytest.raises(botocore.exceptions.ClientError) as problem:
        s3.put_object(Bucket=BUCKET, Key="x", Body=b"content", ContentMD5=md5)
    assert refusal(problem) == (code, 400)
    assert list(server.catalogue.data.glob("*/*")) == []


def test_versions_are_kept_under_what_covers_and_hides_them(s3: Any) -> None:
    first = s3.put_object(Bucket=BUCKET, Key="x", Body=b"first")["VersionId"]
    second = s3.put_object(Bucket=BUCKET, Key="x", Body=b"second")["VersionId"]
    marker = s3.delete_object(Bucket=BUCKET, Key="x")["VersionId"]
    listed = s3.list_object_versions(Bucket=BUCKET)
    assert [row["VersionId"] for row in listed["Versions"]] == [second, first]
    assert [(row["VersionId"], row["IsLatest"]) for row in listed["DeleteMarkers"]] == [(marker, True)]
    assert s3.get_object(Bucket=BUCKET, Key="x", VersionId=first)["Body"].read() == b"first"
    s3.delete_object(Bucket=BUCKET, Key="x", VersionId=marker)
    assert s3.get_object(Bucket=BUCKET, Key="x")["Body"].read() == b"second"
    for version in (second, first):
        s3.delete_object(Bucket=BUCKET, Key="x", VersionId=version)
    assert "Versions" not in s3.list_object_versions(Bucket=BUCKET)


def test_many_objects_are_deleted_at_once_where_checksums_are_taken(tmp_path: Path, clock: MovedClock) -> None:
    with blob_stores.serving(tmp_path / "other", clock, takes_checksums=True) as server:
        key = server.make_key(*ALL)
        client = blob_stores.boto(server.url, key.id, key.secret)
        for name in ("x", "y é", "z"):
            client.put_object(Bucket=BUCKET, Key=name, Body=b"")
        gone = client.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "x"}, {"Key": "y é"}]})
        assert [row["Key"] for row in gone["Deleted"]] == ["x", "y é"]
        assert [row["Key"] for row in client.list_objects_v2(Bucket=BUCKET)["Contents"]] == ["z"]


# --- Signatures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_checked", [True, False], ids=["checked", "trusted"])
def test_a_payload_may_be_signed_or_not(tmp_path: Path, clock: MovedClock, is_checked: bool) -> None:
    with blob_stores.serving(tmp_path / "other", clock, check_payload=is_checked) as server:
        key = server.make_key(*ALL)
        for signed in (True, False):
            client = blob_stores.boto(server.url, key.id, key.secret, payload_signing_enabled=signed)
            client.put_object(Bucket=BUCKET, Key=f"{signed}", Body=CONTENT)
            assert client.get_object(Bucket=BUCKET, Key=f"{signed}")["Body"].read() == CONTENT


def test_checksums_are_refused_as_on_b2(server: ObjectStoreServer) -> None:
    key = server.make_key(*ALL)
    client = blob_stores.boto(server.url, key.id, key.secret, checksums=True)
    with pytest.raises(botocore.exceptions.ClientError) as problem:
        client.put_object(Bucket=BUCKET, Key="x", Body=io.BytesIO(CONTENT))
    assert refusal(problem) == ("InvalidArgument", 400)
    assert "Unsupported header 'x-amz-" in str(problem.value)


def test_chunks_with_signatures_and_a_checksum_behind_them_are_read_where_checksums_are_taken(
    tmp_path: Path, clock: MovedClock
) -> None:
    with blob_stores.serving(tmp_path / "other", clock, takes_checksums=True) as server:
        key = server.make_key(*ALL)
        client = blob_stores.boto(server.url, key.id, key.secret, checksums=True)
        client.put_object(Bucket=BUCKET, Key="x", Body=io.BytesIO(CONTENT), ChecksumAlgorithm="CRC32")
        assert client.get_object(Bucket=BUCKET, Key="x")["Body"].read() == CONTENT


@pytest.mark.parametrize("what", ["secret", "id", "region", "time", "unsigned", "master"])
def test_a_wrong_signature_is_refused(server: ObjectStoreServer, clock: MovedClock, what: str) -> None:
    key = server.make_key(*ALL)
    key_id = {"id": "000nobody", "master": server.key_id}.get(what, key.id)
    secret = {"secret": key.secret + "x", "master": server.key}.get(what, key.secret)
    client = blob_stores.boto(server.url, key_id, secret)
    if what == "time":
        clock.ahead_seconds = 901
    if what == "unsigned":
        assert httpx.put(f"{server.url}/{BUCKET}/x", content=b"x").status_code == 403
        return
    if what == "region":
        with blob_stores.serving(Path(server.catalogue.data.parent.parent, "other"), clock, region="eu-1") as other:
            key = other.make_key(*ALL)
            elsewhere = blob_stores.boto(other.url, key.id, key.secret)
            with pytest.raises(botocore.exceptions.ClientError) as problem:
                elsewhere.put_object(Bucket=BUCKET, Key="x", Body=b"")
            assert refusal(problem) == ("AuthorizationHeaderMalformed", 400)
        return
    with pytest.raises(botocore.exceptions.ClientError) as problem:
        client.put_object(Bucket=BUCKET, Key="x", Body=b"")
    code = {"secret": "SignatureDoesNotMatch", "time": "RequestTimeTooSkewed"}.get(what, "InvalidAccessKeyId")
    assert refusal(problem) == (code, 403)


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
