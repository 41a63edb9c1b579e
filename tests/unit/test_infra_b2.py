"""`infra/b2_setup.py`: against Backblaze's own simulator of B2, and its key on our store, which enforces rights."""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from b2sdk.v3 import B2Api, B2HttpApiConfig, InMemoryAccountInfo, RawSimulator

from dumont.adapters.b2 import B2Blobs
from dumont.build.declarations import secret_id
from dumont.domain.errors import BlobError
from dumont.local.object_store.server import ObjectStoreServer
from infra import b2_setup
from tests.contract import blob_stores
from tests.contract.blob_stores import BUCKET, MovedClock


@pytest.fixture
def api() -> B2Api:
    made = B2Api(InMemoryAccountInfo(), api_config=B2HttpApiConfig(_raw_api_class=RawSimulator))
    key_id, key = made.session.raw_api.create_account()
    made.authorize_account(key_id, key, realm="production")
    return made


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ObjectStoreServer]:
    with blob_stores.serving(tmp_path / "store", MovedClock()) as running:
        yield running


def wish(**given: Any) -> argparse.Namespace:
    values: dict[str, Any] = {
        "bucket": "dumont-test",
        "project": None,
        "out": None,
        "show": False,
        "rotate": False,
        "revoke": [],
    }
    return argparse.Namespace(**{**values, **given})


def lifecycle(api: B2Api) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = api.list_buckets("dumont-test")[0].lifecycle_rules
    return rules


# --- The bucket ---------------------------------------------------------------------------------------------------


def test_a_bucket_is_made_private_and_lets_go_of_unfinished_uploads_alone(api: B2Api) -> None:
    assert b2_setup.ensure_bucket(api, "dumont-test") == ["made the private bucket dumont-test"]
    assert api.list_buckets("dumont-test")[0].type_ == "allPrivate"
    assert lifecycle(api) == [dict(b2_setup.LIFECYCLE)]


def test_what_is_right_already_is_left(api: B2Api) -> None:
    b2_setup.ensure_bucket(api, "dumont-test")
    before = api.list_buckets("dumont-test")[0].revision
    assert b2_setup.ensure_bucket(api, "dumont-test") == ["the bucket dumont-test is as it should be"]
    assert api.list_buckets("dumont-test")[0].revision == before


def test_a_bucket_that_was_public_or_deleted_what_is_hidden_is_put_right(api: B2Api) -> None:
    others = {"fileNamePrefix": "mine/", "daysFromHidingToDeleting": 3, "daysFromUploadingToHiding": None}
    wrong = {"fileNamePrefix": "", "daysFromHidingToDeleting": 1, "daysFromUploadingToHiding": None}
    api.create_bucket("dumont-test", "allPublic", lifecycle_rules=[wrong, others])
    done = b2_setup.ensure_bucket(api, "dumont-test")
    assert len(done) == 2
    assert api.list_buckets("dumont-test")[0].type_ == "allPrivate"
    assert lifecycle(api) == [others, dict(b2_setup.LIFECYCLE)], "another's rule for another place stays"


# --- The key ------------------------------------------------------------------------------------------------------


def test_no_key_is_made_that_nobody_would_learn(api: B2Api) -> None:
    assert "made no key" in b2_setup.run(api, wish())[-1]
    assert b2_setup.keys(api) == []


def test_a_key_is_made_once(api: B2Api) -> None:
    b2_setup.run(api, wish(show=True))
    known = b2_setup.keys(api)
    assert len(known) == 1
    assert "there is a key already" in b2_setup.run(api, wish(show=True))[-1]
    assert b2_setup.keys(api) == known


def test_a_key_can_be_exchanged_for_another(api: B2Api) -> None:
    b2_setup.run(api, wish(show=True))
    (old,) = b2_setup.keys(api)
    assert f"--revoke {old}" in b2_setup.run(api, wish(show=True, rotate=True))[-1]
    assert len(b2_setup.keys(api)) == 2
    b2_setup.run(api, wish(revoke=[old]))
    assert old not in b2_setup.keys(api)
    with pytest.raises(b2_setup.SetupError, match="none of the control plane's"):
        b2_setup.run(api, wish(revoke=["another's"]))


def test_the_secret_is_shown_only_if_asked(api: B2Api, tmp_path: Path) -> None:
    said = "\n".join(b2_setup.run(api, wish(out=tmp_path / "key")))
    written = dict(line.split("=", 1) for line in (tmp_path / "key").read_text().splitlines())
    assert written["B2_APPLICATION_KEY"] not in said
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert {secret_id(name) for name in written} == set(b2_setup.SECRETS)
    shown = "\n".join(b2_setup.run(api, wish(show=True, rotate=True)))
    assert b2_setup.SECRETS[1] in shown
    assert "secret" not in repr(b2_setup.NewKey("id", "secret"))


def test_a_key_that_could_not_be_kept_is_ended(api: B2Api, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("another's")
    with pytest.raises(b2_setup.SetupError):
        b2_setup.run(api, wish(out=tmp_path / "key"))
    assert b2_setup.keys(api) == []
    assert (tmp_path / "key").read_text() == "another's"


def test_gcloud_is_given_the_key_by_its_input_and_not_by_its_command_line(
    api: B2Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gcloud = tmp_path / "gcloud"
    gcloud.write_text(
        f'#!/bin/sh\necho "$*" >> {tmp_path}/commands\ncat >> {tmp_path}/input; echo >> {tmp_path}/input\n'
    )
    gcloud.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    said = "\n".join(b2_setup.run(api, wish(project="dumont-test")))
    key_id, secret = (tmp_path / "input").read_text().split()
    commands = (tmp_path / "commands").read_text()
    assert b2_setup.keys(api) == [key_id]
    assert all(name in commands for name in b2_setup.SECRETS)
    assert secret not in commands + said


# --- What the key can do ------------------------------------------------------------------------------------------


def use(server: ObjectStoreServer, capabilities: tuple[str, ...]) -> None:
    """All that the control plane does with its key, the keys for hosts last."""
    key = server.make_key(*capabilities)
    blobs = B2Blobs(key.id, key.secret, BUCKET, clock=MovedClock(), realm=server.url)
    seen = blobs.put("m/1/a", b"content")
    assert blobs.get("m/1/a", max_bytes=100) == b"content"
    assert [blob.key for blob in blobs.list("m/")] == ["m/1/a"]
    blobs.delete([seen])
    minted = blobs.mint_key("m/1/", "write", 60, holder="op-12345678")
    blobs.mint_key("m/1/", "read", 60, holder="op-12345678")
    blobs.revoke_key(minted.key_id)
    blobs.revoke_keys("op-12345678")


def test_the_key_is_enough(server: ObjectStoreServer) -> None:
    use(server, b2_setup.CAPABILITIES)


@pytest.mark.parametrize("missing", b2_setup.CAPABILITIES)
def test_nothing_that_the_key_can_do_could_be_left_out(server: ObjectStoreServer, missing: str) -> None:
    with pytest.raises(BlobError):
        use(server, tuple(capability for capability in b2_setup.CAPABILITIES if capability != missing))
