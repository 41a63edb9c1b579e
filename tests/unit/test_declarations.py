"""`function.toml` is read strictly: what it says wrong is found here, not by a deployment."""

from __future__ import annotations

from pathlib import Path

import pytest

from dumont.build.declarations import DeclarationError, FunctionDeclaration, load, load_one, secret_id

FUNCTIONS = Path(__file__).parents[2] / "functions"

DOOR = """
description = "A door."
[[entries]]
name = "door"
target = "door"
"""
WORKER = """
[[entries]]
name = "door-worker"
target = "door_worker"
topic = "dumont-door"
secrets = ["VAST_API_KEY"]
"""


def declare(folder: Path, text: str, name: str = "door") -> Path:
    file = folder / name / "function.toml"
    file.parent.mkdir()
    file.write_text(text, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def ours() -> dict[str, FunctionDeclaration]:
    return {declaration.name: declaration for declaration in load(FUNCTIONS)}


def test_a_function_says_its_door_and_its_worker(tmp_path: Path) -> None:
    declaration = load_one(declare(tmp_path, DOOR + WORKER))
    assert declaration.folder == tmp_path / "door"
    assert [(entry.name, entry.signature, entry.topic) for entry in declaration.entries] == [
        ("door", "http", None),
        ("door-worker", "cloudevent", "dumont-door"),
    ]
    assert declaration.secrets == ("VAST_API_KEY",)
    assert declaration.entries[0].secrets == ()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("description = ", "function.toml"),
        (DOOR.replace("description", "descripton"), "descripton"),
        (DOOR.replace('"door"', '"Door"', 1), "entries"),
        ('name = "other"\n' + DOOR, "the folder says it"),
        ("timeout_seconds = 600\n" + DOOR + WORKER, "timeout_seconds"),
        ("memory_mib = 1\n" + DOOR, "memory_mib"),
        ('extras = ["cli"]\n' + DOOR, "extras"),
        ('schedule = "every minute"\n' + DOOR, "schedule"),
        ('schedule = "* * * * *"\ndescription = "No door."\n' + WORKER, "HTTP entry"),
        ('description = "No door."\npublic = true\n' + WORKER, "HTTP entry"),
        (DOOR + WORKER.replace('topic = "dumont-door"', ""), "one HTTP entry"),
        ('description = "Nothing."\nentries = []', "entries"),
    ],
)
def test_a_declaration_that_cannot_be_right_is_refused_by_file_and_field(
    tmp_path: Path, text: str, complaint: str
) -> None:
    file = declare(tmp_path, text)
    with pytest.raises(DeclarationError, match=complaint) as refusal:
        load_one(file)
    assert str(file) in str(refusal.value)


def test_two_functions_of_one_name_are_refused(tmp_path: Path) -> None:
    declare(tmp_path, DOOR)
    declare(tmp_path, DOOR, name="window")
    with pytest.raises(DeclarationError, match="more than once: door"):
        load(tmp_path)


def test_a_folder_without_declarations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=r"function\.toml"):
        load(tmp_path)


def test_each_folder_of_functions_declares_what_it_is(ours: dict[str, FunctionDeclaration]) -> None:
    assert set(ours) == {folder.name for folder in FUNCTIONS.iterdir() if (folder / "main.py").is_file()}


def test_of_public_doors_only_the_gateways_hold_the_key_to_machines(ours: dict[str, FunctionDeclaration]) -> None:
    holders = {entry.name for d in ours.values() for entry in d.entries if "DUMONT_SSH_PRIVATE_KEY" in entry.secrets}
    doors = {entry.name for d in ours.values() for entry in d.entries if d.public and entry.signature == "http"}
    assert holders
    # The gateway's whole work is to speak to machines while a caller waits: no worker can do that for it.
    assert holders & doors == {"gateway", "v1"}


def test_a_secret_has_one_name_in_secret_manager() -> None:
    assert secret_id("VAST_API_KEY") == "dumont-vast-api-key"
    assert secret_id("DUMONT_SSH_PRIVATE_KEY") == "dumont-ssh-private-key"
