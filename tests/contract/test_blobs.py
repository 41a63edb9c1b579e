"""What every object store's adapter does: against our own server, b2sdk's simulator, moto, and a folder."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from b2sdk.v3 import B2Api, B2HttpApiConfig, InMemoryAccountInfo, RawSimulator
from moto.server import ThreadedMotoServer

from dumont.adapters.b2 import B2Blobs
from dumont.adapters.s3_blobs import S3Blobs
from dumont.domain.errors import BlobNotFound, BlobRefused, BlobTooLarge
from tests.contract import blob_stores
from tests.contract.blob_stores import BUCKET, MovedClock, Rig

MEGABYTE = 1_000_000
KINDS = ("b2", "b2-simulator", "s3", "s3-moto", "s3-moto-unversioned", "folder")


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture(params=KINDS)
def rig(request: pytest.FixtureRequest, tmp_path: Path, clock: MovedClock) -> Iterator[Rig]:
    kind: str = request.param
    with contextlib.ExitStack() as stack:
        if kind == "b2":
            server = stack.enter_context(blob_stores.serving(tmp_path, clock))
            bucket = blob_stores.native(server).get_bucket_by_name(BUCKET)
            yield Rig(kind, blob_stores.b2_of(server, clock), bucket.hide_file)
        elif kind == "b2-simulator":
            api = B2Api(InMemoryAccountInfo(), api_config=B2HttpApiConfig(_raw_api_class=RawSimulator))
            key_id, key = api.session.raw_api.create_account()
            api.authorize_account(key_id, key, realm="production")
            bucket = api.create_bucket(BUCKET, "allPrivate")
            yield Rig(kind, B2Blobs(key_id, key, BUCKET, clock=clock, api=api), bucket.hide_file)
        elif kind == "s3":
            server = stack.enter_context(blob_stores.serving(tmp_path, clock))
            bucket = blob_stores.native(server).get_bucket_by_name(BUCKET)
            yield Rig(kind, blob_stores.s3_of(server, clock), bucket.hide_file)
        elif kind == "folder":
            yield Rig(kind, blob_stores.folder_of(tmp_path / "store", clock))
        else:
            yield from moto_rig(kind, request.getfixturevalue("moto"), clock)


def moto_rig(kind: str, url: str, clock: MovedClock) -> Iterator[Rig]:
    client = blob_stores.boto(url, "key", "secret")
    client.create_bucket(Bucket=BUCKET)
    has_versions = kind == "s3-moto"
    if has_versions:
        client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    blobs = S3Blobs(url, BUCKET, "key", "secret", clock=clock)
    yield Rig(kind, blobs, (lambda key: client.delete_object(Bucket=BUCKET, Key=key)) if has_versions else None)
    with contextlib.suppress(BlobNotFound):
        for prefix in sorted({seen.key[:1] for seen in blobs.list("")}):
            blobs.delete_all(prefix)
    client.delete_bucket(Bucket=BUCKET)


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 4000], ids=["empty", "one byte", "1 MB"])
def test_what_was_put_is_got(rig: Rig, data: bytes) -> None:
    rig.blobs.put("m/1/manifest", data)
    assert rig.blobs.get("m/1/manifest", max_bytes=2 * MEGABYTE) == data


@pytest.mark.parametrize("key", ["a b/c", "plus+and%20percent", "größe/機械/🦆", "quote'\"&<>", "dots/..a/.b"])
def test_odd_names_are_kept(rig: Rig, key: str) -> None:
    rig.blobs.put(key, b"odd")
    assert rig.blobs.get(key, max_bytes=10) == b"odd"
    assert [seen.key for seen in rig.blobs.list(key[:2])] == [key]
    assert rig.blobs.exists(key)


def test_a_listing_tells_size_checksum_and_time(rig: Rig, clock: MovedClock) -> None:
    told = rig.blobs.put("m/pack", b"content")
    seen = rig.blobs.list("m/")[0]
    assert (seen.key, seen.size, seen.is_latest) == ("m/pack", 7, True)
    for version_id in (seen.version_id, told.version_id):
        assert rig.blobs.get("m/pack", max_bytes=7, version_id=version_id) == b"content"
    md5, sha1 = hashlib.md5(b"content").hexdigest(), hashlib.sha1(b"content").hexdigest()  # noqa: S324
    assert seen.md5 == md5 or seen.sha1 == sha1
    if rig.kind != "b2-simulator":  # it counts its uploads where B2 has milliseconds
        assert abs(seen.uploaded_at - clock.now()) < 60


def test_a_listing_has_the_prefix_and_nothing_else_in_order(rig: Rig) -> None:
    keys = ["m/1/a", "m/1/b", "m/10/a", "m/1é/x", "m/1/B", "n/1/a", "m"]
    for key in keys[::-1] if rig.kind != "folder" else keys[-2::-1]:
        rig.blobs.put(key, b"")
    assert [seen.key for seen in rig.blobs.list("m/1/")] == ["m/1/B", "m/1/a", "m/1/b"]
    assert [seen.key for seen in rig.blobs.list("m/1")] == ["m/1/B", "m/1/a", "m/1/b", "m/10/a", "m/1é/x"]
    assert rig.blobs.list("nothing/") == []


def test_what_is_not_there_is_not_found(rig: Rig) -> None:
    rig.blobs.put("m/there", b"")
    assert rig.blobs.exists("m/there")
    assert not rig.blobs.exists("m/missing")
    with pytest.raises(BlobNotFound):
        rig.blobs.get("m/missing", max_bytes=10)


def test_an_object_that_is_too_large_is_not_taken(rig: Rig) -> None:
    rig.blobs.put("m/large", b"x" * 101)
    assert len(rig.blobs.get("m/large", max_bytes=101)) == 101
    with pytest.raises(BlobTooLarge):
        rig.blobs.get("m/large", max_bytes=100)


def test_a_name_stands_for_what_was_put_last(rig: Rig) -> None:
    rig.blobs.put("m/x", b"first")
    rig.blobs.put("m/x", b"second")
    assert rig.blobs.get("m/x", max_bytes=10) == b"second"
    latest = [seen for seen in rig.blobs.list("m/x") if seen.is_latest]
    assert [seen.size for seen in latest] == [6]


def test_a_covered_version_can_still_be_got_and_deleted(rig: Rig) -> None:
    if rig.hide is None:
        pytest.skip("it has no versions")
    first = rig.blobs.put("m/x", b"first")
    second = rig.blobs.put("m/x", b"second")
    assert [seen.version_id for seen in rig.blobs.list("m/")] == [second.version_id, first.version_id]
    assert rig.blobs.get("m/x", max_bytes=10, version_id=first.version_id) == b"first"
    rig.blobs.delete([second])
    assert rig.blobs.get("m/x", max_bytes=10) == b"first"


def test_a_hidden_object_is_listed_and_not_the_latest(rig: Rig) -> None:
    if rig.hide is None:
        pytest.skip("it cannot hide")
    put = rig.blobs.put("m/x", b"kept")
    rig.hide("m/x")
    assert not rig.blobs.exists("m/x")
    assert [(seen.version_id, seen.is_latest) for seen in rig.blobs.list("m/")] == [(put.version_id, False)]
    assert rig.blobs.get("m/x", max_bytes=10, version_id=put.version_id) == b"kept"
    rig.blobs.delete_all("m/")
    assert rig.blobs.list("m/") == []


def test_deleting_is_for_these_alone_and_may_be_done_again(rig: Rig) -> None:
    for key in ("m/1", "m/2", "m/3"):
        rig.blobs.put(key, b"")
    rows = rig.blobs.list("m/")
    for _ in range(2):
        rig.blobs.delete(rows[:2])
    assert [seen.key for seen in rig.blobs.list("m/")] == ["m/3"]


def test_all_of_a_prefix_can_be_deleted_and_never_of_none(rig: Rig) -> None:
    for key in ("m/1/a", "m/1/b/c", "m/10", "n/1"):
        rig.blobs.put(key, b"")
    rig.blobs.delete_all("m/1/")
    assert [seen.key for seen in rig.blobs.list("")] == ["m/10", "n/1"]
    with pytest.raises(BlobRefused):
        rig.blobs.delete_all("")


def test_a_key_for_a_host_names_its_place_and_hides_its_secret(rig: Rig, clock: MovedClock) -> None:
    if rig.kind.startswith("s3"):
        with pytest.raises(BlobRefused):
            rig.blobs.mint_key("m/1/", "write", 60)
        return
    key = rig.blobs.mint_key("m/1/", "write", 60)
    assert key.prefix == "m/1/"
    assert key.expires_at is not None
    assert abs(key.expires_at - clock.now() - 60) < 30
    assert not key.secret or key.secret not in repr(key)
    for _ in range(2):
        rig.blobs.revoke_key(key.key_id)
    rig.blobs.mint_key("m/1/", "read", 60, holder="op-1")
    for _ in range(2):
        rig.blobs.revoke_keys("op-1")


def test_an_s3_store_hands_out_its_own_key_only_if_told(tmp_path: Path, clock: MovedClock) -> None:
    blobs = S3Blobs("http://127.0.0.1:1", BUCKET, "id", "secret", clock=clock, hands_out_own_key=True)
    key = blobs.mint_key("m/1/", "read", 60)
    assert (key.kind, key.key_id, key.secret, key.expires_at) == ("s3", "id", "secret", None)


@pytest.mark.parametrize("key", ["", "/a", "a//b", "a/../b", "..", "a/", "a/\0", "a/.dumont-unfinished-1"])
def test_a_folder_refuses_names_that_lead_elsewhere(tmp_path: Path, clock: MovedClock, key: str) -> None:
    blobs = blob_stores.folder_of(tmp_path / "store", clock)
    with pytest.raises(BlobRefused):
        blobs.put(key, b"")
    assert list((tmp_path / "store").iterdir()) == []
