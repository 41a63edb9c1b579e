"""Limits across functions, each a process of its own: of changes by one key, of wrong keys, of what is sent."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dumont.adapters.clock import SystemClock, SystemIds
from dumont.adapters.sqlite_store import SqliteStore
from dumont.domain.records import Role
from dumont.edge import keys
from tests.end_to_end.bundle_support import Served
from tests.end_to_end.entry_support import serving

CHANGES, WRONG_KEYS = 4, 3
LIMITS = {
    "DUMONT_CHANGES_PER_MINUTE": str(CHANGES),
    "DUMONT_WRONG_KEYS_PER_MINUTE": str(WRONG_KEYS),
    "DUMONT_PROXIES": "1",
}
BUDGET = {"usd_per_day": 5.0}


def made_key(folder: Path, role: Role) -> str:
    with contextlib.closing(SqliteStore(folder / "store.db")) as store:
        return keys.make(store, SystemIds(), SystemClock(), name="test", role=role)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("limits")


@pytest.fixture
def operator(folder: Path) -> str:
    return made_key(folder, Role.OPERATOR)


@pytest.fixture(scope="module")
def budgets(folder: Path) -> Iterator[Served]:
    with serving(folder, "budgets", "budgets", "http", **LIMITS) as served:
        yield served


@pytest.fixture(scope="module")
def idle(folder: Path) -> Iterator[Served]:
    with serving(folder, "idle", "idle", "http", **LIMITS) as served:
        yield served


@pytest.fixture(scope="module")
def routes(folder: Path) -> Iterator[Served]:
    with serving(folder, "routes", "routes", "http", **LIMITS) as served:
        yield served


def bearing(key: str, address: str = "198.51.100.1") -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", "X-Forwarded-For": f"10.0.0.1, {address}"}


def wrong(key: str) -> str:
    return key[:-4] + ("0000" if not key.endswith("0000") else "1111")


def left(answer: httpx.Response) -> int:
    found = re.fullmatch(r'"changes";r=(\d+);t=\d+', answer.headers["RateLimit"])
    assert found, answer.headers
    return int(found[1])


def test_one_key_changes_so_much_a_minute_whatever_function_it_asks(
    budgets: Served, idle: Served, operator: str, folder: Path
) -> None:
    for number in range(CHANGES - 1):
        answer = budgets.client.post("/", json=BUDGET, headers=bearing(operator))
        assert answer.status_code == 200, budgets.log.read_text()
        assert answer.headers["RateLimit-Policy"] == f'"changes";q={CHANGES};w=60'
        assert left(answer) == CHANGES - 1 - number
    # Another function: what is wrong with the request itself is a change that was asked for, all the same.
    assert idle.client.post("/nobody/keep", json={"seconds": 1}, headers=bearing(operator)).status_code == 404
    refused = budgets.client.post("/", json=BUDGET, headers=bearing(operator))
    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["code"] == "too_many_requests"
    assert 1 <= int(refused.headers["Retry-After"]) <= 120
    assert left(refused) == 0
    assert idle.client.post("/nobody/keep", json={"seconds": 1}, headers=bearing(operator)).status_code == 429
    assert operator not in budgets.log.read_text()
    other = made_key(folder, Role.OPERATOR)
    assert budgets.client.post("/", json=BUDGET, headers=bearing(other)).status_code == 200


def test_reading_is_not_limited_and_says_nothing_of_limits(budgets: Served, operator: str) -> None:
    for _ in range(CHANGES * 3):
        answer = budgets.client.get("/", headers=bearing(operator))
        assert answer.status_code == 200
        assert "RateLimit" not in answer.headers


@pytest.mark.parametrize("function", ["budgets", "routes"])
def test_wrong_keys_are_told_so_a_few_times_and_a_right_one_works_beside_them(
    request: pytest.FixtureRequest, function: str, operator: str
) -> None:
    served: Served = request.getfixturevalue(function)
    near, far = (f"203.0.113.{number + 100 * (function == 'routes')}" for number in (1, 2))
    for _ in range(WRONG_KEYS):
        assert served.client.get("/", headers=bearing(wrong(operator), near)).status_code == 401
    refused = served.client.get("/", headers=bearing(wrong(operator), near))
    assert refused.status_code == 429, served.log.read_text()
    assert refused.headers["RateLimit-Policy"] == f'"wrong-keys";q={WRONG_KEYS};w=60'
    assert served.client.get("/", headers=bearing(operator, near)).status_code == 200
    assert served.client.get("/", headers=bearing(wrong(operator), far)).status_code == 401
    for _ in range(WRONG_KEYS + 1):
        without = served.client.get("/", headers={"X-Forwarded-For": near})
        assert (without.status_code, without.json()["code"]) == (401, "no_key")


def test_what_is_too_large_is_refused_before_it_is_read(budgets: Served, operator: str, folder: Path) -> None:
    other = made_key(folder, Role.OPERATOR)
    said = {"usd_per_day": 5.0, "machine": "x" * 300_000}
    assert budgets.client.post("/", json=said, headers=bearing(other)).status_code == 413
    unannounced = (b"x" * 65_536 for _ in range(5))
    assert budgets.client.post("/", content=unannounced, headers=bearing(other)).status_code == 413
    assert budgets.client.get("/", headers=bearing(other)).status_code == 200
