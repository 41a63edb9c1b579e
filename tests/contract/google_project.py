"""A Google Cloud project behind Google's REST APIs, as `dumont deploy-check` sees it: empty, whole, or in between."""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.contract.scripted_http import Asked, Said, ScriptedServer

ROOT = Path(__file__).parents[2]
PROJECT, REGION = "dumont-test", "europe-west1"
TOKEN = "ya29.a-token-of-tests"
DECLARED: dict[str, Any] = json.loads((ROOT / "infra" / "declared.json").read_text(encoding="utf-8"))
SETTINGS = f'# ours\nregion = "{REGION}"\nbucket = "dumont-test-b2"\nalert_emails = ["a@b.example"]\n'
AT = f"projects/{PROJECT}"
RECORDS = f"{AT}/databases/(default)"
Row = dict[str, Any]


def error(status: int, message: str, reason: str = "", **about: str) -> Said:
    """A refusal in Google's form."""
    details: list[Row] = [{"@type": "type.googleapis.com/google.rpc.Help", "links": []}]
    if reason:
        kind = "type.googleapis.com/google.rpc.ErrorInfo"
        details.append({"@type": kind, "reason": reason, "domain": "googleapis.com", "metadata": about})
    return _json({"error": {"code": status, "message": message, "details": details}}, status)


def off(api: str) -> Said:
    """What an API says that is not enabled."""
    says = f"{api} API has not been used in project 12 before or it is disabled."
    return error(403, says, "SERVICE_DISABLED", service=f"{api}.googleapis.com", consumer="projects/12")


def _json(body: object, status: int = 200) -> Said:
    return Said(status, json.dumps(body).encode(), {"Content-Type": "application/json"})


@dataclass
class Project:
    """What is in it, by what is asked for: the answer's list, or the object itself. `pages`: rows of a page."""

    lists: dict[str, list[Row]] = field(default_factory=dict)
    objects: dict[str, Row] = field(default_factory=dict)
    secrets: dict[str, list[Row]] = field(default_factory=dict)
    settings: str | None = None
    says: dict[str, Callable[[Asked], Said]] = field(default_factory=dict)
    """Another answer for whatever path has this in it."""
    pages: int = 1000
    ahead_seconds: float = 0.0
    asked: list[Asked] = field(default_factory=list)

    def answer(self, asked: Asked) -> Said:
        """As Google does; each answer has its Date."""
        self.asked.append(asked)
        said = self._answer(asked)
        date = email.utils.formatdate(time.time() + self.ahead_seconds, usegmt=True)
        return Said(said.status, said.body, {**said.headers, "Date": date}, said.silent)

    def _answer(self, asked: Asked) -> Said:
        if asked.headers.get("Authorization") != f"Bearer {TOKEN}":
            return error(401, "Request had invalid authentication credentials.")
        parts = urlsplit(asked.path)
        path, query = unquote(parts.path), parse_qs(parts.query)
        for fragment, answer in self.says.items():
            if fragment in path or fragment in query.get("filter", []):
                return answer(asked)
        if path == f"/storage/storage/v1/b/{PROJECT}-dumont-state/o/dumont.tfvars":
            return error(404, "No such object") if self.settings is None else Said(200, self.settings.encode())
        if path.startswith(f"/secretmanager/v1/{AT}/secrets/"):
            name = path.removesuffix("/versions").rpartition("/")[2]
            versions = self.secrets.get(name)
            return error(404, f"Secret [{name}] not found") if versions is None else _json({"versions": versions})
        if path in self.objects:
            return _json(self.objects[path])
        key = f"{path}?{query['filter'][0]}" if path.endswith("/-/fields") else path
        if key not in LISTS:
            return error(404, f"Not found: {path}")
        rows, first = self.lists.get(key, []), int(query.get("pageToken", ["0"])[0])
        body: Row = {LISTS[key]: rows[first : first + self.pages]} if rows else {}
        if first + self.pages < len(rows):
            body["nextPageToken"] = str(first + self.pages)
        return _json(body)


FUNCTIONS = f"/cloudfunctions/v2/{AT}/locations/{REGION}/functions"
SERVICES = f"/serviceusage/v1/{AT}/services"
QUOTAS = f"/serviceusage/v1beta1/{AT}/services/run.googleapis.com/consumerQuotaMetrics"
TOPICS, SUBSCRIPTIONS = f"/pubsub/v1/{AT}/topics", f"/pubsub/v1/{AT}/subscriptions"
JOBS = f"/cloudscheduler/v1/{AT}/locations/{REGION}/jobs"
GROUPS = f"/firestore/v1/{RECORDS}/collectionGroups/-"
INDEXES, TTL = f"{GROUPS}/indexes", f"{GROUPS}/fields?ttlConfig:*"
UNINDEXED = f"{GROUPS}/fields?indexConfig.usesAncestorConfig:false"
ACCOUNTS = f"/iam/v1/{AT}/serviceAccounts"
BUCKET, DATABASE = f"/storage/storage/v1/b/{PROJECT}-dumont-state", f"/firestore/v1/{RECORDS}"
THERE, MAY = f"/cloudresourcemanager/v1/{AT}", f"/cloudresourcemanager/v1/{AT}:testIamPermissions"
BILLING = f"/cloudbilling/v1/{AT}/billingInfo"
LISTS = {
    FUNCTIONS: "functions", SERVICES: "services", QUOTAS: "metrics", TOPICS: "topics", SUBSCRIPTIONS: "subscriptions",
    JOBS: "jobs", INDEXES: "indexes", TTL: "fields", UNINDEXED: "fields", ACCOUNTS: "accounts",
}  # fmt: skip


def empty() -> Project:
    """One that was just made, with billing, by somebody who may do nothing yet."""
    return Project(
        objects={THERE: {"projectId": PROJECT, "lifecycleState": "ACTIVE"}, MAY: {}, BILLING: {"billingEnabled": True}}
    )


def whole() -> Project:
    """One in which everything is that a deployment makes."""
    from dumont.domain.deployment.wanted import APIS, PERMISSIONS

    functions = DECLARED["functions"]
    workers = {name: each["topic"] for name, each in functions.items() if each["topic"]}
    names = [*(f"dumont-{name}" for name in functions), "dumont-builder", "dumont-caller", "dumont-deployer"]
    limits = {"cpu_allocation": "200000", "mem_allocation": str(400 << 30)}
    project = empty()
    project.settings = SETTINGS
    project.secrets = {name: [{"name": "…/versions/1", "state": "ENABLED"}] for name in DECLARED["secrets"].values()}
    project.objects |= {
        MAY: {"permissions": list(PERMISSIONS)},
        BUCKET: {"versioning": {"enabled": True}, "iamConfiguration": {"publicAccessPrevention": "enforced"}},
        DATABASE: {
            "name": RECORDS, "type": "FIRESTORE_NATIVE", "locationId": REGION,
            "deleteProtectionState": "DELETE_PROTECTION_ENABLED",
            "pointInTimeRecoveryEnablement": "POINT_IN_TIME_RECOVERY_ENABLED",
        },
    }  # fmt: skip
    project.lists = {
        SERVICES: [{"name": f"projects/12/services/{api}", "state": "ENABLED"} for api in APIS],
        QUOTAS: [_metric(f"run.googleapis.com/{name}", limit) for name, limit in limits.items()],
        FUNCTIONS: [_function(name) for name in functions],
        TOPICS: [{"name": f"{AT}/topics/{t}{end}"} for t in workers.values() for end in ("", "-dead")],
        SUBSCRIPTIONS: [row for name, topic in workers.items() for row in _subscriptions(name, topic)],
        JOBS: [
            {"name": f"{AT}/locations/{REGION}/jobs/dumont-{name}", "state": "PAUSED", "schedule": each["schedule"]}
            for name, each in functions.items()
            if each["schedule"]
        ],
        INDEXES: [_index(number, index) for number, index in enumerate(DECLARED["indexes"])],
        TTL: [
            {"name": f"{RECORDS}/collectionGroups/{c}/fields/{DECLARED['expires']}", "ttlConfig": {"state": "ACTIVE"}}
            for c in DECLARED["expiring"]
        ],
        UNINDEXED: [
            {"name": f"{RECORDS}/collectionGroups/{each['collection']}/fields/{each['field']}", "indexConfig": {}}
            for each in DECLARED["exemptions"]
        ],
        ACCOUNTS: [{"email": f"{name}@{PROJECT}.iam.gserviceaccount.com"} for name in names],
    }
    return project


def _function(name: str) -> Row:
    service = {"revision": f"{name}-00007-abc", "uri": f"https://{name}-xyz-ew.a.run.app"}
    place = f"{AT}/locations/{REGION}/functions/{name}"
    return {"name": place, "state": "ACTIVE", "serviceConfig": service, "updateTime": "2026-11-22T10:00:00.1Z"}


def _subscriptions(worker: str, topic: str) -> list[Row]:
    caller = f"dumont-caller@{PROJECT}.iam.gserviceaccount.com"
    push = {
        "pushEndpoint": f"https://{worker}-xyz-ew.a.run.app/{AT}/topics/{topic}",
        "oidcToken": {"serviceAccountEmail": caller, "audience": f"https://x.example/{worker}"},
    }
    dead = {"deadLetterTopic": f"{AT}/topics/{topic}-dead", "maxDeliveryAttempts": 10}
    work = {"name": f"{AT}/subscriptions/{topic}", "topic": f"{AT}/topics/{topic}", "state": "ACTIVE"}
    kept = {"name": f"{AT}/subscriptions/{topic}-dead", "topic": f"{AT}/topics/{topic}-dead", "state": "ACTIVE"}
    return [{**work, "pushConfig": push, "deadLetterPolicy": dead}, {**kept, "pushConfig": {}}]


def _index(number: int, index: Row) -> Row:
    fields = [{"fieldPath": each["path"], "order": each["order"]} for each in index["fields"]]
    return {
        "name": f"{RECORDS}/collectionGroups/{index['collection']}/indexes/CICAgO{number}",
        "queryScope": "COLLECTION",
        "fields": [*fields, {"fieldPath": "__name__", "order": fields[-1]["order"]}],
        "state": "READY",
    }


def _metric(metric: str, limit: str) -> Row:
    """As the documentation shows one: the bucket for everywhere first, then those of regions."""
    buckets = [{"effectiveLimit": "1"}, {"effectiveLimit": limit, "dimensions": {"region": REGION}}]
    limits = [
        {"unit": "1/min/{project}", "quotaBuckets": [{"effectiveLimit": "3000"}]},
        {"metric": metric, "unit": "1/{project}/{region}", "quotaBuckets": buckets},
    ]
    return {"metric": metric, "displayName": metric, "consumerQuotaLimits": limits}


@contextmanager
def serving(project: Project) -> Iterator[str]:
    """The APIs on a free port; what stands in the place of https://{api}.googleapis.com."""
    with ScriptedServer(project.answer) as server:
        yield f"{server.url}/{{api}}"
