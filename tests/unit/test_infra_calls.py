"""Who calls from within Google, in `infra/` and in the settings: one account, and an audience for each function."""

from __future__ import annotations

import json
from typing import Any

from dumont import settings
from tests.unit.infra_support import INFRA, NEEDED, instances, of_kind, resource

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
    for plan in ("google_pubsub_subscription", "work"), ("google_cloud_scheduler_job", "job"):
        assert "google_service_account.caller.email" in repr(resource(*plan))


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
