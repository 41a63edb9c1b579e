"""`cloudbuild.yaml` deploys what `functions/` declares: all of it, and as it is declared."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dumont.build.cloudbuild import render
from dumont.build.declarations import Entry, FunctionDeclaration, load

ROOT = Path(__file__).parents[2]
FILE = ROOT / "cloudbuild.yaml"
DECLARED = [(declaration, entry) for declaration in load(ROOT / "functions") for entry in declaration.entries]

every_entry = pytest.mark.parametrize(("declaration", "entry"), DECLARED, ids=[entry.name for _, entry in DECLARED])


@pytest.fixture(scope="module")
def build() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return loaded


def deployment(build: dict[str, Any], entry: Entry) -> list[str]:
    """What gcloud is told for one entry."""
    arguments: list[str] = next(step for step in build["steps"] if step["id"] == f"deploy-{entry.name}")["args"]
    return arguments


def test_the_file_is_as_the_declarations_make_it() -> None:
    assert FILE.read_text(encoding="utf-8") == render(load(ROOT / "functions")), "run make cloudbuild"


def test_the_file_is_valid_by_the_published_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.cloudbuild", str(FILE)]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_checks_and_tests_come_before_any_deployment(build: dict[str, Any]) -> None:
    steps = build["steps"]
    assert [step["id"] for step in steps[:4]] == ["lint", "types", "test", "build"]
    assert all("waitFor" not in step for step in steps[:4]), "without waitFor a step waits for all before it"
    assert all(step["waitFor"] == ["build"] for step in steps[4:])


def test_nothing_is_deployed_but_what_is_declared(build: dict[str, Any]) -> None:
    assert [step["id"] for step in build["steps"][4:]] == [f"deploy-{entry.name}" for _, entry in DECLARED]


@every_entry
def test_an_entry_is_deployed_from_its_bundle(
    build: dict[str, Any], declaration: FunctionDeclaration, entry: Entry
) -> None:
    arguments = deployment(build, entry)
    assert arguments[:3] == ["functions", "deploy", entry.name]
    assert f"--source=build/functions/{declaration.name}" in arguments
    assert f"--entry-point={entry.target}" in arguments
    assert {"--gen2", "--runtime=python311"} <= set(arguments)
    assert f"--timeout={declaration.timeout_seconds}s" in arguments
    assert f"--memory={declaration.memory_mib}Mi" in arguments


@every_entry
def test_a_worker_listens_to_its_topic_and_sees_lost_messages_again(
    build: dict[str, Any], declaration: FunctionDeclaration, entry: Entry
) -> None:
    arguments = deployment(build, entry)
    if entry.topic is None:
        assert "--trigger-http" in arguments
    else:
        assert {f"--trigger-topic={entry.topic}", "--retry"} <= set(arguments)


@every_entry
def test_only_what_is_declared_public_lets_any_caller_through(
    build: dict[str, Any], declaration: FunctionDeclaration, entry: Entry
) -> None:
    arguments = deployment(build, entry)
    public = declaration.public and entry.topic is None
    assert ("--allow-unauthenticated" in arguments) is public
    assert ("--no-allow-unauthenticated" in arguments) is not public


@every_entry
def test_an_entry_has_an_account_of_its_own_and_its_own_secrets_alone(
    build: dict[str, Any], declaration: FunctionDeclaration, entry: Entry
) -> None:
    arguments = deployment(build, entry)
    variable = f"_{entry.name.upper().replace('-', '_')}_ACCOUNT"
    assert f"--service-account=${{{variable}}}" in arguments
    assert build["substitutions"][variable] == f"dumont-{entry.name}@${{PROJECT_ID}}.iam.gserviceaccount.com"
    assert len(f"dumont-{entry.name}") <= 30, "Google allows an account's name no more"
    given = [argument for argument in arguments if argument.startswith("--set-secrets=")]
    assert [part.split("=")[0] for part in ",".join(given).removeprefix("--set-secrets=").split(",") if part] == list(
        entry.secrets
    )


def test_every_substitution_is_used_and_has_its_default(build: dict[str, Any]) -> None:
    text = FILE.read_text(encoding="utf-8")
    used = {name for name in build["substitutions"] if f"${{{name}}}" in text}
    assert used == set(build["substitutions"])
    assert text.count("${_") == sum(text.count(f"${{{name}}}") for name in used)


def test_logs_go_to_cloud_logging(build: dict[str, Any]) -> None:
    assert build["options"]["logging"] == "CLOUD_LOGGING_ONLY"
