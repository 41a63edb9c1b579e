"""The audit log, written by one function's process and read through another's."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dumont.adapters.clock import SystemClock, SystemIds
from dumont.adapters.sqlite_store import SqliteStore
from dumont.domain.audit import KEPT_SECONDS, AuditEntry
from dumont.domain.records import Role
from dumont.edge import keys
from dumont.ports import Query
from tests.end_to_end.bundle_support import Served
from tests.end_to_end.cloud import free_port
from tests.end_to_end.entry_support import serving

SETTINGS = {"DUMONT_PROXIES": "1", "DUMONT_CHANGES_PER_MINUTE": "5"}
ADDRESS = "198.51.100.7"


def made_key(folder: Path, role: Role) -> str:
    with contextlib.closing(SqliteStore(folder / "store.db")) as store:
        return keys.make(store, SystemIds(), SystemClock(), name=f"a {role.value}", role=role)


def bearing(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", "X-Forwarded-For": ADDRESS, "X-Request-Id": "req-of-the-test"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit")


@pytest.fixture(scope="module")
def operator(folder: Path) -> str:
    return made_key(folder, Role.OPERATOR)


@pytest.fixture(scope="module")
def audit(folder: Path) -> Iterator[Served]:
    with serving(folder, "audit", "audit", "http", **SETTINGS) as served:
        yield served


@pytest.fixture(scope="module")
def provision(folder: Path) -> Iterator[Served]:
    bus = f"http://127.0.0.1:{free_port()}"
    with serving(folder, "provision", "provision", "http", DUMONT_BUS=bus, **SETTINGS) as served:
        yield served


@pytest.fixture(scope="module")
def budgets(folder: Path) -> Iterator[Served]:
    with serving(folder, "budgets", "budgets", "http", **SETTINGS) as served:
        yield served


def entries(audit: Served, key: str, **arguments: str) -> list[dict[str, Any]]:
    answer = audit.client.get("/", params=arguments, headers=bearing(key))
    assert answer.status_code == 200, audit.log.read_text()
    found: list[dict[str, Any]] = answer.json()["entries"]
    return found


def test_a_change_is_written_down_with_who_where_what_and_how_it_ended(
    audit: Served, provision: Served, operator: str
) -> None:
    secret = "hunter2-in-a-command"
    said = {"name": "ada", "gpu": "RTX 4090", "run": f"serve --token {secret}"}
    accepted = provision.client.post("/", json=said, headers=bearing(operator))
    assert accepted.status_code == 202, provision.log.read_text()
    again = provision.client.post("/", json=said, headers=bearing(operator))
    assert again.status_code == 409
    refused, done = entries(audit, operator)
    assert abs(done.pop("at") - time.time()) < 60
    assert done.pop("id") != refused["id"]
    assert done == {
        "who": operator.split("_")[1],
        "name": "a operator",
        "what": "POST /provision",
        "about": "ada",
        "address": ADDRESS,
        "status": 202,
        "made": accepted.json()["operation"]["id"],
        "request_id": "req-of-the-test",
    }
    assert (refused["status"], refused["code"], refused["about"]) == (409, "name_taken", "ada")
    text = str(entries(audit, operator, limit="500"))
    assert secret not in text
    assert operator.split("_")[2] not in text


def test_who_may_not_is_written_down_too(audit: Served, budgets: Served, operator: str, folder: Path) -> None:
    viewer = made_key(folder, Role.VIEWER)
    assert budgets.client.post("/", json={"usd_per_day": 5.0}, headers=bearing(viewer)).status_code == 403
    assert budgets.client.delete("/ada", headers=bearing(viewer)).status_code == 403
    removed, put = entries(audit, operator, who=viewer.split("_")[1])
    assert (put["what"], put["status"], put["code"]) == ("POST /budgets", 403, "forbidden")
    assert removed["what"] == "DELETE /budgets/ada"


def test_what_only_looks_is_not_nor_a_flood_and_wrong_keys_are_one_entry_an_hour(
    audit: Served, budgets: Served, operator: str, folder: Path
) -> None:
    other = made_key(folder, Role.OPERATOR)
    assert budgets.client.get("/", headers=bearing(other)).status_code == 200
    assert entries(audit, other, who=other.split("_")[1]) == []
    before = len(entries(audit, operator, limit="500"))
    wrong = other[:-4] + ("0000" if not other.endswith("0000") else "1111")
    for _ in range(9):
        assert budgets.client.post("/", json={"usd_per_day": 5.0}, headers=bearing(wrong)).status_code == 401
    refused = entries(audit, operator, limit="500")
    assert len(refused) == before + 1
    assert (refused[0]["name"], refused[0]["status"], refused[0]["address"]) == ("nobody", 401, ADDRESS)
    assert wrong not in str(refused)
    answers = [budgets.client.post("/", json={"usd_per_day": 5.0}, headers=bearing(other)) for _ in range(8)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 3
    assert len(entries(audit, operator, who=other.split("_")[1])) == 5


def test_only_operators_read_it_and_reading_is_no_change(audit: Served, operator: str, folder: Path) -> None:
    viewer = made_key(folder, Role.VIEWER)
    assert audit.client.get("/", headers=bearing(viewer)).status_code == 403
    assert audit.client.get("/").status_code == 401
    assert audit.client.get("/else", headers=bearing(operator)).status_code == 404
    assert audit.client.get("/?limit=0", headers=bearing(operator)).status_code == 400
    for _ in range(7):
        assert len(entries(audit, operator, limit="1")) == 1


def test_entries_end_after_a_year_and_a_while(audit: Served, operator: str, folder: Path) -> None:
    assert entries(audit, operator)
    with contextlib.closing(SqliteStore(folder / "store.db")) as store:
        for entry in store.find(AuditEntry, Query()):
            assert entry.expires_at == entry.at + KEPT_SECONDS
