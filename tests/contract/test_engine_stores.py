"""Every store and every client carries the same snapshot, refuses alike, and tries again alike."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from dumont.agent.engine import StoreSpec
from dumont.agent.engine.errors import StoreMissing, StoreRefused, StoreUnavailable
from dumont.agent.engine.stores import Store, open_store, retried
from tests.contract import blob_stores
from tests.engine_rig import Rig, picture, weights
from tests.engine_servers import BUCKET, KEY_ID, SECRET, StrictS3, moto_s3, strict_s3

CLIENTS = ("obstore", "pure")
KINDS = ("folder", "moto/obstore", "moto/pure", "strict/obstore", "strict/pure", "b2/obstore", "b2/pure")


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with moto_s3() as url:
        yield url


@pytest.fixture
def strict() -> Iterator[StrictS3]:
    with strict_s3() as server:
        yield server


@pytest.fixture
def like_b2(tmp_path: Path) -> Iterator[StoreSpec]:
    """As B2's S3 API: a write with a condition (If-None-Match) is answered by 501, one with a checksum refused."""
    clock = blob_stores.MovedClock()
    with blob_stores.serving(tmp_path / "b2", clock, takes_conditions=False, takes_checksums=False) as server:
        key = server.make_key("writeFiles", "readFiles")
        yield StoreSpec("s3", endpoint=server.url, bucket=blob_stores.BUCKET, key_id=key.id, secret=key.secret)


@pytest.fixture(params=KINDS)
def spec(request: pytest.FixtureRequest, tmp_path: Path) -> StoreSpec:
    kind, _, client = str(request.param).partition("/")
    if kind == "folder":
        return StoreSpec("folder", path=str(tmp_path / "objects"))
    if kind == "b2":
        found: StoreSpec = request.getfixturevalue("like_b2")
        return dataclasses.replace(found, client=client)
    if kind == "moto":
        url = request.getfixturevalue("moto")
        return StoreSpec("s3", endpoint=url, bucket=BUCKET, key_id=KEY_ID, secret=SECRET, client=client)
    server: StrictS3 = request.getfixturevalue("strict")
    return server.spec(client)


@pytest.fixture
def store(spec: StoreSpec) -> Store:
    return open_store(spec, 4)


def test_what_is_put_is_got_whole_and_in_parts(store: Store) -> None:
    content = random.Random(1).randbytes(300_000)
    assert store.put("a/packs/0f", memoryview(content)) == hashlib.md5(content).hexdigest()  # noqa: S324 - what S3 answers
    assert store.get("a/packs/0f") == content
    assert bytes(store.get_range("a/packs/0f", 1000, 5000)) == content[1000:6000]
    assert bytes(store.get_range("a/packs/0f", 299_990, 100)) == content[299_990:]


def test_an_object_that_is_not_there_is_named(store: Store) -> None:
    for attempt in (lambda: store.get("a/none"), lambda: store.get_range("a/none", 0, 10)):
        with pytest.raises(StoreMissing, match="a/none"):
            attempt()


def test_a_workspace_goes_there_and_comes_back(spec: StoreSpec, tmp_path: Path) -> None:
    rig = Rig(tmp_path / "machine", store=spec)
    (rig.workspace / "m.safetensors").write_bytes(weights(3_000_000))
    (rig.workspace / "data").write_bytes(random.Random(2).randbytes(6_000_000))
    (rig.workspace / "odd name é").write_bytes(b"small")
    taken = rig.snapshot("s1")
    assert rig.verify(taken).ok
    rig.restore(taken, tmp_path / "back")
    assert picture(tmp_path / "back") == picture(rig.workspace)


def test_what_one_client_stored_the_other_restores(strict: StrictS3, tmp_path: Path) -> None:
    for writer, reader in itertools.permutations(CLIENTS):
        rig = Rig(tmp_path / writer, store=strict.spec(writer))
        (rig.workspace / "data").write_bytes(random.Random(2).randbytes(6_000_000))
        taken = rig.snapshot("s1")
        rig.store = strict.spec(reader)
        rig.restore(taken, tmp_path / f"back {writer}")
        assert picture(tmp_path / f"back {writer}") == picture(rig.workspace)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_key_that_only_writes_takes_snapshots_and_one_that_only_reads_restores(
    client: str, strict: StrictS3, tmp_path: Path
) -> None:
    rig = Rig(tmp_path, store=strict.spec(client))
    (rig.workspace / "data").write_bytes(b"one")
    strict.allow = lambda method, key: method == "PUT" and key.startswith("m1/1/")
    rig.snapshot("s1")
    (rig.workspace / "more").write_bytes(b"two")
    taken = rig.snapshot("s2")
    with pytest.raises(StoreRefused):
        rig.restore(taken, tmp_path / "back")
    strict.allow = lambda method, key: method == "GET" and key.startswith("m1/1/")
    rig.restore(taken, tmp_path / "back")
    with pytest.raises(StoreRefused) as caught:
        rig.snapshot("s3")
    assert SECRET not in str(caught.value)
    assert KEY_ID not in str(caught.value)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("fault", [503, 500, -1])
def test_a_store_that_fails_now_and_then_is_asked_again(
    client: str, fault: int, strict: StrictS3, tmp_path: Path
) -> None:
    count = itertools.count(1)
    strict.fault = lambda _method, _key: fault if next(count) % 3 == 0 else 0
    rig = Rig(tmp_path, store=strict.spec(client))
    (rig.workspace / "data").write_bytes(random.Random(2).randbytes(14_000_000))
    taken = rig.snapshot("s1")
    rig.restore(taken, tmp_path / "back")
    assert picture(tmp_path / "back") == picture(rig.workspace)


def test_a_wrong_secret_is_refused_at_once(strict: StrictS3, tmp_path: Path) -> None:
    for client in CLIENTS:
        wrong = StoreSpec("s3", endpoint=strict.url, bucket=BUCKET, key_id=KEY_ID, secret="other", client=client)
        with pytest.raises(StoreRefused):
            open_store(wrong, 1).put("a", memoryview(b"x"))
    assert strict.puts == []


def test_a_store_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    pauses: list[float] = []

    def unavailable() -> None:
        raise StoreUnavailable("a: HTTP 503")

    with pytest.raises(StoreUnavailable):
        retried("a", unavailable, pauses.append)
    assert len(pauses) == 5
    assert max(pauses) <= 10
