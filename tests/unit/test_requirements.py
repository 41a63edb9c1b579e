"""The locks in `requirements/` are complete, in step with pyproject.toml and with each other, and name no machine."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dumont.build.declarations import load
from dumont.build.lock import DEMO, DEV, locks

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "requirements"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
LOCKS = {DEV: tuple(EXTRAS), **locks(load(ROOT / "functions"))}

every_lock = pytest.mark.parametrize("name", sorted(LOCKS))


def pins(name: str) -> dict[str, str]:
    """Package → version, of one lock."""
    return dict(re.findall(r"^([a-z0-9][a-z0-9.-]*)==(\S+)", (FOLDER / name).read_text(encoding="utf-8"), re.M))


def wanted(name: str) -> list[Requirement]:
    """What pyproject asks for in one lock; the build backend where the project itself is installed."""
    texts = list(PROJECT["project"]["dependencies"])
    for extra in LOCKS[name]:
        texts += EXTRAS[extra]
    if name in {DEV, DEMO}:
        texts += PROJECT["build-system"]["requires"]
    return [Requirement(text) for text in texts]


def test_there_is_a_lock_for_each_need_and_no_other() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(LOCKS)


@every_lock
def test_a_lock_holds_what_pyproject_asks_for(name: str) -> None:
    found = pins(name)
    missing = [
        str(requirement)
        for requirement in wanted(name)
        if not requirement.specifier.contains(found.get(canonicalize_name(requirement.name), "0"), prereleases=True)
    ]
    assert missing == [], "run make lock"


@every_lock
def test_every_file_of_a_lock_is_known_by_its_hash(name: str) -> None:
    entries = re.split(r"\n(?=[a-z0-9])", (FOLDER / name).read_text(encoding="utf-8"))
    unknown = [entry.splitlines()[0] for entry in entries if "==" in entry and "--hash=sha256:" not in entry]
    assert unknown == []


@every_lock
def test_a_lock_names_no_host_and_no_path_of_the_machine_that_made_it(name: str) -> None:
    assert not re.search(r"https?:|file:|index-url|find-links|@ | /\w", (FOLDER / name).read_text(encoding="utf-8"))


@every_lock
def test_what_is_deployed_is_what_was_tested(name: str) -> None:
    assert pins(name).items() <= pins(DEV).items()
