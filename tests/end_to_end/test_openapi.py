"""The functions do as their OpenAPI document says: asked by schemathesis, and path by path."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.end_to_end.api_fuzz import AGENTS, DOCUMENT, LARGE, OTHERS, Fuzzed, agent_token, furnished_cloud, fuzz
from tests.end_to_end.cloud import Cloud

PATHS = json.loads(DOCUMENT.read_text(encoding="utf-8"))["paths"]
METHODS = ("get", "post", "put", "patch", "delete")
SEEDED = ("--seed", "1", "--continue-on-failure")
"""The same questions each time: `make schemathesis` asks others."""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with furnished_cloud(tmp_path_factory.mktemp("openapi")) as running:
        yield running


def check(run: Fuzzed, *, operations: int) -> None:
    assert run.failures == [], run.said[-6000:]
    assert run.operations == operations


def test_agents_reports_of_any_kind_are_answered_as_documented(cloud: Cloud) -> None:
    run = fuzz(cloud, "--include-path", AGENTS, "--phases", "fuzzing", "-n", "10", *SEEDED, key=agent_token(cloud))
    check(run, operations=1)


def test_any_request_is_answered_as_documented_and_never_with_a_5xx(cloud: Cloud) -> None:
    asked = ("--exclude-path-regex", f"{OTHERS}|^{AGENTS}$|{LARGE}", "--phases", "examples,coverage,fuzzing", "-n", "2")
    check(fuzz(cloud, *asked, *SEEDED), operations=50)


def test_any_wish_for_a_machine_is_answered_as_documented_and_never_with_a_5xx(cloud: Cloud) -> None:
    asked = ("--include-path-regex", LARGE, "--phases", "examples,fuzzing", "-n", "3")
    check(fuzz(cloud, *asked, *SEEDED), operations=7)


def with_a_door() -> list[str]:
    """The documented paths whose function looks at a key first: the others ask for other proofs."""
    return [path for path, methods in PATHS.items() if {"key": []} in next(iter(methods.values()))["security"]]


@pytest.mark.parametrize("path", [path for path in with_a_door() if not path.startswith("/gateway")])
def test_a_path_answers_its_methods_and_no_others(cloud: Cloud, path: str) -> None:
    asked = path.replace("{name}", "nobody").replace("{machine}", "nobody").replace("{id}", "nothing")
    for method in METHODS:
        answer = cloud.http.request(method.upper(), asked)
        served = answer.status_code != 405 and answer.json().get("code") != "no_such_path"
        assert served == (method in PATHS[path]), f"{method} {path}: {answer.status_code} {answer.text[:200]}"


@pytest.mark.parametrize("path", with_a_door())
def test_nothing_is_answered_below_what_is_documented(cloud: Cloud, path: str) -> None:
    asked = path.replace("{name}", "nobody").replace("{machine}", "nobody").replace("{id}", "nothing")
    for below in ("/x", "/x/y/z"):
        if any(len(known.split("/")) == len(f"{path}{below}".split("/")) for known in PATHS if known.startswith(path)):
            continue  # that may be a documented path, with a parameter
        assert cloud.http.get(asked + below).status_code in (404, 405)
