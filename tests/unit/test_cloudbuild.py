"""`cloudbuild.yaml` deploys what was checked, tested and planned, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dumont.build.cloudbuild import render

ROOT = Path(__file__).parents[2]
FILE = ROOT / "cloudbuild.yaml"
ORDER = ["lint", "types", "test", "build", "terraform", "plan", "deploy"]


@pytest.fixture(scope="module")
def build() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return loaded


def step(build: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(step for step in build["steps"] if step["id"] == name)
    return found


def test_the_file_is_as_the_program_makes_it() -> None:
    assert FILE.read_text(encoding="utf-8") == render(), "run make cloudbuild"


def test_the_file_is_valid_by_the_published_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.cloudbuild", str(FILE)]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_step_waits_for_all_before_it_and_none_may_fail(build: dict[str, Any]) -> None:
    assert [step["id"] for step in build["steps"]] == ORDER
    for one in build["steps"]:
        assert "waitFor" not in one, "without it a step waits for all before it"
        assert not one.get("allowFailure")


def test_the_checks_are_those_of_every_push(build: dict[str, Any]) -> None:
    for name in ("lint", "types", "test", "build"):
        assert (step(build, name)["entrypoint"], step(build, name)["args"]) == ("bash", [".ci/run", name])


def test_what_is_deployed_was_planned_and_has_the_builds_name(build: dict[str, Any]) -> None:
    planned, deployed = step(build, "plan")["args"], step(build, "deploy")["args"]
    assert planned[:3] == ["infra/release.py", "plan", "--project=${PROJECT_ID}"]
    assert deployed == ["infra/release.py", "deploy", "--project=${PROJECT_ID}", "--release=${BUILD_ID}"]
    assert (ROOT / "infra" / "release.py").is_file()


def test_it_runs_as_the_account_that_bootstrap_makes(build: dict[str, Any]) -> None:
    account = build["serviceAccount"].rpartition("/")[2].partition("@")[0]
    assert account in (ROOT / "infra" / "bootstrap.sh").read_text(encoding="utf-8")


def test_logs_go_to_cloud_logging(build: dict[str, Any]) -> None:
    assert build["options"]["logging"] == "CLOUD_LOGGING_ONLY", "an account of one's own may write to no other place"
