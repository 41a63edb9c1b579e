"""The file of API keys: private, shared by many writers, and lenient towards what a person did to it."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from dumont.cli.credentials import config_folder, credentials_file, read_key, remove_key, write_key
from dumont.cli.keys import ensure_key


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "dumont"


def test_a_key_is_kept_for_its_url_and_forgotten(folder: Path) -> None:
    write_key("https://region.example.net/api", "dmt_1")
    write_key("http://localhost:8080", "dmt_2")
    assert read_key("https://region.example.net/api") == "dmt_1"
    remove_key("http://localhost:8080")
    assert read_key("http://localhost:8080") is None
    assert read_key("https://region.example.net/api") == "dmt_1"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080", "http://localhost:8080/", "http://[::1]:8080", "LOCALHOST:8080"]
)
def test_all_names_of_this_machine_are_one(url: str) -> None:
    write_key("http://localhost:8080", "dmt_1")
    assert read_key(url) == "dmt_1"
    assert read_key(url.replace("8080", "8081")) is None


def test_a_missing_port_is_the_schemes_own() -> None:
    write_key("https://api.example.net", "dmt_1")
    assert read_key("https://api.example.net:443/") == "dmt_1"
    assert read_key("http://api.example.net") is None


def test_only_the_owner_can_read_it(folder: Path) -> None:
    write_key("http://localhost:8080", "dmt_1")
    assert credentials_file().stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [p.name for p in folder.iterdir() if "tmp" in p.name or p.name.startswith(".credentials.json.")] == []


@pytest.mark.parametrize("content", ["", "not json", "[1]", '{"http://localhost:8080": 5}', '{"http://x:port": "k"}'])
def test_a_broken_file_holds_no_key_and_can_be_written_again(folder: Path, content: str) -> None:
    folder.mkdir()
    credentials_file().write_text(content)
    assert read_key("http://localhost:8080") is None
    remove_key("http://localhost:9")
    write_key("http://localhost:8080", "dmt_1")
    assert read_key("http://localhost:8080") == "dmt_1"


def test_what_could_not_be_read_is_kept_beside_it(folder: Path) -> None:
    folder.mkdir()
    credentials_file().write_text("my notes")
    write_key("http://localhost:8080", "dmt_1")
    assert (folder / "credentials.json.unreadable").read_text() == "my notes"


def test_many_writers_lose_none_of_their_keys() -> None:
    writers = [threading.Thread(target=write_key, args=(f"http://localhost:{9000 + n}", f"dmt_{n}")) for n in range(12)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(json.loads(credentials_file().read_text())) == 12


def test_removing_from_no_file_makes_none() -> None:
    remove_key("http://localhost:8080")
    assert not credentials_file().exists()


def test_a_relative_config_home_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert config_folder() == Path.home() / ".config" / "dumont"


def test_another_folder_can_be_named(tmp_path: Path) -> None:
    write_key("http://localhost:8080", "dmt_1")
    assert read_key("http://localhost:8080", folder=tmp_path / "elsewhere") is None


def test_an_ssh_key_is_made_once_and_its_public_part_found_again(folder: Path) -> None:
    path, public = ensure_key()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert public.startswith("ssh-ed25519 ")
    path.with_name("id_ed25519.pub").unlink()
    assert ensure_key() == (path, public)
