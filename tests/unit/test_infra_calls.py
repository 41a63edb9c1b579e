"""Who may call, in `infra/` and in the code: from within Google one account, with an audience for each function; from
the world as often as the settings say, counted where the function's account may write."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from dumont import settings
from dumont.build.declarations import load
from dumont.build.reach import Need, needs
from dumont.edge.doors import Door
from tests.unit.infra_support import INFRA, NEEDED, ROOT, Evaluated, instances, of_kind, resource

DECLARED: dict[str, Any] = json.loads((INFRA / "declared.json").read_text(encoding="utf-8"))


def test_what_google_calls_and_nothing_else_looks_for_the_callers_token(planned: dict[str, dict[str, Any]]) -> None:
    account = instances(planned, "google_service_account.caller") or {"": planned["google_service_account.caller"]}
    email = f"{account['']['account_id']}@{NEEDED['project']}.iam.gserviceaccount.com"
    audiences = {}
    for name, plan in instances(planned, "google_cloudfunctions2_function.function").items():
        chosen = settings.read(plan["service_config"][0]["environment_variables"])
        if DECLARED["functions"][name]["public"]:
            assert (chosen.caller, chosen.audience, chosen.caller_checked) == ("", "", ""), name
        else:
            assert (chosen.caller, chosen.caller_checked) == (email, "iam"), name
            audiences[name] = chosen.audience
    assert len(set(audiences.values())) == len(audiences), "a token for one function opens no other"
    pushes = instances(planned, "google_pubsub_subscription.work")
    calls = instances(planned, "google_cloud_scheduler_job.job")
    sent = {name: plan["push_config"][0]["oidc_token"][0]["audience"] for name, plan in pushes.items()}
    sent |= {name: plan["http_target"][0]["oidc_token"][0]["audience"] for name, plan in calls.items()}
    assert sent == audiences
    for name, plan in instances(planned, "google_cloud_scheduler_job.look").items():
        assert plan["http_target"][0]["oidc_token"][0]["audience"] == audiences[name]
    for place in (
        ("google_pubsub_subscription", "work"),
        ("google_cloud_scheduler_job", "job"),
        ("google_cloud_scheduler_job", "look"),
    ):
        assert "google_service_account.caller.email" in repr(resource(*place))


def test_a_stripped_token_is_believed_only_where_nobody_comes_in_without_one(
    planned: dict[str, dict[str, Any]],
) -> None:
    open_to_all = set(instances(planned, "google_cloud_run_v2_service_iam_member.anyone"))
    for name, plan in instances(planned, "google_cloudfunctions2_function.function").items():
        service = plan["service_config"][0]
        if "DUMONT_CALLER_CHECKED" in service["environment_variables"]:
            assert name not in open_to_all
            assert service["ingress_settings"] == "ALLOW_INTERNAL_ONLY"
    members = [b.body["member"] for b in of_kind("resource") if b.labels[0] == "google_cloud_run_v2_service_iam_member"]
    assert sorted(members) == ['"allUsers"', "${google_service_account.caller.member}"]


def doors() -> dict[str, Door]:
    """Each function that `dumont.edge.http` serves, and who may come in there."""
    found = {}
    for main in sorted((ROOT / "functions").glob("*/main.py")):
        spec = importlib.util.spec_from_file_location(f"main_{main.parent.name.replace('-', '_')}", main)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for value in vars(module).values():
            if isinstance(door := getattr(value, "door", None), Door):
                found[main.parent.name] = door
    return found


def test_where_anything_can_be_changed_the_account_may_count_it() -> None:
    known = doors()
    assert {"provision", "budgets", "routes", "heartbeat", "heartbeat-check"} <= set(known)
    for declaration in load(ROOT / "functions"):
        for entry in declaration.entries:
            door = known.get(declaration.name) if entry.topic is None else None
            if door is not None and door.changes:
                assert Need.WRITE in needs(declaration, entry), f"{entry.name} counts in the store"
    assert not known["routes"].changes
    assert not known["machines"].changes, "what only shows may only read, and counts in memory"


def test_only_the_sweep_takes_googles_token_at_a_door() -> None:
    assert [name for name, door in doors().items() if door.google_calls] == ["heartbeat-check"]
    scheduled = [name for name, function in DECLARED["functions"].items() if function["schedule"]]
    assert scheduled == ["heartbeat-check"]


def test_limits_are_the_same_in_terraform_as_in_the_code(planned: dict[str, dict[str, Any]]) -> None:
    by_default = settings.read({"DUMONT_STORE": "firestore"})
    for plan in instances(planned, "google_cloudfunctions2_function.function").values():
        chosen = settings.read(plan["service_config"][0]["environment_variables"])
        assert chosen.changes_per_minute == by_default.changes_per_minute
        assert chosen.wrong_keys_per_minute == by_default.wrong_keys_per_minute
        assert chosen.requests_per_minute == by_default.requests_per_minute
        assert chosen.bootstrap_key is None
        assert (chosen.proxies, by_default.proxies) == (1, 0), "Google's front end is one; the local cloud has none"


def test_how_many_proxies_there_are_is_said_once(tmp_path: Path) -> None:
    terraform = Evaluated(tmp_path)
    assert terraform.value("var.proxies") == 0
    for wrong in (-1, 0.5, 10):
        assert terraform.refuses(proxies=wrong)
    assert terraform.refuses(changes_per_minute=-1)
    assert terraform.refuses(wrong_keys_per_minute=1.5)
    assert terraform.refuses(requests_per_minute=-1)


def test_terraform_takes_the_hash_of_a_bootstrap_key_and_never_the_key(tmp_path: Path) -> None:
    terraform = Evaluated(tmp_path)
    assert terraform.value("var.bootstrap_key_hash") == ""
    assert terraform.refuses(bootstrap_key_hash=f"dmt_0123456789abcdef_{'0' * 64}")
    assert terraform.refuses(bootstrap_key_hash="secret")
    assert not terraform.refuses(bootstrap_key_hash=f"0123456789abcdef:{'0' * 64}")
