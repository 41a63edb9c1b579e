"""`dumont keys` and `dumont token`."""

from __future__ import annotations

import hashlib
import json

import pytest

from dumont.settings import read
from tests.unit.cli_world import NOW, World, output

SECRET = "dmt_0123456789abcdef_" + "ab" * 32
KEY = {"id": "0123456789abcdef", "name": "ci", "role": "operator", "state": "good", "by_setting": False,
       "created_at": NOW, "owner": "ada"}  # fmt: skip


@pytest.fixture
def keyed(api: World) -> World:
    api.says("POST /keys", {"key": KEY, "secret": SECRET})
    api.says(f"POST /keys/{KEY['id']}/rotate", {"key": {**KEY, "previous_until": NOW + 60}, "secret": SECRET})
    api.says(f"POST /keys/{KEY['id']}/revoke", {"key": {**KEY, "state": "revoked", "revoked_at": NOW}})
    api.says("POST /token", {"token": "eyJ.e30.AAAA", "expires_at": int(NOW), "role": "viewer"})
    return api


def test_a_new_key_is_alone_on_stdout(keyed: World) -> None:
    done = keyed.run("keys", "create", "ci", "--role", "viewer", "--owner", "ada", "--valid-days", "1")
    assert (done.exit_code, done.stdout) == (0, f"{SECRET}\n")
    assert "not shown again" in done.stderr
    asked = json.loads(keyed.last("POST /keys").body)
    assert asked == {"name": "ci", "role": "viewer", "owner": "ada", "valid_seconds": 86_400.0}


def test_keys_are_listed_and_no_secret_with_them(api: World) -> None:
    settings_own = {**KEY, "id": "bootstrap0", "name": "bootstrap", "by_setting": True, "created_at": None}
    rotated = {**KEY, "id": "fedcba9876543210", "previous_until": NOW + 60, "last_used_at": NOW}
    api.says("GET /keys", {"keys": [settings_own, KEY, rotated]})
    done = api.run("keys", "ls", "--all")
    assert done.exit_code == 0
    assert api.query("GET /keys") == {"all": "true"}
    _, of_settings, good, other = done.stdout.splitlines()
    assert "by setting" in of_settings
    assert good.split()[:4] == ["0123456789abcdef", "ci", "operator", "ada"]
    assert "before it until" in other


@pytest.mark.parametrize(
    ("options", "asked"),
    [((), {}), (("--now",), {"grace_seconds": 0}), (("--grace-hours", "2"), {"grace_seconds": 7200.0})],
)
def test_a_rotation_says_how_long_the_secret_before_is_good(
    keyed: World, options: tuple[str, ...], asked: dict[str, float]
) -> None:
    done = keyed.run("keys", "rotate", str(KEY["id"]), *options)
    assert (done.exit_code, done.stdout) == (0, f"{SECRET}\n")
    assert json.loads(keyed.asked[-1].body) == asked
    assert "the secret before is good until" in done.stderr


def test_now_and_a_grace_are_not_said_together(keyed: World) -> None:
    assert keyed.run("keys", "rotate", str(KEY["id"]), "--now", "--grace-hours", "1").exit_code == 2
    assert keyed.asked == []


def test_a_key_is_revoked_by_its_id(keyed: World) -> None:
    done = keyed.run("keys", "revoke", str(KEY["id"]))
    assert (done.exit_code, done.stdout) == (0, "ci (0123456789abcdef) is revoked\n")


def test_a_token_is_alone_on_stdout(keyed: World) -> None:
    done = keyed.run("token", "--role", "viewer", "--minutes", "5")
    assert (done.exit_code, done.stdout) == (0, "eyJ.e30.AAAA\n")
    assert json.loads(keyed.asked[-1].body) == {"role": "viewer", "seconds": 300.0}
    assert keyed.run("token", "--minutes", "61").exit_code == 2


def test_a_bootstrap_key_is_made_without_asking_anybody_and_its_setting_is_read_as_it_is_said(api: World) -> None:
    made = output(api.run("keys", "bootstrap", "--json"))
    assert api.asked == []
    _, key_id, secret = made["secret"].split("_")
    key = read({"DUMONT_STORE": "firestore", "DUMONT_BOOTSTRAP_KEY": made["setting"]}).bootstrap_key
    assert key is not None
    assert (key.id, key.secret_sha256) == (key_id, hashlib.sha256(secret.encode()).hexdigest())
    shown = api.run("keys", "bootstrap")
    assert shown.stdout.startswith("dmt_")
    assert shown.stdout.split("_")[2].strip() not in shown.stderr
    assert shown.stderr.splitlines()[-1].startswith('bootstrap_key_hash = "')
