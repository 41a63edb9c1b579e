"""Money on the local cloud: what the API says was spent is what the market bills; a budget that is reached acts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.cloud import Cloud, local_cloud, wait_for


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    folder: Path = tmp_path_factory.mktemp("money")
    with local_cloud(folder, environment={"DUMONT_SWEEP_SECONDS": "1"}) as made:
        yield made


def get(cloud: Cloud, path: str, **parameters: str) -> Any:
    answer = cloud.http.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_ledger_is_what_the_market_bills(cloud: Cloud) -> None:
    assert cloud.ended(cloud.up("ledger", race_width=2))["state"] == "succeeded"
    spent = get(cloud, "/costs", machine="ledger", by="kind")["costs"]
    assert spent["total"]["accruing_usd"] > 0, "what runs is counted while it runs"
    assert cloud.ended(cloud.down("ledger", discard=True))["state"] == "succeeded"
    [compared] = cloud.http.post("/costs/reconcile").json()["providers"]
    assert compared["unanswered"] == ""
    assert compared["booked_usd"] == pytest.approx(compared["billed_usd"], abs=0.001)
    spent = get(cloud, "/costs", machine="ledger", by="kind")["costs"]
    assert spent["total"]["usd"] == pytest.approx(cloud.bill_usd(), abs=0.001)
    [again] = get(cloud, "/costs/reconcile")["providers"]
    assert again["differences"] == [], "what was made good does not differ any more"


def test_savings_show_formula_date_and_source(cloud: Cloud) -> None:
    saved = get(cloud, "/costs/savings")["savings"]
    assert saved["clouds"]
    for comparison in saved["clouds"]:
        assert comparison["formula"]
        assert comparison["as_of"]
        assert comparison["source"].startswith("https://")


def test_the_command_line_shows_costs_savings_and_budgets(cloud: Cloud) -> None:
    for command in (["cost"], ["cost", "ledger", "--by", "day", "--zone", "Asia/Tokyo"], ["savings"], ["budget"]):
        done = cloud.cli(*command)
        assert (done.returncode, done.stderr.count("error")) == (0, 0), done.stderr
        assert done.stdout


def test_a_spent_budget_refuses_what_is_new_and_ends_what_runs(cloud: Cloud) -> None:
    assert cloud.ended(cloud.up("spender", race_width=1))["state"] == "succeeded"
    [default] = get(cloud, "/budgets")["budgets"]
    assert (default["is_default"], default["windows"]["day"]["limit_usd"]) == (True, 25.0)
    set_to = {"usd_per_day": 0.00001, "action": "destroy"}
    shown = cloud.http.post("/budgets", json=set_to).json()["budgets"]
    assert shown[0]["reached"] == ["day"]
    refused = cloud.http.post("/provision", json={"name": "another", "gpu": "RTX 4090"})
    assert (refused.status_code, refused.json()["code"]) == (402, "budget_reached")
    wait_for(lambda: cloud.machine("spender")["state"] == "destroyed", seconds=90, why="the budget ended it")
    assert cloud.http.delete("/budgets").json()["budgets"][0]["windows"] == {}
    [credit] = get(cloud, "/budgets")["credit"]
    assert credit["provider"] == "vast"
    assert 0.0 < credit["credit_usd"] <= 100.0
