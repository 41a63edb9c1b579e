"""What is asked of Google's REST APIs, and what came back: as values, so that what it means is decided without them.

Paths and shapes are those of Google's reference: Service Usage v1 and v1beta1, Resource Manager v1, Cloud Billing v1,
Cloud Functions v2, Pub/Sub v1, Cloud Scheduler v1, Firestore v1, Secret Manager v1, IAM v1, Cloud Storage JSON v1.
Nothing is changed by any of them, and no secret's value is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from dumont.domain.deployment.wanted import PERMISSIONS, Wanted
from dumont.domain.findings import Finding, unknown

Row = dict[str, Any]
_SERVICE = re.compile(r"[a-z]+\.googleapis\.com")
_PERMISSION = re.compile(r"[a-z]+(\.[A-Za-z]+){2}")


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One request, or as many as the pages of its list."""

    name: str
    api: str
    """The first word of its host: https://{api}.googleapis.com."""
    path: str
    permission: str
    """What the caller needs for it."""
    role: str
    """The least of Google's own roles that has it."""
    method: str = "GET"
    params: Mapping[str, str] = {}
    body: Mapping[str, Any] | None = None
    rows: str = ""
    """The answer's list, read page by page; "" where it has none."""
    is_text: bool = False
    """Whether the answer is a file's text, and no JSON."""


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """An answer. `status` 0: none came, and `why` says why."""

    status: int
    why: str = ""
    """Google's own words, or ours."""
    reason: str = ""
    """As its `ErrorInfo` has it: "SERVICE_DISABLED", "IAM_PERMISSION_DENIED"."""
    about: Mapping[str, str] = {}
    """The `ErrorInfo`'s metadata: "service", "permission"."""
    body: Mapping[str, Any] = {}
    rows: tuple[Row, ...] = ()
    text: str = ""
    ahead_seconds: float | None = None
    """How far their clock is ahead of ours."""

    @property
    def is_answer(self) -> bool:
        """Whether it says what was asked."""
        return 200 <= self.status < 300

    @property
    def is_absent(self) -> bool:
        """Whether it says that the thing itself is not there."""
        return self.status == 404


def first(project: str) -> Question:
    """The deployment's settings, which say in which region to look."""
    bucket = f"{project}-dumont-state"
    return Question(
        name="settings", api="storage", path=f"/storage/v1/b/{bucket}/o/dumont.tfvars", params={"alt": "media"},
        is_text=True, permission="storage.objects.get", role="storage.objectViewer",
    )  # fmt: skip


def all_of(wanted: Wanted) -> list[Question]:
    """Everything else."""
    at = f"projects/{wanted.project}"
    place = f"{at}/locations/{wanted.region}"
    records = f"{at}/databases/(default)"
    fields = f"/v1/{records}/collectionGroups/-/fields"

    def ask(name: str, api: str, path: str, permission: str, role: str, **more: Any) -> Question:
        return Question(name=name, api=api, path=path, permission=permission, role=role, **more)

    def listed(name: str, api: str, path: str, permission: str, role: str, size: int = 500, **filters: str) -> Question:
        rows = {"ttl": "fields", "unindexed": "fields", "services": "services"}.get(name, name)
        return ask(name, api, path, permission, role, rows=rows, params={"pageSize": str(size), **filters})

    return [
        ask("project", "cloudresourcemanager", f"/v1/{at}", "resourcemanager.projects.get", "browser"),
        ask(
            "permissions", "cloudresourcemanager", f"/v1/{at}:testIamPermissions", "resourcemanager.projects.get",
            "browser", method="POST", body={"permissions": sorted(PERMISSIONS)},
        ),
        ask("billing", "cloudbilling", f"/v1/{at}/billingInfo", "resourcemanager.projects.get", "browser"),
        listed("services", "serviceusage", f"/v1/{at}/services", "serviceusage.services.list",
               "serviceusage.serviceUsageConsumer", 200, filter="state:ENABLED"),
        ask("quotas", "serviceusage", f"/v1beta1/{at}/services/run.googleapis.com/consumerQuotaMetrics",
            "serviceusage.quotas.get", "servicemanagement.quotaViewer", rows="metrics", params={"view": "FULL"}),
        listed("functions", "cloudfunctions", f"/v2/{place}/functions", "cloudfunctions.functions.list",
               "cloudfunctions.viewer"),
        listed("topics", "pubsub", f"/v1/{at}/topics", "pubsub.topics.list", "pubsub.viewer"),
        listed("subscriptions", "pubsub", f"/v1/{at}/subscriptions", "pubsub.subscriptions.list", "pubsub.viewer"),
        listed("jobs", "cloudscheduler", f"/v1/{place}/jobs", "cloudscheduler.jobs.list", "cloudscheduler.viewer"),
        ask("database", "firestore", f"/v1/{records}", "datastore.databases.get", "datastore.viewer"),
        listed("indexes", "firestore", f"/v1/{records}/collectionGroups/-/indexes", "datastore.indexes.list",
               "datastore.viewer"),
        listed("ttl", "firestore", fields, "datastore.indexes.list", "datastore.viewer", filter="ttlConfig:*"),
        listed("unindexed", "firestore", fields, "datastore.indexes.list", "datastore.viewer",
               filter="indexConfig.usesAncestorConfig:false"),
        listed("accounts", "iam", f"/v1/{at}/serviceAccounts", "iam.serviceAccounts.list", "iam.serviceAccountViewer",
               100),
        ask("state", "storage", f"/storage/v1/b/{wanted.state_bucket}", "storage.buckets.get",
            "storage.bucketViewer"),
        *(
            ask(f"secret {secret}", "secretmanager", f"/v1/{at}/secrets/{secret}/versions",
                "secretmanager.versions.list", "secretmanager.viewer",
                params={"filter": "state:ENABLED", "pageSize": "1"})
            for secret in wanted.secrets
        ),
    ]  # fmt: skip


def untold(area: str, question: Question, heard: Heard, wanted: Wanted) -> Finding:
    """What no answer means. Its kinds: not logged in, the API is off, a permission is missing, nobody answers."""
    host = f"{question.api}.googleapis.com"
    again = f"dumont deploy-check --project {wanted.project}"
    match heard.status, heard.reason:
        case 401, _:
            says, mend = "Google does not take these credentials", "gcloud auth application-default login"
        case 403, "SERVICE_DISABLED":
            named = heard.about.get("service", "")
            off = named if _SERVICE.fullmatch(named) else host
            says, mend = f"the API {off} is off", f"gcloud services enable {off} --project={wanted.project}"
        case 403, "USER_PROJECT_DENIED":
            says = "the permission serviceusage.services.use is missing"
            mend = wanted.grant("serviceusage.serviceUsageConsumer")
        case 403, "BILLING_DISABLED":
            says, mend = "billing is off", f"gcloud billing projects link {wanted.project} --billing-account=ACCOUNT"
        case 403, _:
            named = heard.about.get("permission", "")
            lacking = named if _PERMISSION.fullmatch(named) else question.permission
            says, mend = f"the permission {lacking} is missing", wanted.grant(question.role)
        case 404, _:
            says, mend = f"{host} knows no such place: {question.path}", again
        case 0, _:
            says, mend = f"{host} does not answer: {heard.why or 'no reason'}", again
        case status, _:
            said = f": {heard.why[:160]}" if heard.why else ""
            says, mend = f"{host} answers {status}{said}", again
    return unknown(area, question.name, says, mend)
