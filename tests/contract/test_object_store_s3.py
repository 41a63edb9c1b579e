"""The local object store's S3 API, as boto3 finds it."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.exceptions
import httpx
import pytest

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
    [
        ("bytes=0-0", 0, 1),
        ("bytes=3-9", 3, 10),
        ("bytes=1000000-", 1_000_000, None),
        ("bytes=-5", -5, None),
        ("bytes=0-", 0, None),
    ],
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
