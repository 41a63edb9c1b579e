"""What `dumont deploy-check` looks for is what `infra/` makes: each API, account, secret, topic, job and index."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from dumont.build.declarations import load
from dumont.domain.deployment import questions
from dumont.domain.deployment.verdict import CHECKS
from dumont.domain.deployment.wanted import (
    APIS,
    CLOUDFLARE_SECRET,
    INSTANCES_MAX,
    PERMISSIONS,
    REGION,
    Declared,
    Function,
    Wanted,
    settings_in,
    wanted_of,
)
from tests.unit.infra_support import INFRA, ROOT, instances, of_kind, resource

DECLARED = msgspec.json.decode((INFRA / "declared.json").read_bytes(), type=Declared)
WANTED = wanted_of("dumont-test", DECLARED, "")
BOOTSTRAP = (INFRA / "bootstrap.sh").read_text(encoding="utf-8")
Planned = dict[str, dict[str, Any]]


def test_each_api_that_terraform_or_the_bootstrap_enables_is_looked_for_and_no_other() -> None:
    apis = set(re.findall(r'"([a-z]+\.googleapis\.com)"', (INFRA / "main.tf").read_text(encoding="utf-8")))
    assert resource("google_project_service", "api")["for_each"] == "${local.apis}"
    apis |= set(re.findall(r"\b([a-z]+\.googleapis\.com)\b", BOOTSTRAP))
    assert set(APIS) == apis


def test_each_role_of_the_deployer_has_a_permission_that_is_looked_for() -> None:
    listed = re.search(r"^roles=\((.*?)\)", BOOTSTRAP, re.MULTILINE | re.DOTALL)
    assert listed is not None
    assert set(PERMISSIONS.values()) == set(listed[1].split())


def test_each_topic_and_subscription_is_looked_for(planned: Planned) -> None:
    for kind in ("topic", "subscription"):
        made = [instances(planned, f"google_pubsub_{kind}.{name}") for name in ("work", "dead")]
        assert set(WANTED.topics) == {plan["name"] for plans in made for plan in plans.values()}
    assert set(WANTED.workers) == set(instances(planned, "google_pubsub_topic.work"))


def test_each_job_is_looked_for_with_its_schedule(planned: Planned) -> None:
    made = instances(planned, "google_cloud_scheduler_job.job")
    assert WANTED.jobs == {plan["name"]: function for function, plan in made.items()}
    for name, plan in made.items():
        assert DECLARED.functions[name].schedule == plan["schedule"]
    schedules = {d.name: d.schedule for d in load(ROOT / "functions") if d.schedule}
    assert schedules == {function: DECLARED.functions[function].schedule for function in WANTED.jobs.values()}


def test_each_secret_is_looked_for(planned: Planned) -> None:
    made = instances(planned, "google_secret_manager_secret.secret")
    assert set(WANTED.secrets) == {plan["secret_id"] for plan in made.values()}
    assert {q.name for q in questions.all_of(WANTED)} >= {f"secret {plan['secret_id']}" for plan in made.values()}
    assert f'"{CLOUDFLARE_SECRET}"' in (INFRA / "secrets.tf").read_text(encoding="utf-8")


def test_each_account_is_looked_for(planned: Planned) -> None:
    made = {plan["account_id"] for name, plan in planned.items() if name.startswith("google_service_account.")}
    # The deployer is the bootstrap's.
    assert set(WANTED.accounts) == made | {"dumont-deployer"}
    assert "dumont-deployer" in BOOTSTRAP


def test_each_function_index_exemption_and_end_is_looked_for(planned: Planned) -> None:
    assert set(DECLARED.functions) == set(instances(planned, "google_cloudfunctions2_function.function"))
    assert {i.name for i in DECLARED.indexes} == set(instances(planned, "google_firestore_index.index"))
    unindexed = instances(planned, "google_firestore_field.unindexed")
    assert {f"{e.collection}.{e.field}" for e in DECLARED.exemptions} == set(unindexed)
    assert set(DECLARED.expiring) == set(instances(planned, "google_firestore_field.expiring"))


def test_the_database_and_the_state_are_where_they_are_looked_for() -> None:
    database = resource("google_firestore_database", "records")
    assert str(database["name"]).strip('"') == "(default)"
    assert f"gs://{WANTED.state_bucket}".replace("dumont-test", "$project", 1) in BOOTSTRAP


def test_what_the_settings_leave_out_is_as_terraform_has_it() -> None:
    by_default = {block.labels[0]: block.body.get("default") for block in of_kind("variable")}
    assert str(by_default["region"]).strip('"') == REGION
    assert by_default["instances_max"] == INSTANCES_MAX


def test_each_kind_of_resource_that_could_be_missing_is_looked_for_or_stated() -> None:
    looked_for = {
        *("google_project_service", "google_service_account", "google_secret_manager_secret", "google_pubsub_topic"),
        *("google_pubsub_subscription", "google_cloud_scheduler_job", "google_firestore_database"),
        *("google_firestore_index", "google_firestore_field", "google_cloudfunctions2_function"),
    }
    of_rights = {b.labels[0] for b in of_kind("resource") if "iam" in b.labels[0]}
    not_looked_for = {
        # What tells of trouble, and what it costs: a deployment serves without.
        *("google_monitoring_notification_channel", "google_logging_metric", "google_monitoring_alert_policy"),
        *("google_monitoring_uptime_check_config", "google_billing_budget", "google_firestore_backup_schedule"),
        # A function that serves was built from it.
        *("google_storage_bucket", "google_storage_bucket_object"),
    }
    assert {b.labels[0] for b in of_kind("resource")} == looked_for | of_rights | not_looked_for


def test_each_question_is_read_by_a_check() -> None:
    asked = {q.name for q in (questions.first("p"), *questions.all_of(WANTED)) if not q.name.startswith("secret ")}
    assert asked == set(CHECKS)


def test_settings_are_read_as_terraform_reads_them() -> None:
    text = (
        'region = "europe-west1"\n  bucket="b-1"\n# dns = "clouddns:p/z"\ninstances_max = 7\nalert_emails = ["a@b.c"]\n'
    )
    assert settings_in(text) == {"region": "europe-west1", "bucket": "b-1", "instances_max": "7"}
    wanted = wanted_of("p", DECLARED, text)
    assert (wanted.region, wanted.bucket, wanted.instances_max, wanted.dns) == ("europe-west1", "b-1", 7, "")
    assert wanted_of("p", DECLARED, text, region="us-east4").region == "us-east4"


@pytest.mark.parametrize(
    ("function", "thousandths"),
    [
        (Function(memory_mib=512), 333),
        (Function(memory_mib=300), 333),
        (Function(memory_mib=512, cpu="1"), 1000),
        (Function(memory_mib=32768), 8000),
        (Function(memory_mib=128, cpu="0.5"), 500),
    ],
)
def test_an_instances_processors_are_what_google_gives_with_its_memory(function: Function, thousandths: int) -> None:
    assert function.cpu_thousandths == thousandths


def test_the_commands_name_the_project_and_what_is_known_of_it() -> None:
    wanted = Wanted(project="p1", region="r1", declared=DECLARED, bucket="b-1")
    assert wanted.bootstrap == "infra/bootstrap.sh p1 r1 b-1"
    assert wanted.prepare == "python3 infra/release.py prepare --project p1"
    for command in (wanted.bootstrap, wanted.prepare, wanted.deploy):
        for script in re.findall(r"infra/[a-z_.]+", command):
            assert (ROOT / script).is_file()
