"""`dumont deploy-check` against Google's REST APIs as they answer: an empty project, a whole one, and each way in which
one can be in between."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from dumont.adapters.google_login import NotLoggedIn, token
from dumont.adapters.google_rest import GoogleRest
from dumont.cli.main import cli
from dumont.domain.deployment import questions, verdict
from dumont.domain.deployment.wanted import APIS, Declared, wanted_of
from dumont.domain.findings import Finding, State
from tests.contract import google_project as google
from tests.contract.google_project import PROJECT, REGION, TOKEN, Project, empty, error, off, whole
from tests.contract.scripted_http import Asked, Said

DECLARED = msgspec.convert(google.DECLARED, Declared)
Change = Callable[[Project], object]


def look(project: Project, region: str | None = None, *, request_seconds: float = 10.0) -> list[Finding]:
    """The findings, as the command makes them."""
    with google.serving(project) as hosts:
        rest = GoogleRest(TOKEN, PROJECT, hosts=hosts, request_seconds=request_seconds)
        heard = rest.ask([questions.first(PROJECT)])
        wanted = wanted_of(PROJECT, DECLARED, heard["settings"].text, region=region)
        return verdict.findings(wanted, heard | rest.ask(questions.all_of(wanted)))


def run(project: Project, *arguments: str, environment: dict[str, str | None] | None = None) -> Result:
    """The command itself."""
    with google.serving(project) as hosts:
        known: dict[str, str | None] = {"GOOGLE_OAUTH_ACCESS_TOKEN": TOKEN, "GOOGLE_CLOUD_PROJECT": PROJECT}
        known |= {"DUMONT_GOOGLE_HOSTS": hosts, "TERM": "dumb", **(environment or {})}
        return CliRunner().invoke(cli, ["deploy-check", *arguments], env=known)


def of_state(findings: list[Finding], *states: State) -> list[Finding]:
    return [finding for finding in findings if finding.state in states]


def the(findings: list[Finding], area: str, name: str) -> Finding:
    return next(finding for finding in findings if (finding.area, finding.name) == (area, name))


# --- Whole and empty ----------------------------------------------------------------------------------------------


def test_of_a_whole_project_nothing_is_missing() -> None:
    found = look(whole())
    assert [f for f in found if f.state is not State.OK] == []
    done = run(whole())
    assert done.exit_code == 0, done.output
    assert f"{len(found)} ok" in done.stdout
    assert "what mends it" not in done.stdout


def test_each_function_topic_index_and_secret_is_a_finding_of_its_own() -> None:
    found = {(f.area, f.name) for f in look(whole())}
    assert {("functions", name) for name in DECLARED.functions} <= found
    assert {("secrets", name) for name in DECLARED.secrets.values()} <= found
    assert {("topics", "dumont-provision"), ("topics", "dumont-provision-dead")} <= found
    assert {("indexes", index.name) for index in DECLARED.indexes} <= found
    assert {("ttl", f"{collection}.expires_at") for collection in DECLARED.expiring} <= found
    assert ("schedule", "dumont-heartbeat-check") in found


def test_of_an_empty_project_all_is_missing_and_the_first_steps_come_first() -> None:
    done = run(empty())
    assert done.exit_code == 1
    mends = done.stdout.partition("in this order:\n")[2].splitlines()
    steps = [line.strip() for line in mends]
    enable = next(step for step in steps if step.startswith("gcloud services enable"))
    assert all(api in enable for api in APIS)
    order = [
        next(n for n, step in enumerate(steps) if part in step)
        for part in ("enable", "bootstrap.sh", "prepare", "plan")
    ]
    assert order == sorted(order), "as infra/README.md has them"


def test_an_empty_projects_findings_each_have_a_command() -> None:
    found = of_state(look(empty(), REGION), State.MISSING, State.UNKNOWN)
    assert [finding for finding in found if not finding.mend] == []
    assert the(found, "functions", "provision").says == "is not deployed"
    assert the(found, "terraform", f"gs://{PROJECT}-dumont-state").mend.startswith(f"infra/bootstrap.sh {PROJECT} ")


def test_a_project_that_is_not_there_is_said_once_and_the_rest_is_unknown() -> None:
    nothing = Project()
    found = look(nothing)
    assert the(found, "project", PROJECT).mend == f"gcloud projects create {PROJECT}"
    assert of_state(found, State.OK) == [the(found, "clock", "clock")]


# --- What can be wrong --------------------------------------------------------------------------------------------


def first_of(project: Project, path: str) -> dict[str, Any]:
    return project.lists[path][0]


def changed(path: str, **fields: Any) -> Change:
    return lambda project: first_of(project, path).update(fields)


def gone(path: str) -> Change:
    return lambda project: project.lists[path].pop(0)


def having(path: str, **fields: Any) -> Change:
    return lambda project: project.objects[path].update(fields)


MISSING, WARNING, UNKNOWN = State.MISSING, State.WARNING, State.UNKNOWN
WRONG: dict[str, tuple[Change, str, State, str, str]] = {
    "billing is off": (
        having(google.BILLING, billingEnabled=False), "billing", MISSING, "off", "billing projects link"),
    "the project is being deleted": (
        having(google.THERE, lifecycleState="DELETE_REQUESTED"), "project", MISSING, "deletes", "undelete"),
    "an api is off": (gone(google.SERVICES), "apis", MISSING, "is off", "gcloud services enable"),
    "a permission is missing": (
        lambda p: p.objects[google.MAY]["permissions"].remove("run.services.setIamPolicy"),
        "permissions", MISSING, "you lack it", "--role=roles/run.admin"),
    "a function is not deployed": (gone(google.FUNCTIONS), "functions", MISSING, "not deployed", "release.py deploy"),
    "a function failed": (
        changed(google.FUNCTIONS, state="FAILED", stateMessages=[{"severity": "ERROR", "message": "Container failed"}]),
        "functions", MISSING, "FAILED (Container failed)", "gcloud functions logs read"),
    "a function is being deployed": (
        changed(google.FUNCTIONS, state="DEPLOYING"), "functions", WARNING, "being deployed", ""),
    "a topic is missing": (gone(google.TOPICS), "topics", MISSING, "not there", "release.py"),
    "a subscription is missing": (gone(google.SUBSCRIPTIONS), "subscriptions", MISSING, "no messages", "release.py"),
    "a subscription pushes to nobody": (
        changed(google.SUBSCRIPTIONS, pushConfig={}), "subscriptions", MISSING, "pushes to nobody", "release.py"),
    "a subscription pushes elsewhere": (
        lambda p: first_of(p, google.SUBSCRIPTIONS)["pushConfig"].update(pushEndpoint="https://x.example/?key=hush"),
        "subscriptions", MISSING, "pushes to https://x.example/, which", "release.py"),
    "a subscription pushes as somebody else": (
        lambda p: first_of(p, google.SUBSCRIPTIONS)["pushConfig"]["oidcToken"].update(serviceAccountEmail="a@b.c"),
        "subscriptions", MISSING, "does not push as dumont-caller@", "release.py"),
    "a subscription has no dead letters": (
        changed(google.SUBSCRIPTIONS, deadLetterPolicy=None), "subscriptions", MISSING, "no dead", "release.py"),
    "a subscription is detached": (
        changed(google.SUBSCRIPTIONS, detached=True), "subscriptions", MISSING, "not attached", "release.py"),
    "a subscription is in error": (
        changed(google.SUBSCRIPTIONS, state="RESOURCE_ERROR"),
        "subscriptions", MISSING, "delivers nothing", "release.py"),
    "dead letters are kept nowhere": (
        lambda p: p.lists[google.SUBSCRIPTIONS].pop(1), "subscriptions", MISSING, "lost unseen", "release.py"),
    "the job is missing": (gone(google.JOBS), "schedule", MISSING, "nobody calls", "release.py"),
    "the job is disabled": (
        changed(google.JOBS, state="DISABLED"), "schedule", MISSING, "DISABLED", "scheduler jobs resume dumont-"),
    "the job has another schedule": (
        changed(google.JOBS, schedule="0 0 * * *"), "schedule", MISSING, "0 0 * * *", "release.py"),
    "the job's last call failed": (
        changed(google.JOBS, status={"code": 7}), "schedule", WARNING, "code 7", "scheduler jobs describe"),
    "there is no database": (
        lambda p: p.objects.pop(google.DATABASE), "firestore", MISSING, "no database", "release.py"),
    "the database is not native": (
        having(google.DATABASE, type="DATASTORE_MODE"),
        "firestore", MISSING, "DATASTORE_MODE", "--type=firestore-native"),
    "the database lies elsewhere": (
        having(google.DATABASE, locationId="nam5"),
        "firestore", MISSING, "cannot be moved", 'firestore_location = "nam5"'),
    "the database can be deleted": (
        having(google.DATABASE, deleteProtectionState="DELETE_PROTECTION_DISABLED"),
        "firestore", WARNING, "deleted by a slip", "--delete-protection"),
    "the database cannot be put back": (
        having(google.DATABASE, pointInTimeRecoveryEnablement=""), "firestore", WARNING, "earlier", "--enable-pitr"),
    "an index is missing": (gone(google.INDEXES), "indexes", MISSING, "query is refused", "release.py"),
    "an index is being built": (changed(google.INDEXES, state="CREATING"), "indexes", WARNING, "being built", ""),
    "an index is broken": (
        changed(google.INDEXES, state="NEEDS_REPAIR"), "indexes", MISSING, "NEEDS_REPAIR", "composite delete CICAgO0"),
    "records do not end": (gone(google.TTL), "ttl", MISSING, "stay, and cost", "release.py"),
    "records are to end soon": (
        changed(google.TTL, ttlConfig={"state": "CREATING"}), "ttl", WARNING, "being set up", ""),
    "the end of records is broken": (
        changed(google.TTL, ttlConfig={"state": "NEEDS_REPAIR"}),
        "ttl", MISSING, "NEEDS_REPAIR", "fields ttls update expires_at"),
    "a field is indexed": (gone(google.UNINDEXED), "exemptions", MISSING, "slows all writes", "release.py"),
    "an account is missing": (gone(google.ACCOUNTS), "accounts", MISSING, "no such service account", "release.py"),
    "the deployer is missing": (
        lambda p: p.lists[google.ACCOUNTS].pop(), "accounts", MISSING, "no such", "infra/bootstrap.sh"),
    "an account is disabled": (
        changed(google.ACCOUNTS, disabled=True), "accounts", MISSING, "is disabled", "service-accounts enable"),
    "a secret is missing": (
        lambda p: p.secrets.pop("dumont-vast-api-key"), "secrets", MISSING, "not there", "release.py prepare"),
    "a secret has no value": (
        lambda p: p.secrets.update({"dumont-vast-api-key": []}), "secrets", MISSING, "no value", "infra/secrets.sh"),
    "B2's key has no value": (
        lambda p: p.secrets.update({"dumont-b2-application-key": []}),
        "secrets", MISSING, "no value", "infra/b2_setup.py dumont-test-b2"),
    "the state's bucket is missing": (
        lambda p: p.objects.pop(google.BUCKET), "terraform", MISSING, "nowhere", "infra/bootstrap.sh"),
    "the state keeps no versions": (
        having(google.BUCKET, versioning={}), "terraform", MISSING, "no versions", "--versioning"),
    "the state could be opened": (
        having(google.BUCKET, iamConfiguration={}), "terraform", WARNING, "opened", "--public-access-prevention"),
    "there are no settings": (
        lambda p: setattr(p, "settings", None), "terraform", MISSING, "no settings", "infra/bootstrap.sh"),
    "the settings name no bucket": (
        lambda p: setattr(p, "settings", f'region = "{REGION}"'),
        "terraform", MISSING, "`bucket`", "infra/bootstrap.sh"),
    "the quota is too small": (
        lambda p: first_of(p, google.QUOTAS)["consumerQuotaLimits"][1]["quotaBuckets"][1].update(effectiveLimit="5000"),
        "quotas", MISSING, "of 5 CPUs", "CpuAllocPerProjectRegion"),
    "the quota is not told": (gone(google.QUOTAS), "quotas", UNKNOWN, "no limit", "iam-admin/quotas"),
    "our clock is slow": (lambda p: setattr(p, "ahead_seconds", 40), "clock", WARNING, "40 s behind", "set-ntp"),
    "our clock is fast": (lambda p: setattr(p, "ahead_seconds", -40), "clock", WARNING, "ahead of", "set-ntp"),
}  # fmt: skip
"""What is done to a whole project; the one area in which something is found, its state, and what is said of it."""


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_wrong_is_found_and_how_to_mend_it(fault: str) -> None:
    change, area, state, says, mend = WRONG[fault]
    project = whole()
    change(project)
    found = [finding for finding in look(project) if finding.state is not State.OK]
    first = next(finding for finding in found if finding.area == area)
    assert first.state is state
    assert says in first.says
    assert mend in first.mend
    assert "hush" not in first.says
    if fault not in ("there are no settings", "there is no database"):  # of those others follow
        assert {finding.area for finding in found} == {area}


def test_a_token_for_cloudflare_is_wanted_only_where_it_keeps_the_names() -> None:
    project = whole()
    project.settings = f'{google.SETTINGS}dns = "cloudflare:{"0" * 32}"\n'
    missing = the(look(project), "secrets", "dumont-cloudflare-api-token")
    assert missing.state is State.MISSING


def test_no_limit_is_enough_and_every_region_has_its_own() -> None:
    project = whole()
    for row in project.lists[google.QUOTAS]:
        row["consumerQuotaLimits"][1]["quotaBuckets"] = [{"effectiveLimit": "-1"}]
    assert of_state(look(project), State.MISSING, State.UNKNOWN) == []


# --- What cannot be asked -----------------------------------------------------------------------------------------

AREAS = {
    "cloudbilling": {"billing"}, "serviceusage": {"apis", "quotas"}, "cloudresourcemanager": {"project", "permissions"},
    "cloudfunctions": {"functions"}, "pubsub": {"topics", "subscriptions"}, "cloudscheduler": {"schedule"},
    "firestore": {"firestore", "indexes", "ttl", "exemptions"}, "secretmanager": {"secrets"}, "iam": {"accounts"},
    "storage": {"terraform"},
}  # fmt: skip

FAILURES: dict[str, tuple[Callable[[str], Said], str, str]] = {
    "is off": (off, ".googleapis.com is off", "gcloud services enable "),
    "refuses": (
        lambda _: error(403, "Permission 'x' denied", "IAM_PERMISSION_DENIED", permission="a.bees.list"),
        "the permission a.bees.list is missing", "add-iam-policy-binding"),
    "refuses without a reason": (lambda _: error(403, "no"), "the permission ", "--role=roles/"),
    "does not believe us": (lambda _: error(401, "no"), "these credentials", "application-default login"),
    "has had enough": (lambda _: error(429, "Quota exceeded"), "answers 429: Quota exceeded", "dumont deploy-check"),
    "is in trouble": (lambda _: Said(503, b"<html>oops</html>"), "answers 503", "dumont deploy-check"),
    "hangs up": (lambda _: Said(body=None), "does not answer", "dumont deploy-check"),
    "talks nonsense": (lambda _: Said(200, b"[[]]"), "cannot be read", "dumont deploy-check"),
}  # fmt: skip


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("api", AREAS)
def test_an_api_that_fails_is_a_finding_of_its_own_and_hides_nothing_else(api: str, failure: str) -> None:
    answer, says, mend = FAILURES[failure]
    project = whole()
    project.says[f"/{api}/"] = lambda _: answer(api)
    if api == "storage" and failure == "talks nonsense":  # any text may be a settings file: only the bucket is unread
        project.says = {f"{PROJECT}-dumont-state/o": lambda _: Said(200, google.SETTINGS.encode()), **project.says}
    found = [finding for finding in look(project) if finding.area in AREAS[api]]
    wrong = [finding for finding in found if finding.state is not State.OK]
    assert {finding.area for finding in wrong} == AREAS[api]
    assert {finding.state for finding in wrong} == {State.UNKNOWN}
    assert all(says in finding.says and mend in finding.mend for finding in wrong)


@pytest.mark.parametrize("reason", ["USER_PROJECT_DENIED", "SERVICE_DISABLED"])
def test_what_the_project_cannot_pay_for_is_asked_without_it(reason: str) -> None:
    project, open_to_all = whole(), whole()

    def paid_for(asked: Asked) -> Said:
        by_project = "x-goog-user-project" in {name.lower() for name in asked.headers}
        return error(403, "no", reason) if by_project else open_to_all.answer(asked)

    project.says = {"/pubsub/": paid_for, "/cloudbilling/": paid_for}
    assert of_state(look(project), State.MISSING, State.UNKNOWN) == []


def test_whoever_may_use_no_project_is_told_which_role_to_ask_for() -> None:
    project = whole()
    project.says["/pubsub/"] = lambda _: error(403, "no", "USER_PROJECT_DENIED")
    assert "serviceUsageConsumer" in the(look(project), "topics", "topics").mend


def test_what_does_not_answer_in_time_is_unknown_and_the_rest_is_told() -> None:
    project = whole()
    project.says["/iam/"] = lambda _: Said(silent=True)
    found = look(project, request_seconds=2.0)
    assert [f.area for f in found if f.state is not State.OK] == ["accounts"]


def test_all_of_it_ends_in_time_and_progress_is_told_on_the_way() -> None:
    project, told = whole(), list[tuple[int, int]]()
    project.says["/iam/"] = lambda _: Said(silent=True)
    asked = questions.all_of(wanted_of(PROJECT, DECLARED, google.SETTINGS))
    began = time.monotonic()
    with google.serving(project) as hosts:
        rest = GoogleRest(TOKEN, PROJECT, hosts=hosts, all_seconds=3.0)
        heard = rest.ask(asked, tell=lambda done, of: told.append((done, of)))
    assert time.monotonic() - began < 9.0
    assert (heard["accounts"].status, heard["topics"].status) == (0, 200)
    assert told == sorted(told)
    assert {of for _, of in told} == {len(asked)} == {len(heard)}


def test_a_list_is_read_to_its_end_and_an_endless_one_is_unknown() -> None:
    project = whole()
    project.pages = 7
    assert of_state(look(project), State.MISSING, State.UNKNOWN) == []
    project.says["/topics"] = lambda _: Said(200, json.dumps({"topics": [], "nextPageToken": "on"}).encode())
    assert the(look(project), "topics", "topics").state is State.UNKNOWN


def test_no_values_of_secrets_are_asked_for_and_nothing_is_changed() -> None:
    project = whole()
    look(project)
    assert not [a.path for a in project.asked if ":access" in a.path]
    assert {(a.method, a.path.rpartition(":")[2]) for a in project.asked if a.method != "GET"} == {
        ("POST", "testIamPermissions")
    }


# --- The command --------------------------------------------------------------------------------------------------


def test_json_has_each_finding_and_the_status_says_whether_all_is_well() -> None:
    project = whole()
    project.secrets.pop("dumont-vast-api-key")
    done = run(project, "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["well"], told["counts"]["missing"]) == (1, False, 1)
    assert TOKEN not in done.output
    missing = next(finding for finding in told["findings"] if finding["state"] == "missing")
    assert missing["name"] == "dumont-vast-api-key"
    assert missing["mend"] == f"python3 infra/release.py prepare --project {PROJECT}"


def test_another_region_is_looked_at_if_told() -> None:
    project = whole()
    run(project, "--region", "us-east4")
    assert any("/locations/us-east4/functions" in asked.path for asked in project.asked)
    assert not any(f"/locations/{REGION}/functions" in asked.path for asked in project.asked)


def test_without_a_project_it_asks_for_one() -> None:
    done = run(whole(), environment={"GOOGLE_CLOUD_PROJECT": None})
    assert (done.exit_code, "--project" in done.stderr) == (2, True)


def test_whoever_is_not_logged_in_is_told_how(tmp_path: Path) -> None:
    nobody = {"PATH": str(tmp_path), "CLOUDSDK_CONFIG": str(tmp_path), "NO_GCE_CHECK": "true", "HOME": str(tmp_path)}
    done = run(
        whole(), environment={"GOOGLE_OAUTH_ACCESS_TOKEN": None, "GOOGLE_APPLICATION_CREDENTIALS": None, **nobody}
    )
    assert done.exit_code == 3
    assert "gcloud auth application-default login" in done.stderr


def test_gclouds_own_login_will_do(tmp_path: Path) -> None:
    gcloud = tmp_path / "gcloud"
    gcloud.write_text(f'#!/bin/sh\n[ "$1 $2" = "auth print-access-token" ] && echo {TOKEN}\n', encoding="utf-8")
    gcloud.chmod(gcloud.stat().st_mode | stat.S_IXUSR)
    assert token({"PATH": f"{tmp_path}:/usr/bin:/bin", "CLOUDSDK_CONFIG": str(tmp_path)}) == TOKEN


def test_a_gcloud_without_an_account_is_no_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gcloud = tmp_path / "gcloud"
    gcloud.write_text("#!/bin/sh\necho secret-thing >&2; exit 1\n", encoding="utf-8")
    gcloud.chmod(gcloud.stat().st_mode | stat.S_IXUSR)
    for name, value in {"NO_GCE_CHECK": "true", "CLOUDSDK_CONFIG": str(tmp_path), "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(NotLoggedIn, match="no account logged in") as told:
        token({"PATH": f"{tmp_path}:/usr/bin:/bin", "CLOUDSDK_CONFIG": str(tmp_path)})
    assert "secret-thing" not in str(told.value)
