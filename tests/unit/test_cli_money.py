"""`dumont cost`, `savings` and `budget`: what is asked of the API, and what a person is shown."""

from __future__ import annotations

from tests.unit.cli_world import World, output, problem

TOTAL = {"usd": 1.2345, "gpu_usd": 1.0, "storage_usd": 0.2, "bandwidth_usd": 0.03, "object_store_usd": 0.0045}
TOTAL |= {"gpu_hours": 3.25}
BUDGETS = {
    "budgets": [
        {
            "machine": "",
            "windows": {"day": {"limit_usd": 25.0, "spent_usd": 12.6, "share": 0.504}},
            "reached": [],
            "action": "hibernate",
            "is_default": True,
        }
    ],
    "credit": [{"provider": "vast", "credit_usd": 4.0, "hours_left": 10.1, "low": True}],
}


def test_cost_shows_totals_and_what_of_them_is_not_certain(api: World) -> None:
    view = {"totals": [{"key": "ada", **TOTAL}], "total": {"key": "all", **TOTAL, "accruing_usd": 0.5}}
    api.says("GET /costs", {"costs": view})
    result = api.run("cost")
    assert result.exit_code == 0
    head, row, all_of_it = result.stdout.splitlines()
    assert head.split()[0] == "MACHINE"
    for shown in ("ada", "$1.2345", "$1.0000", "$0.2000", "$0.0300", "$0.0045", "3.25"):
        assert shown in row
    assert all_of_it.startswith("all")
    assert "of it $0.5000 is of what runs now" in result.stderr
    assert api.query("GET /costs") == {"by": "machine"}


def test_cost_of_one_machine_sends_what_was_asked(api: World) -> None:
    api.says("GET /costs", {"costs": {"totals": [], "total": {}}})
    result = api.run(
        "cost", "ada", "--by", "day", "--from", "2026-11-01", "--to", "2026-11-22", "--zone", "Europe/Rome"
    )
    assert api.query("GET /costs") == {
        "machine": "ada", "by": "day", "from": "2026-11-01", "to": "2026-11-22", "zone": "Europe/Rome",
    }  # fmt: skip
    assert "nothing was spent in this time" in result.stderr


def test_reconciling_shows_what_differs_and_why(api: World) -> None:
    difference = {"instance_id": "dumont.main.ada.1.x", "kind": "gpu", "booked_usd": 0.0, "billed_usd": 0.02}
    difference |= {"why": "it ran, and we never saw it run", "entry": {"id": "e"}}
    provider = {"provider": "vast", "instances": 3, "booked_usd": 1.2, "billed_usd": 1.2, "differences": [difference]}
    silent = {"provider": "tensordock", "unanswered": "this provider does not show what it has charged"}
    api.says("POST /costs/reconcile", {"providers": [provider, silent]})
    result = api.run("cost", "--reconcile")
    assert "vast: 3 rentals, $1.2000 in the ledger, $1.2000 on the bill" in result.stdout
    assert "it ran, and we never saw it run" in result.stdout
    assert "tensordock: not compared" in result.stdout


def test_savings_show_each_formula_with_its_prices_date_and_source(api: World) -> None:
    cloud = {"gpu": "RTX 4090", "cloud": "AWS", "machine_type": "g5.xlarge", "cloud_gpu": "A10G", "same_chip": False}
    cloud |= {"cloud_usd": 1.006, "saved_usd": 0.646, "as_of": "2026-09-14", "source": "https://aws.example/"}
    cloud |= {"formula": "1.00 GPU h × $1.0060 − $0.3600 paid"}
    sleep = {"machine": "ada", "always_on_usd": 2.0, "paid_usd": 0.5, "saved_usd": 1.5, "formula": "5.00 h × $0.4000/h"}
    api.says("GET /costs/savings", {"savings": {"clouds": [cloud], "sleep": [sleep], "uncompared": ["B300"]}})
    result = api.run("savings")
    for shown in ("1.00 GPU h × $1.0060 − $0.3600 paid", "2026-09-14", "A10G (as much memory)", "5.00 h × $0.4000/h"):
        assert shown in result.stdout
    assert "source: https://aws.example/" in result.stderr
    assert "B300: no price of a GPU of its class is known here" in result.stderr


def test_budget_shows_limits_what_is_spent_and_the_credit_that_is_left(api: World) -> None:
    api.says("GET /budgets", BUDGETS)
    result = api.run("budget")
    assert result.exit_code == 0
    for shown in ("all machines (default)", "day", "$12.6000", "$25.00", "50 %", "hibernate"):
        assert shown in result.stdout
    assert "vast: $4.00 of credit, 10 h at the present rate – LOW" in result.stderr


def test_budget_set_sends_the_limits(api: World) -> None:
    api.says("POST /budgets", BUDGETS)
    limits = "--per-hour 1.5 --per-day 10 --total 200 --action destroy_after_snapshot --warn-at 50,90%"
    assert api.run("budget", "set", "ada", *limits.split()).exit_code == 0
    assert api.last("POST /budgets").json == {
        "machine": "ada", "usd_per_hour": 1.5, "usd_per_day": 10.0, "usd_total": 200.0,
        "action": "destroy_after_snapshot", "warn_at": [0.5, 0.9],
    }  # fmt: skip


def test_budget_rm_removes_one_or_that_of_all(api: World) -> None:
    api.says("DELETE /budgets", {"budgets": [{"machine": "", "windows": {}}], "credit": []})
    assert "no limit" in api.run("budget", "rm").stdout
    api.says("DELETE /budgets/ada", {"budgets": [], "credit": []})
    assert api.run("budget", "rm", "ada").exit_code == 0


def test_budget_is_json_on_request_once(api: World) -> None:
    api.says("GET /budgets", BUDGETS)
    assert output(api.run("budget", "--json")) == BUDGETS


def test_a_spent_budget_says_what_to_do_next(api: World) -> None:
    api.says("POST /provision", problem(402, "budget_reached", "the budget is spent", hint="`dumont budget` shows it"))
    result = api.run("up", "ada", "--gpu", "RTX 4090")
    assert result.exit_code != 0
    assert "the budget is spent" in result.stderr
    assert "`dumont budget` shows it" in result.stderr
